//! The one way to read a hub.
//!
//! **Contract.** A subscription delivers the events of its topics in sequence order, from the place where it starts,
//! each once. When it cannot, it says so: a [`Gap`] comes before any event that follows the missing ones. Replay and live
//! are not two things: a cursor stands in a ring, and whether what it reads was published a minute or a microsecond ago
//! makes no difference to it. So there is no hand-over that could lose or repeat an event.
//!
//! **Several topics.** Each has its own cursor; the frames that are ready are merged by sequence. The history's head is
//! loaded before any ring is read, and nothing beyond it is taken, so that a later read cannot find an earlier sequence
//! (see `sequencer`).
//!
//! **Subscribing against publishing.** The subscription is entered with its channels' listeners first, and finds its
//! place afterwards. An event that is published in between is found in the ring; one that comes later wakes it.
//!
//! **Evicting against reading.** A cursor is an index. Between two reads its frames may be evicted: the ring then says
//! so, and the gap counts the indices in between. While a batch is held its frames stay in memory.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Range;
use std::task::{Context, Poll, Waker, ready};

use smallvec::SmallVec;

use super::batch::Batch;
use super::channel::Channel;
use super::frame::Frame;
use super::gap::{Gap, GapReason};
use super::history::History;
use super::interest::{Interest, Start};
use super::sampler::Sample;
use super::wake::{SleeperKey, WakeGroup};
use crate::position::{Sequence, StreamPosition};
use crate::ring::Read;
use crate::sync::Arc;

/// A reader of some topics of a [`Hub`](super::Hub).
pub struct Subscription {
    history: Arc<History>,
    group: Arc<WakeGroup>,
    key: SleeperKey,
    waker: Option<Waker>,
    cursors: SmallVec<[Cursor; 2]>,
    /// What is picked from the firehose; none when everything is, or when it is not read at all.
    filter: Option<Box<Interest>>,
    /// The last sequence that was taken, or that this began after.
    taken: Sequence,
    /// The gap between the place asked for and the place where this begins.
    gap: Option<Box<Gap>>,
    /// What [`Subscription::next`] has read and not yet handed out.
    #[expect(clippy::box_collection, reason = "there are very many subscriptions, and those of a server never use it")]
    ready: Option<Box<VecDeque<Frame>>>,
}

struct Cursor {
    channel: Arc<Channel>,
    /// The index of the frame that is read next.
    index: u64,
}

/// Where a subscription began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The position after which the events come. None when the position asked for is not one of this epoch: a gap then
    /// says where the stream goes on.
    pub position: Option<StreamPosition>,
    /// How many retained events come first.
    pub replayed: u64,
}

/// What a subscription delivers.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// An event.
    Event(Frame),
    /// Word of events that will not come.
    Gap(Gap),
}

impl Subscription {
    pub(super) fn open(
        history: Arc<History>,
        group: Arc<WakeGroup>,
        interest: Interest,
        start: Start,
    ) -> (Self, Opening) {
        let key = group.enter();
        let mut channels = Vec::with_capacity(interest.topics.len() + 1);
        for topic in &interest.topics {
            history.with_channel(topic, |channel| {
                channel.listeners.add(&group, key);
                channels.push(channel.clone());
            });
        }
        if interest.reads_firehose() {
            history.firehose.listeners.add(&group, key);
            channels.push(history.firehose.clone());
        }
        let filter = (interest.reads_firehose() && !interest.is_everything()).then(|| Box::new(interest));
        let mut subscription = Self {
            history,
            group,
            key,
            waker: None,
            cursors: channels.into_iter().map(|channel| Cursor { channel, index: 0 }).collect(),
            filter,
            taken: 0,
            gap: None,
            ready: None,
        };
        let opening = subscription.find_place(start);
        (subscription, opening)
    }

    /// The next event or gap, as soon as there is one. A subscription that lagged goes on after its gap with the oldest
    /// retained event.
    ///
    /// Cancel safe: nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Delivery {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The poll function behind [`Subscription::next`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Delivery> {
        if let Some(frame) = self.ready.as_mut().and_then(|ready| ready.pop_front()) {
            return Poll::Ready(Delivery::Event(frame));
        }
        let mut batch = Batch::default();
        match ready!(self.poll_fill(cx, &mut batch)) {
            Err(gap) => Poll::Ready(Delivery::Gap(gap)),
            Ok(()) => {
                self.take(&batch, batch.len());
                let ready = self.ready.get_or_insert_default();
                ready.extend(batch.frames().cloned());
                Poll::Ready(Delivery::Event(ready.pop_front().expect("a batch that is ready has a frame")))
            }
        }
    }

    /// The position up to which everything was delivered.
    pub fn position(&self) -> StreamPosition {
        let next = self.ready.as_ref().and_then(|ready| ready.front());
        self.history.position(next.map_or(self.taken, |next| next.sequence() - 1))
    }

    /// Fills `batch` with what is ready, at least one frame; or says what is missing before it.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<(), Gap>> {
        self.fill(batch)?;
        if batch.is_empty() && self.wake(cx.waker()) {
            // Once more: what came before the waker was set would have woken nobody.
            self.fill(batch)?;
        }
        if batch.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    /// Has `waker` woken by whatever is published from now on. Answers whether that is new.
    pub(crate) fn wake(&mut self, waker: &Waker) -> bool {
        if self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            return false;
        }
        self.group.set_waker(self.key, waker);
        self.waker = Some(waker.clone());
        true
    }

    /// Fills `batch` with what is ready, which may be nothing; or says what is missing before it.
    pub(crate) fn fill(&mut self, batch: &mut Batch) -> Result<(), Gap> {
        batch.clear();
        if let Some(gap) = self.gap.take() {
            return Err(*gap);
        }
        let head = self.history.head();
        for (number, cursor) in self.cursors.iter().enumerate() {
            match cursor.channel.ring.read(cursor.index) {
                Read::Empty => {}
                Read::Lagged => {
                    batch.clear();
                    return Err(self.lag(head));
                }
                Read::Run(run) => batch.open(number, run),
            }
        }
        while !batch.is_full()
            && let Some((place, limit)) = batch.earliest(head)
        {
            let filter = self.filter_of(&self.cursors[batch.cursor(place)].channel);
            let ended = match filter {
                None => batch.pick(place, limit),
                Some(interest) => batch.pick_some(place, limit, |frame| interest.takes_from_firehose(frame.topic())),
            };
            if let Some((cursor, index)) = ended {
                match self.cursors[cursor].channel.ring.read(index) {
                    Read::Empty => batch.close(place),
                    Read::Run(run) => batch.extend(place, run),
                    // What the others have next may come after what is missing here: the next fill tells.
                    Read::Lagged => {
                        batch.cut();
                        break;
                    }
                }
            }
        }
        batch.finish();
        if batch.is_empty() {
            self.take(batch, 0);
        }
        Ok(())
    }

    /// When the sampled event was published, if it is among the first `count` frames of `batch`, which was filled last and
    /// not taken yet.
    pub(crate) fn sample_in(&self, batch: &Batch, count: usize) -> Option<Sample> {
        let sequence = self.history.sampler.sequence();
        if sequence <= self.taken || !batch.frames().take(count).any(|frame| frame.sequence() == sequence) {
            return None;
        }
        self.history.sampler.sample(sequence)
    }

    /// Moves on past the first `count` frames of `batch`, which was filled last.
    pub(crate) fn take(&mut self, batch: &Batch, count: usize) {
        for (cursor, next, last) in batch.stretches(count) {
            self.cursors[cursor].index = next;
            self.taken = last;
        }
        if count == batch.len() {
            for &(cursor, index) in batch.ends() {
                self.cursors[cursor].index = index;
            }
        }
    }

    /// Whether there is a gap that was not handed out yet.
    pub(crate) fn has_gap(&self) -> bool {
        self.gap.is_some()
    }

    /// Whether something that was to be read next has been evicted.
    pub(crate) fn has_lagged(&self) -> bool {
        self.cursors.iter().any(|cursor| matches!(cursor.channel.ring.read(cursor.index), Read::Lagged))
    }

    /// How many events of its channels its cursors have passed, each counted from the first that was ever there; see
    /// [`Hub::appended`](super::Hub).
    pub(crate) fn passed(&self) -> u64 {
        self.cursors.iter().map(|cursor| cursor.index).sum()
    }

    /// How many events of its channels this is behind the newest; with a pattern, those that it does not want included.
    pub(crate) fn behind(&self) -> u64 {
        self.cursors.iter().map(|cursor| cursor.channel.ring.retained().end.saturating_sub(cursor.index)).sum()
    }

    /// What is picked from the channel; none when everything is.
    fn filter_of(&self, channel: &Channel) -> Option<&Interest> {
        self.filter.as_deref().filter(|_| channel.topic.is_none())
    }

    /// Moves each cursor whose frames were evicted to the oldest retained one, and says what it missed.
    fn lag(&mut self, head: Sequence) -> Gap {
        let mut missed = Some(0);
        let mut to = self.taken;
        for cursor in &mut self.cursors {
            if let Read::Lagged = cursor.channel.ring.read(cursor.index) {
                let (oldest, evicted) = cursor.channel.oldest_place();
                let is_filtered = self.filter.is_some() && cursor.channel.topic.is_none();
                missed = missed.filter(|_| !is_filtered).map(|missed| missed + (oldest - cursor.index));
                to = to.max(evicted);
                cursor.index = oldest;
            }
        }
        let from = Some(self.position());
        self.gap(GapReason::Lagged, from, to, missed, head)
    }

    /// A gap up to `to`. With several cursors some may have frames from before that: the stream goes on with those.
    fn gap(
        &mut self,
        reason: GapReason,
        from: Option<StreamPosition>,
        to: Sequence,
        missed: Option<u64>,
        head: Sequence,
    ) -> Gap {
        let next = self.cursors.iter().map(|cursor| match cursor.channel.ring.read(cursor.index) {
            Read::Run(run) => run.get(cursor.index).sequence() - 1,
            Read::Empty => head,
            Read::Lagged => self.taken,
        });
        // One cursor has been told of all up to `to`, whatever has happened to its next frame since.
        let resume = if self.cursors.len() == 1 { to } else { next.chain([to]).min().unwrap_or(to) }.max(self.taken);
        self.taken = resume;
        let (to, resume) = (self.history.position(to), self.history.position(resume));
        Gap { reason, from, to, missed, resume }
    }

    /// Places the cursors, after they were entered with their channels.
    fn find_place(&mut self, start: Start) -> Opening {
        let head = self.history.head();
        let (after, resumes) = match start {
            Start::Live => (head, None),
            Start::Earliest => (0, None),
            Start::Newest(count) => (self.before_newest(count, head), None),
            Start::UnknownId => (0, Some((GapReason::UnknownId, None))),
            Start::After(position) if position.epoch != self.history.epoch => {
                (0, Some((GapReason::Epoch, Some(position))))
            }
            Start::After(position) if position.sequence > head => (0, Some((GapReason::UnknownId, None))),
            Start::After(position) => (position.sequence, Some((GapReason::Evicted, Some(position)))),
        };
        self.taken = after;
        let lost = self.place_cursors(after);
        let position = match resumes {
            None => {
                // Nobody asked for what was evicted before the first retained frame. What is missing after it, of another
                // topic or because events came and went meanwhile, is a gap like any other.
                self.taken = self.before_first(head).max(after);
                let lost = if self.taken > after { self.place_cursors(self.taken) } else { lost };
                let from = Some(self.position());
                self.gap = lost.map(|(to, missed)| Box::new(self.gap(GapReason::Evicted, from, to, missed, head)));
                from
            }
            Some((GapReason::Evicted, from)) => {
                self.gap = lost.map(|(to, missed)| Box::new(self.gap(GapReason::Evicted, from, to, missed, head)));
                from
            }
            Some((reason, from)) => {
                let to = lost.map_or(0, |(to, _)| to);
                self.gap = Some(Box::new(self.gap(reason, from, to, None, head)));
                None
            }
        };
        Opening { position, replayed: self.cursors.iter().map(|cursor| self.ready(cursor, head)).sum() }
    }

    /// Sets each cursor to the first retained frame after `after`. Answers the newest sequence that is lost, if any is,
    /// and how many are.
    fn place_cursors(&mut self, after: Sequence) -> Option<(Sequence, Option<u64>)> {
        let mut lost: Option<(Sequence, Option<u64>)> = None;
        for cursor in &mut self.cursors {
            let channel = &cursor.channel;
            let place = channel.place_after(after);
            cursor.index = place.index;
            let Some(evicted) = place.evicted else { continue };
            let count = if channel.topic.is_none() {
                // Everything stood in the firehose; of what a pattern takes there is no count.
                self.filter.is_none().then(|| evicted - after)
            } else if after >= place.known_since {
                self.history.ledger.count(channel.id, after, evicted)
            } else {
                None
            };
            let (to, missed) = lost.unwrap_or((0, Some(0)));
            lost = Some((to.max(evicted), missed.zip(count).map(|(missed, count)| missed + count)));
        }
        lost
    }

    /// The sequence before the first frame that the cursors have.
    fn before_first(&self, head: Sequence) -> Sequence {
        let firsts = self.cursors.iter().filter_map(|cursor| match cursor.channel.ring.read(cursor.index) {
            Read::Run(run) => Some(run.get(cursor.index).sequence() - 1),
            _ => None,
        });
        firsts.min().unwrap_or(head).min(head)
    }

    /// How many frames up to `head` the cursor has that are wanted.
    fn ready(&self, cursor: &Cursor, head: Sequence) -> u64 {
        let end = cursor.channel.ring.partition_point(|frame| frame.sequence() <= head);
        if self.filter_of(&cursor.channel).is_none() {
            return end.saturating_sub(cursor.index);
        }
        self.wanted(&cursor.channel, cursor.index..end).len() as u64
    }

    /// The sequence before the newest `count` frames up to `head` that are wanted.
    fn before_newest(&self, count: u64, head: Sequence) -> Sequence {
        if count == 0 {
            return head;
        }
        let mut sequences = Vec::new();
        for Cursor { channel, .. } in &self.cursors {
            let end = channel.ring.partition_point(|frame| frame.sequence() <= head);
            let oldest = channel.ring.retained().start;
            let begin = if self.filter_of(channel).is_some() { oldest } else { oldest.max(end.saturating_sub(count)) };
            sequences.extend(self.wanted(channel, begin..end));
        }
        sequences.sort_unstable_by(|a, b| b.cmp(a));
        match usize::try_from(count - 1).ok().and_then(|last| sequences.get(last)) {
            Some(sequence) => sequence - 1,
            None => 0,
        }
    }

    /// The sequences of the channel's frames that are wanted, as far as they are retained.
    fn wanted(&self, channel: &Channel, indices: Range<u64>) -> Vec<Sequence> {
        let filter = self.filter_of(channel);
        let mut sequences = Vec::new();
        let mut index = indices.start;
        while index < indices.end {
            match channel.ring.read(index) {
                Read::Run(run) => {
                    let frames = (index..run.indices().end.min(indices.end)).map(|index| run.get(index));
                    let is_wanted =
                        |frame: &&Frame| filter.is_none_or(|filter| filter.takes_from_firehose(frame.topic()));
                    sequences.extend(frames.filter(is_wanted).map(Frame::sequence));
                    index = run.indices().end;
                }
                Read::Lagged => index = channel.ring.retained().start.max(index + 1),
                Read::Empty => break,
            }
        }
        sequences
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        for cursor in &self.cursors {
            cursor.channel.listeners.remove(&self.group, self.key);
        }
        self.group.leave(self.key);
    }
}
