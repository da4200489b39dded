//! Settings from a TOML file: one flat table.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::catalog;
use super::error::{Problem, nearest};
use super::kind::Arity;
use super::source::{Layers, Source};

/// Adds the settings of the file at `path`, which `source` named.
pub fn read(path: &Path, source: &Source, layers: &mut Layers, problems: &mut Vec<Problem>) {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, path, layers, problems),
        Err(reason) => {
            problems.push(Problem::Unreadable { path: path.display().to_string(), source: source.clone(), reason });
        }
    }
}

/// Adds the settings of the file whose content is `text`.
pub fn parse(text: &str, path: &Path, layers: &mut Layers, problems: &mut Vec<Problem>) {
    let table = match DeTable::parse(text) {
        Ok(table) => table.into_inner(),
        Err(error) => {
            problems.push(Problem::NotToml { path: path.display().to_string(), reason: error.to_string() });
            return;
        }
    };
    for (key, value) in &table {
        let line = 1 + text[..key.span().start].matches('\n').count();
        let source = Source::File(path.to_owned(), line);
        let known = catalog::ALL.iter().find(|definition| definition.about().name == key.get_ref());
        let Some(definition) = known else {
            problems.push(Problem::Unknown {
                spelled: key.get_ref().to_string(),
                source: source.to_string(),
                nearest: nearest(key.get_ref()).map(str::to_owned),
            });
            continue;
        };
        let name = definition.about().name;
        match as_text(value.get_ref(), definition.arity()) {
            Some(given) => layers.add(name, given, source),
            None => {
                let wanted = match definition.arity() {
                    Arity::Many => "a string or an array of strings",
                    Arity::Switch => "true or false",
                    Arity::One => "a string or an integer",
                };
                let complaint = format!("must be {wanted}, not a TOML {}", value.get_ref().type_str());
                problems.push(Problem::Value { name, text: None, source, complaint });
            }
        }
    }
}

/// The value as the other sources would give it.
fn as_text(value: &DeValue<'_>, arity: Arity) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Boolean(switch) if arity == Arity::Switch => Some(switch.to_string()),
        DeValue::Integer(integer) => {
            Some(i64::from_str_radix(integer.as_str(), integer.radix()).map_or(integer.to_string(), |n| n.to_string()))
        }
        DeValue::Array(items) if arity == Arity::Many => {
            let items: Option<Vec<_>> = items.iter().map(|item: &Spanned<_>| item.get_ref().as_str()).collect();
            items.map(|items| items.join(","))
        }
        _ => None,
    }
}
