//! The items of a crate and the paths in them, read with `syn`.

use std::collections::BTreeMap;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Attribute, Meta, Token};

/// What a file holds of one module: an item, or nothing.
pub struct Item {
    pub file: String,
    pub module: Vec<String>,
    pub is_test: bool,
    pub tokens: TokenStream,
}

/// Reads the file of a module and those of the modules below it. The first item of each module is empty.
pub fn read(sources: &BTreeMap<String, String>, file: &str, module: &[String], is_test: bool) -> Vec<Item> {
    let source = sources.get(file).unwrap_or_else(|| panic!("there is no {file}"));
    let parsed = syn::parse_file(source).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut found = Vec::new();
    let mut modules = vec![(module.to_vec(), is_test, parsed.items)];
    while let Some((module, is_test, items)) = modules.pop() {
        let item = |is_test, tokens| Item { file: file.to_owned(), module: module.clone(), is_test, tokens };
        found.push(item(is_test, TokenStream::new()));
        for syntax in items {
            let tokens = syntax.to_token_stream();
            let is_test = is_test || has_test_attribute(tokens.clone());
            let syn::Item::Mod(child) = syntax else {
                found.push(item(is_test, tokens));
                continue;
            };
            let path = [&module[..], &[child.ident.to_string()]].concat();
            match child.content {
                Some((_, items)) => modules.push((path, is_test, items)),
                None => found.extend(read(sources, &format!("{}.rs", path.join("/")), &path, is_test)),
            }
        }
    }
    found
}

/// Whether an item has the attribute `#[test]`, or a `cfg` that tests enable.
fn has_test_attribute(item: TokenStream) -> bool {
    fn enables_tests(meta: &Meta) -> bool {
        match meta {
            Meta::Path(path) => path.is_ident("test"),
            Meta::List(list) if !list.path.is_ident("not") => {
                let arguments = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
                arguments.is_ok_and(|arguments| arguments.iter().any(enables_tests))
            }
            _ => false,
        }
    }
    let split = |input: ParseStream| Ok((input.call(Attribute::parse_outer)?, input.parse::<TokenStream>()?));
    let (attributes, _) = split.parse2(item).expect("an item begins with its attributes");
    attributes.iter().any(|attribute| enables_tests(&attribute.meta))
}

/// The paths in `tokens`, each with its line: in items, macros and attributes. In the braces of a `use` item they continue
/// `prefix`.
pub fn paths(tokens: TokenStream, prefix: &[String]) -> Vec<(usize, Vec<String>)> {
    let mut found = vec![(0, prefix.to_vec())];
    let mut colons = 0;
    for token in tokens {
        let is_continued = colons == 2;
        colons = match &token {
            TokenTree::Punct(sign) if sign.as_char() == ':' => colons + 1,
            _ => 0,
        };
        match token {
            TokenTree::Ident(name) => {
                if !is_continued {
                    found.push((0, prefix.to_vec()));
                }
                let (line, path) = found.last_mut().expect("it begins with one");
                *line = name.span().start().line;
                path.push(name.unraw().to_string());
            }
            TokenTree::Group(group) => {
                let prefix = found.pop_if(|_| is_continued).map_or(vec![], |(_, path)| path);
                found.extend(paths(group.stream(), &prefix));
                found.push((0, prefix.to_vec()));
            }
            TokenTree::Punct(sign) if sign.as_char() != ':' => found.push((0, prefix.to_vec())),
            _ => {}
        }
    }
    found.retain(|(line, _)| *line > 0);
    found
}
