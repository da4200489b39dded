//! The layers of the crate. The compiler does not check them, so the test reads the tokens of the sources. Code that only
//! tests compile is exempt.

use std::collections::BTreeMap;
use std::path::Path;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// Each module, the modules that it may use, and after a bar the only dependencies that it may use.
const RULES: &str = "
event: topic position sync | bytes serde_json thiserror
topic: event position sync | bytes serde_json thiserror
position: event topic sync | bytes serde_json thiserror
peer:
sync: event topic position | bytes arc_swap crossbeam_queue loom
wire: event topic position sync
ring: event topic position sync
hub: event topic position sync wire ring
metrics: event topic position sync hub presence auth limit
presence: event topic position sync hub metrics auth limit peer
auth: topic sync peer
limit: sync peer | governor thiserror tokio tracing
conn: event topic position sync wire ring hub metrics presence auth limit peer
backbone: event topic position sync hub metrics
http: event topic position sync wire ring hub metrics presence auth limit conn backbone peer
server: event topic position sync wire ring hub metrics presence auth limit conn backbone http peer
fuzz: event topic position sync wire ring hub metrics presence auth limit conn backbone http peer
producer:
config: producer
cli: producer config";

/// A path outside tests.
struct Mention {
    file: String,
    line: usize,
    module: Vec<String>,
    path: Vec<String>,
}

#[derive(Default)]
struct Sources {
    mentions: Vec<Mention>,
    /// The modules that have a file, and whether only tests compile them.
    modules: Vec<(Vec<String>, bool)>,
}

impl Sources {
    /// Reads a module, or a group of tokens in it. In the braces of a `use` item, paths continue `prefix`.
    fn read(&mut self, file: &str, tokens: TokenStream, module: &[String], prefix: &[String], is_test: bool) {
        let tokens = Vec::from_iter(tokens);
        let mut is_test_item = is_test;
        for (index, token) in tokens.iter().enumerate() {
            let back = |steps: usize| index.checked_sub(steps).map_or(String::new(), |index| text(&tokens[index]));
            let continues_path = back(1) == ":" && back(2) == ":" && back(3).starts_with(char::is_alphabetic);
            let child = (back(2) == "mod").then(|| [module, &[back(1)]].concat());
            match token {
                TokenTree::Ident(name) if !is_test_item => {
                    if !continues_path {
                        let (file, module, path) = (file.to_owned(), module.to_vec(), prefix.to_vec());
                        self.mentions.push(Mention { file, line: 0, module, path });
                    }
                    let mention = self.mentions.last_mut().expect("a path was begun");
                    mention.line = name.span().start().line;
                    mention.path.push(text(token));
                }
                TokenTree::Group(group) => {
                    is_test_item |= back(1) == "#" && enables_tests(group);
                    let before = self.mentions.pop_if(|_| continues_path && !is_test_item);
                    let prefix = before.map_or(vec![], |mention| mention.path);
                    self.read(file, group.stream(), child.as_deref().unwrap_or(module), &prefix, is_test_item);
                    is_test_item &= is_test || group.delimiter() != Delimiter::Brace;
                }
                TokenTree::Punct(sign) if matches!(sign.as_char(), ';' | ',') => {
                    self.modules.extend(child.map(|child| (child, is_test_item)));
                    is_test_item = is_test;
                }
                _ => {}
            }
        }
    }
}

fn text(token: &TokenTree) -> String {
    match token {
        TokenTree::Group(_) => String::new(),
        token => token.to_string().trim_start_matches("r#").to_owned(),
    }
}

fn enables_tests(attribute: &Group) -> bool {
    let text = attribute.stream().to_string().replace(' ', "");
    text == "test" || text.starts_with("cfg(") && text.replace("not(test)", "").contains("test")
}

/// What breaks the rules in these files, which are named by their path below `src`.
fn violations<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let (mut sources, mut found, mut file_modules) = (Sources::default(), Vec::new(), Vec::new());
    for (file, text) in files {
        let module: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        let is_root = ["lib.rs", "main.rs"].contains(&file);
        sources.read(file, text.parse().expect(file), if is_root { &[] } else { &module }, &[], false);
        file_modules.extend((!is_root).then_some(module));
    }
    let Sources { mentions, modules } = sources;
    let is_declared = |file: &&Vec<String>| modules.iter().any(|(module, _)| module == *file);
    found.extend(
        file_modules.iter().filter(|file| !is_declared(file)).map(|file| format!("{}.rs is no module", file.join("/"))),
    );
    let is_test = |module: &[String]| modules.iter().any(|(test, is_test)| *is_test && module.starts_with(test));
    for Mention { file, line, module, path } in mentions {
        let [name, ..] = &module[..] else { continue };
        if path.len() < 2 || is_test(&module) {
            continue;
        }
        let rule = RULES.lines().filter_map(|rule| rule.split_once(':')).find(|(module, _)| module == name);
        let rule = rule.unwrap_or_else(|| panic!("`{name}` is in no layer: add it to the rules")).1;
        let (may_use, crates) = rule.split_once('|').map_or((rule, None), |(modules, crates)| (modules, Some(crates)));
        let allows = |list: &str, name: &str| list.split_whitespace().any(|allowed| allowed == name);
        let start = path.iter().take_while(|segment| ["crate", "self", "super"].contains(&segment.as_str())).count();
        let ups = path.iter().filter(|segment| *segment == "super").count();
        // As many `super`s as the module is deep lead to the crate's root.
        let is_of_crate = path[0] == "crate" || ups == module.len();
        if is_of_crate && path.get(start).is_some_and(|used| used != name && !allows(may_use, used)) {
            found.push(format!("{file}:{line}: `{name}` uses `{}`, which is not below it", path[start]));
        }
        if start == 0 && crates.is_some_and(|crates| is_dependency(&path[0]) && !allows(crates, &path[0])) {
            found.push(format!("{file}:{line}: `{name}` uses the crate `{}`", path[0]));
        }
    }
    found
}

fn is_dependency(name: &str) -> bool {
    let mut keys = include_str!("../../Cargo.toml").lines().filter_map(|line| line.split_once(" = "));
    keys.any(|(key, _)| key.replace('-', "_") == name)
}

#[test]
fn modules_use_only_lower_layers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut files, mut directories) = (BTreeMap::new(), vec![root.clone()]);
    while let Some(directory) = directories.pop() {
        for path in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                files.insert(name, std::fs::read_to_string(path).unwrap());
            }
        }
    }
    assert_eq!(violations(files.iter().map(|(file, text)| (&**file, &**text))), [""; 0]);
}

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
    for event in ["use {std::fmt, serde::Error};", "#[derive(serde::X)] struct S;", "fn f() { let x = ::serde::f(); }"]
    {
        assert_eq!(check(event, "", None), "event.rs:1: `event` uses the crate `serde`", "{event}");
    }
    assert_eq!(check("use bytes::Bytes; fn f(s: S) { s.serde; }", "", None), "");
    let model = ("hub/model.rs", "\nuse crate::http::X;");
    assert_eq!(check("", "#[cfg(all(test, fanline_loom))] mod model;", Some(model)), "");
    let violation = "hub/model.rs:2: `hub` uses `http`, which is not below it";
    assert_eq!(check("", "#[cfg(fanline_loom)] mod model;", Some(model)), violation);
    assert_eq!(check("", "", Some(model)), format!("hub/model.rs is no module{violation}"));
}
