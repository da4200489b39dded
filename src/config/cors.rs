//! Pages of which origins may read.

use fanline::server::Origin;

use super::kind::{Arity, Kind};

/// Any origin, or some by name.
#[derive(Debug)]
pub struct AllowedOrigins;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// `*`
    Any,
    /// Each by name.
    Listed(Vec<Origin>),
}

impl Kind for AllowedOrigins {
    type Value = Allowed;

    const ARITY: Arity = Arity::Many;

    fn parse(&self, text: &str) -> Result<Allowed, String> {
        let items: Vec<&str> = text.split(',').map(str::trim).collect();
        match items[..] {
            ["*"] => return Ok(Allowed::Any),
            _ if items.contains(&"*") => {
                return Err(
                    "has * and names: with * every origin is allowed already; leave one of the two out".to_owned()
                );
            }
            _ => {}
        }
        let parse = |item: &&str| {
            item.parse().map_err(|error| {
                format!("each must be * or an origin such as https://example.com or http://127.0.0.1:5173; {item:?} is not: {error}")
            })
        };
        items.iter().map(parse).collect::<Result<_, _>>().map(Allowed::Listed)
    }

    fn allowed(&self) -> String {
        "* or scheme://host[:port]".to_owned()
    }

    fn write(&self, value: &Allowed) -> Option<toml::Value> {
        Some(match value {
            Allowed::Any => vec!["*".to_owned()].into(),
            Allowed::Listed(origins) => origins.iter().map(ToString::to_string).collect::<Vec<_>>().into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_any_or_listed_by_name() {
        assert_eq!(AllowedOrigins.parse(" * "), Ok(Allowed::Any));
        let listed = AllowedOrigins.parse("https://a.example, http://[::1]:8080").unwrap();
        assert_eq!(
            AllowedOrigins.write(&listed),
            Some(vec!["https://a.example".to_owned(), "http://[::1]:8080".to_owned()].into())
        );
        for (text, what) in [
            ("*,https://a.example", "has * and names"),
            ("https://a.example,", "\"\" is not"),
            ("a.example", "begins with http:// or https://"),
            ("https://a.example/", "leave out the slash"),
        ] {
            let complaint = AllowedOrigins.parse(text).unwrap_err();
            assert!(complaint.contains(what), "{complaint}");
        }
    }
}
