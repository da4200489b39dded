//! What [`violations`] finds.

use super::violations;

#[test]
fn checker_finds_every_spelling_and_exempts_tests() {
    let check = |event, hub, more| {
        let files =
            [("lib.rs", "mod event; mod hub; mod http;"), ("event.rs", event), ("hub.rs", hub), ("http.rs", "")];
        violations(files.into_iter().chain(more)).concat()
    };
    for hub in [
        "use crate::{event::{Event, EventName}, hub::Other}; pub(in crate::hub) fn f() -> crate::event::Event {}",
        "use self::http::X; mod http { use super::Y; } use serde::Serialize;",
        "//! [`Server`](crate::http::Routes)\n const TEXT: &str = \"crate::http::Routes\"; /* crate::http::x */",
        "#[cfg(test)] mod tests { use crate::http::Routes; fn f() { let brace = '}'; crate::http::f() } }",
        "#[cfg(all(test, not(fanline_loom)))] #[allow(dead_code)] fn f() -> [u8; 2] { crate::http::f() }",
        "#[cfg(test)] use crate::http::Routes; #[test] fn f() { crate::http::f() }",
    ] {
        assert_eq!(check("", hub, None), "", "{hub}");
    }
    for hub in [
        "use crate::http;",
        "use crate::{event::Event, http::{self, Routes}};",
        "use {crate::event::Event, crate::http::Routes};",
        "pub(crate) use crate :: http :: * ;",
        "fn f<'a>(x: &'a crate::http::Routes) {}",
        "#[derive(crate::http::Derive)] struct S;",
        "macro_rules! m { () => { $crate::http::f() } }",
        "fn f() { b'\\''; '\"'; r#\"a \" in a raw string\"#; crate::http::g::<'a>() }",
        "use super::http::Routes;",
        "mod inner { use super::super::http::Routes; }",
        "use crate::r#http::Routes;",
        "#[cfg(not(test))] use crate::http::Routes;",
        "struct S { #[cfg(test)] x: u8, y: crate::http::Routes }",
        "#[cfg(test)] mod tests { } use crate::http::Routes;",
    ] {
        assert!(check("", hub, None).starts_with("hub.rs:1: `hub` uses `http`, which is not below it"), "{hub}");
    }
    for event in ["use {std::fmt, tokio::Error};", "#[derive(tokio::X)] struct S;", "fn f() { let x = ::tokio::f(); }"]
    {
        assert_eq!(check(event, "", None), "event.rs:1: `event` uses the crate `tokio`", "{event}");
    }
    assert_eq!(check("use bytes::Bytes; fn f(s: S) { s.tokio; }", "", None), "");
    let model = ("hub/model.rs", "\nuse crate::http::X;");
    assert_eq!(check("", "#[cfg(all(test, fanline_loom))] mod model;", Some(model)), "");
    let violation = "hub/model.rs:2: `hub` uses `http`, which is not below it";
    assert_eq!(check("", "#[cfg(fanline_loom)] mod model;", Some(model)), violation);
    assert_eq!(check("", "", Some(model)), format!("hub/model.rs is no module{violation}"));
}
