//! The dashboard, as far as that shows without a browser; `tests/browser` looks at it in one.

use crate::process;
use crate::support::{Server, request, run};

#[test]
fn the_dashboard_is_one_page_that_may_talk_to_its_own_server_only() {
    run(async {
        let server = Server::start();
        let page = server.ask(request("GET", "/demo", &[], b"")).await;
        assert_eq!((page.head.status, page.head.header("content-type")), (200, Some("text/html; charset=utf-8")));
        let policy = page.head.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("connect-src 'self'"), "{policy}");
        let text = std::str::from_utf8(&page.body).unwrap();
        for outside in ["src=\"", "@import", "url(http", "<link rel=\"stylesheet"] {
            assert!(!text.contains(outside), "{outside}");
        }
        assert!(text.contains("Permission is hereby granted"), "the licence of the charts goes with them");
    });
}

#[test]
fn serve_demo_says_where_the_dashboard_is() {
    let server = process::Server::start(&["--demo"]);
    let line = server.log.wait_for("the demo:");
    assert!(line.contains(&format!("{}/demo in a browser", server.url())), "{line}");
}
