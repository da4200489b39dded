//! The settings of who may do what.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use fanline::auth::{ApiKey, KeySet, Patterns, Url};

use super::definition::{About, Setting};
use super::duration::Span;
use super::kind::{Arity, Count, Kind, Optional, Switch};
use super::reader::Reader;

const ACCESS: &str = "Access";

/// Who may do what, as the settings say it. Files that they name are not read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessSettings {
    /// Secrets that tokens are verified with.
    pub secrets: Vec<Secret>,
    /// Files with public keys.
    pub public_keys: Vec<PathBuf>,
    /// Where a key set is.
    pub jwks: Option<KeySetPlace>,
    /// Whom tokens must be for.
    pub audience: Vec<String>,
    /// Who may have made them.
    pub issuer: Vec<String>,
    /// By how much clocks may differ.
    pub leeway: Duration,
    /// API keys.
    pub keys: Vec<ApiKey>,
    /// What is open to everybody, if that is said.
    pub anonymous_subscribe: Option<Patterns>,
    /// What everybody may publish to.
    pub anonymous_publish: Option<Patterns>,
    /// Whether everybody may read metrics.
    pub anonymous_metrics: bool,
    /// The service that is asked about each subscription.
    pub authorize_url: Option<Url>,
    /// How long it may take.
    pub authorize_timeout: Duration,
    /// How many questions are open at a time.
    pub authorize_concurrency: usize,
    /// How long a yes is good.
    pub authorize_cache: Duration,
}

impl AccessSettings {
    /// Reads the settings, in the order in which they are reported.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let settings = Self {
            secrets: reader.get(&JWT_SECRET).unwrap_or_default(),
            public_keys: reader.get(&JWT_PUBLIC_KEY).unwrap_or_default(),
            jwks: reader.get(&JWKS),
            audience: reader.get(&JWT_AUDIENCE).unwrap_or_default(),
            issuer: reader.get(&JWT_ISSUER).unwrap_or_default(),
            leeway: reader.get(&JWT_LEEWAY),
            anonymous_subscribe: reader.get(&ANONYMOUS_SUBSCRIBE),
            anonymous_publish: reader.get(&ANONYMOUS_PUBLISH),
            anonymous_metrics: reader.get(&ANONYMOUS_METRICS),
            authorize_url: reader.get(&AUTHORIZE_URL),
            authorize_timeout: reader.get(&AUTHORIZE_TIMEOUT),
            authorize_concurrency: reader.get(&AUTHORIZE_CONCURRENCY),
            authorize_cache: reader.get(&AUTHORIZE_CACHE),
            keys: reader.keys(ACCESS),
        };
        let names_nobody = settings.audience.is_empty() && settings.issuer.is_empty();
        if !settings.has_tokens() && !names_nobody {
            reader.conflict(
                "jwt_audience and jwt_issuer say which tokens are accepted, and there is nothing to verify tokens with: \
                 add jwt_secret, jwt_public_key or jwks, or leave them out",
            );
        }
        settings
    }

    /// Whether there is anything to verify tokens with.
    pub fn has_tokens(&self) -> bool {
        !self.secrets.is_empty() || !self.public_keys.is_empty() || self.jwks.is_some()
    }

    /// Whether these settings let in whoever was asked for something under those of `before`: the settings that are gone.
    pub fn opens(&self, before: &Self) -> Option<&'static str> {
        let knows_somebody = |settings: &Self| settings.has_tokens() || !settings.keys.is_empty();
        if knows_somebody(self) {
            return None;
        }
        if knows_somebody(before) {
            return Some("[[keys]], jwt_secret, jwt_public_key and jwks");
        }
        if before.authorize_url.is_some() && self.authorize_url.is_none() {
            return Some("authorize_url");
        }
        (before.anonymous_subscribe.is_some() && self.anonymous_subscribe.is_none()).then_some("anonymous_subscribe")
    }
}

/// A secret, or the file that holds it. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The secret itself.
    Given(String),
    /// The file that holds it.
    File(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("Given(…)"),
            Self::File(path) => write!(f, "File({path:?})"),
        }
    }
}

impl std::str::FromStr for Secret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix('@') {
            Some("") => Err("@ is to be followed by a file's path".to_owned()),
            Some(path) => Ok(Self::File(path.into())),
            None => match KeySet::secret(text.as_bytes()) {
                Ok(_) => Ok(Self::Given(text.to_owned())),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

impl Secret {
    /// The secret's bytes. A file's last line end is not part of it.
    ///
    /// # Errors
    /// When the file cannot be read; the error names it.
    pub fn read(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::Given(text) => Ok(text.clone().into_bytes()),
            Self::File(path) => {
                let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
                Ok(bytes.trim_ascii_end().to_vec())
            }
        }
    }
}

/// Where a key set is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySetPlace {
    /// In a file.
    File(PathBuf),
    /// Where it is asked for.
    Url(Url),
}

/// Secrets.
#[derive(Debug)]
pub struct Secrets;

impl Kind for Secrets {
    type Value = Vec<Secret>;
    const ARITY: Arity = Arity::Many;
    const SECRET: bool = true;

    fn parse(&self, text: &str) -> Result<Vec<Secret>, String> {
        text.split(',').map(|item| item.trim().parse()).collect()
    }

    fn allowed(&self) -> String {
        "at least 32 bytes without commas, or @ and a file's path".to_owned()
    }

    fn write(&self, _: &Vec<Secret>) -> Option<toml::Value> {
        Some("********".into())
    }
}

/// Paths of files.
#[derive(Debug)]
pub struct Paths;

impl Kind for Paths {
    type Value = Vec<PathBuf>;
    const ARITY: Arity = Arity::Many;

    fn parse(&self, text: &str) -> Result<Vec<PathBuf>, String> {
        Ok(text.split(',').map(|path| path.trim().into()).collect())
    }

    fn allowed(&self) -> String {
        String::new()
    }

    fn write(&self, value: &Vec<PathBuf>) -> Option<toml::Value> {
        Some(value.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().into())
    }
}

/// Words that mean something to whoever makes tokens.
#[derive(Debug)]
pub struct Words;

impl Kind for Words {
    type Value = Vec<String>;
    const ARITY: Arity = Arity::Many;

    fn parse(&self, text: &str) -> Result<Vec<String>, String> {
        let words: Vec<_> = text.split(',').map(|word| word.trim().to_owned()).collect();
        if words.iter().any(String::is_empty) { Err("has an empty word in it".to_owned()) } else { Ok(words) }
    }

    fn allowed(&self) -> String {
        String::new()
    }

    fn write(&self, value: &Vec<String>) -> Option<toml::Value> {
        Some(value.clone().into())
    }
}

/// Topics and patterns.
#[derive(Debug)]
pub struct TopicPatterns;

impl Kind for TopicPatterns {
    type Value = Patterns;
    const ARITY: Arity = Arity::Many;

    fn parse(&self, text: &str) -> Result<Patterns, String> {
        text.parse().map_err(|error| format!("must be {}: {error}", self.allowed()))
    }

    fn allowed(&self) -> String {
        "topics and patterns such as news,orders:*, or ** for all".to_owned()
    }

    fn write(&self, value: &Patterns) -> Option<toml::Value> {
        Some(value.to_string().split(',').map(str::to_owned).collect::<Vec<_>>().into())
    }
}

/// An address of a service. Its query may hold a secret.
#[derive(Debug)]
pub struct ServiceUrl;

impl Kind for ServiceUrl {
    type Value = Url;
    const SECRET: bool = true;

    fn parse(&self, text: &str) -> Result<Url, String> {
        text.trim().parse().map_err(|error| format!("{error}"))
    }

    fn allowed(&self) -> String {
        "http:// or https://".to_owned()
    }

    fn write(&self, value: &Url) -> Option<toml::Value> {
        Some(value.to_string().into())
    }
}

/// A file or an address. Its query may hold a secret.
#[derive(Debug)]
pub struct FileOrUrl;

impl Kind for FileOrUrl {
    type Value = KeySetPlace;
    const SECRET: bool = true;

    fn parse(&self, text: &str) -> Result<KeySetPlace, String> {
        if text.contains("://") {
            return ServiceUrl.parse(text).map(KeySetPlace::Url);
        }
        // As a path it would be shown where it cannot be read, with the secret that a query may hold.
        if text.contains('?') {
            return Err("must be a file's path, or an address that begins with http:// or https://".to_owned());
        }
        Ok(KeySetPlace::File(text.into()))
    }

    fn allowed(&self) -> String {
        "a file's path, http:// or https://".to_owned()
    }

    fn write(&self, _: &KeySetPlace) -> Option<toml::Value> {
        Some("********".into())
    }
}

/// Secret that tokens are signed with (HS256, HS384, HS512); repeatable, so that it can be replaced.
pub static JWT_SECRET: Setting<Optional<Secrets>> = Setting {
    about: About::new(
        "jwt_secret",
        ACCESS,
        "SECRET",
        "",
        "Secret that tokens are signed with (HS256, HS384, HS512); repeatable, so that it can be replaced",
    ),
    kind: Optional(Secrets),
};

/// PEM file with a public key of RSA, P-256, P-384 or Ed25519 that tokens are verified with; repeatable.
pub static JWT_PUBLIC_KEY: Setting<Optional<Paths>> = Setting {
    about: About::new(
        "jwt_public_key",
        ACCESS,
        "FILE",
        "",
        "PEM file with a public key of RSA, P-256, P-384 or Ed25519 that tokens are verified with; repeatable",
    ),
    kind: Optional(Paths),
};

/// JSON Web Key Set that tokens are verified with; one at a URL is kept, and fetched again when it is old.
pub static JWKS: Setting<Optional<FileOrUrl>> = Setting {
    about: About::new(
        "jwks",
        ACCESS,
        "FILE_OR_URL",
        "",
        "JSON Web Key Set that tokens are verified with; one at a URL is kept, and fetched again when it is old",
    ),
    kind: Optional(FileOrUrl),
};

/// Tokens must be for one of these (claim aud); without it those that are for somebody are refused.
pub static JWT_AUDIENCE: Setting<Optional<Words>> = Setting {
    about: About::new(
        "jwt_audience",
        ACCESS,
        "NAME",
        "",
        "Tokens must be for one of these (claim aud); without it those that are for somebody are refused",
    ),
    kind: Optional(Words),
};

/// Tokens must be made by one of these (claim iss).
pub static JWT_ISSUER: Setting<Optional<Words>> = Setting {
    about: About::new("jwt_issuer", ACCESS, "NAME", "", "Tokens must be made by one of these (claim iss)"),
    kind: Optional(Words),
};

/// By how much clocks may differ: tokens, and their streams, are good this long after exp and before nbf.
pub static JWT_LEEWAY: Setting<Span> = Setting {
    about: About::new(
        "jwt_leeway",
        ACCESS,
        "TIME",
        "10s",
        "By how much clocks may differ: tokens, and their streams, are good this long after exp and before nbf",
    ),
    kind: Span { min: Duration::ZERO, max: Duration::from_secs(300) },
};

/// What everybody may subscribe to; without it everything as long as no keys and tokens are configured, else nothing.
pub static ANONYMOUS_SUBSCRIBE: Setting<Optional<TopicPatterns>> = Setting {
    about: About::new(
        "anonymous_subscribe",
        ACCESS,
        "PATTERNS",
        "",
        "What everybody may subscribe to; without it everything as long as no keys and tokens are configured, else nothing",
    ),
    kind: Optional(TopicPatterns),
};

/// What everybody may publish to; the server's own machine may publish without it as long as no keys and tokens are configured.
pub static ANONYMOUS_PUBLISH: Setting<Optional<TopicPatterns>> = Setting {
    about: About::new(
        "anonymous_publish",
        ACCESS,
        "PATTERNS",
        "",
        "What everybody may publish to; the server's own machine may publish without it as long as no keys and tokens are configured",
    ),
    kind: Optional(TopicPatterns),
};

/// Everybody may read metrics.
pub static ANONYMOUS_METRICS: Setting<Switch> = Setting {
    about: About::new("anonymous_metrics", ACCESS, "BOOL", "false", "Everybody may read metrics"),
    kind: Switch,
};

/// HTTP service that is asked about each subscription: 200 allows it, 401 and 403 do not.
pub static AUTHORIZE_URL: Setting<Optional<ServiceUrl>> = Setting {
    about: About::new(
        "authorize_url",
        ACCESS,
        "URL",
        "",
        "HTTP service that is asked about each subscription: 200 allows it, 401 and 403 do not",
    ),
    kind: Optional(ServiceUrl),
};

/// How long that service may take, waiting for a turn included, before a subscription gets 503.
pub static AUTHORIZE_TIMEOUT: Setting<Span> = Setting {
    about: About::new(
        "authorize_timeout",
        ACCESS,
        "TIME",
        "2s",
        "How long that service may take, waiting for a turn included, before a subscription gets 503",
    ),
    kind: Span { min: Duration::from_millis(10), max: Duration::from_secs(60) },
};

/// How many subscriptions that service is asked about at a time.
pub static AUTHORIZE_CONCURRENCY: Setting<Count> = Setting {
    about: About::new(
        "authorize_concurrency",
        ACCESS,
        "REQUESTS",
        "64",
        "How many subscriptions that service is asked about at a time",
    ),
    kind: Count { min: 1, max: 10_000, unit: "requests" },
};

/// How long its yes is good for the same client, headers and topics; 0s asks each time.
pub static AUTHORIZE_CACHE: Setting<Span> = Setting {
    about: About::new(
        "authorize_cache",
        ACCESS,
        "TIME",
        "10s",
        "How long its yes is good for the same client, headers and topics; 0s asks each time",
    ),
    kind: Span { min: Duration::ZERO, max: Duration::from_secs(3600) },
};
