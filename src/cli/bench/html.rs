//! The report as a page: one file with its style, script and data, which needs no network.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use super::report::Report;
use super::text;

const PAGE: &str = include_str!("html/page.html");
const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");

/// Checks before a run that the file can be written, without changing it.
pub fn check(file: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).open(file) {
        Ok(_) => fs::remove_file(file),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            OpenOptions::new().write(true).open(file).map(drop)
        }
        Err(error) => Err(error),
    }
}

pub fn write(file: &Path, report: &Report) -> io::Result<()> {
    fs::write(file, page(report)?)
}

fn page(report: &Report) -> io::Result<String> {
    // A text in the data, such as a server's error, must not end the script element.
    let numbers = serde_json::to_string(report)?.replace('<', "\\u003c");
    let verdict = text::verdict(report).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    // The data comes last, because it may contain anything.
    let page = PAGE.replace("/*style*/", STYLE).replace("/*script*/", SCRIPT);
    Ok(page.replace("<!--verdict-->", &verdict).replace("/*numbers*/", &numbers))
}
