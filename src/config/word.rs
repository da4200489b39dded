//! Texts that mean something to somebody else: a topic, a filter of log lines.

use fanline::topic::Topic;
use tracing_subscriber::EnvFilter;

use super::kind::Kind;

/// A topic.
#[derive(Debug)]
pub struct TopicName;

impl Kind for TopicName {
    type Value = Topic;

    fn parse(&self, text: &str) -> Result<Topic, String> {
        Topic::new(text).map_err(|error| format!("must be a topic such as log or plant/line.2: {error}"))
    }

    fn allowed(&self) -> String {
        String::new()
    }

    fn write(&self, value: &Topic) -> Option<toml::Value> {
        Some(value.as_str().into())
    }
}

/// Which log lines are written: a level, or directives as `tracing_subscriber::EnvFilter` takes them.
#[derive(Debug)]
pub struct LogFilter;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl Kind for LogFilter {
    type Value = String;

    fn parse(&self, text: &str) -> Result<String, String> {
        let directives: Vec<_> = text.split(',').map(|directive| level(directive.trim())).collect();
        for directive in &directives {
            // EnvFilter takes a lone word for a target and logs all of it: a misspelled level would log nothing else.
            if !LEVELS.contains(&directive.as_str()) && !directive.contains(['=', '[', ':']) {
                return Err(format!("must be {}; {directive:?} is neither", self.allowed()));
            }
        }
        let directives = directives.join(",");
        EnvFilter::builder().parse(&directives).map_err(|error| format!("must be {}: {error}", self.allowed()))?;
        Ok(directives)
    }

    fn allowed(&self) -> String {
        format!("{} or directives such as info,fanline=debug", LEVELS.join(", "))
    }

    fn write(&self, value: &String) -> Option<toml::Value> {
        Some(value.as_str().into())
    }
}

/// The level that a word of another system's usage means; whatever is no such word stays.
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

    #[test]
    fn a_log_filter_is_a_level_or_directives() {
        assert_eq!(LogFilter.parse("INFO").unwrap(), "info");
        assert_eq!(LogFilter.parse("WARNING").unwrap(), "warn");
        assert_eq!(LogFilter.parse("info, fanline=debug").unwrap(), "info,fanline=debug");
        assert_eq!(LogFilter.parse("fanline::server=trace").unwrap(), "fanline::server=trace");
    }

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for text in ["inof", "verbose", "", "info,fanline", "fanline=loud"] {
            let complaint = LogFilter.parse(text).unwrap_err();
            assert!(complaint.starts_with("must be off, error, warn, info, debug, trace or directives"), "{complaint}");
        }
    }
}
