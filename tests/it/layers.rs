//! The layers of the crate. The compiler does not check them, so the test reads the tokens of the sources. Code that only
//! tests compile is exempt.

mod checks;
mod sources;

use std::collections::BTreeMap;
use std::path::Path;

use sources::{Sources, Use};

/// Each module, the modules that it may use, and after a bar the only dependencies that it may use.
const RULES: &str = "
event: topic position sync | bytes serde serde_json thiserror
topic: event position sync | bytes serde_json smol_str thiserror
position: event topic sync | bytes itoa serde_json thiserror
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
backbone: event topic position sync hub metrics presence
http: event topic position sync wire ring hub metrics presence auth limit conn backbone peer
server: event topic position sync wire ring hub metrics presence auth limit conn backbone http peer
testing: event position
fuzz: event topic position sync wire ring hub metrics presence auth limit conn backbone http peer
producer:
config: producer
cli: producer config";

fn is_dependency(name: &str) -> bool {
    let mut keys = include_str!("../../Cargo.toml").lines().filter_map(|line| line.split_once(" = "));
    keys.any(|(key, _)| key.replace('-', "_") == name)
}

/// What breaks the rules in these files, which are named by their path below `src`.
fn violations<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let (mut sources, mut found, mut file_modules) = (Sources::default(), Vec::new(), Vec::new());
    for (file, text) in files {
        let is_root = ["lib.rs", "main.rs"].contains(&file);
        let path = file.trim_end_matches(".rs").split('/').filter(|_| !is_root);
        let module = Vec::from_iter(path.map(str::to_owned));
        sources.read(file, text.parse().expect(file), &module, &[], false);
        file_modules.extend((!is_root).then_some(module));
    }
    let Sources { uses, modules } = sources;
    let undeclared = file_modules.iter().filter(|module| !modules.contains_key(*module));
    found.extend(undeclared.map(|module| format!("{}.rs is no module", module.join("/"))));
    for Use { file, line, module, path } in uses {
        let [name, ..] = &module[..] else { continue };
        if path.len() < 2 || (1..=module.len()).any(|depth| modules.get(&module[..depth]) == Some(&true)) {
            continue;
        }
        let rule = RULES.lines().filter_map(|rule| rule.split_once(':')).find(|(module, _)| module == name);
        let rule = rule.unwrap_or_else(|| panic!("`{name}` is in no layer: add it to the rules")).1;
        let (below, crates) = rule.split_once('|').map_or((rule, None), |(below, crates)| (below, Some(crates)));
        let allows = |list: &str, name: &str| list.split_whitespace().any(|allowed| allowed == name);
        let start = path.iter().take_while(|segment| ["crate", "self", "super"].contains(&segment.as_str())).count();
        // As many `super`s as the module is deep lead to the crate's root.
        let is_of_crate = path[0] == "crate" || path.iter().filter(|part| *part == "super").count() == module.len();
        let Some(used) = path.get(start) else { continue };
        if is_of_crate && used != name && !allows(below, used) {
            found.push(format!("{file}:{line}: `{name}` uses `{used}`, which is not below it"));
        }
        if start == 0 && crates.is_some_and(|crates| is_dependency(used) && !allows(crates, used)) {
            found.push(format!("{file}:{line}: `{name}` uses the crate `{used}`"));
        }
    }
    found
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
