//! Publishing: one order for all publishers, without waiting for a lock.
//!
//! A publisher that finds the sequencer's role free and the queue empty takes the role and publishes at once. Otherwise it
//! pushes into a bounded queue and then tries to become the sequencer. The holder of that role drains the
//! queue and publishes for all (flat combining): bursts become batches, and no publisher waits for a lock. One that finds
//! the role taken waits for its position, which the holder sends, or returns if it does not want to know.
//!
//! **Batches of one thread.** Events of one topic that are published together are one block of memory, which readers write
//! as one slice. So the tasks of a thread that publish at the same time push first and yield, as long as their batches have
//! such blocks and readers. While they have no such blocks, one publication in [`PROBE`] yields, to find out.
//!
//! **Nothing is left behind.** A publisher pushes, then finds the role taken. The holder gives the role up, then looks at the
//! queue once more. With a full fence between the two steps on either side, at least one sees what the other did.
//!
//! **Publishers that do not wait** can fill the queue as fast as it is drained. So the holder gives the role up after some
//! batches, and takes it again only if no publisher has taken it meanwhile.
//!
//! **Closing.** A publisher that does not wait pushes only while it has a read lock on `is_closing`. After that is set, the
//! queue has everything that was accepted from such publishers; the hub is closed once that is published.
//!
//! **One order for readers of many topics.** The rings of two topics change one after the other, so a reader could find
//! sequence 6 in one before 5 is in the other. The history's head passes a sequence only when it and all before it
//! are in their rings, and readers take nothing beyond the head that they loaded first.

use std::pin::pin;
use std::sync::atomic::AtomicUsize;
use std::time::{Instant, SystemTime};

use tokio::sync::{Notify, oneshot};

use super::channel::Channel;
use super::encoder::Encoder;
use super::frame::Frame;
use super::gap::GapReason;
use super::history::History;
use super::idempotency::{Keys, SavedKey};
use super::latest::deletion_of;
use super::numbering::Numbering;
use super::{HubOptions, IdempotencyKey, PublishError, Published, PublishedOnce, TryPublishError};
use crate::event::Event;
use crate::position::{Sequence, StreamPosition};
use crate::sync::{Arc, ArrayQueue, Mutex, Ordering, RwLock, fence, lock, read, try_lock, write};

/// How many publications can wait. A publisher that finds the queue full waits for room.
#[cfg(not(fanline_loom))]
const QUEUE: usize = 4096;
#[cfg(fanline_loom)]
const QUEUE: usize = 2;

/// After how many publications the sequencer announces them.
const BATCH: usize = 256;

/// One of how many publications yields although none before it gained by that.
const PROBE: u32 = 16;

/// After how many batches the sequencer gives the role up.
const TURN: usize = 16;

/// For how many yields of its thread it stays without the role then: longer than it takes to wake a thread.
const PAUSE: usize = 100;

pub(crate) struct Sequencer {
    queue: ArrayQueue<Pending>,
    /// Notified when the queue was drained, for publishers that found it full.
    room: Notify,
    role: Mutex<Role>,
    /// Whether [`Sequencer::try_publish`] takes no more events.
    is_closing: RwLock<bool>,
    /// The number of keys that the role remembers, for statistics: no part of the loom model.
    keys: AtomicUsize,
}

/// A publisher's result.
pub(super) type Answer = Result<PublishedOnce, PublishError>;

/// Events that get consecutive sequences.
struct Pending {
    events: Vec<Event>,
    key: Option<Box<IdempotencyKey>>,
    /// `None` when the publisher does not wait.
    reply: Option<oneshot::Sender<Answer>>,
    /// When it was pushed, if it is the one to be timed.
    sampled: Option<(Instant, SystemTime)>,
}

/// Combines when it is dropped, so that a publisher whose future is dropped leaves nothing behind in the queue.
struct Turn<'a> {
    sequencer: &'a Sequencer,
    history: &'a History,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.sequencer.combine(self.history);
    }
}

/// The state of the sequencer's role.
struct Role {
    newest: Sequence,
    /// What has a sequence and is not in its rings yet.
    encoder: Encoder,
    /// Channels that were published to since the last announcement.
    touched: Vec<Arc<Channel>>,
    replies: Vec<(oneshot::Sender<Answer>, Answer)>,
    keys: Keys,
    /// Whether the last batch had publications that share a block.
    is_crowded: bool,
    /// Whether the last batch had readers.
    has_readers: bool,
    /// The number of publications that could have yielded since then.
    alone: u32,
    /// The number of blocks so far.
    blocks: usize,
}

impl Sequencer {
    pub(crate) fn new(options: &HubOptions) -> Self {
        let numbering = Numbering { epoch: options.epoch, offset: 0 };
        let role = Role {
            newest: 0,
            encoder: Encoder::new(numbering, options.history.min(options.firehose_history)),
            touched: Vec::new(),
            replies: Vec::new(),
            keys: Keys::new(options.idempotency_window, options.idempotency_keys),
            is_crowded: false,
            has_readers: false,
            alone: 0,
            blocks: 0,
        };
        Self {
            queue: ArrayQueue::new(QUEUE),
            room: Notify::new(),
            role: Mutex::new(role),
            is_closing: RwLock::new(false),
            keys: AtomicUsize::new(0),
        }
    }

    /// Gives the next event the sequence after `newest`. For a hub that was just created.
    pub(crate) fn continue_after(&self, newest: Sequence) {
        lock(&self.role).newest = newest;
    }

    /// Publishes `events`, at least one, from the queue, and returns their positions. `with_others` lets the other tasks of
    /// this thread that are ready push first, so that one batch is numbered, encoded and announced. Once this was polled the
    /// events may be published even if the future is dropped.
    pub(crate) async fn publish_queued(
        &self,
        history: &History,
        events: Vec<Event>,
        with_others: bool,
        key: Option<Box<IdempotencyKey>>,
    ) -> Answer {
        let answer = self.push(history, events, key).await;
        let turn = Turn { sequencer: self, history };
        if with_others {
            tokio::task::yield_now().await;
        }
        drop(turn);
        answer.await.unwrap_or(Err(PublishError::Closed))
    }

    /// Publishes `events`, at least one, if the role is free and nothing is queued. `None` if the caller has to queue them,
    /// which it has to do too where others of its thread may publish `with_others` and readers gain from that.
    pub(crate) fn publish_at_once(
        &self,
        history: &History,
        events: &[Event],
        with_others: bool,
        key: Option<&IdempotencyKey>,
    ) -> Option<Answer> {
        let mut role = try_lock(&self.role)?;
        if !self.queue.is_empty() || (with_others && role.expects_others()) {
            return None;
        }
        let answer = role.publish(history, events, key, history.sampler.begin());
        role.announce(history);
        if key.is_some() {
            self.keys.store(role.keys.len(), Ordering::Relaxed);
        }
        drop(role);
        // What was pushed meanwhile.
        self.combine(history);
        Some(answer)
    }

    /// Pushes a publication; the caller combines. Waits while the queue is full.
    async fn push(
        &self,
        history: &History,
        events: Vec<Event>,
        key: Option<Box<IdempotencyKey>>,
    ) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        let mut pending = Pending { events, key, reply: Some(reply), sampled: history.sampler.begin() };
        while let Err(back) = self.queue.push(pending) {
            pending = back;
            // Enabled before the next try, so that a drain between the two is not missed.
            let mut room = pin!(self.room.notified());
            room.as_mut().enable();
            match self.queue.push(pending) {
                Ok(()) => break,
                Err(back) => pending = back,
            }
            self.combine(history);
            room.await;
        }
        answer
    }

    /// Publishes `event` without waiting: a full queue is an error unless this can drain it.
    pub(crate) fn try_publish(&self, history: &History, event: Event) -> Result<(), TryPublishError> {
        let push = |event| {
            let pending = Pending { events: vec![event], key: None, reply: None, sampled: history.sampler.begin() };
            let full = |mut back: Pending| TryPublishError::Full(back.events.remove(0));
            self.queue.push(pending).map_err(full)
        };
        let mut pushed = self.while_open(event, push);
        self.combine(history);
        if let Err(TryPublishError::Full(event)) = pushed {
            pushed = self.while_open(event, push);
            self.combine(history);
        }
        pushed
    }

    /// Calls `push`, unless the hub is closed. What it pushes is accepted: the hub is not closed before it is published.
    pub(crate) fn while_open(
        &self,
        event: Event,
        push: impl FnOnce(Event) -> Result<(), TryPublishError>,
    ) -> Result<(), TryPublishError> {
        let is_closing = read(&self.is_closing);
        if *is_closing { Err(TryPublishError::Closed(event)) } else { push(event) }
    }

    /// Publishes what was accepted, and rejects what is published from now on.
    pub(crate) fn close(&self, history: &History) {
        *write(&self.is_closing) = true;
        let mut role = lock(&self.role);
        // As much as the queue holds. What was pushed since then is rejected.
        for _ in 0..=QUEUE / BATCH {
            self.drain(&mut role, history);
        }
        history.close();
        drop(role);
        self.combine(history);
    }

    /// The number of keys that are remembered.
    pub(crate) fn keys(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    /// The keys that are remembered, the oldest first.
    pub(super) fn saved_keys(&self) -> Vec<SavedKey> {
        lock(&self.role).keys.saved(Instant::now()).collect()
    }

    pub(super) fn restore_keys(&self, saved: &[SavedKey]) {
        let mut role = lock(&self.role);
        saved.iter().for_each(|saved| role.keys.restore(saved, Instant::now()));
        self.keys.store(role.keys.len(), Ordering::Relaxed);
    }

    /// Forgets up to `limit` expired keys. Returns whether there may be more.
    pub(crate) fn forget_expired_keys(&self, history: &History, limit: usize) -> bool {
        if self.keys() == 0 {
            return false;
        }
        let mut role = lock(&self.role);
        let may_have_more = role.keys.forget_expired(limit, Instant::now());
        self.keys.store(role.keys.len(), Ordering::Relaxed);
        drop(role);
        self.combine(history);
        may_have_more
    }

    /// Deletes the keys of `values`, those that are still their newest. Returns how many.
    pub(crate) fn delete(&self, history: &History, values: &[Frame]) -> usize {
        let mut role = lock(&self.role);
        let before = role.newest;
        for value in values.iter().filter(|value| !history.is_closed() && history.is_newest(value)) {
            role.number(history, &deletion_of(value));
        }
        let deleted = (role.newest - before) as usize;
        if deleted > 0 {
            role.announce(history);
        }
        drop(role);
        self.combine(history);
        deleted
    }

    /// Appends events that were numbered elsewhere: consecutive ones, behind the newest.
    pub(crate) fn append_numbered(&self, history: &History, events: &[Event]) {
        let mut role = lock(&self.role);
        if !events.is_empty()
            && let Some(moment) = history.sampler.begin()
        {
            history.sampler.note(role.newest + 1, moment);
        }
        for event in events {
            role.number(history, event);
        }
        role.announce(history);
    }

    /// Breaks the order off: the next event that is appended is the one after `position`. The latest values are `values`.
    pub(crate) fn break_off(
        &self,
        history: &History,
        position: StreamPosition,
        reason: GapReason,
        values: &[(StreamPosition, Event)],
    ) {
        let mut role = lock(&self.role);
        let (breaks, last, _) = history.now();
        // Values of earlier epochs come before the first event of this one.
        let earlier = values.partition_point(|(at, _)| at.epoch != position.epoch) as Sequence;
        let numbering = match role.newest {
            _ if position.epoch == last.numbering.epoch => last.numbering,
            // No reader has a position of the epoch that the hub was created with. 0 is no sequence of an event.
            0 if breaks == 1 => Numbering { epoch: position.epoch, offset: earlier + Sequence::from(earlier > 0) },
            // One sequence is left out, so that each belongs to one epoch: it is the new epoch's 0.
            newest => Numbering { epoch: position.epoch, offset: newest + 1 + earlier },
        };
        let base = numbering.offset + position.sequence;
        role.newest = base;
        role.encoder.numbering = numbering;
        let sequence_of = |(place, (at, _)): (usize, &(StreamPosition, Event))| {
            numbering.sequence(*at).unwrap_or((numbering.offset + place as Sequence).saturating_sub(earlier))
        };
        let sequences = values.iter().enumerate().map(sequence_of);
        let mut encoder = Encoder::new(numbering, 1);
        history.break_off(numbering, base, reason, || {
            for (sequence, (_, event)) in sequences.zip(values) {
                encoder.push(sequence, event);
                history.restore_latest(&mut encoder, base);
            }
        });
    }

    /// Calls `work` as the sequencer; nothing is published meanwhile.
    pub(crate) fn exclusively(&self, history: &History, work: impl FnOnce()) {
        let role = lock(&self.role);
        work();
        drop(role);
        self.combine(history);
    }

    /// Drains the queue, unless another thread holds the role: that thread then sees what is in the queue now.
    fn combine(&self, history: &History) {
        loop {
            // Between a publisher's push and its look at the role, and between giving up the role and a look at the
            // queue: see the module's documentation.
            fence(Ordering::SeqCst);
            if self.queue.is_empty() {
                return;
            }
            let Some(mut role) = try_lock(&self.role) else { return };
            let is_dry = (0..TURN).any(|_| !self.drain(&mut role, history));
            drop(role);
            if !is_dry && !self.queue.is_empty() {
                // Time to take the role, for a publisher that pushes now and for a thread that waits for it.
                (0..PAUSE).for_each(|_| std::thread::yield_now());
            }
        }
    }

    /// Publishes a batch. Returns whether there was one.
    fn drain(&self, role: &mut Role, history: &History) -> bool {
        let has_drained = role.drain(&self.queue, history);
        if has_drained {
            self.keys.store(role.keys.len(), Ordering::Relaxed);
            self.room.notify_waiters();
        }
        has_drained
    }
}

impl Role {
    /// Publishes a batch. Returns whether there was one.
    fn drain(&mut self, queue: &ArrayQueue<Pending>, history: &History) -> bool {
        let (mut publications, blocks) = (0, self.blocks);
        for _ in 0..BATCH {
            let Some(pending) = queue.pop() else { break };
            publications += 1;
            let answer = self.publish(history, &pending.events, pending.key.as_deref(), pending.sampled);
            match pending.reply {
                Some(reply) => self.replies.push((reply, answer)),
                None if answer.is_err() => history.latest.note_refused(pending.events.len()),
                None => {}
            }
        }
        if publications == 0 {
            return false;
        }
        self.announce(history);
        self.is_crowded = self.blocks.wrapping_sub(blocks) < publications;
        for (reply, answer) in self.replies.drain(..) {
            // The publisher may have given up waiting.
            let _ = reply.send(answer);
        }
        true
    }

    /// Gives a publication its sequences; the caller announces them.
    fn publish(
        &mut self,
        history: &History,
        events: &[Event],
        key: Option<&IdempotencyKey>,
        sampled: Option<(Instant, SystemTime)>,
    ) -> Answer {
        let before = self.newest;
        let answer = self.append(history, events, key);
        if let Some(moment) = sampled
            && self.newest > before
        {
            history.sampler.note(before + 1, moment);
        }
        answer
    }

    /// Whether readers may gain from what other tasks of this thread publish now.
    fn expects_others(&mut self) -> bool {
        self.alone = self.alone.wrapping_add(1);
        self.has_readers && (self.is_crowded || self.alone.is_multiple_of(PROBE))
    }

    fn append(&mut self, history: &History, events: &[Event], key: Option<&IdempotencyKey>) -> Answer {
        if history.is_closed() {
            return Err(PublishError::Closed);
        }
        let Some(key) = key else {
            history.latest.admit(events, &history.topics)?;
            return Ok(self.number_all(history, events).into());
        };
        let now = Instant::now();
        if let Some(published) = self.keys.find(key, now)? {
            return Ok(PublishedOnce { published, is_repeat: true });
        }
        history.latest.admit(events, &history.topics)?;
        let published = self.number_all(history, events);
        self.keys.remember(key, published, now);
        Ok(published.into())
    }

    /// Gives `events`, at least one, the next sequences.
    fn number_all(&mut self, history: &History, events: &[Event]) -> Published {
        let first = self.newest + 1;
        for event in events {
            self.number(history, event);
        }
        let position = |sequence| self.encoder.numbering.position(sequence);
        Published { first: position(first), last: position(self.newest) }
    }

    /// Gives `event` the next sequence.
    fn number(&mut self, history: &History, event: &Event) {
        if !self.encoder.has_room_for(event) {
            self.flush(history);
        }
        self.newest += 1;
        self.encoder.push(self.newest, event);
    }

    /// Lets readers take everything that has a sequence, and wakes them.
    fn announce(&mut self, history: &History) {
        self.flush(history);
        history.publish(self.newest);
        history.trim();
        self.has_readers = history.notify(&self.touched);
        self.touched.clear();
    }

    /// Puts what has a sequence into its rings.
    fn flush(&mut self, history: &History) {
        let Some(channel) = history.append(&mut self.encoder) else { return };
        self.blocks = self.blocks.wrapping_add(1);
        if !self.touched.last().is_some_and(|last| Arc::ptr_eq(last, &channel)) {
            self.touched.push(channel);
        }
    }
}
