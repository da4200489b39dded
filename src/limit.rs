//! Limits on connections, subscriptions and publishing, shared by all shards.
//!
//! **Contract.** A limit of a hundred admits exactly a hundred, over all shards and concurrent callers. A permit is
//! released on drop. Rates use GCRA (`governor`), keyed by address or by API key.
//!
//! **Limit key.** An IPv4 address or an IPv6 /64, which is what one customer usually gets, or the user of a peer on a
//! Unix socket ([`LimitKey`]).
//!
//! **Bounds.** A rate tracks at most [`rate::MAX_KEYS`] active keys. Further keys share one allowance.
//!
//! **Cost.** A limit that is not set costs nothing. Connections are counted when they open and close. Deliveries touch
//! nothing in this module.

mod connections;
mod key;
mod publish_quota;
mod rate;
pub(crate) mod streams;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

pub(crate) use connections::{ConnectionPermit, Connections};
pub(crate) use key::LimitKey;
pub(crate) use publish_quota::{PublishQuota, QuotaTimeout};
use rate::{Denied, Meter};
pub use rate::{InvalidRate, Rate};

/// The least number of seconds between two log lines about refusals.
const SUMMARY_INTERVAL: u64 = 5;

/// Limits of a server, over all its shards. `None` means unlimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections. `None`, the default, means as many as the limit on open files allows.
    pub max_connections: Option<usize>,
    /// Open connections of one address (IPv4 address or IPv6 /64). Default: `None`.
    pub max_connections_per_address: Option<usize>,
    /// New connections a second from one address (IPv4 address or IPv6 /64). Default: `None`.
    pub connect_rate: Option<Rate>,
    /// Open subscriptions to everything or to a pattern. Each of them costs CPU time for every event. Default: `None`.
    pub max_firehose: Option<usize>,
    /// Topics with subscribers but without an event so far. Each of them takes about 400 bytes. Default: 500,000.
    pub max_silent_topics: Option<usize>,
    /// Events published a second from one address (IPv4 address or IPv6 /64). Default: `None`.
    pub publish_rate: Option<Rate>,
    /// Events published a second with one API key, or by one subject of tokens. Default: `None`.
    pub publish_rate_per_key: Option<Rate>,
    /// Messages a second from one WebSocket. Default: 100, with bursts of 1000.
    pub websocket_message_rate: Option<Rate>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: None,
            max_connections_per_address: None,
            connect_rate: None,
            max_firehose: None,
            max_silent_topics: Some(500_000),
            publish_rate: None,
            publish_rate_per_key: None,
            websocket_message_rate: Rate::new(100, 1000),
        }
    }
}

/// The limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Connections,
    ConnectionsPerAddress,
    ConnectRate,
    Firehose,
    SilentTopics,
    PublishRate,
    PublishRatePerKey,
    WebSocketMessageRate,
    /// The hub reports it.
    IdempotencyKeys,
}

impl Reason {
    /// In the order of the variants.
    const NAMES: [&str; 9] = [
        "connections",
        "connections_per_address",
        "connect_rate",
        "firehose",
        "silent_topics",
        "publish_rate",
        "publish_rate_per_key",
        "websocket_message_rate",
        "idempotency_keys",
    ];

    /// The name in logs and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// A request or connection was refused because of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LimitExceeded {
    pub(crate) reason: Reason,
    /// The limit, and the setting that configures it.
    pub(crate) detail: String,
    /// When to retry; `None` if a retry cannot succeed.
    pub(crate) retry_after: Option<Duration>,
}

/// The state of all limits of a server.
pub(crate) struct Limiter {
    pub(crate) connections: Connections,
    /// Whether a stream that shares its connection counts as one of `connections` too: if their number is set, rather than given
    /// by the limit on open files.
    counts_streams: bool,
    connect_rate: Option<Meter<LimitKey>>,
    firehose: Option<Arc<Semaphore>>,
    max_silent_topics: Option<usize>,
    publish_rate: Option<Meter<LimitKey>>,
    publish_rate_per_key: Option<Meter<[u8; 32]>>,
    /// By the number of the client's id. A client that sends nothing is not tracked.
    websocket_message_rate: Option<Meter<u64>>,
    /// Refusals by reason since the last summary.
    refused: [AtomicU64; Reason::NAMES.len()],
    /// Seconds until the next summary.
    until_summary: AtomicU64,
}

impl Limiter {
    /// Applies `limits`, apart from `max_connections`, which `connections` has.
    pub(crate) fn new(limits: &Limits, connections: Connections) -> Self {
        Self {
            connections,
            counts_streams: limits.max_connections.is_some(),
            connect_rate: limits.connect_rate.map(Meter::new),
            firehose: limits.max_firehose.map(Semaphore::new),
            max_silent_topics: limits.max_silent_topics,
            publish_rate: limits.publish_rate.map(Meter::new),
            publish_rate_per_key: limits.publish_rate_per_key.map(Meter::new),
            websocket_message_rate: limits.websocket_message_rate.map(Meter::new),
            refused: Default::default(),
            until_summary: AtomicU64::new(0),
        }
    }

    /// Admits a connection that counts for `key`.
    pub(crate) fn connect(&self, key: impl Into<LimitKey>) -> Result<ConnectionPermit, LimitExceeded> {
        self.admit(Some(key.into()), true)
    }

    /// Admits a connection of a trusted proxy. It counts for no address, because many clients share it.
    pub(crate) fn connect_proxy(&self) -> Result<ConnectionPermit, LimitExceeded> {
        self.admit(None, true)
    }

    /// Admits a stream that shares its connection with others. A client with such a stream is limited as if it had a connection
    /// of its own.
    pub(crate) fn connect_stream(&self, key: impl Into<LimitKey>) -> Result<ConnectionPermit, LimitExceeded> {
        self.admit(Some(key.into()), self.counts_streams)
    }

    /// Admits the client of a proxy whose connection counts in total: that of the only stream of a trusted proxy's connection, or
    /// the one that the PROXY protocol names.
    pub(crate) fn connect_forwarded(&self, client: impl Into<LimitKey>) -> Result<ConnectionPermit, LimitExceeded> {
        self.admit(Some(client.into()), false)
    }

    fn admit(&self, key: Option<LimitKey>, counts: bool) -> Result<ConnectionPermit, LimitExceeded> {
        if let (Some(key), Some(rate)) = (key, &self.connect_rate)
            && let Err(Denied::NotYet(wait)) = rate.charge(&key, 1)
        {
            let detail = format!("{key} opens connections too fast (setting connect_rate)");
            return Err(self.refuse(Reason::ConnectRate, detail, Some(wait)));
        }
        let refuse = |(reason, detail)| self.refuse(reason, detail, Some(connections::RETRY_AFTER));
        self.connections.admit(key, counts).map_err(refuse)
    }

    /// Refuses a connection because no file descriptor is left.
    pub(crate) fn refuse_without_files(&self) -> LimitExceeded {
        let detail = "no file descriptor is left: raise the limit on open files (ulimit -n)".to_owned();
        self.refuse(Reason::Connections, detail, Some(connections::RETRY_AFTER))
    }

    /// Admits a subscription to everything or to a pattern. Returns no permit if these are unlimited.
    pub(crate) fn admit_firehose(&self) -> Result<Option<Permit>, LimitExceeded> {
        let Some(firehose) = &self.firehose else { return Ok(None) };
        firehose.acquire().map(Some).ok_or_else(|| {
            let max = firehose.max;
            let detail = format!(
                "the limit of {max} subscriptions to everything or to a pattern is reached (setting max_firehose); \
                 subscribe to topics by name"
            );
            self.refuse(Reason::Firehose, detail, Some(connections::RETRY_AFTER))
        })
    }

    /// Charges for one message of a WebSocket client.
    pub(crate) fn charge_message(&self, client: u64) -> Result<(), LimitExceeded> {
        let Some(meter) = &self.websocket_message_rate else { return Ok(()) };
        meter.charge(&client, 1).map_err(|denied| {
            let (rate, burst) = (meter.rate().per_second(), meter.rate().burst());
            let detail = format!(
                "this connection sends more than {rate} messages a second with bursts of {burst} (setting \
                 websocket_message_rate)"
            );
            let wait = if let Denied::NotYet(wait) = denied { Some(wait) } else { None };
            self.refuse(Reason::WebSocketMessageRate, detail, wait)
        })
    }

    /// The number of topics that may have subscribers but no event.
    pub(crate) fn max_silent_topics(&self) -> usize {
        self.max_silent_topics.unwrap_or(usize::MAX)
    }

    /// Refuses a subscription that would exceed [`Limiter::max_silent_topics`].
    pub(crate) fn refuse_silent_topics(&self) -> LimitExceeded {
        let max = self.max_silent_topics();
        let detail = format!(
            "the limit of {max} topics with subscribers but no event is reached (setting max_silent_topics); subscribe to \
             topics that have events, or to a pattern"
        );
        self.refuse(Reason::SilentTopics, detail, Some(connections::RETRY_AFTER))
    }

    fn refuse(&self, reason: Reason, detail: String, retry_after: Option<Duration>) -> LimitExceeded {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
        LimitExceeded { reason, detail, retry_after }
    }

    /// Evicts idle keys from the rates, and logs what was refused. Called once a second.
    pub(crate) fn maintain(&self) {
        for meter in [&self.connect_rate, &self.publish_rate].into_iter().flatten() {
            meter.evict_idle();
        }
        if let Some(meter) = &self.publish_rate_per_key {
            meter.evict_idle();
        }
        if let Some(meter) = &self.websocket_message_rate {
            meter.evict_idle();
        }
        let left = self.until_summary.load(Ordering::Relaxed);
        self.until_summary.store(left.saturating_sub(1), Ordering::Relaxed);
        if left > 0 {
            return;
        }
        let counts = self.refused.iter().map(|count| count.swap(0, Ordering::Relaxed)).zip(Reason::NAMES);
        let refused: Vec<_> =
            counts.filter(|(count, _)| *count > 0).map(|(count, name)| format!("{name}: {count}")).collect();
        if !refused.is_empty() {
            self.until_summary.store(SUMMARY_INTERVAL - 1, Ordering::Relaxed);
            tracing::warn!(refused = refused.join(", "), "limits were reached");
        }
    }
}

/// A bounded number of permits. Unlike tokio's, a permit is one pointer, and there are no waiters.
struct Semaphore {
    max: usize,
    taken: AtomicUsize,
}

impl Semaphore {
    fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, taken: AtomicUsize::new(0) })
    }

    /// Returns a permit if one is left. The count synchronizes nothing else, therefore relaxed ordering suffices.
    fn acquire(self: &Arc<Self>) -> Option<Permit> {
        self.acquire_below(self.max)
    }

    /// Returns a permit if fewer than `max` are taken.
    fn acquire_below(self: &Arc<Self>, max: usize) -> Option<Permit> {
        let one_more = |taken| (taken < max).then_some(taken + 1);
        let taken = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.is_ok().then(|| Permit(self.clone()))
    }

    fn is_exhausted(&self) -> bool {
        self.taken.load(Ordering::Relaxed) >= self.max
    }
}

/// A permit of a limit, released on drop.
pub(crate) struct Permit(Arc<Semaphore>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn limiter(limits: &Limits) -> Limiter {
        Limiter::new(limits, Connections::new(None, "setting", 1, None))
    }

    #[test]
    fn concurrent_threads_get_exactly_as_many_permits_as_there_are() {
        let semaphore = Semaphore::new(100);
        let acquire = || std::iter::from_fn(|| semaphore.acquire()).take(60).collect::<Vec<_>>();
        let permits = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(acquire));
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(permits.iter().map(Vec::len).sum::<usize>(), 100);
        assert!(semaphore.is_exhausted());
        drop(permits);
        assert_eq!(semaphore.taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_panic_releases_the_permit() {
        let semaphore = Semaphore::new(1);
        let permit = semaphore.acquire().unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _held = permit;
            panic!("on purpose");
        }));
        assert!(outcome.is_err() && semaphore.acquire().is_some());
    }

    #[test]
    fn without_limits_everything_is_admitted() {
        let limiter = limiter(&Limits { max_silent_topics: None, ..Limits::default() });
        let address = IpAddr::from([127, 0, 0, 1]);
        let permits: Vec<_> = (0..1000).map(|_| limiter.connect(address).unwrap()).collect();
        assert!(!limiter.connections.is_full() && limiter.connections.max().is_none() && permits.len() == 1000);
        assert!(limiter.admit_firehose().is_ok() && limiter.max_silent_topics() == usize::MAX);
        let quota = limiter.publish_quota(address, || unreachable!("nothing is keyed by API keys"));
        assert_eq!((quota.charge(usize::MAX), quota.max_batch()), (Ok(()), usize::MAX));
    }

    #[test]
    fn keys_and_addresses_have_separate_publish_quotas() {
        let rate = |text: &str| Some(text.parse().unwrap());
        let limits = Limits { publish_rate: rate("1:10"), publish_rate_per_key: rate("2:4"), ..Limits::default() };
        let limiter = limiter(&limits);
        let (here, there) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let charge = |address, key: Option<u8>, events| {
            let outcome = limiter.publish_quota(address, || key.map(|key| [key; 32])).charge(events);
            outcome.map_err(|exceeded| (exceeded.reason, exceeded.retry_after.is_some()))
        };
        assert_eq!(charge(here, Some(1), 4), Ok(()));
        assert_eq!(charge(here, Some(1), 1), Err((Reason::PublishRatePerKey, true)));
        assert_eq!(charge(here, Some(2), 5), Err((Reason::PublishRatePerKey, false)));
        assert_eq!(charge(here, None, 11), Err((Reason::PublishRate, false)));
        // Events that were refused because of their key did not count for the address.
        assert_eq!(charge(here, None, 7), Err((Reason::PublishRate, true)));
        assert_eq!(charge(here, None, 6), Ok(()));
        assert_eq!(charge(there, Some(2), 4), Ok(()));
        for key in [Some([1; 32]), None] {
            assert_eq!(limiter.publish_quota(here, || key).max_batch(), 1);
        }
    }
}
