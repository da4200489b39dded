//! The hub: publishers append events, and each subscription reads them with a cursor of its own.
//!
//! `sequencer` puts events into one order, `history` retains them in `channel`s (a ring for each topic, and the firehoses),
//! `subscription` reads them, and `wake` wakes subscriptions that wait; `prefixes` finds those of patterns. `snapshot` saves the
//! history, for a hub that continues it.

pub mod archive;
mod channel;
mod compression;
mod encoder;
mod feed;
mod filter;
mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod gap;
mod heaviest;
mod history;
mod idempotency;
mod latest;
mod ledger;
mod merge;
mod numbering;
mod options;
mod prefixes;
mod publish;
mod publish_error;
pub mod relay;
mod sampler;
mod sequencer;
mod snapshot;
mod stats;
mod subscription;
mod topics;
mod wake;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::sync::mpsc;

use archive::Archive;
pub(crate) use compression::{MAX_SLICES, Member};
pub(crate) use feed::{Feed, FeedError};
pub use filter::SubscriptionFilter;
pub use frame::{DeserializeError, Frame};
pub use gap::{Gap, GapReason};
use history::History;
pub use idempotency::{IdempotencyKey, PublishedOnce};
#[cfg(feature = "redis")]
pub(crate) use latest::Expired;
use ledger::LedgerKey;
pub(crate) use merge::{Batch, MAX_FRAMES, Offer};
pub use options::HubOptions;
pub(crate) use publish::Publishing;
pub use publish_error::{Outcome, PublishError, Published, TryPublishError};
use relay::{PublishRequest, Relay, Upstream};
pub(crate) use sampler::Sample;
use sequencer::Sequencer;
pub use snapshot::InvalidHistory;
pub use stats::{HubStats, TopicStats};
pub use subscription::{Change, Delivery, LatestSubscription, Mode, Opening, Snapshot, Start, Subscription};
pub(crate) use subscription::{Coding, Moment, Notice, Shared, SharedValues};
use topics::Listed;
pub(crate) use topics::TooManyTopics;
pub(crate) use wake::{SleeperKey, WakeGroup};

use crate::event::Event;
use crate::position::StreamPosition;
use crate::sync::Arc;
use crate::topic::{Topic, TopicFilter};

/// One stream of events over many topics. Cheap to clone: clones are the same hub.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use fanline::event::{Event, Payload};
/// use fanline::hub::{Delivery, Hub, SubscriptionFilter, Start};
/// use fanline::topic::Topic;
///
/// let hub = Hub::default();
/// let (mut subscription, _) = hub.subscribe(SubscriptionFilter::everything(), Start::Live);
/// let topic = Topic::new("metric").unwrap();
/// let payload = Payload::json(r#"{"cpu": 45.2}"#).unwrap();
/// let published = hub.publish(Event::new(topic, payload)).await.unwrap();
///
/// let Some(Delivery::Event(frame)) = subscription.next().await else { panic!("nothing is missing") };
/// assert_eq!(frame.sequence(), published.sequence);
/// assert!(frame.sse().ends_with(b"\ndata: {\"cpu\": 45.2}\n\n"));
/// # }
/// ```
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    history: Arc<History>,
    sequencer: Sequencer,
    /// The subscriptions that publishers wake.
    inline: Arc<WakeGroup>,
    /// The number of events that the hub began with.
    restored: u64,
    /// What a higher layer keeps with the hub.
    companion: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// Without publishers, subscriptions end.
impl Drop for Inner {
    fn drop(&mut self) {
        self.history.close();
    }
}

impl Inner {
    fn new(options: &HubOptions, upstream: Option<Upstream>, key: LedgerKey) -> Self {
        Self {
            history: Arc::new(History::new(options, upstream, key)),
            sequencer: Sequencer::new(options),
            inline: WakeGroup::inline(),
            restored: 0,
            companion: OnceLock::new(),
        }
    }
}

/// How many topics or keys [`Hub::evict_expired`] looks at while publishers wait, for less than 100 µs, and how many topics
/// that it does not drop in one second.
const LOOKS_AT_ONCE: usize = 64;
const MAX_LOOKS: usize = 4096;

/// How many topics a list looks at before other tasks of its thread run.
const LISTED_AT_ONCE: usize = 512;

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("position", &self.position()).finish_non_exhaustive()
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self::new(&HubOptions::default())
    }
}

impl Hub {
    /// An empty hub.
    pub fn new(options: &HubOptions) -> Self {
        Self::with(options, None)
    }

    /// A hub whose events are numbered elsewhere, by a backbone that several servers share. Published events go to the
    /// receiver as requests; subscriptions get what the [`Relay`] appends, and read in `archive` what has left the rings.
    /// A publisher waits for at most `patience` until its request is in the queue.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use std::time::Duration;
    /// use fanline::event::{Event, Payload};
    /// use fanline::hub::{GapReason, Hub, HubOptions, Published, Start, SubscriptionFilter};
    /// use fanline::topic::Topic;
    ///
    /// let (hub, relay, mut requests) = Hub::relayed(&HubOptions::default(), Duration::from_secs(1), None);
    /// relay.begin_after("1795186660123-41".parse().unwrap(), GapReason::Epoch);
    /// let (mut subscription, _) = hub.subscribe(SubscriptionFilter::everything(), Start::Live);
    /// tokio::spawn(async move {
    ///     let request = requests.recv().await.unwrap();
    ///     // A real backbone numbers the events, and sends them to all its servers.
    ///     relay.append(&request.events);
    ///     let position = relay.position();
    ///     request.answer(Ok(Published { first: position, last: position }));
    /// });
    /// let event = Event::new(Topic::new("metric").unwrap(), Payload::text("1"));
    /// assert_eq!(hub.publish(event).await.unwrap().to_string(), "1795186660123-42");
    /// subscription.next().await;
    /// assert_eq!(subscription.position().to_string(), "1795186660123-42");
    /// # }
    /// ```
    pub fn relayed(
        options: &HubOptions,
        patience: Duration,
        archive: Option<Arc<dyn Archive>>,
    ) -> (Self, Relay, mpsc::Receiver<PublishRequest>) {
        let (upstream, requests) = Upstream::new(patience, archive);
        let hub = Self::with(options, Some(upstream));
        (hub.clone(), Relay::new(hub), requests)
    }

    fn with(options: &HubOptions, upstream: Option<Upstream>) -> Self {
        Self(Arc::new(Inner::new(options, upstream, LedgerKey::new())))
    }

    /// Publishes one event and returns its position. Waits while the queue is full.
    ///
    /// # Errors
    /// [`PublishError::Closed`] after [`Hub::close`]. Other errors come from the backbone of a [relayed](Hub::relayed) hub.
    pub async fn publish(&self, event: Event) -> Result<StreamPosition, PublishError> {
        Ok(self.publish_some([event], false, None).await?.published.last)
    }

    /// Publishes `events` at consecutive positions, all or none. Returns `None` when there are none.
    ///
    /// # Errors
    /// As [`Hub::publish`].
    pub async fn publish_all(&self, events: Vec<Event>) -> Result<Option<Published>, PublishError> {
        if events.is_empty() {
            return Ok(None);
        }
        self.publish_some(events, false, None).await.map(|once| Some(once.published))
    }

    /// Publishes `events`, at least one, at consecutive positions, unless an earlier publication with the same key has done
    /// so. A publisher that does not know whether its events were published repeats the call.
    ///
    /// # Errors
    /// As [`Hub::publish`], and [`PublishError::KeyReused`] and [`PublishError::TooManyKeys`].
    ///
    /// # Panics
    /// When there are no events.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use fanline::event::{Event, Payload};
    /// use fanline::hub::{Hub, IdempotencyKey};
    /// use fanline::topic::Topic;
    ///
    /// let hub = Hub::default();
    /// let events = [Event::new(Topic::new("orders").unwrap(), Payload::text("order 17"))];
    /// let key = IdempotencyKey::new(b"shop", "order-17", &events);
    /// let first = hub.publish_once(events.to_vec(), key).await.unwrap();
    /// let again = hub.publish_once(events.to_vec(), key).await.unwrap();
    /// assert_eq!((first.published, again.is_repeat), (again.published, true));
    /// # }
    /// ```
    pub async fn publish_once(&self, events: Vec<Event>, key: IdempotencyKey) -> Result<PublishedOnce, PublishError> {
        assert!(!events.is_empty(), "a key is for at least one event");
        self.publish_some(events, true, Some(Box::new(key))).await
    }

    /// Subscribes to the events that match `filter`, beginning at `start`. Publishers wake the subscription; a
    /// [`Server`](crate::Server), which has very many, leaves that to its shards.
    pub fn subscribe(&self, filter: SubscriptionFilter, start: Start) -> (Subscription, Opening) {
        let opened = self.subscribe_in(&self.0.inline, filter, Mode::Events, start, usize::MAX);
        opened.expect("the number of topics is not limited")
    }

    /// Subscribes to the latest values of the topics that match `filter`. [`Start::Earliest`] begins with all values,
    /// [`Start::After`] with those that have changed since that position, and [`Start::Live`] with the next change.
    pub fn subscribe_latest(&self, filter: SubscriptionFilter, start: Start) -> (LatestSubscription, Opening) {
        let opened = self.subscribe_in(&self.0.inline, filter, Mode::Latest, start, usize::MAX);
        let (subscription, opening) = opened.expect("the number of topics is not limited");
        (LatestSubscription::new(subscription), opening)
    }

    pub(crate) fn subscribe_in(
        &self,
        group: &Arc<WakeGroup>,
        filter: SubscriptionFilter,
        mode: Mode,
        start: Start,
        max_silent: usize,
    ) -> Result<(Subscription, Opening), TooManyTopics> {
        let history = &self.0.history;
        let opened = Subscription::open(history.clone(), group.clone(), filter, mode, start, max_silent)?;
        if mode == Mode::Latest && !opened.0.has_lists() {
            self.0.sequencer.exclusively(history, || opened.0.create_lists());
        }
        Ok(opened)
    }

    /// The position of the newest event.
    pub fn position(&self) -> StreamPosition {
        self.0.history.position(self.0.history.head())
    }

    /// The totals now.
    pub fn stats(&self) -> HubStats {
        let history = &self.0.history;
        HubStats {
            // Not the head: breaks leave sequences out.
            published: history.firehose.appended() + history.reserved.appended() - self.0.restored,
            restored: self.0.restored,
            unacknowledged: history.upstream().map_or(0, Upstream::unacknowledged) + history.latest.refused(),
            topics: history.topics.len(),
            retained_events: history.retained_events(),
            retained_bytes: history.retained_bytes(),
            latest_keys: history.latest.keys(),
            latest_bytes: history.latest.bytes(),
            expired_keys: history.latest.expired(),
            tombstones: history.latest.deletions(),
            idempotency_keys: self.0.sequencer.keys(),
        }
    }

    /// The number of events that the channels of `filters` have had: [`Subscription::passed`] of one that is up to date. A
    /// firehose has the events of named topics too; its events behind all that readers may want do not count. No filter means no
    /// event.
    pub(crate) fn appended(&self, filters: &[TopicFilter]) -> u64 {
        let (history, filter) = (&self.0.history, feed::selection(filters));
        let firehoses = history.firehoses().into_iter().filter(|firehose| filter.reads(firehose.is_reserved));
        let in_firehoses: u64 = firehoses.map(|firehose| history.appended(firehose, &filter)).sum();
        let named = filter.topics.iter().filter(|topic| !filter.reads(topic.is_reserved()));
        let in_topics: u64 =
            named.filter_map(|topic| history.topics.get(topic)).map(|channel| channel.appended()).sum();
        in_firehoses + in_topics
    }

    /// Returns up to `limit` topics in the order of their names, beginning after `after`, and the number of all topics. Topics of
    /// which only latest values are left are among them. Only those that satisfy `is_wanted` count.
    pub fn topics(
        &self,
        after: Option<&str>,
        limit: usize,
        is_wanted: impl Fn(&Topic) -> bool,
    ) -> (Vec<TopicStats>, usize) {
        let mut page = TopicsPage::new(after, limit, is_wanted);
        self.0.history.topics.listed().for_each(|slice| page.take(slice));
        (page.stats(&self.0.history).collect(), page.count)
    }

    /// Like [`Hub::topics`], in steps between which other tasks run.
    pub(crate) async fn topics_in_steps(
        &self,
        after: Option<&str>,
        limit: usize,
        is_wanted: impl Fn(&Topic) -> bool,
    ) -> (Vec<TopicStats>, usize) {
        let (mut page, mut looks) = (TopicsPage::new(after, limit, is_wanted), 0);
        for slice in self.0.history.topics.listed() {
            looks += slice.len();
            page.take(slice);
            if looks >= LISTED_AT_ONCE {
                looks = 0;
                tokio::task::yield_now().await;
            }
        }
        (page.stats(&self.0.history).collect(), page.count)
    }

    /// Ends what has outlived [`HubOptions::topic_ttl`], [`HubOptions::latest_ttl`], [`HubOptions::tombstone_ttl`] or
    /// [`HubOptions::idempotency_window`]. A [`Server`](crate::Server) calls this once a second. Publishers and other tasks
    /// proceed in between.
    pub(crate) async fn evict_expired(&self) {
        let (history, sequencer) = (&self.0.history, &self.0.sequencer);
        while sequencer.forget_expired_keys(history, LOOKS_AT_ONCE) {
            tokio::task::yield_now().await;
        }
        history.tick();
        self.delete_expired().await;
        let mut may_have_more = history.latest.deletions() > 0;
        while may_have_more {
            sequencer.exclusively(history, || may_have_more = history.forget_deletions(LOOKS_AT_ONCE));
            if may_have_more {
                tokio::task::yield_now().await;
            }
        }
        if history.is_too_large() {
            // With envelopes: nothing was published that would have made room.
            sequencer.exclusively(history, || history.trim());
        }
        // Twice for each: one that was used since it was queued is queued again, once.
        let (mut left, mut others) = (2 * history.topics.used(), MAX_LOOKS);
        while left > 0 && others > 0 {
            let looks = LOOKS_AT_ONCE.min(left);
            let (mut dropped, mut may_have_more) = (Vec::new(), false);
            sequencer.exclusively(history, || (dropped, may_have_more) = history.drop_idle(looks));
            if !may_have_more {
                break;
            }
            left -= looks;
            others = others.saturating_sub(looks - dropped.len());
            // Outside the lock: this frees their history.
            drop(dropped);
            if left > 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Publishes one event without waiting and without an acknowledgement, for synchronous code on any thread.
    ///
    /// `Ok` means that the event is published, or queued and will be before the hub is closed. 4096 publications can be
    /// queued. Publishers take turns at the queue, so the call may also publish what others have queued.
    ///
    /// A [relayed](Hub::relayed) hub queues the event for its backbone. [`HubStats::unacknowledged`] counts those that the
    /// backbone does not acknowledge. [`Hub::publish`] returns the position or the error.
    ///
    /// # Errors
    /// [`TryPublishError`] with the event, when the queue is full or the hub is closed.
    ///
    /// ```
    /// use fanline::Hub;
    /// use fanline::event::{Event, Payload};
    /// use fanline::topic::Topic;
    ///
    /// let hub = Hub::default();
    /// let sensor = hub.clone();
    /// let reading = Event::new(Topic::new("temperature").unwrap(), Payload::text("21.5"));
    /// std::thread::spawn(move || sensor.try_publish(reading)).join().unwrap().unwrap();
    /// assert_eq!(hub.position().sequence, 1);
    /// ```
    pub fn try_publish(&self, event: Event) -> Result<(), TryPublishError> {
        let (history, sequencer) = (&self.0.history, &self.0.sequencer);
        match history.upstream() {
            None => sequencer.try_publish(history, event),
            Some(upstream) => sequencer.while_open(event, |event| upstream.try_publish(event)),
        }
    }

    /// Returns what a higher layer keeps with this hub, created at the first call. It must not own the hub. All calls have the
    /// same type.
    pub(crate) fn companion<T: Default + Send + Sync + 'static>(&self) -> &T {
        let companion = self.0.companion.get_or_init(|| Box::new(T::default()));
        companion.downcast_ref().expect("all calls have the same type")
    }

    /// Closes the hub: publishing is an error from now on. What was published stays readable, and subscriptions end behind
    /// it.
    pub fn close(&self) {
        self.0.sequencer.close(&self.0.history);
    }

    /// Whether the hub is [closed](Hub::close).
    pub fn is_closed(&self) -> bool {
        self.0.history.is_closed()
    }
}

/// A page of topics in the order of their names.
struct TopicsPage<'a, W> {
    after: Option<&'a str>,
    limit: usize,
    is_wanted: W,
    first: BTreeMap<Topic, Listed>,
    /// The number of all wanted topics.
    count: usize,
}

impl<'a, W: Fn(&Topic) -> bool> TopicsPage<'a, W> {
    fn new(after: Option<&'a str>, limit: usize, is_wanted: W) -> Self {
        Self { after, limit, is_wanted, first: BTreeMap::new(), count: 0 }
    }

    fn take(&mut self, slice: Vec<Listed>) {
        for listed in slice {
            let Some(topic) = listed.topic().filter(|topic| (self.is_wanted)(topic)) else { continue };
            self.count += 1;
            let is_full = self.first.len() >= self.limit;
            let is_behind = is_full && self.first.last_key_value().is_none_or(|(last, _)| topic > last);
            if is_behind || self.after.is_some_and(|after| topic.as_str() <= after) {
                continue;
            }
            self.first.insert(topic.clone(), listed);
            if is_full {
                self.first.pop_last();
            }
        }
    }

    fn stats(&self, history: &History) -> impl Iterator<Item = TopicStats> {
        self.first.iter().map(|(topic, listed)| {
            let (channel, list) = (listed.channel(), listed.list());
            let newest = || list.map(|list| list.last()).max(history.topics.newest_of_dropped(topic));
            let last = channel.map(|channel| channel.newest()).or_else(newest).filter(|&last| last > 0);
            TopicStats {
                topic: topic.clone(),
                subscribers: channel.map_or(0, |channel| channel.listeners.count()),
                published_events: channel.map_or(0, |channel| channel.appended()),
                retained_events: channel.map_or(0, |channel| channel.retained()),
                retained_bytes: channel.map_or(0, |channel| channel.weight() as u64),
                latest_keys: list.map_or(0, |list| list.keys()),
                latest_bytes: list.map_or(0, |list| list.bytes() as u64),
                last: last.map(|last| history.position(last)),
            }
        })
    }
}

#[cfg(test)]
mod tests;
