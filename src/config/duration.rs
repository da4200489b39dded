//! Lengths of time, such as `30s`.

use std::time::Duration;

use super::kind::Kind;

/// A length of time.
#[derive(Debug)]
pub struct Span {
    /// The shortest.
    pub min: Duration,
    /// The longest.
    pub max: Duration,
}

impl Kind for Span {
    type Value = Duration;

    fn parse(&self, text: &str) -> Result<Duration, String> {
        let span = humantime::parse_duration(text.trim()).ok().filter(|span| (self.min..=self.max).contains(span));
        span.ok_or_else(|| format!("must be {}, with a unit: 500ms, 30s, 5m, 1h", self.allowed()))
    }

    fn allowed(&self) -> String {
        format!("{} to {}", display(self.min), display(self.max))
    }

    fn write(&self, value: &Duration) -> Option<toml::Value> {
        Some(toml::Value::String(display(*value)))
    }
}

fn display(span: Duration) -> String {
    humantime::format_duration(span).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Span = Span { min: Duration::from_millis(100), max: Duration::from_secs(3600) };

    #[test]
    fn a_span_is_a_number_with_a_unit() {
        assert_eq!(SPAN.parse("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(SPAN.parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(SPAN.parse("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(SPAN.parse("1m 30s"), Ok(Duration::from_secs(90)));
    }

    #[test]
    fn a_span_without_a_unit_or_out_of_range_is_refused_with_the_range() {
        for text in ["30", "", "s", "-1s", "99ms", "61m", "half an hour"] {
            assert_eq!(
                SPAN.parse(text),
                Err("must be 100ms to 1h, with a unit: 500ms, 30s, 5m, 1h".to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn a_span_reads_back_as_it_was_written() {
        for span in [Duration::from_millis(100), Duration::from_secs(90), Duration::from_micros(1_500_001)] {
            let written = SPAN.write(&span).unwrap();
            assert_eq!(SPAN.parse(written.as_str().unwrap()), Ok(span));
        }
    }
}
