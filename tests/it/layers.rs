//! The layers of the crate: imports point down only. This reads the sources, because no compiler enforces it.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use source::{Crate, Use};

/// A module of the library, and what it may use: of the crate, and of others where that is restricted.
struct Rule {
    modules: &'static [&'static str],
    may_use: &'static [&'static str],
    externals: Option<&'static [&'static str]>,
}

const LAYER_0: &[&str] = &["event", "topic", "position", "sync"];
const LAYERS_0_TO_1: &[&str] = &["event", "topic", "position", "sync", "wire", "ring"];
const LAYERS_0_TO_3: &[&str] =
    &["event", "topic", "position", "sync", "wire", "ring", "hub", "metrics", "presence", "auth", "limit"];
const LAYERS_0_TO_4: &[&str] = &[
    "event", "topic", "position", "sync", "wire", "ring", "hub", "metrics", "presence", "auth", "limit", "conn",
    "backbone",
];
const LAYERS_0_TO_5: &[&str] = &[
    "event", "topic", "position", "sync", "wire", "ring", "hub", "metrics", "presence", "auth", "limit", "conn",
    "backbone", "http",
];

const LIBRARY: &[Rule] = &[
    Rule { modules: &["event", "topic", "position"], may_use: LAYER_0, externals: Some(&["bytes"]) },
    Rule { modules: &["sync"], may_use: LAYER_0, externals: Some(&["bytes", "arc_swap", "crossbeam_queue", "loom"]) },
    Rule { modules: &["wire", "ring"], may_use: LAYER_0, externals: None },
    Rule { modules: &["hub"], may_use: LAYERS_0_TO_1, externals: None },
    Rule {
        modules: &["metrics", "presence"],
        may_use: &["event", "topic", "position", "sync", "metrics", "presence", "auth", "limit"],
        externals: None,
    },
    Rule { modules: &["auth"], may_use: &["topic"], externals: None },
    Rule { modules: &["limit"], may_use: &[], externals: Some(&["governor", "thiserror", "tracing"]) },
    Rule { modules: &["conn"], may_use: LAYERS_0_TO_3, externals: None },
    // Of the hub it sees what anybody sees.
    Rule { modules: &["backbone"], may_use: &["event", "topic", "position", "hub"], externals: None },
    Rule { modules: &["http"], may_use: LAYERS_0_TO_4, externals: None },
    Rule { modules: &["server"], may_use: LAYERS_0_TO_5, externals: None },
    // Of tests and fuzzers only.
    Rule { modules: &["fuzz"], may_use: LAYERS_0_TO_5, externals: None },
];

/// The binary sees the library as anybody does: as `fanline`, whose private parts the compiler keeps from it.
const BINARY: &[Rule] = &[
    Rule { modules: &["producer"], may_use: &[], externals: None },
    Rule { modules: &["config"], may_use: &["producer"], externals: None },
    Rule { modules: &["cli"], may_use: &["producer", "config"], externals: None },
];

/// What breaks the rules, in words.
fn violations(rules: &[Rule], source: &Crate, dependencies: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for module in source.modules() {
        let Some(rule) = rules.iter().find(|rule| rule.modules.contains(&module.as_str())) else {
            found.push(format!("`{module}` is in no layer: enter it in the table"));
            continue;
        };
        for Use { file, line, path } in source.uses_of(&module) {
            let place = format!("{file}:{line}: `{module}`");
            match &path[..] {
                [root, name, ..] if root == "crate" => {
                    let Some(target) = source.home_of(name) else {
                        found.push(format!("{place} uses `crate::{name}`, which is neither a module nor exported"));
                        continue;
                    };
                    if target != module && !rule.may_use.contains(&target.as_str()) {
                        found.push(format!("{place} uses `{target}`, which is not below it"));
                    }
                }
                [first, ..] => {
                    let is_allowed = rule.externals.is_none_or(|externals| externals.contains(&first.as_str()));
                    if dependencies.contains(first) && !is_allowed {
                        found.push(format!("{place} uses the crate `{first}`"));
                    }
                }
                [] => {}
            }
        }
    }
    found
}

#[test]
fn the_modules_of_the_library_use_only_what_is_below_them() {
    let library = read("lib.rs");
    assert_eq!(violations(LIBRARY, &library, &dependencies()), [""; 0]);
    assert!(library.uses_of("http").iter().any(|found| found.path.starts_with(&["crate".into(), "hub".into()])));
}

#[test]
fn the_binary_is_built_on_the_librarys_public_names() {
    assert_eq!(violations(BINARY, &read("main.rs"), &dependencies()), [""; 0]);
}

#[test]
fn every_source_file_belongs_to_the_library_or_to_the_binary() {
    let (library, binary) = (read("lib.rs"), read("main.rs"));
    let known: BTreeSet<_> = library.files().chain(binary.files()).collect();
    let on_disk = files();
    let strays: Vec<_> = on_disk.keys().filter(|file| !known.contains(file)).collect();
    assert!(strays.is_empty(), "{strays:?}");
}

fn read(root: &str) -> Crate {
    Crate::parse(root, &files()).unwrap()
}

/// All Rust files below `src`, by their path there.
fn files() -> BTreeMap<String, String> {
    fn collect(root: &Path, directory: &Path, files: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(root, &path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
                files.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    collect(&root, &root, &mut files);
    files
}

/// The crates that the manifest names, as paths spell them.
fn dependencies() -> BTreeSet<String> {
    let manifest = include_str!("../../Cargo.toml");
    let mut names = BTreeSet::new();
    let mut is_dependencies = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_dependencies = line.contains("dependencies");
        } else if let (true, Some((name, _))) = (is_dependencies, line.split_once('=')) {
            names.insert(name.trim().replace('-', "_"));
        }
    }
    assert!(names.contains("arc_swap") && names.contains("loom") && names.contains("proptest"));
    names
}

mod a_checker_that_can_fail {
    use super::*;

    fn check(rules: &[Rule], files: &[(&str, &str)]) -> Vec<String> {
        let files: BTreeMap<_, _> = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let dependencies = ["bytes", "serde", "arc_swap", "tokio"].map(str::to_owned).into();
        violations(rules, &Crate::parse("lib.rs", &files).unwrap(), &dependencies)
    }

    /// What is said of `hub`, with this source, in a crate that has all the modules.
    fn of_hub(text: &str) -> Vec<String> {
        let root = "mod event; pub mod hub; mod http; mod server; pub use server::Server; pub use event::{Event as E};";
        check(LIBRARY, &[("lib.rs", root), ("hub.rs", text), ("event.rs", ""), ("http.rs", ""), ("server.rs", "")])
    }

    #[test]
    fn what_points_down_is_allowed() {
        for text in [
            "use crate::event::Event;",
            "use crate::{event::{Event, EventName}, hub::Other};",
            "use crate::E;",
            "fn f() -> crate::event::Event { crate::hub::g() }",
            "use self::http::X; mod http { use super::Y; }",
            "use serde::Serialize;",
            "pub(crate) fn f() {} pub(in crate::hub) fn g() {}",
        ] {
            assert_eq!(of_hub(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn what_points_up_is_found_however_it_is_spelled() {
        for text in [
            "use crate::http::Routes;",
            "use crate::http;",
            "use crate::{event::Event, http::{self, Routes}};",
            "use {crate::event::Event, crate::http::Routes};",
            "pub(crate) use crate :: http :: * ;",
            "fn f(x: crate::http::Routes) {}",
            "fn f() { let x = 'a'; crate::http::g::<'a'>(); }",
            "fn f<'a>(x: &'a crate::http::Routes) {}",
            "#[derive(crate::http::Derive)] struct S;",
            "macro_rules! m { () => { $crate::http::f() } }",
            "fn f() { \"a quote \\\" in a string\"; crate::http::g() }",
            "fn f() { r#\"a \" in a raw string\"#; crate::http::g() }",
            "fn f() { b'\\''; '\\''; '\"'; crate::http::g() }",
            "use super::http::Routes;",
            "mod inner { use super::super::http::Routes; }",
            "use crate::r#http::Routes;",
            "#[cfg(not(test))] use crate::http::Routes;",
            "/* a comment /* within */ one */ use crate::http::Routes;",
            "// a comment\nuse crate::http::Routes; // another",
        ] {
            let found = of_hub(text);
            assert!(
                !found.is_empty() && found.iter().all(|found| found.contains("uses `http`, which is not below it")),
                "{text}: {found:?}"
            );
        }
        assert_eq!(of_hub("use crate::Server;"), ["hub.rs:1: `hub` uses `server`, which is not below it"]);
    }

    #[test]
    fn the_line_is_named() {
        let text = "//! A line.\n\n/* two\nlines */\nconst TEXT: &str = \"two\nlines\";\nuse crate::http::X;";
        assert_eq!(of_hub(text), ["hub.rs:7: `hub` uses `http`, which is not below it"]);
    }

    #[test]
    fn comments_texts_and_tests_may_say_what_they_like() {
        for text in [
            "// use crate::http::Routes;",
            "//! [`Server`](crate::http::Routes)",
            "/* use crate::http::Routes; /* and */ crate::http::x */",
            "const TEXT: &str = \"crate::http::Routes \\\" crate::http\";",
            "const TEXT: &str = r##\"crate::http \"# crate::http\"##;",
            "const TEXT: &[u8] = b\"crate::http\"; const C: &CStr = c\"crate::http\";",
            "#[cfg(test)] mod tests { use crate::http::Routes; fn f() { let brace = '}'; crate::http::f() } }",
            "#[cfg(all(test, not(fanline_loom)))] mod tests { use crate::http::Routes; }",
            "#[cfg(test)] #[allow(dead_code)] pub(crate) fn f() -> [u8; 2] { crate::http::f() }",
            "#[cfg(test)] use crate::http::Routes;",
            "#[test] fn f() { crate::http::f() }",
        ] {
            assert_eq!(of_hub(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_module_of_tests_may_stand_in_a_file_of_its_own() {
        let files = |attribute: &str| {
            let hub = format!("{attribute} mod model;");
            check(
                LIBRARY,
                &[
                    ("lib.rs", "mod hub; mod http;"),
                    ("http.rs", ""),
                    ("hub.rs", &hub),
                    ("hub/model.rs", "use crate::http::X;"),
                ],
            )
        };
        assert_eq!(files("#[cfg(all(test, fanline_loom))]"), [""; 0]);
        assert_eq!(files("#[cfg(fanline_loom)]"), ["hub/model.rs:1: `hub` uses `http`, which is not below it"]);
    }

    #[test]
    fn neighbours_of_one_layer_do_not_use_each_other_unless_they_may() {
        let neighbours = |first: &str, second: &str| {
            let root = format!("mod {first}; mod {second};");
            let text = format!("use crate::{second}::X;");
            check(LIBRARY, &[("lib.rs", &root), (&format!("{first}.rs"), &text), (&format!("{second}.rs"), "")])
        };
        assert_eq!(neighbours("wire", "ring").len(), 1);
        assert_eq!(neighbours("ring", "wire").len(), 1);
        assert_eq!(neighbours("metrics", "presence").len(), 0);
        assert_eq!(neighbours("metrics", "hub").len(), 1);
        assert_eq!(neighbours("event", "topic").len(), 0);
    }

    #[test]
    fn the_lowest_layer_uses_no_crate_but_those_named() {
        let of_event =
            |text| check(LIBRARY, &[("lib.rs", "mod event; mod sync;"), ("event.rs", text), ("sync.rs", "")]);
        for text in ["use bytes::Bytes;", "use std::sync::Arc;", "struct S { serde: u8 } fn f(s: S) { s.serde; }"] {
            assert_eq!(of_event(text), [""; 0], "{text}");
        }
        for text in [
            "use serde::Serialize;",
            "use serde;",
            "use {std::fmt, serde::Serialize};",
            "#[derive(serde::Serialize)] struct S;",
            "fn f() { ::serde::to_string() }",
            "extern crate serde;",
        ] {
            assert_eq!(of_event(text), ["event.rs:1: `event` uses the crate `serde`"], "{text}");
        }
        assert_eq!(of_event("use arc_swap::ArcSwap;").len(), 1);
        let sync = check(
            LIBRARY,
            &[("lib.rs", "mod sync;"), ("sync.rs", "mod real { use arc_swap::ArcSwap; use tokio::x; }")],
        );
        assert_eq!(sync, ["sync.rs:1: `sync` uses the crate `tokio`"]);
    }

    #[test]
    fn a_module_that_is_not_in_the_table_is_an_error() {
        let found = check(LIBRARY, &[("lib.rs", "mod utils; mod hub { }"), ("utils/mod.rs", "")]);
        assert_eq!(found, ["`utils` is in no layer: enter it in the table"]);
        let found = check(LIBRARY, &[("lib.rs", "mod hub;"), ("hub.rs", "use crate::nothing::X;")]);
        assert_eq!(found, ["hub.rs:1: `hub` uses `crate::nothing`, which is neither a module nor exported"]);
    }

    #[test]
    fn a_producer_knows_nothing_of_the_command_line() {
        let of_producer = |text| {
            let root = "mod cli; mod config; mod producer; fn main() { cli::run() }";
            check(
                BINARY,
                &[("lib.rs", root), ("cli.rs", "use crate::config::C;"), ("config.rs", ""), ("producer.rs", text)],
            )
        };
        assert_eq!(of_producer("use fanline::Hub;"), [""; 0]);
        assert_eq!(of_producer("use crate::config::C;").len(), 1);
        assert_eq!(of_producer("use crate::cli::C;").len(), 1);
        let taken_in = check(BINARY, &[("lib.rs", "mod hub;"), ("hub.rs", "")]);
        assert_eq!(taken_in, ["`hub` is in no layer: enter it in the table"]);
    }
}
