//! A JSON Web Key Set at a URL.
//!
//! **Contract.** Fetched keys stay in use while the URL is unavailable. A token waits for a fetch only if there is no set
//! yet, if the set is so old that keys may have been revoked, or if no key of the set signed the token.
//!
//! **Invariants.** One fetch runs at a time, in a task of its own, so that waiting tokens can be cancelled. Tokens cause at
//! most one fetch per minimum interval, whether it succeeds or not.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};

use super::fetch::Fetcher;
use super::key_set::KeySet;
use super::url::Url;
use crate::sync::{Mutex, MutexGuard, lock};

/// The age at which a set is refreshed in the background.
const FRESH_FOR: Duration = Duration::from_secs(300);
/// The age at which tokens wait for a refresh, as a multiple of the one above.
const STALE_AFTER: u32 = 2;
/// The least time between two fetches.
const MIN_INTERVAL: Duration = Duration::from_secs(10);
/// The least time between two checks of a set's age.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
const TIME_LIMIT: Duration = Duration::from_secs(5);
const MAX_BYTES: usize = 1 << 20;

/// A JSON Web Key Set at a URL. It is fetched again when it is old, and when none of its keys signed a token.
///
/// While the URL is unavailable or its content is invalid, the known keys stay in use. A set with an empty array of keys
/// revokes them all.
#[derive(Clone)]
pub struct Jwks(Arc<Remote>);

struct Remote {
    fetcher: Fetcher,
    known: ArcSwapOption<KeySet>,
    progress: Mutex<Progress>,
    /// Notified when a fetch revokes a key.
    revoked: Notify,
    min_interval: Duration,
    fresh_for: Duration,
}

#[derive(Default)]
struct Progress {
    /// When the last fetch began.
    last_attempt: Option<Instant>,
    /// When the fetch of the known set began.
    last_success: Option<Instant>,
    /// The last fetch. The channel closes when it ends.
    fetch: Option<watch::Receiver<()>>,
}

impl Progress {
    fn running_fetch(&self) -> Option<watch::Receiver<()>> {
        self.fetch.clone().filter(|fetch| fetch.has_changed().is_ok())
    }
}

/// Waits until a fetch has ended.
async fn ended(mut fetch: watch::Receiver<()>) {
    while fetch.changed().await.is_ok() {}
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwks").field("url", self.url()).finish_non_exhaustive()
    }
}

impl Jwks {
    /// The key set at `url`, fetched when the first token arrives.
    pub fn at(url: Url) -> Self {
        Self::with(url, MIN_INTERVAL, FRESH_FOR)
    }

    /// Sets the least time between two fetches. Default: 10 s.
    #[must_use]
    pub fn min_fetch_interval(self, interval: Duration) -> Self {
        Self::with(self.url().clone(), interval, self.0.fresh_for)
    }

    /// Sets the age at which keys are refreshed in the background. At twice that age, tokens wait for the refresh.
    /// Default: 5 minutes.
    #[must_use]
    pub fn fresh_for(self, time: Duration) -> Self {
        Self::with(self.url().clone(), self.0.min_interval, time)
    }

    fn with(url: Url, min_interval: Duration, fresh_for: Duration) -> Self {
        let fetcher = Fetcher::new(url, TIME_LIMIT, MAX_BYTES);
        let (known, progress, revoked) = (ArcSwapOption::empty(), Mutex::default(), Notify::new());
        Self(Arc::new(Remote { fetcher, known, progress, revoked, min_interval, fresh_for }))
    }

    /// The URL of the set.
    pub fn url(&self) -> &Url {
        self.0.fetcher.url()
    }

    /// Fetches the keys now. Returns whether a set is known, this one or an earlier one.
    pub async fn refresh(&self) -> bool {
        // A running fetch may have read the set before the caller's reason to refresh.
        let running = self.progress().running_fetch();
        if let Some(fetch) = running {
            ended(fetch).await;
        }
        let fetch = self.fetch(&mut self.progress());
        ended(fetch).await;
        self.keys().is_some()
    }

    /// Waits until a fetch revokes a key. The caller then replaces the access rules by the same ones, which ends the streams
    /// of that key. While waiting, old keys are refreshed even if no token arrives.
    pub async fn key_revoked(&self) {
        let keep_fresh = async {
            loop {
                let due = self.due_in(&self.progress());
                tokio::time::sleep(due.max(CHECK_INTERVAL)).await;
                let fetch = self.fetch_if_due(&mut self.progress());
                if let Some(fetch) = fetch {
                    ended(fetch).await;
                }
            }
        };
        tokio::select! {
            () = self.0.revoked.notified() => {}
            () = keep_fresh => {}
        }
    }

    /// The known set.
    pub(super) fn keys(&self) -> Option<Arc<KeySet>> {
        self.0.known.load_full()
    }

    /// Returns the set for a new token. Waits for a fetch if no set is known or the known one is stale.
    pub(super) async fn current(&self) -> Option<Arc<KeySet>> {
        let (fetch, is_stale) = {
            let mut progress = self.progress();
            let stale_at = self.0.fresh_for.saturating_mul(STALE_AFTER);
            let is_stale = progress.last_success.is_none_or(|began| began.elapsed() >= stale_at);
            (progress.running_fetch().or_else(|| self.fetch_if_due(&mut progress)), is_stale)
        };
        if let Some(fetch) = fetch.filter(|_| is_stale) {
            ended(fetch).await;
        }
        self.keys()
    }

    /// Returns a set that differs from `seen`, which lacks the key of a token. Fetches it unless the last fetch is too recent.
    pub(super) async fn other_than(&self, seen: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        let other = || self.keys().filter(|keys| !Arc::ptr_eq(keys, seen));
        if let Some(keys) = other() {
            return Some(keys);
        }
        let fetch = {
            let mut progress = self.progress();
            let is_allowed = progress.last_attempt.is_none_or(|began| began.elapsed() >= self.0.min_interval);
            progress.running_fetch().or_else(|| is_allowed.then(|| self.fetch(&mut progress)))
        };
        ended(fetch?).await;
        other()
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        lock(&self.0.progress)
    }

    /// Returns the time until a missing or old set may be fetched.
    fn due_in(&self, progress: &Progress) -> Duration {
        let remaining = |since: Option<Instant>, time: Duration| {
            since.map_or(Duration::ZERO, |since| time.saturating_sub(since.elapsed()))
        };
        remaining(progress.last_success, self.0.fresh_for).max(remaining(progress.last_attempt, self.0.min_interval))
    }

    fn fetch_if_due(&self, progress: &mut Progress) -> Option<watch::Receiver<()>> {
        self.due_in(progress).is_zero().then(|| self.fetch(progress))
    }

    /// Returns the running fetch, or starts one.
    fn fetch(&self, progress: &mut Progress) -> watch::Receiver<()> {
        if let Some(fetch) = progress.running_fetch() {
            return fetch;
        }
        let began = Instant::now();
        let (open, fetch) = watch::channel(());
        (progress.last_attempt, progress.fetch) = (Some(began), Some(fetch.clone()));
        let this = self.clone();
        tokio::spawn(async move {
            let _open = open;
            let url = this.url();
            match this.0.fetcher.get().await.map(|body| KeySet::jwks(&body)) {
                Ok(Ok(keys)) => this.replace(keys, began),
                Ok(Err(error)) => tracing::warn!(%url, %error, "invalid key set; the known keys stay in use"),
                Err(error) => tracing::warn!(%url, %error, "the key set cannot be read; the known keys stay in use"),
            }
        });
        fetch
    }

    fn replace(&self, keys: KeySet, began: Instant) {
        let (url, keys) = (self.url(), Arc::new(keys));
        if keys.0.is_empty() {
            tracing::warn!(%url, "the key set is empty: all of its keys are revoked");
        } else {
            tracing::debug!(%url, ?keys, "key set read");
        }
        let before = self.0.known.swap(Some(keys.clone()));
        // After the swap: a token that sees this time also sees the set.
        self.progress().last_success = Some(began);
        let revoked = before.iter().flat_map(|before| &before.0).filter(|key| !keys.has(&key.digest)).count();
        if revoked > 0 {
            tracing::info!(%url, revoked, "keys were revoked");
            self.0.revoked.notify_one();
        }
    }
}
