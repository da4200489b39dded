//! The settings that bound what clients can take: connections, rates, sizes of requests, and times.

use std::time::Duration;

use fanline::server::{HttpOptions, Limits, Rate};

use super::catalog::LIMITS;
use super::definition::{About, Setting};
use super::duration::Span;
use super::kind::{Count, Kind, Optional};
use super::reader::Reader;
use super::size::{KIB, MIB, Size, display};

/// So many a second, and so many at once.
#[derive(Debug)]
pub struct PerSecond;

impl Kind for PerSecond {
    type Value = Rate;

    fn parse(&self, text: &str) -> Result<Rate, String> {
        text.parse().map_err(|error: fanline::server::InvalidRate| error.to_string())
    }

    fn allowed(&self) -> String {
        "a number, or two as in 100:500, of which the second is how many may come at once".to_owned()
    }

    fn write(&self, value: &Rate) -> Option<toml::Value> {
        Some(value.to_string().into())
    }
}

/// A number, or what the server finds right.
#[derive(Debug)]
pub struct OrAuto(
    /// The numbers that are allowed.
    pub Count,
);

impl Kind for OrAuto {
    type Value = Option<usize>;

    fn parse(&self, text: &str) -> Result<Option<usize>, String> {
        if text.trim() == "auto" {
            return Ok(None);
        }
        self.0.parse(text).map(Some).map_err(|complaint| format!("{complaint}, or \"auto\""))
    }

    fn allowed(&self) -> String {
        format!("{}, or auto", self.0.allowed())
    }

    fn write(&self, value: &Option<usize>) -> Option<toml::Value> {
        value.map_or(Some("auto".into()), |value| self.0.write(&value))
    }
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const MANY: usize = 10_000_000;

/// Open connections; auto is as many as the limit on open files has room for, and so is 0.
pub static MAX_CONNECTIONS: Setting<OrAuto> = Setting {
    about: About::new(
        "max_connections",
        LIMITS,
        "CONNECTIONS",
        "auto",
        "Open connections; auto is as many as the limit on open files has room for, and so is 0",
    ),
    kind: OrAuto(Count { min: 0, max: MANY, unit: "connections" }),
};

/// Open connections of one address (IPv6: of one network of 64 bits); 0 is any number, as behind a proxy all come from one.
pub static MAX_CONNECTIONS_PER_ADDRESS: Setting<Count> = Setting {
    about: About::new(
        "max_connections_per_address",
        LIMITS,
        "CONNECTIONS",
        "0",
        "Open connections of one address (IPv6: of one network of 64 bits); 0 is any number, as behind a proxy all come from one",
    ),
    kind: Count { min: 0, max: MANY, unit: "connections" },
};

/// New connections a second of one address (IPv6: of one network of 64 bits).
pub static CONNECT_RATE: Setting<Optional<PerSecond>> = Setting {
    about: About::new(
        "connect_rate",
        LIMITS,
        "RATE",
        "",
        "New connections a second of one address (IPv6: of one network of 64 bits)",
    ),
    kind: Optional(PerSecond),
};

/// Events a second that may be published from one address (IPv6: of one network of 64 bits).
pub static PUBLISH_RATE: Setting<Optional<PerSecond>> = Setting {
    about: About::new(
        "publish_rate",
        LIMITS,
        "RATE",
        "",
        "Events a second that may be published from one address (IPv6: of one network of 64 bits)",
    ),
    kind: Optional(PerSecond),
};

/// Events a second that may be published with one API key, or by one subject of tokens.
pub static PUBLISH_RATE_PER_KEY: Setting<Optional<PerSecond>> = Setting {
    about: About::new(
        "publish_rate_per_key",
        LIMITS,
        "RATE",
        "",
        "Events a second that may be published with one API key, or by one subject of tokens",
    ),
    kind: Optional(PerSecond),
};

/// Subscribers of everything or of a pattern, each of whom costs something for each event; 0 is any number.
pub static MAX_FIREHOSE: Setting<Count> = Setting {
    about: About::new(
        "max_firehose",
        LIMITS,
        "SUBSCRIBERS",
        "0",
        "Subscribers of everything or of a pattern, each of whom costs something for each event; 0 is any number",
    ),
    kind: Count { min: 0, max: MANY, unit: "subscribers" },
};

/// Topics that subscribers name and that have had no event yet, over all subscribers; 0 is any number.
pub static MAX_SILENT_TOPICS: Setting<Count> = Setting {
    about: About::new(
        "max_silent_topics",
        LIMITS,
        "TOPICS",
        "500000",
        "Topics that subscribers name and that have had no event yet, over all subscribers; 0 is any number",
    ),
    kind: Count { min: 0, max: 1_000_000_000, unit: "topics" },
};

/// Patterns that one subscriber may ask for.
pub static MAX_PATTERNS: Setting<Count> = Setting {
    about: About::new("max_patterns", LIMITS, "PATTERNS", "20", "Patterns that one subscriber may ask for"),
    kind: Count { min: 0, max: 1000, unit: "patterns" },
};

/// Wildcards that one pattern may have.
pub static MAX_WILDCARDS: Setting<Count> = Setting {
    about: About::new("max_wildcards", LIMITS, "WILDCARDS", "8", "Wildcards that one pattern may have"),
    kind: Count { min: 1, max: 128, unit: "wildcards" },
};

/// The largest query of a request.
pub static MAX_QUERY_BYTES: Setting<Size> = Setting {
    about: About::new("max_query_bytes", LIMITS, "BYTES", "16KiB", "The largest query of a request"),
    kind: Size { min: 64, max: 60 * KIB },
};

/// The largest head of a request: its line and its fields.
pub static MAX_HEAD_BYTES: Setting<Size> = Setting {
    about: About::new(
        "max_head_bytes",
        LIMITS,
        "BYTES",
        "64KiB",
        "The largest head of a request: its line and its fields",
    ),
    kind: Size { min: KIB, max: MIB },
};

/// Fields that the head of a request may have.
pub static MAX_HEADERS: Setting<Count> = Setting {
    about: About::new("max_headers", LIMITS, "FIELDS", "100", "Fields that the head of a request may have"),
    kind: Count { min: 8, max: 1000, unit: "fields" },
};

/// The largest line of an NDJSON body; without it six times max_event_bytes and 2 KiB, for an event whose every character is
/// escaped.
pub static MAX_LINE_BYTES: Setting<Optional<Size>> = Setting {
    about: About::new(
        "max_line_bytes",
        LIMITS,
        "BYTES",
        "",
        "The largest line of an NDJSON body; without it six times max_event_bytes and 2 KiB, for an event whose every character is escaped",
    ),
    kind: Optional(Size { min: KIB, max: 128 * MIB }),
};

/// How long a client may take to send a body that is JSON or text, or one line of an NDJSON body.
pub static BODY_TIMEOUT: Setting<Span> = Setting {
    about: About::new(
        "body_timeout",
        LIMITS,
        "TIME",
        "30s",
        "How long a client may take to send a body that is JSON or text, or one line of an NDJSON body",
    ),
    kind: Span { min: Duration::from_millis(100), max: HOUR },
};

/// How long an NDJSON body may be quiet between two lines.
pub static UPLOAD_TIMEOUT: Setting<Span> = Setting {
    about: About::new("upload_timeout", LIMITS, "TIME", "5m", "How long an NDJSON body may be quiet between two lines"),
    kind: Span { min: SECOND, max: Duration::from_secs(7 * 86_400) },
};

/// What clients can take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSettings {
    /// Of connections, rates and subscribers.
    pub limits: Limits,
    max_patterns: usize,
    max_wildcards: usize,
    max_query_bytes: usize,
    max_head_bytes: usize,
    max_headers: usize,
    max_line_bytes: Option<usize>,
    body_timeout: Duration,
    upload_timeout: Duration,
}

impl LimitSettings {
    /// Reads all of them, in the order in which they are reported.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let limits = Limits {
            max_connections: reader.get(&MAX_CONNECTIONS).and_then(unlimited_if_0),
            max_connections_per_address: unlimited_if_0(reader.get(&MAX_CONNECTIONS_PER_ADDRESS)),
            connect_rate: reader.get(&CONNECT_RATE),
            publish_rate: reader.get(&PUBLISH_RATE),
            publish_rate_per_key: reader.get(&PUBLISH_RATE_PER_KEY),
            max_firehose: unlimited_if_0(reader.get(&MAX_FIREHOSE)),
            max_silent_topics: unlimited_if_0(reader.get(&MAX_SILENT_TOPICS)),
        };
        Self {
            limits,
            max_patterns: reader.get(&MAX_PATTERNS),
            max_wildcards: reader.get(&MAX_WILDCARDS),
            max_query_bytes: reader.get(&MAX_QUERY_BYTES),
            max_head_bytes: reader.get(&MAX_HEAD_BYTES),
            max_headers: reader.get(&MAX_HEADERS),
            max_line_bytes: reader.get(&MAX_LINE_BYTES),
            body_timeout: reader.get(&BODY_TIMEOUT),
            upload_timeout: reader.get(&UPLOAD_TIMEOUT),
        }
    }

    /// Makes sure that one limit does not make another meaningless.
    pub fn check(&self, reader: &mut Reader<'_>, max_event_bytes: usize) {
        if let Some(max) = self.max_line_bytes.filter(|&max| max < max_event_bytes) {
            let (line, event) = (display(max), display(max_event_bytes));
            reader.conflict(format!(
                "max_line_bytes = {line} is less than max_event_bytes = {event}: a line must have room for the largest event"
            ));
        }
    }

    /// Those of single requests, over `options`.
    pub fn of_requests(&self, options: HttpOptions) -> HttpOptions {
        HttpOptions {
            max_patterns: self.max_patterns,
            max_wildcards: self.max_wildcards,
            max_query_bytes: self.max_query_bytes,
            max_head_bytes: self.max_head_bytes,
            max_headers: self.max_headers,
            max_line_bytes: self.max_line_bytes,
            body_timeout: self.body_timeout,
            upload_timeout: self.upload_timeout,
            ..options
        }
    }
}

fn unlimited_if_0(limit: usize) -> Option<usize> {
    (limit > 0).then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_a_word_and_every_other_value_a_number() {
        let kind = OrAuto(Count { min: 0, max: 10, unit: "things" });
        assert_eq!((kind.parse("auto"), kind.parse("0")), (Ok(None), Ok(Some(0))));
        assert_eq!(kind.parse("x"), Err("must be 0 to 10 things, or \"auto\"".to_owned()));
        assert_eq!((kind.write(&None), kind.write(&Some(7))), (Some("auto".into()), Some(7.into())));
    }
}
