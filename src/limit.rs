//! How much of something there may be, over all shards.
//!
//! **Contract.** A limit of a hundred lets in a hundred, however many shards there are and however many ask at once.
//! What is let in holds a permit, and gives its place back when it drops that, whatever the way on which it ends. Rates
//! are of `governor` (GCRA), each address and each key on its own.
//!
//! **Whom an address stands for.** An IPv4 address is one [`Peer`], and so are all of a network of 64 bits in IPv6: that
//! is what one customer gets.
//!
//! **Bounds.** A rate remembers at most [`rate::MAX_KEYS`] that were active lately; the others share one allowance then.
//!
//! **Costs.** What is not limited is not looked at. Connections are counted when they come and go, and nothing is counted
//! or looked up for a delivery.

mod connections;
mod peer;
mod rate;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

pub(crate) use connections::ConnectionPermit;
use connections::Connections;
use peer::Peer;
pub(crate) use rate::Denied;
use rate::Meter;
pub use rate::{InvalidRate, Rate};

/// How often a summary of what was refused is logged, at the most.
const SUMMARY_EVERY: u64 = 5;

/// How many of something a server takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Open connections. None, and [`usize::MAX`], are as many as the limit on open files has room for.
    pub max_connections: Option<usize>,
    /// Open connections of one address; 0 is any number.
    pub max_connections_per_address: usize,
    /// New connections of one address.
    pub connect_rate: Option<Rate>,
    /// Subscribers of everything or of a pattern, each of whom costs something for each event; 0 is any number.
    pub max_firehose: usize,
    /// Topics that subscribers name and that have had no event yet; 0 is any number. Each costs about a kilobyte for as long
    /// as somebody subscribes to it.
    pub max_silent_topics: usize,
    /// Events published from one address.
    pub publish_rate: Option<Rate>,
    /// Events published with one key, or by the subject of one key's tokens.
    pub publish_rate_per_key: Option<Rate>,
}

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Connections,
    ConnectionsPerAddress,
    ConnectRate,
    Firehose,
    SilentTopics,
    PublishRate,
    PublishRatePerKey,
}

impl Reason {
    pub(crate) const ALL: [Self; 7] = [
        Self::Connections,
        Self::ConnectionsPerAddress,
        Self::ConnectRate,
        Self::Firehose,
        Self::SilentTopics,
        Self::PublishRate,
        Self::PublishRatePerKey,
    ];

    /// The word for it in logs and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerAddress => "connections_per_address",
            Self::ConnectRate => "connect_rate",
            Self::Firehose => "firehose",
            Self::SilentTopics => "silent_topics",
            Self::PublishRate => "publish_rate",
            Self::PublishRatePerKey => "publish_rate_per_key",
        }
    }
}

/// Why something is not let in now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LimitExceeded {
    pub(crate) reason: Reason,
    /// What is so, and which setting says so.
    pub(crate) detail: String,
    /// After how long it may be otherwise; none when trying again is of no use.
    pub(crate) retry_after: Option<Duration>,
}

/// What a server has let in, next to what it may.
pub(crate) struct Limiter {
    connections: Connections,
    connect_rate: Option<Meter<Peer>>,
    firehose: Option<Arc<Tally>>,
    max_silent_topics: usize,
    publish_rate: Option<Meter<Peer>>,
    publish_rate_per_key: Option<Meter<[u8; 32]>>,
    /// By reason, since the last summary.
    refused: [AtomicU64; Reason::ALL.len()],
    /// Seconds until the next summary.
    until_summary: AtomicU64,
}

impl Limiter {
    /// Takes at most `max_connections` at a time, a number that is `set_by` a setting or the system, and tells `turned_away`
    /// others at a time that they are too many; the other limits are those of `limits`.
    pub(crate) fn new(limits: &Limits, max_connections: usize, set_by: &'static str, turned_away: usize) -> Self {
        let max_per_address = limits.max_connections_per_address;
        Self {
            connections: Connections::new(max_connections, set_by, turned_away, max_per_address),
            connect_rate: limits.connect_rate.map(Meter::new),
            firehose: (limits.max_firehose > 0).then(|| Arc::new(Tally::new(limits.max_firehose))),
            max_silent_topics: if limits.max_silent_topics == 0 { usize::MAX } else { limits.max_silent_topics },
            publish_rate: limits.publish_rate.map(Meter::new),
            publish_rate_per_key: limits.publish_rate_per_key.map(Meter::new),
            refused: Default::default(),
            until_summary: AtomicU64::new(0),
        }
    }

    /// Lets a connection from `address` in.
    pub(crate) fn connect(&self, address: IpAddr) -> Result<ConnectionPermit, LimitExceeded> {
        let peer = Peer::from(address);
        if let Some(Err(Denied::NotYet(wait))) = self.connect_rate.as_ref().map(|meter| meter.take(&peer, 1)) {
            let detail = format!("{peer} opens connections faster than this server takes them (setting connect_rate)");
            return Err(self.refuse(Reason::ConnectRate, detail, Some(wait)));
        }
        self.connections.take(peer).map_err(|(reason, detail)| self.refuse(reason, detail, Some(connections::WAIT)))
    }

    /// A place for a connection that is over a limit, for the time that it takes to say so. There are few of them, and fewer
    /// for one address.
    pub(crate) fn turn_away(&self, address: IpAddr) -> Option<ConnectionPermit> {
        self.connections.turn_away(address.into())
    }

    /// Says that there is no file for one more connection.
    pub(crate) fn refuse_for_want_of_files(&self) -> LimitExceeded {
        let detail = "no file descriptor is left: raise the limit on open files (ulimit -n)".to_owned();
        self.refuse(Reason::Connections, detail, Some(connections::WAIT))
    }

    /// Whether one more connection would be too many.
    pub(crate) fn is_full(&self) -> bool {
        self.connections.is_full()
    }

    /// Open connections that may be; none is any number.
    pub(crate) fn max_connections(&self) -> Option<usize> {
        self.connections.max()
    }

    /// What the limit on connections follows from, as in an error.
    pub(crate) fn max_connections_set_by(&self) -> &'static str {
        self.connections.set_by()
    }

    /// Lets a subscriber of everything or of a pattern in; without a permit when these are not limited.
    pub(crate) fn read_firehose(&self) -> Result<Option<FirehosePermit>, LimitExceeded> {
        let Some(firehose) = &self.firehose else { return Ok(None) };
        firehose.take().map(|place| Some(FirehosePermit(place))).ok_or_else(|| {
            let max = firehose.max;
            let detail = format!(
                "{max} subscribers of everything or of a pattern are here, and the limit is {max} (setting max_firehose); \
                 a subscription of topics by their names is not concerned"
            );
            self.refuse(Reason::Firehose, detail, Some(connections::WAIT))
        })
    }

    /// How many topics may have subscribers and no event.
    pub(crate) fn max_silent_topics(&self) -> usize {
        self.max_silent_topics
    }

    /// Says that there would be more.
    pub(crate) fn refuse_silent_topics(&self) -> LimitExceeded {
        let max = self.max_silent_topics;
        let detail = format!(
            "with this subscription more than {max} topics would have subscribers and no event yet (setting \
             max_silent_topics); topics that are known, and patterns, are not concerned"
        );
        self.refuse(Reason::SilentTopics, detail, Some(connections::WAIT))
    }

    /// Whether publishing has a limit at all.
    pub(crate) fn meters_publishing(&self) -> bool {
        self.publish_rate.is_some() || self.publish_rate_per_key.is_some()
    }

    /// How many events may be published at once at the most, so that nobody waits for more than about a second.
    pub(crate) fn publish_at_once(&self, has_key: bool) -> u32 {
        let rates = [
            self.publish_rate.as_ref().map(Meter::rate),
            self.publish_rate_per_key.as_ref().map(Meter::rate).filter(|_| has_key),
        ];
        rates.into_iter().flatten().map(|rate| rate.burst().min(rate.per_second())).min().unwrap_or(u32::MAX)
    }

    /// Lets `events` be published from `address` with `key`, all or none. What the key was charged for is not given back
    /// when the address has not enough: so it is not the others of that address who pay for it.
    pub(crate) fn publish(&self, address: IpAddr, key: Option<&[u8; 32]>, events: usize) -> Result<(), LimitExceeded> {
        if let (Some(meter), Some(key)) = (&self.publish_rate_per_key, key) {
            let denied =
                |denied| self.too_fast(Reason::PublishRatePerKey, "this key or token", meter.rate(), events, denied);
            self.charge_key(key, events).map_err(denied)?;
        }
        if let Some(meter) = &self.publish_rate {
            let who = Peer::from(address);
            let denied = |denied| self.too_fast(Reason::PublishRate, &who.to_string(), meter.rate(), events, denied);
            self.charge_address(address, events).map_err(denied)?;
        }
        Ok(())
    }

    /// Charges what `key` has left for `events`, if that is limited.
    pub(crate) fn charge_key(&self, key: &[u8; 32], events: usize) -> Result<(), Denied> {
        self.publish_rate_per_key.as_ref().map_or(Ok(()), |meter| meter.take(key, events))
    }

    /// Charges what `address` has left for `events`, if that is limited.
    pub(crate) fn charge_address(&self, address: IpAddr, events: usize) -> Result<(), Denied> {
        self.publish_rate.as_ref().map_or(Ok(()), |meter| meter.take(&address.into(), events))
    }

    fn too_fast(&self, reason: Reason, who: &str, rate: Rate, count: usize, denied: Denied) -> LimitExceeded {
        let (setting, burst) = (reason.as_str(), rate.burst());
        match denied {
            Denied::NotYet(wait) => {
                let detail = format!(
                    "{who} publishes more than {} events a second and {burst} at once (setting {setting}); nothing of this \
                     request was published",
                    rate.per_second()
                );
                self.refuse(reason, detail, Some(wait))
            }
            Denied::Never => {
                let detail = format!(
                    "the batch has {count} events, and {burst} may be published at once (setting {setting}); publish them in \
                     batches of that size at most, or as application/x-ndjson, which is slowed down instead"
                );
                self.refuse(reason, detail, None)
            }
        }
    }

    fn refuse(&self, reason: Reason, detail: String, retry_after: Option<Duration>) -> LimitExceeded {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
        LimitExceeded { reason, detail, retry_after }
    }

    /// Once a second: forgets who was quiet, and says what was refused, in one line every few seconds.
    pub(crate) fn keep_house(&self) {
        for meter in [&self.connect_rate, &self.publish_rate].into_iter().flatten() {
            meter.forget_the_quiet();
        }
        if let Some(meter) = &self.publish_rate_per_key {
            meter.forget_the_quiet();
        }
        let left = self.until_summary.load(Ordering::Relaxed);
        self.until_summary.store(left.saturating_sub(1), Ordering::Relaxed);
        if left > 0 {
            return;
        }
        let refused = Reason::ALL.map(|reason| (reason, self.refused[reason as usize].swap(0, Ordering::Relaxed)));
        let words: Vec<_> = refused
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| format!("{}: {count}", reason.as_str()))
            .collect();
        if !words.is_empty() {
            self.until_summary.store(SUMMARY_EVERY - 1, Ordering::Relaxed);
            tracing::warn!(refused = words.join(", "), "limits were reached");
        }
    }
}

/// A number of places.
struct Tally {
    max: usize,
    taken: AtomicUsize,
}

impl Tally {
    fn new(max: usize) -> Self {
        Self { max, taken: AtomicUsize::new(0) }
    }

    /// A place, if there is one left. Nothing else hangs on the number, so no order of memory is asked for.
    fn take(self: &Arc<Self>) -> Option<Place> {
        let one_more = |taken| (taken < self.max).then_some(taken + 1);
        let taken = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.is_ok().then(|| Place(self.clone()))
    }

    fn is_full(&self) -> bool {
        self.taken.load(Ordering::Relaxed) >= self.max
    }
}

/// One place of a [`Tally`], given back when this is dropped.
struct Place(Arc<Tally>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The right to read every event there is, as long as this lives.
pub(crate) struct FirehosePermit(#[expect(dead_code, reason = "it is held, not looked at")] Place);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_ask_at_once_get_exactly_as_many_places_as_there_are() {
        let tally = Arc::new(Tally::new(100));
        let ask = || std::iter::from_fn(|| tally.take()).take(60).collect::<Vec<_>>();
        let places = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(ask));
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(places.iter().map(Vec::len).sum::<usize>(), 100);
        assert!(tally.is_full());
        drop(places);
        assert_eq!(tally.taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_place_comes_back_from_whoever_panics() {
        let tally = Arc::new(Tally::new(1));
        let place = tally.take().unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _held = place;
            panic!("on purpose");
        }));
        assert!(outcome.is_err() && tally.take().is_some());
    }

    #[test]
    fn what_has_no_limit_is_let_in() {
        let limiter = Limiter::new(&Limits::default(), usize::MAX, "setting", 1);
        let address = [127, 0, 0, 1].into();
        let permits: Vec<_> = (0..1000).map(|_| limiter.connect(address).unwrap()).collect();
        assert!(!limiter.is_full() && limiter.max_connections().is_none() && permits.len() == 1000);
        assert!(
            limiter.read_firehose().is_ok()
                && limiter.max_silent_topics() == usize::MAX
                && !limiter.meters_publishing()
        );
        assert_eq!(limiter.publish(address, Some(&[0; 32]), usize::MAX), Ok(()));
    }

    #[test]
    fn a_key_and_an_address_each_have_their_own_allowance() {
        let rate = |text: &str| Some(text.parse().unwrap());
        let limits = Limits { publish_rate: rate("1:10"), publish_rate_per_key: rate("2:4"), ..Limits::default() };
        let limiter = Limiter::new(&limits, usize::MAX, "setting", 1);
        let (here, there) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        let reason =
            |outcome: Result<(), LimitExceeded>| outcome.map_err(|over| (over.reason, over.retry_after.is_some()));
        assert_eq!(reason(limiter.publish(here, Some(&[1; 32]), 4)), Ok(()));
        assert_eq!(reason(limiter.publish(here, Some(&[1; 32]), 1)), Err((Reason::PublishRatePerKey, true)));
        assert_eq!(reason(limiter.publish(here, Some(&[2; 32]), 5)), Err((Reason::PublishRatePerKey, false)));
        assert_eq!(reason(limiter.publish(here, None, 11)), Err((Reason::PublishRate, false)));
        // What its key was refused for the address was not charged for.
        assert_eq!(reason(limiter.publish(here, None, 7)), Err((Reason::PublishRate, true)));
        assert_eq!(reason(limiter.publish(here, None, 6)), Ok(()));
        assert_eq!(reason(limiter.publish(there, Some(&[2; 32]), 4)), Ok(()));
        assert_eq!((limiter.publish_at_once(true), limiter.publish_at_once(false)), (1, 1));
    }
}
