//! The report as a page: one file with its style, script and data, which needs no network.

use std::io;
use std::path::Path;

use super::report::Report;
use super::text;

const PAGE: &str = include_str!("html/page.html");
const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");

pub fn write(file: &Path, report: &Report) -> io::Result<()> {
    std::fs::write(file, page(report)?)
}

fn page(report: &Report) -> io::Result<String> {
    // A text in the data, such as a server's error, must not end the script element.
    let numbers = serde_json::to_string(report)?.replace('<', "\\u003c");
    let mut page = String::with_capacity(PAGE.len() + STYLE.len() + SCRIPT.len() + numbers.len());
    let mut rest = PAGE;
    for (mark, content) in [
        ("/*style*/", STYLE),
        ("<!--verdict-->", &escaped(&text::verdict(report))),
        ("/*numbers*/", &numbers),
        ("/*script*/", SCRIPT),
    ] {
        let (before, after) = rest.split_once(mark).expect("the page has a place for each of its parts");
        page.push_str(before);
        page.push_str(content);
        rest = after;
    }
    page.push_str(rest);
    Ok(page)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
