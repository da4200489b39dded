//! Settings from a TOML file: one flat table, and the tables of API keys.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::api_keys;
use super::catalog;
use super::error::Problem;
use super::kind::{Arity, Invalid};
use super::source::{Source, Values};

/// The tables of API keys, which are not available as a flag or variable.
const KEYS: &str = "keys";

/// Adds the settings of the file at `path`, which was given by `place`.
pub fn read(path: &Path, place: Source, values: &mut Values, problems: &mut Vec<Problem>) {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, path, values, problems),
        Err(error) => problems.push(Problem::Unreadable { path: path.display().to_string(), place, error }),
    }
}

/// Adds the settings of the file with the content `text`.
pub fn parse(text: &str, path: &Path, values: &mut Values, problems: &mut Vec<Problem>) {
    let table = match DeTable::parse(text) {
        Ok(table) => table.into_inner(),
        Err(error) => {
            let error = describe(&error, text);
            problems.push(Problem::NotToml { path: path.display().to_string(), error });
            return;
        }
    };
    let place = |offset: usize| Source::File(path.to_owned(), line(text, offset));
    for (key, value) in table {
        let source = place(key.span().start);
        let invalid = |name, place, rule| Problem::Value { name, text: None, place, rule };
        if key.get_ref() == KEYS {
            match api_keys::read(value) {
                Ok(keys) => values.keys = (keys, source),
                Err(errors) => problems.extend(errors.into_iter().map(|(at, rule)| invalid(KEYS, place(at), rule))),
            }
        } else if let Some(setting) = catalog::find(key.get_ref()) {
            match as_text(value.get_ref(), setting.form.arity) {
                Ok(text) => values.add(setting.name, text, source),
                Err(rule) => problems.push(invalid(setting.name, source, rule)),
            }
        } else if value.get_ref().is_table() {
            let (name, rule) = (key.get_ref(), "settings are keys outside of tables, such as port = 8000");
            problems.push(Problem::Conflict(format!("[{name}] ({source}): {rule}; only [[keys]] are tables")));
        } else {
            problems.push(Problem::Unknown {
                nearest: catalog::nearest(key.get_ref()).map(str::to_owned),
                name: key.into_inner().into_owned(),
                place: source.to_string(),
            });
        }
    }
}

fn line(text: &str, offset: usize) -> usize {
    1 + text[..offset].matches('\n').count()
}

/// Describes a syntax error. Unlike the error's `Display` this does not show the line, which may hold a secret.
fn describe(error: &toml::de::Error, text: &str) -> String {
    let Some(span) = error.span() else { return error.message().to_owned() };
    let begin = text[..span.start].rfind('\n').map_or(0, |end| end + 1);
    let column = 1 + text[begin..span.start].chars().count();
    format!("line {}, column {column}: {}", line(text, span.start), error.message())
}

/// Returns the value as text, which is what flags and variables are.
fn as_text(value: &DeValue<'_>, arity: Arity) -> Result<String, Invalid> {
    let text = match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Boolean(switch) if arity == Arity::Switch => Some(switch.to_string()),
        DeValue::Integer(integer) => {
            Some(i64::from_str_radix(integer.as_str(), integer.radix()).map_or(integer.to_string(), |n| n.to_string()))
        }
        DeValue::Float(float) => Some(float.as_str().to_owned()),
        DeValue::Array(items) if arity == Arity::Many => {
            let items: Option<Vec<_>> = items.iter().map(|item: &Spanned<_>| item.get_ref().as_str()).collect();
            items.map(|items| items.join(","))
        }
        _ => None,
    };
    let wanted = match arity {
        Arity::Many => "a string or an array of strings",
        Arity::Switch => "true or false",
        Arity::One => "a string or a number",
    };
    text.ok_or_else(|| Invalid(format!("must be {wanted}, not a TOML {}", value.type_str())))
}
