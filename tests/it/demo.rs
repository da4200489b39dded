//! The console without a browser. `tests/browser` tests it in one.

use std::time::{Duration, Instant};

use crate::process::{self, TIMEOUT};
use crate::support::{Server, request, run};

/// The addresses that a page or a module loads.
fn loaded(text: &str) -> impl Iterator<Item = &str> {
    ["href=\"", "src=\"", " from \""].into_iter().flat_map(|begin| text.split(begin).skip(1)).map(|rest| {
        let address = rest.split('"').next().unwrap();
        address.trim_start_matches("./")
    })
}

#[test]
fn console_loads_only_files_of_its_server_by_relative_addresses() {
    run(async {
        let server = Server::start();
        let page = server.ask(request("GET", "/demo", &[], b"")).await;
        assert_eq!((page.head.status, page.head.header("content-type")), (200, Some("text/html; charset=utf-8")));
        let policy = page.head.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        let text = std::str::from_utf8(&page.body).unwrap();
        let files: Vec<&str> = loaded(text).filter(|address| address.starts_with("demo/")).collect();
        assert!(files.contains(&"demo/console.js"), "{files:?}");
        for address in loaded(text).filter(|address| !address.starts_with('#')) {
            assert!(!address.starts_with('/') && !address.contains("//"), "{address}");
            let status = server.get(&format!("/{}", address.trim_start_matches('.'))).await.head.status;
            assert_eq!(status, 200, "{address}");
        }
        let mut modules = vec!["console.js".to_owned()];
        let mut seen = Vec::new();
        while let Some(name) = modules.pop() {
            let file = server.get(&format!("/demo/{name}")).await;
            assert_eq!(file.head.header("content-type"), Some("text/javascript; charset=utf-8"), "{name}");
            let text = std::str::from_utf8(&file.body).unwrap();
            assert!(!text.contains("innerHTML") && !text.contains("https://"), "{name}");
            let imported = loaded(text).filter(|name| !name.starts_with("..")).map(str::to_owned);
            modules.extend(imported.filter(|imported| !seen.contains(imported)));
            seen.push(name);
        }
        assert!(seen.len() > 10, "{seen:?}");
        let charts = server.get("/demo/uPlot.iife.min.js").await;
        assert!(charts.body.starts_with(b"/*\nThe MIT License"), "the charts come with their licence");
        assert_eq!(server.get("/demo/nothing.js").await.head.status, 404);
    });
}

#[test]
fn serve_demo_prints_the_url_of_the_console() {
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
