//! Settings from a TOML file: one flat table, and the tables of API keys.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::api_keys;
use super::catalog;
use super::error::{Problem, nearest};
use super::kind::Arity;
use super::source::{Layers, Source};

/// The tables of API keys: the one thing that no flag and no variable gives.
pub const KEYS: &str = "keys";

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
    let line_of = |place: usize| 1 + text[..place].matches('\n').count();
    let table = match DeTable::parse(text) {
        Ok(table) => table.into_inner(),
        Err(error) => {
            // Not its `Display`, which shows the line: a secret may stand there.
            let reason = match error.span() {
                Some(span) => {
                    let begin = text[..span.start].rfind('\n').map_or(0, |end| end + 1);
                    let column = 1 + text[begin..span.start].chars().count();
                    format!("line {}, column {column}: {}", line_of(span.start), error.message())
                }
                None => error.message().to_owned(),
            };
            problems.push(Problem::NotToml { path: path.display().to_string(), reason });
            return;
        }
    };
    for (key, value) in &table {
        let line = line_of(key.span().start);
        let source = Source::File(path.to_owned(), line);
        if key.get_ref() == KEYS {
            match api_keys::read(value) {
                Ok(keys) => layers.add_keys(keys, source),
                Err(complaints) => problems.extend(complaints.into_iter().map(|(place, complaint)| {
                    let source = Source::File(path.to_owned(), line_of(place));
                    Problem::Value { name: KEYS, text: None, source, complaint }
                })),
            }
            continue;
        }
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
