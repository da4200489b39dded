//! A pointer to the key of an event within its payload.

use std::fmt;
use std::str::FromStr;

use fanline::event::{InvalidKey, Key};
use serde_json::Value;

use super::publish::JsonError;

/// A JSON pointer (RFC 6901) to the key of an event within its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPointer(String);

/// The text is not a JSON pointer.
#[derive(Debug, thiserror::Error)]
#[error("expected a JSON pointer, such as /id or /order/number")]
pub struct InvalidPointer;

impl FromStr for KeyPointer {
    type Err = InvalidPointer;

    fn from_str(text: &str) -> Result<Self, InvalidPointer> {
        // An empty one is the payload itself.
        if text.is_empty() || text.starts_with('/') { Ok(Self(text.to_owned())) } else { Err(InvalidPointer) }
    }
}

impl fmt::Display for KeyPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "the payload itself" } else { &self.0 })
    }
}

/// Why a payload has no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFault {
    #[error("not one JSON value: {0}")]
    NotJson(#[from] JsonError),
    #[error("no string or number at {0}")]
    Missing(KeyPointer),
    #[error("{0}: {1}")]
    Invalid(KeyPointer, InvalidKey),
}

impl KeyPointer {
    /// The key in the JSON value `payload`: a string, or a number as it is written.
    pub fn find(&self, payload: &str) -> Result<Key, KeyFault> {
        let value: Value = serde_json::from_str(payload).map_err(JsonError::from)?;
        let key = match value.pointer(&self.0) {
            Some(Value::String(text)) => Key::new(text),
            Some(Value::Number(number)) => Key::new(&number.to_string()),
            _ => return Err(KeyFault::Missing(self.clone())),
        };
        key.map_err(|error| KeyFault::Invalid(self.clone(), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_a_string_or_a_number_of_the_payload() {
        let find = |pointer: &str, payload: &str| {
            let key = pointer.parse::<KeyPointer>().unwrap().find(payload);
            key.map(|key| key.as_str().to_owned()).map_err(|error| error.to_string())
        };
        assert_eq!(find("/id", r#"{"id":"a/b","x":1}"#).unwrap(), "a/b");
        assert_eq!(find("/order/0/n~1o", r#"{"order":[{"n/o":17}]}"#).unwrap(), "17");
        assert_eq!(find("", "\"x\"").unwrap(), "x");
        assert_eq!(find("/id", r#"{"id":null}"#).unwrap_err(), "no string or number at /id");
        assert_eq!(find("/id", "[1]").unwrap_err(), "no string or number at /id");
        assert!(find("/id", r#"{"id":""}"#).unwrap_err().starts_with("/id: "));
        assert!(find("/id", "{").unwrap_err().starts_with("not one JSON value"));
        assert_eq!(
            "id".parse::<KeyPointer>().unwrap_err().to_string(),
            "expected a JSON pointer, such as /id or /order/number"
        );
    }
}
