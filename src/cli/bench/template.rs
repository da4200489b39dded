//! Texts with placeholders such as `{topic}`.

use std::borrow::Cow;

/// A text with placeholders, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// Index into the names.
    Hole(usize),
}

/// A placeholder that means nothing in this template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{{{unknown}}} means nothing here; there are {known}")]
pub struct Unknown {
    unknown: String,
    known: String,
}

impl Template {
    /// Braces around anything but lower-case letters are text, so that JSON needs no escapes.
    ///
    /// # Errors
    /// [`Unknown`] when there is a placeholder that is not in `names`.
    pub fn new(text: &str, names: &[&str]) -> Result<Self, Unknown> {
        let (mut parts, mut rest, mut text_so_far) = (Vec::new(), text, String::new());
        while let Some(open) = rest.find('{') {
            let (before, from_brace) = rest.split_at(open);
            text_so_far.push_str(before);
            let name = from_brace[1..].split_once('}').map(|(name, _)| name);
            let name = name.filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase()));
            let Some(name) = name else {
                text_so_far.push('{');
                rest = &from_brace[1..];
                continue;
            };
            let Some(index) = names.iter().position(|known| *known == name) else {
                let known: Vec<_> = names.iter().map(|name| format!("{{{name}}}")).collect();
                return Err(Unknown { unknown: name.to_owned(), known: known.join(", ") });
            };
            if !text_so_far.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text_so_far)));
            }
            parts.push(Part::Hole(index));
            rest = &from_brace[name.len() + 2..];
        }
        text_so_far.push_str(rest);
        if !text_so_far.is_empty() {
            parts.push(Part::Text(text_so_far));
        }
        Ok(Self { parts })
    }

    /// Whether the placeholder with this index into the names occurs.
    pub fn has(&self, name: usize) -> bool {
        self.parts.contains(&Part::Hole(name))
    }

    /// Appends the text with each placeholder's value, which `value` appends by its index into the names.
    pub fn render(&self, out: &mut Vec<u8>, mut value: impl FnMut(usize, &mut Vec<u8>)) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Hole(name) => value(*name, out),
            }
        }
    }

    /// The text with values that are text.
    pub fn render_text<'a>(&self, value: impl Fn(usize) -> Cow<'a, str>) -> String {
        let mut out = Vec::new();
        self.render(&mut out, |name, out| out.extend_from_slice(value(name).as_bytes()));
        String::from_utf8(out).expect("texts put together are text")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_and_braces_of_json_are_text() {
        let template =
            Template::new(r#"{"t":"{topic}","d":{"{topic}":"{data}"}, "e":{}}"#, &["topic", "data"]).unwrap();
        let text = template.render_text(|name| ["T", "D"][name].into());
        assert_eq!(text, r#"{"t":"T","d":{"T":"D"}, "e":{}}"#);
        assert!(template.has(1));
        assert!(!Template::new("{topic}", &["topic", "data"]).unwrap().has(1));
    }

    #[test]
    fn an_unknown_placeholder_is_named_with_those_that_there_are() {
        let error = Template::new("/sub/{channel}", &["topic", "n"]).unwrap_err();
        assert_eq!(error.to_string(), "{channel} means nothing here; there are {topic}, {n}");
    }
}
