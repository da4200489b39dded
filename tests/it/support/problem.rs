use serde_json::Value;

use super::Response;

/// Checks the status and the members of a problem document (RFC 9457), and that its detail contains each of `what`.
/// Returns the document.
#[track_caller]
pub fn assert_problem(response: &Response, status: u16, what: &[&str]) -> Value {
    assert_eq!(response.head.status, status, "{response:?}");
    assert_eq!(response.head.header("content-type"), Some("application/problem+json"), "{response:?}");
    let problem = response.json();
    assert_eq!(problem["type"], "about:blank");
    assert_eq!(problem["title"], title(status));
    assert_eq!(response.head.reason, title(status));
    assert_eq!(problem["status"], status);
    let detail = problem["detail"].as_str().expect("a problem has a detail");
    for part in what {
        assert!(detail.contains(part), "{detail:?} does not name {part:?}");
    }
    problem
}

fn title(status: u16) -> &'static str {
    hyper::StatusCode::from_u16(status).unwrap().canonical_reason().unwrap()
}
