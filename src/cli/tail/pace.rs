//! The wait before reconnecting, which spreads the clients of a restarted server.
//!
//! | before it | wait |
//! |---|---|
//! | a stream that ended | the last `retry:` |
//! | n failed attempts in a row | random, from `retry` to `retry` × 2ⁿ, at most a minute unless `retry` is longer |
//! | an answer with `Retry-After` | that, plus up to a fifth at random |
//! | a stream that only refuses the client | the `retry:` in it, plus up to a fifth at random |

use std::time::{Duration, SystemTime};

/// Before any `retry:` (WHATWG HTML leaves it to the client; browsers take 2 to 5 s).
const DEFAULT_RETRY: Duration = Duration::from_secs(3);

/// Even with `retry: 0`, in case the server ends each stream at once.
const MIN_WAIT: Duration = Duration::from_millis(200);

/// The longest wait unless the server asks for more.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// The reconnection time of a stream, and the failed attempts in a row.
#[derive(Debug)]
pub struct Pace {
    retry: Duration,
    failures: u32,
}

impl Pace {
    pub fn new() -> Self {
        Self { retry: DEFAULT_RETRY, failures: 0 }
    }

    /// Sets the reconnection time from a `retry:` field.
    pub fn set_retry(&mut self, milliseconds: u32) {
        self.retry = Duration::from_millis(milliseconds.into()).max(MIN_WAIT);
    }

    /// The wait after a stream that was open.
    pub fn after_stream(&mut self) -> Duration {
        self.failures = 0;
        self.retry
    }

    /// The wait after a stream whose only event was a refusal.
    pub fn after_refusal_in_band(&mut self) -> Duration {
        self.after_refusal(self.retry)
    }

    /// The wait after an attempt that opened no stream.
    pub fn after_failure(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let factor = 2_u32.saturating_pow(self.failures);
        let ceiling = self.retry.saturating_mul(factor).min(MAX_WAIT.max(self.retry));
        self.retry + (ceiling - self.retry).mul_f64(fastrand::f64())
    }

    /// The wait after an answer with `Retry-After`.
    pub fn after_refusal(&mut self, retry_after: Duration) -> Duration {
        self.failures = self.failures.saturating_add(1);
        retry_after.max(MIN_WAIT).mul_f64(1.0 + fastrand::f64() / 5.0)
    }
}

/// `Retry-After` as seconds or as a date (RFC 9110, section 10.2.3). At most a day.
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        value.parse().map_or(DAY, Duration::from_secs)
    } else {
        httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(DAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_after_a_stream_is_its_retry_time() {
        let mut pace = Pace::new();
        assert_eq!(pace.after_stream(), Duration::from_secs(3));
        pace.set_retry(5432);
        assert_eq!(pace.after_stream(), Duration::from_millis(5432));
        pace.set_retry(0);
        assert_eq!(pace.after_stream(), MIN_WAIT);
    }

    #[test]
    fn failures_double_the_maximum_wait_up_to_a_minute() {
        let mut pace = Pace::new();
        pace.set_retry(1000);
        for ceiling in [2, 4, 8, 16, 32, 60, 60] {
            let wait = pace.after_failure();
            assert!(wait >= Duration::from_secs(1) && wait <= Duration::from_secs(ceiling), "{wait:?} of {ceiling}");
        }
        for _ in 0..100 {
            assert!(pace.after_failure() <= MAX_WAIT);
        }
        pace.after_stream();
        assert!(pace.after_failure() <= Duration::from_secs(2));
    }

    #[test]
    fn retry_of_more_than_a_minute_is_kept_after_failures() {
        let mut pace = Pace::new();
        pace.set_retry(120_000);
        assert_eq!(pace.after_failure(), Duration::from_secs(120));
    }

    #[test]
    fn requested_wait_is_never_shortened() {
        let mut pace = Pace::new();
        for _ in 0..100 {
            let wait = pace.after_refusal(Duration::from_secs(10));
            assert!(wait >= Duration::from_secs(10) && wait <= Duration::from_secs(12), "{wait:?}");
        }
    }

    #[test]
    fn retry_after_is_a_number_of_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Fri, 31 Dec 1999 23:59:29 GMT").unwrap();
        let parsed = |value| retry_after(value, now);
        assert_eq!(parsed("120"), Some(Duration::from_secs(120)));
        assert_eq!(parsed("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(parsed("Fri, 31 Dec 1999 23:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(parsed("99999999999999999999"), Some(Duration::from_secs(86400)));
        assert_eq!((parsed(""), parsed("-1"), parsed("soon")), (None, None, None));
    }
}
