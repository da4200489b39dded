//! The HTML report.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::peer::{Fault, Framing, Peer};
use crate::process::{Process, Server, fanline};

/// The HTML report of a run, in its own file.
fn page(name: &str, args: &[&str]) -> (PathBuf, String) {
    let file = std::env::temp_dir().join(format!("fanline-bench-{}-{name}.html", std::process::id()));
    let html = ["--html", file.to_str().expect("a path is text")];
    let (code, ..) =
        Process::run(fanline(&[&["bench", "--warmup", "0", "--duration", "0.5"], args, &html[..]].concat()));
    assert_eq!(code, Some(0));
    let text = std::fs::read_to_string(&file).expect("the page was written");
    (file, text)
}

/// The HTML report of a run that the server can keep up with.
fn faultless_page(name: &str) -> (PathBuf, String) {
    let server = Server::start(&[]);
    page(name, &["--clients", "5", "--url", &server.url(), "--pid", &server.pid().to_string()])
}

/// The document after its script ran, in a window of this width. Removes the file.
fn drawn(file: PathBuf, width: usize) -> String {
    let mut browser = Command::new("chromium");
    browser.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]);
    browser.arg(format!("--window-size={width},2000")).arg(format!("file://{}", file.display()));
    let (code, dom, _) = Process::run(browser);
    std::fs::remove_file(file).unwrap();
    assert_eq!(code, Some(0));
    dom
}

#[test]
fn html_report_is_self_contained() {
    let (file, page) = faultless_page("alone");
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
    let dom = drawn(faultless_page("drawn").0, 1280);
    assert_eq!(dom.matches("<svg").count(), 5, "{dom}");
    for drawn in ["median latency", "server CPU", "<rect", "class=\"line two\"", "deliveries checked</td><td>250</td>"]
    {
        assert!(dom.contains(drawn), "no {drawn:?} in {dom}");
    }
}

#[test]
#[ignore = "needs chromium; run scripts/test"]
fn browser_shows_warnings_and_unscaled_plots_in_a_narrow_window() {
    // The server delays all events until after the window, except one.
    let peer = Peer::start(Framing::Chunks, Fault::Stall(1, Duration::from_millis(700)));
    let [sse, publish] = ["sub/{topic}", "pub?channel={topic}"].map(|path| format!("http://{}/{path}", peer.address));
    let to_peer = ["--sse-url", &sse, "--publish-url", &publish, "--method", "PUT", "--body", "{data}"];
    let (file, _) = page("phone", &[&to_peer[..], &["--clients", "1", "--publishers", "1", "--rate", "100"]].concat());
    // Chromium has no narrower windows.
    let dom = drawn(file, 500);
    let warnings = dom.split_once("id=\"warnings\"").expect("a section").1.split_once("</section>").expect("its end").0;
    assert!(!warnings.starts_with(" class=\"notes\" hidden"), "{warnings}");
    for shown in ["of 100 events a second were reached", "events were sent late"] {
        assert!(warnings.contains(shown), "{warnings}");
    }
    assert!(dom.contains("sent late by, p99") && dom.contains("events a second, of 100 asked for"), "{dom}");
    let widths: Vec<u32> = dom
        .split("viewBox=\"0 0 ")
        .skip(1)
        .map(|rest| rest.split_once(' ').expect("a height").0.parse().expect("a width"))
        .collect();
    // A unit is a pixel: labels are as large as the style says.
    assert!(!widths.is_empty() && widths.iter().all(|width| (250..500).contains(width)), "{widths:?}");
}
