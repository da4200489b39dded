//! Reads the paths in Rust sources from their tokens, without those in code that only tests compile.

use std::collections::BTreeMap;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// A path outside tests.
pub struct Use {
    pub file: String,
    pub line: usize,
    pub module: Vec<String>,
    pub path: Vec<String>,
}

/// What a crate's files contain.
#[derive(Default)]
pub struct Sources {
    pub uses: Vec<Use>,
    /// The declared modules, and whether only tests compile them.
    pub modules: BTreeMap<Vec<String>, bool>,
}

impl Sources {
    /// Reads a module, or a group of tokens in it. In the braces of a `use` item, paths continue `prefix`.
    pub fn read(&mut self, file: &str, tokens: TokenStream, module: &[String], prefix: &[String], in_test: bool) {
        let tokens = Vec::from_iter(tokens);
        let mut is_test = in_test;
        for (index, token) in tokens.iter().enumerate() {
            let back = |steps: usize| index.checked_sub(steps).map_or(String::new(), |index| text(&tokens[index]));
            let continues = back(1) + &back(2) == "::" && back(3).starts_with(char::is_alphabetic);
            let child = (back(2) == "mod").then(|| [module, &[back(1)]].concat());
            match token {
                TokenTree::Ident(name) if !is_test => {
                    let line = name.span().start().line;
                    if !continues {
                        self.uses.push(Use { file: file.into(), line, module: module.into(), path: prefix.into() });
                    }
                    self.uses.last_mut().expect("a path was begun").path.push(text(token));
                }
                TokenTree::Group(group) => {
                    is_test |= back(1) == "#" && enables_tests(group);
                    let parent = self.uses.pop_if(|_| continues && !is_test).map_or(vec![], |parent| parent.path);
                    self.read(file, group.stream(), child.as_deref().unwrap_or(module), &parent, is_test);
                    is_test &= in_test || group.delimiter() != Delimiter::Brace;
                }
                TokenTree::Punct(sign) if ";,".contains(sign.as_char()) => {
                    self.modules.extend(child.map(|child| (child, is_test)));
                    is_test = in_test;
                }
                _ => {}
            }
        }
    }
}

fn text(token: &TokenTree) -> String {
    let text = if let TokenTree::Group(_) = token { String::new() } else { token.to_string() };
    text.trim_start_matches("r#").to_owned()
}

fn enables_tests(attribute: &Group) -> bool {
    let text = attribute.stream().to_string().replace(' ', "");
    text == "test" || text.starts_with("cfg(") && text.replace("not(test)", "").contains("test")
}
