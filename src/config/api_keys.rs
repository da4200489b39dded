//! API keys: the tables `[[keys]]` of the settings file.

use fanline::auth::{ApiKey, KeyDigest, Patterns};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What a table `[[keys]]` may say.
const MEMBERS: [&str; 5] = ["name", "hash", "publish", "subscribe", "admin"];

const EXAMPLE: &str =
    "[[keys]] with name = \"shop\", hash = \"sha256:…\", publish = [\"orders:*\"]; `fanline key` makes one";

/// Reads the tables `keys`. A complaint comes with the place in the file.
pub fn read(value: &Spanned<DeValue<'_>>) -> Result<Vec<ApiKey>, Vec<(usize, String)>> {
    let tables = match value.get_ref() {
        DeValue::Array(items) => items.iter().map(|item| (item.span().start, item.get_ref())).collect(),
        _ => vec![(value.span().start, value.get_ref())],
    };
    let (mut keys, mut complaints) = (Vec::<ApiKey>::new(), Vec::new());
    for (place, table) in tables {
        let DeValue::Table(table) = table else {
            complaints.push((place, format!("must be {EXAMPLE}")));
            continue;
        };
        match key(table) {
            Ok(key) if keys.iter().any(|known| known.name == key.name) => {
                complaints.push((place, format!("name = {:?} stands twice: each key has a name of its own", key.name)));
            }
            Ok(key) if keys.iter().any(|known| known.digest == key.digest) => {
                complaints.push((place, "this hash stands twice: each key has one table".to_owned()));
            }
            Ok(key) => keys.push(key),
            Err((at, complaint)) => complaints.push((at.unwrap_or(place), complaint)),
        }
    }
    if complaints.is_empty() { Ok(keys) } else { Err(complaints) }
}

fn key(table: &DeTable<'_>) -> Result<ApiKey, (Option<usize>, String)> {
    if let Some((member, _)) = table.iter().find(|(member, _)| !MEMBERS.contains(&member.get_ref().as_ref())) {
        let known = MEMBERS.join(", ");
        return Err((Some(member.span().start), format!("{:?} is none of {known}", member.get_ref())));
    }
    let wrong = |value: &Spanned<DeValue<'_>>, complaint: String| (Some(value.span().start), complaint);
    let text = |member: &str| match table.get(member) {
        None => Err((None, format!("a key has a {member}: {EXAMPLE}"))),
        Some(value) => match value.get_ref().as_str() {
            Some(text) if !text.trim().is_empty() && !text.chars().any(char::is_control) => Ok((text, value)),
            _ => Err(wrong(value, format!("{member} must be a text of one line"))),
        },
    };
    let patterns = |member: &str| {
        let Some(value) = table.get(member) else { return Ok(Patterns::default()) };
        let texts: Option<Vec<&str>> = match value.get_ref() {
            DeValue::String(text) => Some(text.split(',').map(str::trim).collect()),
            DeValue::Array(items) => items.iter().map(|item| item.get_ref().as_str()).collect(),
            _ => None,
        };
        let complain = |why: &str| wrong(value, format!("{member} must be an array of topics and patterns{why}"));
        let texts = texts.ok_or_else(|| complain(""))?;
        Patterns::of_subject(texts, None).map_err(|error| complain(&format!(": {error}")))
    };
    let (name, _) = text("name")?;
    let (hash, place) = text("hash")?;
    // Its text is not repeated: it may be the key itself.
    let digest: KeyDigest = hash.parse().map_err(|error| wrong(place, format!("{error}")))?;
    let admin = match table.get("admin") {
        None => false,
        Some(value) => match value.get_ref() {
            DeValue::Boolean(is_admin) => *is_admin,
            _ => return Err(wrong(value, "admin must be true or false".to_owned())),
        },
    };
    let key = ApiKey {
        name: name.to_owned(),
        digest,
        publish: patterns("publish")?,
        subscribe: patterns("subscribe")?,
        admin,
    };
    if key.publish.is_empty() && key.subscribe.is_empty() && !key.admin {
        return Err((None, format!("{name:?} may do nothing: add publish, subscribe or admin = true")));
    }
    Ok(key)
}
