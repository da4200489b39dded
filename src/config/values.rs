//! The kinds of single settings: host and port, origins, names, URLs, log filters.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use fanline::auth::{Patterns, Url};
use fanline::server::{Origins, PathPrefix, Rate, TrustedProxy};
use fanline::topic::Topic;
use tracing_subscriber::filter::Targets;

use super::access::{KeySetPlace, Secret};
use super::kind::{Invalid, Kind, list};

/// An IP address without a port.
pub fn host() -> Kind<IpAddr> {
    let parse = |text: &str| {
        let text = text.trim();
        if text.eq_ignore_ascii_case("localhost") {
            return Ok(Ipv4Addr::LOCALHOST.into());
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        let rule = "must be an IP address such as 127.0.0.1, 0.0.0.0 (all interfaces) or ::1, or localhost";
        bare.parse().map_err(|_| rule.into())
    };
    Kind::new("ADDRESS", "", parse, IpAddr::to_string)
}

/// A TCP port.
pub fn port() -> Kind<u16> {
    const ALLOWED: &str = "0 (any free port) to 65535";
    let parse = |text: &str| text.trim().parse().map_err(|_| Invalid(format!("must be {ALLOWED}")));
    Kind::new("PORT", ALLOWED, parse, u16::to_string).written(|&port| Some(i64::from(port).into()))
}

/// A path prefix. An empty text is none.
pub fn prefix() -> Kind<PathPrefix> {
    let parse = |text: &str| text.trim().parse().map_err(Invalid::because);
    Kind::new("PATH", "", parse, PathPrefix::to_string)
        .written(|prefix| Some(prefix.as_str()).filter(|prefix| !prefix.is_empty()).map(toml::Value::from))
}

/// The origins whose pages may read responses. An empty text is the server's own origin only.
pub fn origins() -> Kind<Origins> {
    let parse = |text: &str| {
        let items: Vec<&str> = text.split(',').map(str::trim).collect();
        match items[..] {
            [""] => return Ok(Origins::Own),
            ["*"] => return Ok(Origins::Any),
            _ if items.contains(&"*") => return Err("has * and names: use one or the other".into()),
            _ => {}
        }
        let parse = |item: &&str| {
            item.parse().map_err(|error| {
                Invalid(format!("each must be * or an origin such as https://example.com; {item:?} is not: {error}"))
            })
        };
        let origins = items.iter().map(parse).collect::<Result<_, _>>()?;
        Ok(Origins::Listed { origins, credentials: false })
    };
    let write = |origins: &Origins| match origins {
        Origins::Own => None,
        Origins::Any => Some(vec!["*".to_owned()].into()),
        Origins::Listed { origins, .. } => Some(origins.iter().map(ToString::to_string).collect::<Vec<_>>().into()),
    };
    Kind::new("ORIGIN", "* or scheme://host[:port]", parse, |_| String::new()).written(write).repeatable()
}

/// Proxies: addresses, networks, or `unix`.
pub fn proxies() -> Kind<Vec<TrustedProxy>> {
    let parse = |text: &str| text.parse().map_err(|error| Invalid(format!("has {text:?}: {error}")));
    list(Kind::new("PROXY", "an address, a network such as 10.0.0.0/8, or unix", parse, TrustedProxy::to_string))
}

/// Events or connections per second, with a burst.
pub fn rate() -> Kind<Rate> {
    let allowed = "a rate per second, or rate:burst as in 100:500";
    Kind::new("RATE", allowed, |text| text.parse().map_err(Invalid::because), Rate::to_string)
}

/// A topic.
pub fn topic() -> Kind<Topic> {
    let parse = |text: &str| {
        Topic::new(text).map_err(|error| Invalid(format!("must be a topic such as log or plant/line.2: {error}")))
    };
    Kind::new("TOPIC", "", parse, |topic| topic.as_str().to_owned())
}

/// Topics and patterns.
pub fn patterns() -> Kind<Patterns> {
    const ALLOWED: &str = "topics and patterns such as news,orders:*, or ** for all";
    let parse = |text: &str| text.parse().map_err(|error| Invalid(format!("must be {ALLOWED}: {error}")));
    let write =
        |patterns: &Patterns| Some(patterns.to_string().split(',').map(str::to_owned).collect::<Vec<_>>().into());
    Kind::new("PATTERNS", ALLOWED, parse, Patterns::to_string).written(write).repeatable()
}

/// Secrets of tokens.
pub fn secrets() -> Kind<Vec<Secret>> {
    let allowed = "at least 32 bytes without commas, or @ and the path of a file";
    list(Kind::secret("SECRET", allowed, str::parse))
}

/// Paths of files.
pub fn paths() -> Kind<Vec<PathBuf>> {
    list(path())
}

/// The path of a file.
pub fn path() -> Kind<PathBuf> {
    Kind::new("FILE", "", |text| Ok(text.into()), |path: &PathBuf| path.display().to_string())
}

/// Names that must match a claim of a token.
pub fn claims() -> Kind<Vec<String>> {
    let parse = |text: &str| match text {
        "" => Err("has an empty name".into()),
        _ => Ok(text.to_owned()),
    };
    list(Kind::new("NAME", "", parse, String::clone))
}

/// The URL of an HTTP service. Its query may hold a secret.
pub fn service_url() -> Kind<Url> {
    Kind::secret("URL", "http:// or https://", |text| text.trim().parse().map_err(Invalid::because))
}

/// The file or URL of a key set. The URL's query may hold a secret.
pub fn key_set_place() -> Kind<KeySetPlace> {
    Kind::secret("FILE_OR_URL", "the path of a file, http:// or https://", str::parse)
}

/// The URL of Redis. It may hold a password.
pub fn redis_url() -> Kind<String> {
    let allowed = "redis://[user:password@]host:port/db, unix:///path, redis+sentinel://host:port,host:port/master, \
                   redis+cluster://host:port,host:port; with TLS rediss://, rediss+sentinel://, rediss+cluster://";
    let parse = |text: &str| {
        let schemes = [
            "redis://",
            "rediss://",
            "unix://",
            "redis+sentinel://",
            "rediss+sentinel://",
            "redis+cluster://",
            "rediss+cluster://",
        ];
        match schemes.iter().any(|scheme| text.starts_with(scheme)) {
            true => Ok(text.to_owned()),
            false => Err(Invalid(format!("must begin with one of {}", schemes.join(", ")))),
        }
    };
    Kind::secret("URL", allowed, parse)
}

/// A name without spaces and braces.
pub fn name() -> Kind<String> {
    let parse = |text: &str| {
        let is_allowed = |c: char| !c.is_whitespace() && !c.is_control() && !"{}".contains(c);
        if text.is_empty() || text.len() > 100 || !text.chars().all(is_allowed) {
            return Err("must be 1 to 100 bytes without spaces and braces".into());
        }
        Ok(text.to_owned())
    };
    Kind::new("NAME", "", parse, String::clone)
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A log level, or directives for `tracing_subscriber::filter::Targets`.
pub fn log_filter() -> Kind<String> {
    let allowed = format!("{} or directives such as info,fanline=debug", LEVELS.join(", "));
    let rule = format!("must be {allowed}");
    let parse = move |text: &str| {
        let directives: Vec<_> = text.split(',').map(|directive| level(directive.trim())).collect();
        for directive in &directives {
            // A single word would be read as a target: a misspelled level would silence everything else. There are no spans.
            let is_target = directive.contains(['=', ':']) && !directive.contains('[');
            if !LEVELS.contains(&directive.as_str()) && !is_target {
                return Err(Invalid(format!("{rule}; {directive:?} is neither")));
            }
        }
        let directives = directives.join(",");
        directives.parse::<Targets>().map_err(|error| Invalid(format!("{rule}: {error}")))?;
        Ok(directives)
    };
    Kind::new("FILTER", allowed, parse, String::clone)
}

/// Translates the level names of other systems. Other directives stay as they are.
fn level(directive: &str) -> String {
    match directive.to_ascii_lowercase().as_str() {
        "warning" => "warn".to_owned(),
        "critical" | "fatal" => "error".to_owned(),
        lower if LEVELS.contains(&lower) => lower.to_owned(),
        _ => directive.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error<T>(parsed: Result<T, Invalid>) -> String {
        parsed.err().expect("an invalid value").0
    }

    #[test]
    fn proxies_are_addresses_networks_or_unix() {
        let kind = proxies();
        let listed = (kind.parse)("10.0.0.0/8, 192.0.2.1,unix").unwrap();
        assert_eq!(
            (kind.write)(&listed),
            Some(vec!["10.0.0.0/8".to_owned(), "192.0.2.1".to_owned(), "unix".to_owned()].into())
        );
        for (text, reason) in [
            ("10.0.0.1/8", "has \"10.0.0.1/8\": the network has bits after its prefix: did you mean 10.0.0.0/8?"),
            ("localhost", "has \"localhost\": expected an IP address, a network such as 10.0.0.0/8, or unix"),
        ] {
            let error = error((kind.parse)(text));
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn host_is_an_ip_address_or_localhost() {
        let parse = host().parse;
        assert_eq!(parse("localhost").unwrap().to_string(), "127.0.0.1");
        assert_eq!(parse("[::]").unwrap().to_string(), "::");
        assert!(parse("example.com").is_err());
    }

    #[test]
    fn origins_are_any_or_listed_by_name() {
        let kind = origins();
        assert_eq!((kind.parse)(" * "), Ok(Origins::Any));
        let listed = (kind.parse)("https://a.example, http://[::1]:8080").unwrap();
        assert_eq!(
            (kind.write)(&listed),
            Some(vec!["https://a.example".to_owned(), "http://[::1]:8080".to_owned()].into())
        );
        for (text, reason) in [
            ("*,https://a.example", "has * and names"),
            ("https://a.example,", "\"\" is not"),
            ("a.example", "begins with http:// or https://"),
            ("https://a.example/", "leave out the slash"),
        ] {
            let error = error((kind.parse)(text));
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn log_filter_is_a_level_or_directives() {
        let parse = log_filter().parse;
        assert_eq!(parse("INFO").unwrap(), "info");
        assert_eq!(parse("WARNING").unwrap(), "warn");
        assert_eq!(parse("info, fanline=debug").unwrap(), "info,fanline=debug");
        assert_eq!(parse("fanline::server=trace").unwrap(), "fanline::server=trace");
    }

    #[test]
    fn unknown_log_level_is_rejected() {
        let parse = log_filter().parse;
        for text in ["inof", "verbose", "", "info,fanline", "fanline=loud", "[span]=info"] {
            let error = error(parse(text));
            assert!(error.starts_with("must be off, error, warn, info, debug, trace or directives"), "{error}");
        }
    }
}
