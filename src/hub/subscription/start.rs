//! Where a subscription begins: from [`Start`] to the index of each cursor, and what is missing in between.

use std::ops::Range;

use smallvec::SmallVec;

use super::catch_up::CatchUp;
use super::gaps::{Loss, Losses};
use super::{Cursor, State, Subscription};
use crate::hub::channel::Channel;
use crate::hub::frame::Frame;
use crate::hub::gap::GapReason;
use crate::hub::ledger::Tally;
use crate::hub::numbering::Numbering;
use crate::position::{Epoch, Sequence, StreamPosition};
use crate::ring::Read;

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// With the next event.
    Live,
    /// With the oldest retained event.
    Earliest,
    /// With the newest `n` retained events.
    Newest(u64),
    /// With the event after this position.
    After(StreamPosition),
    /// After a position that cannot be read: a gap comes first, then all that is retained.
    UnknownId,
}

/// Where a subscription began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opening {
    /// The id that a client resumes from until it has another one: resuming after it gives the same opening, and the same
    /// gap if there is one. It is `position`, or the position of another epoch that was asked for, or else
    /// [`StreamPosition::UNKNOWN`].
    pub id: StreamPosition,
    /// The position after which the events come. `None` when the position asked for is not one of this epoch: a gap then
    /// says where the stream continues.
    pub position: Option<StreamPosition>,
    /// How many retained events come first. `None` when they come from an archive, which has not counted them.
    pub replayed: Option<u64>,
}

/// What the stream knows of where a subscription begins.
pub(super) enum Origin {
    /// The subscription resumes nothing.
    New,
    /// It resumes after this position.
    Known(StreamPosition),
    /// It cannot resume, for this reason, from its position if that can be reported.
    Lost(GapReason, Option<StreamPosition>),
}

impl Subscription {
    /// Places the cursors, after the subscription was added to its channels' listeners.
    pub(super) fn find_place(&mut self, start: Start) -> Opening {
        let (breaks, last, head) = self.history.now();
        self.breaks = breaks;
        let (after, origin) = self.origin(start, last.numbering, head);
        self.taken = after;
        let lost = self.place_cursors(after);
        let reads_archive = self.history.archive().is_some() && matches!(start, Start::Earliest | Start::After(_));
        let (id, position) = match origin {
            Origin::New | Origin::Known(_) if reads_archive && !lost.is_empty() => {
                self.state = State::CatchUp(Box::new(CatchUp::Placing));
                let id = self.history.position(after);
                return Opening { id, position: Some(id), replayed: None };
            }
            Origin::New => {
                // What was evicted before the first retained frame was not asked for. What is missing after it, of another
                // topic or because events were evicted meanwhile, is a gap like any other.
                self.taken = self.before_first(head).max(after);
                let lost = if self.taken > after { self.place_cursors(self.taken) } else { lost };
                let from = self.position();
                self.note_gaps(GapReason::Evicted, Some(from), lost, head);
                (from, Some(from))
            }
            Origin::Known(from) => {
                self.note_gaps(GapReason::Evicted, Some(from), lost, head);
                (from, Some(from))
            }
            Origin::Lost(reason, from) => {
                // Up to the first retained frame, for all filters. What some of them have lost after it is the next gap.
                let to = self.before_first(head).max(after);
                self.note_restart(reason, from, to, head);
                (from.unwrap_or(StreamPosition::UNKNOWN), None)
            }
        };
        let replayed = self.cursors.iter().map(|cursor| self.ready(cursor, head)).sum();
        Opening { id, position, replayed: Some(replayed) }
    }

    /// Returns the sequence that `start` begins after, and whether the stream knows it.
    pub(super) fn origin(&self, start: Start, numbering: Numbering, head: Sequence) -> (Sequence, Origin) {
        let oldest = numbering.offset;
        match start {
            Start::Live => (head, Origin::New),
            Start::Earliest => (oldest, Origin::New),
            Start::Newest(count) => (self.before_newest(count, head).max(oldest), Origin::New),
            Start::UnknownId | Start::After(StreamPosition::UNKNOWN) => {
                (oldest, Origin::Lost(GapReason::UnknownId, None))
            }
            Start::After(position) => match numbering.sequence(position) {
                Some(sequence) if sequence <= head => (sequence, Origin::Known(position)),
                None if self.is_of_earlier_epoch(position, numbering.epoch) => {
                    (oldest, Origin::Lost(GapReason::Epoch, Some(position)))
                }
                _ => (oldest, Origin::Lost(GapReason::UnknownId, None)),
            },
        }
    }

    /// Whether a position may have been issued by an epoch before the present one. Without a backbone the order of epochs is
    /// not reliable: the clock may have been set back between two runs of this server.
    fn is_of_earlier_epoch(&self, position: StreamPosition, present: Epoch) -> bool {
        position.epoch < present || (position.epoch > present && self.history.upstream().is_none())
    }

    /// Sets each cursor to the first retained frame after `after`. Returns what is lost before these.
    pub(super) fn place_cursors(&mut self, after: Sequence) -> Losses {
        let mut lost = Losses::new();
        // The cursors whose lost events the ledger counts.
        let mut counted: SmallVec<[(usize, Tally); 4]> = SmallVec::new();
        for (number, cursor) in self.cursors.iter_mut().enumerate() {
            let channel = &cursor.channel;
            let place = channel.place_after(after);
            cursor.index = place.index;
            let Some(evicted) = place.evicted else { continue };
            if channel.topic.is_some() {
                counted.push((number, Tally::new(channel.hash, evicted)));
            } else {
                // The firehose had every event; those that match a pattern are not counted.
                let is_whole = self.selection.is_none();
                let missed = is_whole.then(|| self.history.count_in_firehose(after, evicted)).flatten();
                lost.push(Loss { cursor: number, to: evicted, missed });
            }
        }
        if counted.is_empty() {
            return lost;
        }
        counted.sort_unstable_by_key(|(_, tally)| tally.topic);
        let mut tallies: SmallVec<[Tally; 4]> = counted.iter().map(|(_, tally)| *tally).collect();
        let is_known = self.history.ledger.count(after, &mut tallies);
        for ((number, asked), tally) in counted.into_iter().zip(tallies) {
            match (is_known, tally.count) {
                (false, _) => lost.push(Loss { cursor: number, to: asked.to, missed: None }),
                // The topic was dropped and forgotten, and has had no event since.
                (true, 0) => {}
                (true, count) => lost.push(Loss { cursor: number, to: tally.newest, missed: Some(count) }),
            }
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

    /// The number of wanted frames up to `head` that the cursor has.
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

    /// The sequences of the channel's wanted frames, as far as they are retained.
    fn wanted(&self, channel: &Channel, indices: Range<u64>) -> Vec<Sequence> {
        let filter = self.filter_of(channel);
        let mut sequences = Vec::new();
        let mut index = indices.start;
        while index < indices.end {
            match channel.ring.read(index) {
                Read::Run(run) => {
                    let frames = (index..run.indices().end.min(indices.end)).map(|index| run.get(index));
                    let is_wanted =
                        |frame: &&Frame| filter.is_none_or(|filter| filter.matches_in_firehose(frame.topic()));
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
