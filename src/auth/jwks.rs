//! A key set at a URL.
//!
//! **Contract.** Keys that were fetched stay in use while the URL does not answer. A token waits for a fetch only when
//! there is no set yet, when the set is so old that a key may have been taken back long ago, or when no key of it has
//! signed the token.
//!
//! **Invariants.** One fetch runs at a time, in a task of its own: whoever waits for it may leave without ending it.
//! For tokens the URL is asked no more than once each pause, whether it answers or not.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};

use super::fetch::{Fetcher, Url};
use super::key_set::KeySet;
use crate::sync::{Mutex, MutexGuard, lock};

/// How long keys are used before they are asked for again, in the background.
const FRESH_FOR: Duration = Duration::from_secs(300);
/// As many times as old as that, keys are used only after the URL was asked, and has answered or failed to.
const STALE_AFTER: u32 = 2;
/// How long the URL is left alone after it was asked.
const ASKED_AT_MOST_EACH: Duration = Duration::from_secs(10);
/// The shortest time between two looks at whether keys are old.
const LOOK_AT_MOST_EACH: Duration = Duration::from_millis(100);
const TIME_LIMIT: Duration = Duration::from_secs(5);
const MAX_BYTES: usize = 1 << 20;

/// A key set at a URL: fetched, kept, and fetched again when it is old or a token comes that no key of it has signed.
/// While the URL does not answer, or with what is no key set, the keys that are known stay in use; a set whose array of
/// keys is empty takes them all back.
#[derive(Clone)]
pub struct Jwks(Arc<Remote>);

struct Remote {
    fetcher: Fetcher,
    known: ArcSwapOption<KeySet>,
    turn: Mutex<Turn>,
    /// Told when a fetch has taken back a key.
    withdrawn: Notify,
    pause: Duration,
    fresh_for: Duration,
}

#[derive(Default)]
struct Turn {
    /// When the URL was asked last.
    asked: Option<Instant>,
    /// When it was asked for the keys that are known.
    answered: Option<Instant>,
    /// The fetch that was begun last.
    under_way: Option<UnderWay>,
}

/// A fetch. The channel is closed as soon as it is over, whatever became of it.
#[derive(Clone)]
struct UnderWay(watch::Receiver<()>);

impl Turn {
    /// The fetch that is under way.
    fn fetching(&self) -> Option<UnderWay> {
        self.under_way.clone().filter(|fetch| fetch.0.has_changed().is_ok())
    }
}

impl UnderWay {
    async fn over(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwks").field("url", self.url()).finish_non_exhaustive()
    }
}

impl Jwks {
    /// The key set at `url`, which is asked when the first token comes.
    pub fn at(url: Url) -> Self {
        Self::with(url, ASKED_AT_MOST_EACH, FRESH_FOR)
    }

    /// How long the URL is left alone after it was asked; without this, 10 s.
    #[must_use]
    pub fn asked_at_most_each(self, pause: Duration) -> Self {
        Self::with(self.url().clone(), pause, self.0.fresh_for)
    }

    /// How long keys are used before they are fetched again, in the background; without this, 5 minutes. When they are
    /// twice as old, a token waits for a fetch, whatever comes of it.
    #[must_use]
    pub fn fresh_for(self, time: Duration) -> Self {
        Self::with(self.url().clone(), self.0.pause, time)
    }

    fn with(url: Url, pause: Duration, fresh_for: Duration) -> Self {
        let fetcher = Fetcher::new(url, TIME_LIMIT, MAX_BYTES);
        let (known, turn, withdrawn) = (ArcSwapOption::empty(), Mutex::default(), Notify::new());
        Self(Arc::new(Remote { fetcher, known, turn, withdrawn, pause, fresh_for }))
    }

    /// Where it is.
    pub fn url(&self) -> &Url {
        self.0.fetcher.url()
    }

    /// Fetches the keys now. Answers whether a set is known, be it this or the one of before.
    pub async fn refresh(&self) -> bool {
        // What is under way may have been answered before whatever this is about.
        let before = self.turn().fetching();
        if let Some(before) = before {
            before.over().await;
        }
        let fetch = self.fetch(&mut self.turn());
        fetch.over().await;
        self.keys().is_some()
    }

    /// Completes when a fetch has taken back a key since this completed last: it is time to replace the server's rules,
    /// by the same, so that streams of that key end. Until then old keys are fetched again though no token comes.
    pub async fn key_withdrawn(&self) {
        let keep_fresh = async {
            loop {
                let due = self.due_in(&self.turn());
                tokio::time::sleep(due.max(LOOK_AT_MOST_EACH)).await;
                let fetch = self.fetch_if_due(&mut self.turn());
                if let Some(fetch) = fetch {
                    fetch.over().await;
                }
            }
        };
        tokio::select! {
            () = self.0.withdrawn.notified() => {}
            () = keep_fresh => {}
        }
    }

    /// The set that is known.
    pub(super) fn keys(&self) -> Option<Arc<KeySet>> {
        self.0.known.load_full()
    }

    /// The set as it is to be used now: waits for the first one, and for the next when this is stale. None when there is
    /// none to be had.
    pub(super) async fn current(&self) -> Option<Arc<KeySet>> {
        let (fetch, is_stale) = {
            let mut turn = self.turn();
            let stale_at = self.0.fresh_for.saturating_mul(STALE_AFTER);
            let is_stale = turn.answered.is_none_or(|answered| answered.elapsed() >= stale_at);
            (turn.fetching().or_else(|| self.fetch_if_due(&mut turn)), is_stale)
        };
        if let Some(fetch) = fetch.filter(|_| is_stale) {
            fetch.over().await;
        }
        self.keys()
    }

    /// The set after `seen`, in which the key of some token is not: fetched, unless that was done a moment ago. None when
    /// there is no other.
    pub(super) async fn other_than(&self, seen: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        let other = || self.keys().filter(|keys| !Arc::ptr_eq(keys, seen));
        if let Some(keys) = other() {
            return Some(keys);
        }
        let fetch = {
            let mut turn = self.turn();
            let is_rested = turn.asked.is_none_or(|asked| asked.elapsed() >= self.0.pause);
            turn.fetching().or_else(|| is_rested.then(|| self.fetch(&mut turn)))
        };
        fetch?.over().await;
        other()
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        lock(&self.0.turn)
    }

    /// How long until keys that are old, or not there, may be fetched.
    fn due_in(&self, turn: &Turn) -> Duration {
        let after = |since: Option<Instant>, time: Duration| {
            since.map_or(Duration::ZERO, |since| time.saturating_sub(since.elapsed()))
        };
        after(turn.answered, self.0.fresh_for).max(after(turn.asked, self.0.pause))
    }

    fn fetch_if_due(&self, turn: &mut Turn) -> Option<UnderWay> {
        self.due_in(turn).is_zero().then(|| self.fetch(turn))
    }

    /// The fetch that is under way, or a new one.
    fn fetch(&self, turn: &mut Turn) -> UnderWay {
        if let Some(under_way) = turn.fetching() {
            return under_way;
        }
        let begin = Instant::now();
        let (open, closed) = watch::channel(());
        let under_way = UnderWay(closed);
        (turn.asked, turn.under_way) = (Some(begin), Some(under_way.clone()));
        let this = self.clone();
        tokio::spawn(async move {
            let _open = open;
            this.ask(begin).await;
        });
        under_way
    }

    async fn ask(&self, begin: Instant) {
        let url = self.url();
        match self.0.fetcher.get().await {
            Ok(body) => match KeySet::jwks(&body) {
                Ok(keys) => {
                    if keys.0.is_empty() {
                        tracing::warn!(%url, "the key set is empty: tokens of its keys are no good any more");
                    } else {
                        tracing::debug!(%url, ?keys, "key set read");
                    }
                    self.know(keys, begin);
                }
                Err(error) => tracing::warn!(%url, %error, "the key set cannot be used; the keys that are known stay"),
            },
            Err(error) => tracing::warn!(%url, %error, "the key set cannot be read; the keys that are known stay"),
        }
    }

    fn know(&self, keys: KeySet, begin: Instant) {
        let keys = Arc::new(keys);
        let before = self.0.known.swap(Some(keys.clone()));
        // Afterwards: whoever sees that there was an answer sees what it was.
        self.turn().answered = Some(begin);
        let withdrawn = before.iter().flat_map(|before| &before.0).filter(|key| !keys.has(&key.digest)).count();
        if withdrawn > 0 {
            tracing::info!(url = %self.url(), withdrawn, "keys were taken back");
            self.0.withdrawn.notify_one();
        }
    }
}
