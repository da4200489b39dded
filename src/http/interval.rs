//! The interval of a subscription, as clients write it.

use std::time::Duration;

use humantime::format_duration;

use super::options::Options;
use crate::conn::Interval;

/// Parses a time, such as `100ms` or `1s`; a number alone is milliseconds.
pub(super) fn parse(text: &str, options: &Options) -> Result<Interval, String> {
    let time = match text.parse() {
        Ok(millis) => Some(Duration::from_millis(millis)),
        Err(_) => humantime::parse_duration(text).ok(),
    };
    let (min, max) = (options.min_interval, options.max_interval);
    let interval = time.filter(|time| (min..=max).contains(time)).and_then(Interval::new);
    interval.ok_or_else(|| {
        let (min, max) = (format_duration(min), format_duration(max));
        format!("expected a time from {min} to {max}, such as 100ms or 1s")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_is_a_time_or_a_number_of_milliseconds() {
        let options = Options::default();
        let millis = |text| parse(text, &options).map(Interval::as_millis);
        assert_eq!(["100ms", "100", "1.5s", "60s", "10"].map(millis), [100, 100, 1500, 60_000, 10].map(Ok));
        for text in ["", "9", "9ms", "61s", "-100", "100 parsecs", "18446744073709551616"] {
            let expected = "expected a time from 10ms to 1m, such as 100ms or 1s";
            assert_eq!(millis(text).unwrap_err(), expected, "{text}");
        }
        let wide = Options { min_interval: Duration::from_millis(1), ..options };
        assert_eq!(parse("1ms", &wide).map(Interval::as_millis), Ok(1));
    }
}
