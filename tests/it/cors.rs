//! Cross-origin access of browsers.

use fanline::auth::Access;
use fanline::server::{HttpOptions, Origins};

use crate::process::{Process, serve};
use crate::support::{Head, Server, assert_problem, request, run};

const PAGE: &str = "https://app.example";

fn with(origins: Origins) -> Server {
    Server::with(Server::hub_options(), |builder| builder.http(HttpOptions { origins, ..HttpOptions::default() }))
}

fn listed(credentials: bool) -> Origins {
    Origins::Listed { origins: vec![PAGE.parse().unwrap(), "http://[::1]:5173".parse().unwrap()], credentials }
}

fn allowed(head: &Head) -> Option<&str> {
    head.header("access-control-allow-origin")
}

fn varies_by_origin(head: &Head) -> bool {
    let mut vary = head.headers.iter().filter(|(name, _)| name == "vary").flat_map(|(_, vary)| vary.split(','));
    vary.any(|field| field.trim().eq_ignore_ascii_case("origin"))
}

#[test]
fn cors_is_off_by_default() {
    run(async {
        let server = Server::start();
        let stream = server.subscribe_with("/stream", &[("origin", PAGE)]).await;
        assert_eq!((allowed(&stream.head), varies_by_origin(&stream.head)), (None, false));
        let preflight = [("origin", PAGE), ("access-control-request-method", "POST")];
        assert_problem(&server.ask(request("OPTIONS", "/publish", &preflight, b"")).await, 405, &["POST"]);
    });
}

#[test]
fn listed_origin_may_read_streams_responses_and_problems() {
    run(async {
        let server = with(listed(false));
        for origin in [PAGE, "http://[::1]:5173"] {
            let headers = [("origin", origin)];
            let mut stream = server.subscribe_with("/stream?topics=t", &headers).await;
            assert_eq!(allowed(&stream.head), Some(origin));
            assert!(varies_by_origin(&stream.head));
            assert_eq!(stream.head.header("content-type"), Some("text/event-stream"));
            assert_eq!(stream.head.header("access-control-allow-credentials"), None);
            stream.hello().await;
            for (method, path, status) in [
                ("GET", "/health", 200),
                ("GET", "/clients", 200),
                ("GET", "/nothing", 404),
                ("GET", "/stream?heartbeat=0", 400),
                ("POST", "/health", 405),
            ] {
                let answer = server.ask(request(method, path, &headers, b"")).await;
                assert_eq!((answer.head.status, allowed(&answer.head)), (status, Some(origin)), "{method} {path}");
                assert!(varies_by_origin(&answer.head), "{method} {path}");
                let exposed = answer.head.header("access-control-expose-headers").unwrap();
                assert!(exposed.contains("retry-after"), "{exposed}");
            }
            server.publish("t", 1..=1).await;
            assert_eq!(stream.event().await.data, "{\"n\":1}");
        }
    });
}

#[test]
fn documents_vary_by_coding_and_origin() {
    run(async {
        let server = with(listed(false));
        let answer = server.ask(request("GET", "/openapi.json", &[("origin", PAGE)], b"")).await;
        let vary: Vec<_> = answer.head.headers.iter().filter(|(name, _)| name == "vary").collect();
        let names = |field| vary.iter().any(|(_, value)| value.contains(field));
        assert!(names("origin") && names("accept-encoding"), "{vary:?}");
    });
}

#[test]
fn unlisted_origin_is_denied_and_responses_vary_by_origin() {
    run(async {
        let server = with(listed(true));
        for origin in ["https://app.example.evil.example", "https://app.example:8443", "http://app.example", "null"] {
            let stream = server.subscribe_with("/stream", &[("origin", origin)]).await;
            assert_eq!(allowed(&stream.head), None, "{origin}");
            assert!(varies_by_origin(&stream.head));
        }
        // Requests without an origin are served as before.
        let stream = server.subscribe("/stream").await;
        assert!(allowed(&stream.head).is_none() && varies_by_origin(&stream.head));
    });
}

#[test]
fn preflight_allows_last_event_id() {
    run(async {
        let server = with(listed(true));
        let preflight = [
            ("origin", PAGE),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "last-event-id,content-type"),
        ];
        for path in ["/stream", "/publish", "/clients/0000000000000000"] {
            let answer = server.ask(request("OPTIONS", path, &preflight, b"")).await;
            assert_eq!((answer.head.status, allowed(&answer.head)), (200, Some(PAGE)), "{path}");
            let list = |name: &str| answer.head.header(name).unwrap_or("").to_ascii_lowercase();
            let headers = list("access-control-allow-headers");
            for name in ["last-event-id", "content-type", "authorization", "cache-control", "x-api-key"] {
                assert!(headers.split(',').any(|header| header == name), "{name}: {headers}");
            }
            let methods = list("access-control-allow-methods");
            assert!(["get", "post", "delete"].iter().all(|method| methods.contains(method)), "{methods}");
            assert_eq!(answer.head.header("access-control-allow-credentials"), Some("true"));
            assert_eq!(answer.head.header("access-control-max-age"), Some("600"));
        }
        // OPTIONS without a preflight header is not a preflight.
        let plain = server.ask(request("OPTIONS", "/stream", &[("origin", PAGE)], b"")).await;
        assert_problem(&plain, 405, &["GET"]);
    });
}

#[test]
fn any_origin_excludes_operator_endpoints() {
    run(async {
        let server = with(Origins::Any);
        let headers = [("origin", "null"), ("cookie", "a=b")];
        let stream = server.subscribe_with("/stream", &headers).await;
        assert_eq!(allowed(&stream.head), Some("*"));
        assert_eq!(stream.head.header("access-control-allow-credentials"), None);
        // A browser on the server's machine may show untrusted pages.
        for path in ["/clients", "/topics", "/metrics", "/metrics/json", "/metrics/prometheus"] {
            assert_eq!(allowed(&server.ask(request("GET", path, &headers, b"")).await.head), None, "{path}");
        }
        for path in ["/", "/health", "/health/ready", "/metricsx"] {
            assert_eq!(allowed(&server.ask(request("GET", path, &headers, b"")).await.head), Some("*"), "{path}");
        }
        server.access.replace(Access::new().anonymous_metrics(true));
        assert_eq!(allowed(&server.ask(request("GET", "/metrics/json", &headers, b"")).await.head), Some("*"));
        let preflight = [("origin", PAGE), ("access-control-request-method", "DELETE")];
        let answer = server.ask(request("OPTIONS", "/clients/0000000000000000", &preflight, b"")).await;
        assert_problem(&answer, 405, &["DELETE"]);
    });
}

#[test]
fn credentials_require_named_origins() {
    for args in [&["--cors-credentials"][..], &["--cors-credentials", "--cors-origin", "*"]] {
        let (code, _, stderr) = Process::run(serve(&[&["--check"], args].concat()));
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains("cors_credentials") && stderr.contains("--cors-origin https://"), "{stderr}");
    }
    let (code, _, stderr) = Process::run(serve(&["--check", "--cors-origin", "https://app.example/"]));
    assert!(code == Some(2) && stderr.contains("leave out the slash"), "{stderr}");
    let args = ["--check", "--cors-origin", PAGE, "--cors-origin", "http://127.0.0.1:5173", "--cors-credentials"];
    let (code, stdout, _) = Process::run(serve(&args));
    assert!(
        code == Some(0) && stdout.contains("cors_origin = [\"https://app.example\", \"http://127.0.0.1:5173\"]"),
        "{stdout}"
    );
}
