//! The dashboard without a browser. `tests/browser` tests it in one.

use std::time::{Duration, Instant};

use crate::process::{self, TIMEOUT};
use crate::support::{Server, request, run};

#[test]
fn dashboard_is_self_contained_and_connects_only_to_its_server() {
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
        assert!(text.contains("Permission is hereby granted"), "the page contains the licence of its charts");
    });
}

#[test]
fn serve_demo_prints_the_url_of_the_dashboard() {
    let server = process::Server::start(&["--demo"]);
    let line = server.log.wait_for("the demo:");
    assert!(line.contains(&format!("{}/demo in a browser", server.url())), "{line}");
}

#[test]
fn demo_publishes_real_metrics_within_two_seconds() {
    let server = process::Server::start(&["--demo"]);
    let began = Instant::now();
    // `open` reads the hello.
    let mut stream = process::Stream::open(server.address(), "", None);
    let mut names = Vec::new();
    while !["cpu_usage", "memory_usage"].iter().all(|name| names.iter().any(|seen| seen == name)) {
        let event = stream.next();
        let json = event.json();
        if json["type"] == "metric" {
            let value = json["value"].as_f64().expect("a metric has a value");
            assert!(value.is_finite() && value >= 0.0, "{json}");
            names.push(json["name"].as_str().expect("a metric has a name").to_owned());
        }
        assert!(began.elapsed() < TIMEOUT, "so far {names:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(2), "the metrics came after {:?}", began.elapsed());
    assert_eq!(server.get("/health").json()["producers"]["event_producer"], "running");
    eprintln!("demo: {names:?} after {:?}", began.elapsed());
}
