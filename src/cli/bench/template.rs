//! Texts with placeholders such as `{topic}`.

use std::borrow::Cow;

/// A parsed text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// Index into the names.
    Placeholder(usize),
}

/// A placeholder that this template does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown placeholder {{{unknown}}}; expected one of {known}")]
pub struct UnknownPlaceholder {
    unknown: String,
    known: String,
}

impl Template {
    /// Parses `text` with placeholders from `names`. Braces around anything but lower-case letters are text, so that
    /// JSON needs no escapes.
    pub fn new(text: &str, names: &[&str]) -> Result<Self, UnknownPlaceholder> {
        let (mut parts, mut start) = (Vec::new(), 0);
        for (open, _) in text.match_indices('{') {
            let name = text[open + 1..].split_once('}').map_or("", |(name, _)| name);
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase()) {
                continue;
            }
            let Some(index) = names.iter().position(|known| *known == name) else {
                let known: Vec<_> = names.iter().map(|name| format!("{{{name}}}")).collect();
                return Err(UnknownPlaceholder { unknown: name.to_owned(), known: known.join(", ") });
            };
            parts.extend([Part::Text(text[start..open].to_owned()), Part::Placeholder(index)]);
            start = open + name.len() + 2;
        }
        parts.push(Part::Text(text[start..].to_owned()));
        Ok(Self { parts })
    }

    /// Whether the placeholder with this index into the names occurs.
    pub fn has(&self, name: usize) -> bool {
        self.parts.contains(&Part::Placeholder(name))
    }

    /// Appends the text with each placeholder's value, which `value` appends by its index into the names.
    pub fn render(&self, out: &mut Vec<u8>, mut value: impl FnMut(usize, &mut Vec<u8>)) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Placeholder(name) => value(*name, out),
            }
        }
    }

    /// The text with each placeholder's value.
    pub fn render_text<'a>(&self, value: impl Fn(usize) -> Cow<'a, str>) -> String {
        let mut out = Vec::new();
        self.render(&mut out, |name, out| out.extend_from_slice(value(name).as_bytes()));
        String::from_utf8(out).expect("all parts are UTF-8")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_and_json_braces_are_text() {
        let template =
            Template::new(r#"{"t":"{topic}","d":{"{topic}":"{data}"}, "e":{}}"#, &["topic", "data"]).unwrap();
        let text = template.render_text(|name| ["T", "D"][name].into());
        assert_eq!(text, r#"{"t":"T","d":{"T":"D"}, "e":{}}"#);
        assert!(template.has(1));
        assert!(!Template::new("{topic}", &["topic", "data"]).unwrap().has(1));
    }

    #[test]
    fn unknown_placeholder_is_reported_with_the_known_ones() {
        let error = Template::new("/sub/{channel}", &["topic", "n"]).unwrap_err();
        assert_eq!(error.to_string(), "unknown placeholder {channel}; expected one of {topic}, {n}");
    }
}
