//! The HTML report.

use std::path::PathBuf;
use std::process::Command;

use crate::process::{Process, Server, fanline};

/// The HTML report of a short run, in its own file.
fn page(name: &str) -> (PathBuf, String) {
    let file = std::env::temp_dir().join(format!("fanline-bench-{}-{name}.html", std::process::id()));
    let server = Server::start(&[]);
    let (pid, path) = (server.pid().to_string(), file.to_str().expect("a path is text"));
    let args = ["--clients", "5", "--warmup", "0", "--duration", "0.5", "--pid", &pid, "--html", path];
    let (code, ..) = Process::run(fanline(&[&["bench", "--url", &server.url()][..], &args].concat()));
    assert_eq!(code, Some(0));
    let text = std::fs::read_to_string(&file).expect("the page was written");
    (file, text)
}

#[test]
fn html_report_is_self_contained() {
    let (file, page) = page("alone");
    std::fs::remove_file(file).unwrap();
    let start = page.find(r#"<script id="numbers" type="application/json">"#).expect("the page has the data");
    let end = start + page[start..].find("</script>").expect("the server closes the connection");
    // The data names the measured server. Nothing else names a host.
    let around = [&page[..start], &page[end..]].concat();
    for loads in
        ["src=", "@import", "url(", "fetch(", "https:", "http://", "XMLHttpRequest", "import(", "<link rel=\"style"]
    {
        assert!(!around.contains(loads), "{loads}");
    }
    assert_eq!(around.matches("href=").count(), around.matches("href=\"data:,\"").count());
    let numbers = page[start..end].split_once('>').expect("a tag").1;
    let numbers: serde_json::Value = serde_json::from_str(numbers).expect("JSON");
    assert_eq!((&numbers["ok"], &numbers["deliveries"]), (&true.into(), &250.into()));
    assert!(around.contains(">every stream whole") && around.contains("prefers-color-scheme: dark"));
}

#[test]
fn unwritable_html_report_is_an_error_before_the_run() {
    let missing = std::env::temp_dir().join(format!("fanline-bench-{}-missing/report.html", std::process::id()));
    for path in ["/", missing.to_str().expect("a path is text")] {
        // A run would fail with another error: there is no server.
        let args = ["bench", "--url", "http://127.0.0.1:1", "--html", path];
        let (code, stdout, stderr) = Process::run(fanline(&args));
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        assert!(stderr.contains(&format!("cannot write --html {path}: ")), "{stderr}");
    }
}

#[test]
fn failed_run_leaves_no_html_report_and_keeps_the_old_one() {
    let file = std::env::temp_dir().join(format!("fanline-bench-{}-kept.html", std::process::id()));
    let args = ["bench", "--url", "http://127.0.0.1:1", "--html", file.to_str().expect("a path is text")];
    assert_eq!(Process::run(fanline(&args)).0, Some(1));
    assert!(!file.exists());
    std::fs::write(&file, "old").unwrap();
    assert_eq!(Process::run(fanline(&args)).0, Some(1));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "old");
    std::fs::remove_file(file).unwrap();
}

#[test]
#[ignore = "needs chromium; run scripts/test"]
fn browser_draws_every_plot() {
    let (file, _) = page("drawn");
    let mut browser = Command::new("chromium");
    browser.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]);
    let (code, dom, _) = Process::run({
        browser.arg(format!("file://{}", file.display()));
        browser
    });
    std::fs::remove_file(file).unwrap();
    assert_eq!(code, Some(0));
    assert_eq!(dom.matches("<svg").count(), 5, "{dom}");
    for drawn in ["median latency", "server CPU", "<rect", "class=\"line two\"", "deliveries checked</td><td>250</td>"]
    {
        assert!(dom.contains(drawn), "no {drawn:?} in {dom}");
    }
}
