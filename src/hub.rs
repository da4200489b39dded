//! The hub: events go in, and whoever subscribes reads them, each with a cursor of its own.
//!
//! `history` retains events in `channel`s (a ring for each topic, and the firehose), `sequencer` gives them their one
//! order, `subscription` reads, `wake` tells readers that there is something to read.

pub mod archive;
mod channel;
mod encoder;
mod filter;
mod frame;
mod gap;
mod history;
mod ledger;
mod merge;
mod numbering;
pub mod relay;
mod sampler;
mod sequencer;
mod subscription;
mod topics;
mod wake;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use archive::Archive;
use channel::Channel;
pub use filter::SubscriptionFilter;
pub use frame::Frame;
pub use gap::{Gap, GapReason};
use history::History;
pub(crate) use history::TooManyTopics;
pub(crate) use merge::{Batch, MAX_FRAMES, Offer};
use relay::{PublishRequest, Relay, Upstream};
pub(crate) use sampler::Sample;
use sequencer::Sequencer;
pub use subscription::{Delivery, Opening, Start, Subscription};
pub(crate) use wake::WakeGroup;

use crate::event::Event;
use crate::position::{Epoch, StreamPosition};
use crate::sync::read;
use crate::topic::Topic;

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
/// let Delivery::Event(frame) = subscription.next().await else { panic!("nothing is missing") };
/// assert_eq!(frame.sequence(), published.sequence);
/// assert!(frame.sse().ends_with(b"event: data\ndata: {\"cpu\": 45.2}\n\n"));
/// # }
/// ```
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    history: crate::sync::Arc<History>,
    sequencer: Sequencer,
    /// The subscriptions that belong to no shard.
    inline: crate::sync::Arc<WakeGroup>,
}

/// How many topics are looked at, and how many idle ones are dropped, before others have their turn.
const LOOKED_AT_AT_A_TIME: usize = 1024;
const DROPPED_AT_A_TIME: usize = 256;

/// How much a hub retains.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// The numbering; a new one unless the history is that of an earlier one.
    pub epoch: Epoch,
    /// Events for each topic.
    pub history: usize,
    /// Bytes for the whole hub; over it, the topic that holds the most gives first. An event counts twice, for its topic
    /// and for the firehose.
    pub history_bytes: usize,
    /// Topics that have had events, at least one. Beyond it, those without subscribers go with their history, the quietest
    /// first; while most of the others are used all the time there may be a sixteenth more. A topic costs some 2.5 KB besides its events. Topics without any event last as long as their subscribers.
    pub history_topics: usize,
    /// Events over all topics, for those who subscribe to everything or to a pattern.
    pub firehose_history: usize,
    /// How long a topic without subscribers and without events keeps its history when a [`Server`](crate::Server) runs
    /// the hub. A hub on its own keeps it until `history_topics` or `history_bytes` require room.
    pub topic_ttl: Duration,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            epoch: Epoch::now(),
            history: 1000,
            history_bytes: 64 << 20,
            history_topics: 100_000,
            firehose_history: 10_000,
            topic_ttl: Duration::from_secs(3600),
        }
    }
}

/// Where events that were published together stand: next to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The position of the first.
    pub first: StreamPosition,
    /// The position of the last.
    pub last: StreamPosition,
}

/// Why a publication was not acknowledged; [`PublishError::outcome`] says what became of its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The hub was closed.
    #[error("{}: nothing was published", self.cause())]
    Closed,
    /// Whoever numbers the events cannot be reached.
    #[error("{}: nothing was published, try again", self.cause())]
    Unavailable,
    /// The backbone was asked to publish, and did not say whether it has.
    #[error(
        "{}: the events may have been published, or may be yet; publishing them again may duplicate them",
        self.cause()
    )]
    Unknown,
    /// The backbone takes no more.
    #[error("{}: nothing was published", self.cause())]
    OutOfMemory,
    /// The backbone refused, for a reason that its operator has to see to.
    #[error("{}: nothing was published; the server's log says why", self.cause())]
    Refused,
    /// The events were published, and fewer replicas than wanted have said in time that they have them.
    #[error(
        "published up to {}, but only {acknowledged} of {wanted} replicas have it: a failover may lose it; publishing \
         again would duplicate it",
        published.last
    )]
    NotReplicated {
        /// Where the events stand.
        published: Published,
        /// How many replicas have them.
        acknowledged: u32,
        /// How many were wanted.
        wanted: u32,
    },
}

/// What became of the events of a publication that was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// None of them was or will be published: publishing them again duplicates nothing.
    NotPublished,
    /// They may have been published, or may be yet.
    Unknown,
    /// They were published: publishing them again duplicates them.
    Published(Published),
}

impl PublishError {
    /// What is known of the events.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Closed | Self::Unavailable | Self::OutOfMemory | Self::Refused => Outcome::NotPublished,
            Self::Unknown => Outcome::Unknown,
            Self::NotReplicated { published, .. } => Outcome::Published(published),
        }
    }

    /// What went wrong, without what became of the events.
    pub(crate) fn cause(self) -> &'static str {
        match self {
            Self::Closed => "the hub is closed because the server is shutting down",
            Self::Unavailable => "the backbone is away",
            Self::Unknown => "the backbone did not answer",
            Self::OutOfMemory => "the backbone is out of memory",
            Self::Refused => "the backbone refused",
            Self::NotReplicated { .. } => "too few replicas have the events",
        }
    }
}

/// What a hub holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HubStats {
    /// Events that were published since the hub was made. With a [relay](Hub::relayed): that were appended.
    pub published: u64,
    /// Topics that have a history or a subscriber.
    pub topics: usize,
    /// Events that can be replayed, over all topics.
    pub retained_events: u64,
    /// The memory that they take.
    pub retained_bytes: u64,
}

/// What a hub holds of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicStats {
    /// The topic.
    pub topic: Topic,
    /// Subscriptions that name it. Those of patterns and of everything are not counted here.
    pub subscribers: usize,
    /// Events that can be replayed.
    pub retained_events: u64,
    /// The memory that they take in the topic's ring.
    pub retained_bytes: u64,
    /// The newest event, retained or not; none when there was none yet.
    pub last: Option<StreamPosition>,
}

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
        Self(Arc::new(Inner {
            history: crate::sync::Arc::new(History::new(options, upstream)),
            sequencer: Sequencer::new(options.epoch, options.history.min(options.firehose_history)),
            inline: WakeGroup::inline(),
        }))
    }

    /// Publishes one event and answers its position. Waits while the queue of publications is full.
    ///
    /// # Errors
    /// [`PublishError::Closed`] after [`Hub::close`]. The others come from whoever numbers the events of a hub that is
    /// [relayed](Hub::relayed).
    pub async fn publish(&self, event: Event) -> Result<StreamPosition, PublishError> {
        Ok(self.publish_some(vec![event]).await?.last)
    }

    /// Publishes `events` next to each other, all or none; nothing happens when there are none.
    ///
    /// # Errors
    /// As [`Hub::publish`].
    pub async fn publish_all(&self, events: Vec<Event>) -> Result<Option<Published>, PublishError> {
        if events.is_empty() {
            return Ok(None);
        }
        self.publish_some(events).await.map(Some)
    }

    async fn publish_some(&self, events: Vec<Event>) -> Result<Published, PublishError> {
        match self.0.history.upstream() {
            None => self.0.sequencer.publish(&self.0.history, events).await,
            Some(upstream) => self.publish_upstream(upstream, events).await,
        }
    }

    async fn publish_upstream(&self, upstream: &Upstream, events: Vec<Event>) -> Result<Published, PublishError> {
        if self.0.sequencer.is_closed() { Err(PublishError::Closed) } else { upstream.publish(events).await }
    }

    /// Like [`Hub::publish_all`], in one batch with what the other tasks of this thread have to publish now.
    pub(crate) async fn publish_with_others(&self, events: Vec<Event>) -> Result<Option<Published>, PublishError> {
        if events.is_empty() {
            return Ok(None);
        }
        let published = match self.0.history.upstream() {
            None => self.0.sequencer.publish_with_others(&self.0.history, events).await,
            // The backbone's side forms batches while it waits.
            Some(upstream) => self.publish_upstream(upstream, events).await,
        };
        published.map(Some)
    }

    /// Reads the events that `filter` takes, from `start` on. Whoever publishes wakes this subscription: for many of
    /// them a [`Server`](crate::Server) has its shards do that.
    pub fn subscribe(&self, filter: SubscriptionFilter, start: Start) -> (Subscription, Opening) {
        self.subscribe_in(&self.0.inline, filter, start, usize::MAX).expect("there are fewer than all")
    }

    pub(crate) fn subscribe_in(
        &self,
        group: &crate::sync::Arc<WakeGroup>,
        filter: SubscriptionFilter,
        start: Start,
        max_silent: usize,
    ) -> Result<(Subscription, Opening), TooManyTopics> {
        Subscription::open(self.0.history.clone(), group.clone(), filter, start, max_silent)
    }

    /// The position of the newest event.
    pub fn position(&self) -> StreamPosition {
        self.0.history.position(self.0.history.head())
    }

    /// What the hub holds now.
    pub fn stats(&self) -> HubStats {
        let history = &self.0.history;
        HubStats {
            // Not the head: sequences are left out where the order is broken.
            published: history.firehose.appended(),
            topics: read(&history.topics).iter().len(),
            retained_events: history.retained_events(),
            retained_bytes: history.retained_bytes(),
        }
    }

    /// How many events the channels that `filter` reads have had: a subscription that is up to date has passed as many.
    /// The firehose has those of the named topics too.
    pub(crate) fn appended(&self, filter: &SubscriptionFilter) -> u64 {
        let history = &self.0.history;
        if filter.reads_firehose() {
            return history.firehose.appended();
        }
        let topics = read(&history.topics);
        filter.topics().iter().filter_map(|topic| topics.get(topic)).map(|channel| channel.appended()).sum()
    }

    /// Up to `limit` topics by name, from the one after `after` on, of which `is_wanted` says yes; and how many there are
    /// in all that it says yes to.
    pub fn topics(
        &self,
        after: Option<&str>,
        limit: usize,
        is_wanted: impl Fn(&Topic) -> bool,
    ) -> (Vec<TopicStats>, usize) {
        let mut first = BTreeMap::new();
        let mut count = 0;
        for (topic, channel) in read(&self.0.history.topics).named() {
            if !is_wanted(topic) {
                continue;
            }
            count += 1;
            if after.is_none_or(|after| topic.as_str() > after) {
                first.insert(topic.clone(), channel.clone());
                if first.len() > limit {
                    first.pop_last();
                }
            }
        }
        let stats = |(topic, channel): (Topic, crate::sync::Arc<Channel>)| TopicStats {
            topic,
            subscribers: channel.listeners.count(),
            retained_events: channel.retained(),
            retained_bytes: channel.weight() as u64,
            last: Some(channel.newest()).filter(|&last| last > 0).map(|last| self.0.history.position(last)),
        };
        (first.into_iter().map(stats).collect(), count)
    }

    /// Drops topics that have outlived [`HubOptions::topic_ttl`]. A [`Server`](crate::Server) calls this once a second.
    pub(crate) fn evict_expired(&self) {
        let (history, sequencer) = (&self.0.history, &self.0.sequencer);
        history.tick();
        let mut begin = Some(0);
        while let Some(place) = begin {
            let (idle, next) = history.idle(place, LOOKED_AT_AT_A_TIME);
            // Publishers and subscribers have a turn in between.
            for some in idle.chunks(DROPPED_AT_A_TIME) {
                let mut dropped = Vec::new();
                sequencer.exclusively(history, || dropped = history.drop_idle(some));
                // Outside of the lock: it frees all that they hold.
                drop(dropped);
            }
            begin = next;
        }
    }

    /// Takes no more events. What was published stays readable.
    pub fn close(&self) {
        self.0.sequencer.close(&self.0.history);
    }
}

#[cfg(test)]
mod tests;
