//! As much of Rust as it takes to find the modules of a crate and the paths that they use.

use std::collections::{BTreeMap, BTreeSet};

/// A crate's modules, without its tests.
pub struct Crate {
    /// What the root's own `use` items bring in: the name, and the module that it comes from.
    exported: BTreeMap<String, String>,
    modules: BTreeSet<String>,
    uses: BTreeMap<String, Vec<Use>>,
    files: BTreeSet<String>,
}

/// A path that stands in a module. It begins with `crate` where it leads to the crate, however it was spelled.
#[derive(Debug, Clone)]
pub struct Use {
    pub file: String,
    pub line: usize,
    pub path: Vec<String>,
}

impl Crate {
    /// Reads the crate whose root is the file `root` of `files`.
    pub fn parse(root: &str, files: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut parsed =
            Self { exported: BTreeMap::new(), modules: BTreeSet::new(), uses: BTreeMap::new(), files: BTreeSet::new() };
        parsed.read(root, &[], false, files)?;
        Ok(parsed)
    }

    /// The modules at the root.
    pub fn modules(&self) -> impl Iterator<Item = String> {
        self.modules.iter().cloned()
    }

    /// All files that belong to the crate, those of its tests too.
    pub fn files(&self) -> impl Iterator<Item = &String> {
        self.files.iter()
    }

    /// What the module, with all below it, uses.
    pub fn uses_of(&self, module: &str) -> &[Use] {
        self.uses.get(module).map_or(&[], Vec::as_slice)
    }

    /// The module of the root that `crate::name` is or comes from.
    pub fn home_of(&self, name: &str) -> Option<String> {
        if self.modules.contains(name) { Some(name.to_owned()) } else { self.exported.get(name).cloned() }
    }

    fn read(
        &mut self,
        file: &str,
        module: &[String],
        is_test: bool,
        files: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        let text = files.get(file).ok_or_else(|| format!("there is no {file}"))?;
        self.files.insert(file.to_owned());
        let found = Scan::of(text, module);
        if !is_test {
            self.note(file, &found);
        }
        for (child, child_is_test) in found.children {
            let name = child.join("/");
            let places = [format!("{name}.rs"), format!("{name}/mod.rs")];
            match places.iter().find(|place| files.contains_key(*place)) {
                Some(place) => self.read(place, &child, is_test || child_is_test, files)?,
                None if child_is_test => {}
                None => return Err(format!("{file}: there is no file of the module {name}")),
            }
        }
        Ok(())
    }

    fn note(&mut self, file: &str, found: &Scan) {
        for module in &found.modules {
            self.modules.insert(module.clone());
        }
        for (line, module, path, name) in &found.paths {
            let Some(module) = module.first() else {
                // The root itself may use everything; what it names is what `crate::Name` leads to.
                let from = if path[0] == "crate" { path.get(1) } else { path.first() };
                if let (Some(name), Some(from)) = (name, from) {
                    self.exported.entry(name.clone()).or_insert_with(|| from.clone());
                }
                continue;
            };
            let used = Use { file: file.to_owned(), line: *line, path: path.clone() };
            self.uses.entry(module.clone()).or_default().push(used);
        }
    }
}

type Path = Vec<String>;

/// What stands in one file, its tests left out.
#[derive(Default)]
struct Scan {
    /// Modules of the crate's root that are declared here.
    modules: Vec<String>,
    /// Modules that stand in files of their own, and whether they are tests.
    children: Vec<(Path, bool)>,
    /// The line, the module it stands in, the path, and the name that a `use` gives it.
    paths: Vec<(usize, Path, Path, Option<String>)>,
}

impl Scan {
    fn of(text: &str, module: &[String]) -> Self {
        let mut scan = Self::default();
        scan.items(&tokens(text), module.to_vec());
        scan
    }

    fn items(&mut self, tokens: &[Token], mut module: Path) {
        // The depth of braces at which each inline module that is open began.
        let (mut open, mut depth) = (Vec::new(), 0);
        let mut at = 0;
        while at < tokens.len() {
            if let Some(end) = test_attribute(tokens, at) {
                let item = end + item_length(&tokens[end..]);
                self.test_module(&tokens[end..item], &module);
                at = item;
                continue;
            }
            match tokens[at].text.as_str() {
                "mod" if tokens.get(at + 2).is_some_and(|token| token.text == ";" || token.text == "{") => {
                    let name = tokens[at + 1].text.clone();
                    if module.is_empty() {
                        self.modules.push(name.clone());
                    }
                    let child = [module.clone(), vec![name.clone()]].concat();
                    if tokens[at + 2].text == "{" {
                        open.push(depth);
                        depth += 1;
                        module.push(name);
                    } else {
                        self.children.push((child, false));
                    }
                    at += 3;
                    continue;
                }
                "use" => {
                    let end = at + tokens[at..].iter().position(|token| token.text == ";").unwrap_or(1);
                    self.tree(&tokens[at + 1..end], &[], &module);
                    at = end;
                }
                "extern" if tokens.get(at + 1).is_some_and(|token| token.text == "crate") => {
                    self.path(&tokens[at + 2], vec![tokens[at + 2].text.clone()], None, &module);
                    at += 2;
                }
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if open.last() == Some(&depth) {
                        open.pop();
                        module.pop();
                    }
                }
                _ if begins_path(tokens, at) => {
                    let (path, length) = path(&tokens[at..]);
                    self.path(&tokens[at], path, None, &module);
                    at += length - 1;
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Notes the file of a module of tests, if the item is one that has a file.
    fn test_module(&mut self, item: &[Token], module: &[String]) {
        if let [.., keyword, name, end] = item
            && keyword.text == "mod"
            && end.text == ";"
        {
            self.children.push(([module, std::slice::from_ref(&name.text)].concat(), true));
        }
    }

    /// Takes a `use` tree apart.
    fn tree(&mut self, tokens: &[Token], prefix: &[String], module: &[String]) {
        let mut at = 0;
        while at < tokens.len() {
            let (segments, length) = path(&tokens[at..]);
            let whole = [prefix, &segments].concat();
            let first = &tokens[at];
            at += length;
            match tokens.get(at).map(|token| token.text.as_str()) {
                Some("{") => {
                    let end = at + group_length(&tokens[at..]);
                    self.tree(&tokens[at + 1..end - 1], &whole, module);
                    at = end;
                }
                Some("as") => {
                    self.path(first, whole, Some(tokens[at + 1].text.clone()), module);
                    at += 2;
                }
                Some("*") => {
                    self.path(first, whole, None, module);
                    at += 1;
                }
                _ => {
                    let name = whole.last().cloned();
                    self.path(first, whole, name, module);
                }
            }
            // The comma.
            at += 1;
        }
    }

    /// Notes a path, resolved to the crate's root where it is relative.
    fn path(&mut self, token: &Token, path: Path, name: Option<String>, module: &[String]) {
        let mut base = module.to_vec();
        let mut rest = &path[..];
        let is_relative = matches!(path.first().map(String::as_str), Some("self" | "super"));
        while let Some(first) = rest.first() {
            match first.as_str() {
                "self" => {}
                "super" => drop(base.pop()),
                _ => break,
            }
            rest = &rest[1..];
        }
        let resolved = if is_relative { [vec!["crate".to_owned()], base, rest.to_vec()].concat() } else { path };
        if !resolved.is_empty() {
            self.paths.push((token.line, module.to_vec(), resolved, name));
        }
    }
}

/// Whether a path begins here: an identifier before `::` that is not behind `::` or a dot.
fn begins_path(tokens: &[Token], at: usize) -> bool {
    let is_first = at == 0 || !matches!(tokens[at - 1].text.as_str(), "::" | ".");
    let is_global = tokens[at].text == "::" && (at == 0 || !tokens[at - 1].is_word());
    let is_followed = tokens.get(at + 1).is_some_and(|next| next.text == "::");
    is_global || (tokens[at].is_word() && is_first && is_followed)
}

/// The segments of the path that begins here, and of how many tokens it is.
fn path(tokens: &[Token]) -> (Path, usize) {
    let mut segments = Vec::new();
    let mut at = usize::from(tokens.first().is_some_and(|token| token.text == "::"));
    while let Some(token) = tokens.get(at).filter(|token| token.is_word()) {
        segments.push(token.text.clone());
        at += 1;
        if tokens.get(at).is_none_or(|token| token.text != "::") {
            return (segments, at);
        }
        at += 1;
    }
    (segments, at.max(1).min(tokens.len()))
}

/// Where the attribute that begins here ends, if it keeps its item for tests.
fn test_attribute(tokens: &[Token], at: usize) -> Option<usize> {
    if tokens[at].text != "#" || tokens.get(at + 1)?.text != "[" {
        return None;
    }
    let length = group_length(&tokens[at + 1..]);
    let inner = &tokens[at + 2..at + length];
    let is_test = match inner {
        [test] => test.text == "test",
        [cfg, ..] if cfg.text == "cfg" => inner.windows(3).any(|window| {
            let negates = window[0].text == "not" && window[1].text == "(";
            window[2].text == "test" && !negates
        }),
        _ => false,
    };
    is_test.then_some(at + 1 + length)
}

/// Of how many tokens the item is that begins here, with its attributes: up to its `;`, or its braces' end.
fn item_length(tokens: &[Token]) -> usize {
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            ";" => return at + 1,
            "{" => return at + group_length(&tokens[at..]),
            "(" | "[" => at += group_length(&tokens[at..]),
            _ => at += 1,
        }
    }
    at
}

/// Of how many tokens the group is that begins here, with its brackets.
fn group_length(tokens: &[Token]) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

#[derive(Debug)]
struct Token {
    text: String,
    line: usize,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text.starts_with(is_word)
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The words and signs of `text`: no comments, no white space, no literals of texts, and no lifetimes.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            c if c.is_whitespace() => c.len_utf8(),
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => comment_length(rest),
            '"' => text_length(rest),
            '\'' => quote_length(rest),
            c if is_word(c) => {
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                let (word, behind) = rest.split_at(length);
                match word {
                    "r" | "br" | "cr"
                        if behind.starts_with('"') || behind.starts_with("#\"") || behind.starts_with("##") =>
                    {
                        length + raw_text_length(behind)
                    }
                    // A raw identifier is the word behind its sign.
                    "r" if behind.starts_with('#') => length + 1,
                    "b" | "c" if behind.starts_with('"') => length + text_length(behind),
                    "b" if behind.starts_with('\'') => length + quote_length(behind),
                    _ => {
                        tokens.push(Token { text: word.to_owned(), line });
                        length
                    }
                }
            }
            ':' if rest.starts_with("::") => {
                tokens.push(Token { text: "::".to_owned(), line });
                2
            }
            c => {
                tokens.push(Token { text: c.to_string(), line });
                c.len_utf8()
            }
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

/// Of how many bytes the comment is; they nest.
fn comment_length(text: &str) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            (at, depth) = (at + 2, depth + 1);
        } else if rest.starts_with(b"*/") {
            (at, depth) = (at + 2, depth - 1);
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn text_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

fn raw_text_length(text: &str) -> usize {
    let signs = text.bytes().take_while(|&byte| byte == b'#').count();
    let end = format!("\"{}", "#".repeat(signs));
    text[signs + 1..].find(&end).map_or(text.len(), |at| signs + 1 + at + end.len())
}

/// A character, or a lifetime.
fn quote_length(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match (characters.next(), characters.next()) {
        (Some((_, '\\')), Some((escaped, _))) => {
            text[escaped + 1..].find('\'').map_or(text.len(), |at| escaped + at + 2)
        }
        (_, Some((end, '\''))) => end + 1,
        _ => 1 + text[1..].find(|c| !is_word(c)).unwrap_or(text.len() - 1),
    }
}
