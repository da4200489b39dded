//! The layers of the crate: a module uses only modules below it. The compiler does not check this, so the test reads the
//! sources.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use source::{Item, paths, read};

/// Modules, and the modules and crates that they may use.
struct Rule {
    modules: &'static [&'static str],
    may_use: &'static [&'static str],
    /// All dependencies, unless some are named.
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
    Rule {
        modules: &["event", "topic", "position"],
        may_use: LAYER_0,
        externals: Some(&["bytes", "serde_json", "thiserror"]),
    },
    Rule { modules: &["sync"], may_use: LAYER_0, externals: Some(&["bytes", "arc_swap", "crossbeam_queue", "loom"]) },
    Rule { modules: &["wire", "ring"], may_use: LAYER_0, externals: None },
    Rule { modules: &["hub"], may_use: LAYERS_0_TO_1, externals: None },
    Rule {
        modules: &["metrics", "presence"],
        may_use: &["event", "topic", "position", "sync", "hub", "metrics", "presence", "auth", "limit"],
        externals: None,
    },
    Rule { modules: &["auth"], may_use: &["topic", "sync"], externals: None },
    Rule { modules: &["limit"], may_use: &["sync"], externals: Some(&["governor", "thiserror", "tokio", "tracing"]) },
    Rule { modules: &["conn"], may_use: LAYERS_0_TO_3, externals: None },
    Rule { modules: &["backbone"], may_use: &["event", "topic", "position", "sync", "hub"], externals: None },
    Rule { modules: &["http"], may_use: LAYERS_0_TO_4, externals: None },
    Rule { modules: &["server"], may_use: LAYERS_0_TO_5, externals: None },
    // For tests and fuzzers.
    Rule { modules: &["fuzz"], may_use: LAYERS_0_TO_5, externals: None },
];

/// The binary uses the library as `fanline`, and the compiler keeps private names from it.
const BINARY: &[Rule] = &[
    Rule { modules: &["producer"], may_use: &[], externals: None },
    Rule { modules: &["config"], may_use: &["producer"], externals: None },
    Rule { modules: &["cli"], may_use: &["producer", "config"], externals: None },
];

/// What breaks the rules, a sentence each.
fn violations(rules: &[Rule], items: &[Item], dependencies: &BTreeSet<String>) -> Vec<String> {
    let modules: BTreeSet<_> =
        items.iter().filter(|item| !item.is_test).filter_map(|item| item.module.first()).collect();
    let mut found = Vec::new();
    for module in &modules {
        if !rules.iter().any(|rule| rule.modules.contains(&module.as_str())) {
            found.push(format!("`{module}` is in no layer: enter it in the table"));
        }
    }
    for item in items.iter().filter(|item| !item.is_test) {
        let Some(module) = item.module.first() else { continue };
        let Some(rule) = rules.iter().find(|rule| rule.modules.contains(&module.as_str())) else { continue };
        let paths = paths(item.tokens.clone(), &[]);
        let is_import = paths.iter().any(|(_, path)| ["use", "extern"].contains(&path[0].as_str()));
        for (line, path) in paths.into_iter().filter(|(_, path)| is_import || path.len() > 1) {
            let place = format!("{}:{line}: `{module}`", item.file);
            match &resolve(path, &item.module)[..] {
                [root, name, ..] if root == "crate" => {
                    if !modules.contains(name) {
                        found.push(format!("{place} uses `crate::{name}`, which is not a module"));
                    } else if name != module && !rule.may_use.contains(&name.as_str()) {
                        found.push(format!("{place} uses `{name}`, which is not below it"));
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

/// The path from the root of the crate, if it is relative to `module`.
fn resolve(path: Vec<String>, module: &[String]) -> Vec<String> {
    let is_relative = |segment: &&String| ["self", "super"].contains(&segment.as_str());
    let (relative, rest) = path.split_at(path.iter().take_while(is_relative).count());
    let ups = relative.iter().filter(|segment| *segment == "super").count();
    match relative {
        [] => path,
        _ => [&["crate".to_owned()], &module[..module.len() - ups], rest].concat(),
    }
}

#[test]
fn library_modules_use_only_lower_layers() {
    let library = read(&files(), "lib.rs", &[], false);
    assert_eq!(violations(LIBRARY, &library, &dependencies()), [""; 0]);
    let http = library.iter().filter(|item| item.module.first().is_some_and(|module| module == "http"));
    let mut paths = http.flat_map(|item| paths(item.tokens.clone(), &[]));
    assert!(paths.any(|(_, path)| path.starts_with(&["crate".into(), "hub".into()])), "http uses the hub");
}

#[test]
fn binary_uses_only_public_names_of_the_library() {
    assert_eq!(violations(BINARY, &read(&files(), "main.rs", &[], false), &dependencies()), [""; 0]);
}

#[test]
fn every_source_file_belongs_to_library_or_binary() {
    let sources = files();
    let items = ["lib.rs", "main.rs"].map(|root| read(&sources, root, &[], false));
    let known: BTreeSet<_> = items.iter().flatten().map(|item| &item.file).collect();
    let strays: Vec<_> = sources.keys().filter(|file| !known.contains(file)).collect();
    assert!(strays.is_empty(), "{strays:?}");
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

mod checker {
    use super::*;

    fn check(rules: &[Rule], files: &[(&str, &str)]) -> Vec<String> {
        let files: BTreeMap<_, _> = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let dependencies = ["bytes", "serde", "arc_swap", "tokio"].map(str::to_owned).into();
        violations(rules, &read(&files, "lib.rs", &[], false), &dependencies)
    }

    /// Checks `hub` with this source, in a crate that has modules above and below it.
    fn check_hub(text: &str) -> Vec<String> {
        let root = "mod event; pub mod hub; mod http; mod server;";
        check(LIBRARY, &[("lib.rs", root), ("hub.rs", text), ("event.rs", ""), ("http.rs", ""), ("server.rs", "")])
    }

    #[test]
    fn paths_to_lower_layers_are_allowed() {
        for text in [
            "use crate::event::Event;",
            "use crate::{event::{Event, EventName}, hub::Other};",
            "fn f() -> crate::event::Event { crate::hub::g() }",
            "use self::http::X; mod http { use super::Y; }",
            "use serde::Serialize;",
            "pub(crate) fn f() {} pub(in crate::hub) fn g() {}",
        ] {
            assert_eq!(check_hub(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn paths_to_upper_layers_are_found_in_every_spelling() {
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
            let found = check_hub(text);
            assert!(
                !found.is_empty() && found.iter().all(|found| found.contains("uses `http`, which is not below it")),
                "{text}: {found:?}"
            );
        }
    }

    #[test]
    fn violations_name_the_line() {
        let text = "//! A line.\n\n/* two\nlines */\nconst TEXT: &str = \"two\nlines\";\nuse crate::http::X;";
        assert_eq!(check_hub(text), ["hub.rs:7: `hub` uses `http`, which is not below it"]);
    }

    #[test]
    fn comments_strings_and_tests_are_exempt() {
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
            assert_eq!(check_hub(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn modules_in_other_files_inherit_the_test_attribute() {
        for (attribute, expected) in [
            ("#[cfg(all(test, fanline_loom))]", &[][..]),
            ("#[cfg(fanline_loom)]", &["hub/model.rs:1: `hub` uses `http`, which is not below it"]),
        ] {
            let hub = format!("{attribute} mod model;");
            let root = ("lib.rs", "mod hub; mod http;");
            let model = ("hub/model.rs", "use crate::http::X;");
            assert_eq!(check(LIBRARY, &[root, ("http.rs", ""), ("hub.rs", &hub), model]), expected, "{attribute}");
        }
    }

    #[test]
    fn modules_of_one_layer_use_each_other_only_if_the_table_allows_it() {
        for (user, used, count) in [
            ("wire", "ring", 1),
            ("ring", "wire", 1),
            ("metrics", "presence", 0),
            ("metrics", "conn", 1),
            ("event", "topic", 0),
        ] {
            let root = format!("mod {user}; mod {used};");
            let (user, used, text) = (format!("{user}.rs"), format!("{used}.rs"), format!("use crate::{used}::X;"));
            assert_eq!(check(LIBRARY, &[("lib.rs", &root), (&user, &text), (&used, "")]).len(), count, "{user} {used}");
        }
    }

    #[test]
    fn lowest_layer_uses_only_named_crates() {
        let check_file = |file, text| {
            check(LIBRARY, &[("lib.rs", "mod event; mod sync;"), ("event.rs", ""), ("sync.rs", ""), (file, text)])
        };
        for text in ["use bytes::Bytes;", "use std::sync::Arc;", "struct S { serde: u8 } fn f(s: S) { s.serde; }"] {
            assert_eq!(check_file("event.rs", text), [""; 0], "{text}");
        }
        for text in [
            "use serde::Serialize;",
            "use serde;",
            "use {std::fmt, serde::Serialize};",
            "#[derive(serde::Serialize)] struct S;",
            "fn f() { ::serde::to_string() }",
            "fn f() { let x = ::serde::to_string(); }",
            "extern crate serde;",
        ] {
            assert_eq!(check_file("event.rs", text), ["event.rs:1: `event` uses the crate `serde`"], "{text}");
        }
        assert_eq!(check_file("event.rs", "use arc_swap::ArcSwap;").len(), 1);
        let sync = check_file("sync.rs", "mod real { use arc_swap::ArcSwap; use tokio::x; }");
        assert_eq!(sync, ["sync.rs:1: `sync` uses the crate `tokio`"]);
    }

    #[test]
    fn unknown_modules_and_names_of_the_root_are_errors() {
        let found = check(LIBRARY, &[("lib.rs", "mod utils; mod hub { }"), ("utils.rs", "")]);
        assert_eq!(found, ["`utils` is in no layer: enter it in the table"]);
        for (text, name) in [("use crate::nothing::X;", "nothing"), ("use crate::Server;", "Server")] {
            assert_eq!(check_hub(text), [format!("hub.rs:1: `hub` uses `crate::{name}`, which is not a module")]);
        }
    }

    #[test]
    fn producers_do_not_use_config_or_cli() {
        let root = ("lib.rs", "mod cli; mod config; mod producer; fn main() { cli::run() }");
        for (text, count) in [("use fanline::Hub;", 0), ("use crate::config::C;", 1), ("use crate::cli::C;", 1)] {
            let cli = ("cli.rs", "use crate::config::C;");
            assert_eq!(check(BINARY, &[root, cli, ("config.rs", ""), ("producer.rs", text)]).len(), count, "{text}");
        }
        let library_module = check(BINARY, &[("lib.rs", "mod hub;"), ("hub.rs", "")]);
        assert_eq!(library_module, ["`hub` is in no layer: enter it in the table"]);
    }
}
