//! API keys: the tables `[[keys]]` of the settings file.

use fanline::auth::{ApiKey, KeyDigest, Patterns};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use super::kind::Invalid;

const EXAMPLE: &str = "must be tables [[keys]], such as `fanline key` prints";

/// One table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(deserialize_with = "line")]
    name: String,
    #[serde(deserialize_with = "digest")]
    hash: KeyDigest,
    #[serde(default, deserialize_with = "patterns")]
    publish: Patterns,
    #[serde(default, deserialize_with = "patterns")]
    subscribe: Patterns,
    #[serde(default)]
    admin: bool,
}

/// Reads the tables. An error comes with its offset in the file.
pub fn read(value: Spanned<DeValue<'_>>) -> Result<Vec<ApiKey>, Vec<(usize, Invalid)>> {
    let begin = value.span().start;
    let DeValue::Array(tables) = value.into_inner() else { return Err(vec![(begin, EXAMPLE.into())]) };
    let (mut keys, mut errors) = (Vec::new(), Vec::new());
    for table in tables {
        match key(table, &keys) {
            Ok(key) => keys.push(key),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(keys) } else { Err(errors) }
}

fn key(table: Spanned<DeValue<'_>>, others: &[ApiKey]) -> Result<ApiKey, (usize, Invalid)> {
    let place = table.span().start;
    let invalid = |rule: String| Err((place, Invalid(rule)));
    if !table.get_ref().is_table() {
        return invalid(EXAMPLE.to_owned());
    }
    let table = Table::deserialize(ValueDeserializer::from(table));
    let Table { name, hash: digest, publish, subscribe, admin } = table
        .map_err(|error| (error.span().map_or(place, |span| span.start), Invalid::because(without_value(&error))))?;
    if others.iter().any(|other| other.name == name) {
        return invalid(format!("name = {name:?} is used twice: each key needs its own name"));
    }
    if others.iter().any(|other| other.digest == digest) {
        return invalid("this hash is used twice: a key has only one table".to_owned());
    }
    if publish.is_empty() && subscribe.is_empty() && !admin {
        return invalid(format!("{name:?} grants nothing: add publish, subscribe or admin = true"));
    }
    Ok(ApiKey { name, digest, publish, subscribe, admin })
}

/// Returns "expected …" of an error such as `invalid type: string "…", expected …`: the value may be a misplaced key.
fn without_value(error: &toml::de::Error) -> &str {
    let message = error.message();
    let parts = message.starts_with("invalid type").then(|| message.rsplit_once(", ")).flatten();
    parts.map_or(message, |(_, expected)| expected)
}

fn line<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let is_line = !text.trim().is_empty() && !text.chars().any(char::is_control);
    if is_line { Ok(text) } else { Err(D::Error::custom("name must be one line of text")) }
}

fn digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<KeyDigest, D::Error> {
    // The error does not repeat the text, which may be the key itself.
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

fn patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Patterns, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "must be an array of topics and patterns")]
    enum Texts {
        Joined(String),
        Listed(Vec<String>),
    }
    let texts = match Texts::deserialize(deserializer)? {
        Texts::Joined(text) => text.split(',').map(|text| text.trim().to_owned()).collect(),
        Texts::Listed(texts) => texts,
    };
    Patterns::of_subject(texts, None).map_err(D::Error::custom)
}
