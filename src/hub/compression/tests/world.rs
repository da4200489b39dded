//! A hub with compressed readers, and what each of them must have decoded.

use std::io::IoSlice;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};

use super::decoder::Decoder;
use crate::event::{Event, Payload};
use crate::hub::compression::blocks::Block;
use crate::hub::compression::compressor::Place;
use crate::hub::compression::{CompressedRing, MAX_SLICES, Member};
use crate::hub::{Batch, Hub, HubOptions, Start, Subscription, SubscriptionFilter};
use crate::topic::Topic;
use crate::wire::Format;

pub(super) const READERS: usize = 5;
pub(super) const TOPICS: [&str; 3] = ["a", "b", "c"];
/// Each topic, and everything.
pub(super) const RINGS: usize = TOPICS.len() + 1;

/// How many events a ring retains: more than two groups.
const HISTORY: usize = 150;

#[derive(Clone, Debug)]
pub(super) enum Step {
    Publish {
        topic: usize,
        count: usize,
    },
    /// Replaces a reader by one that begins with the last events.
    Join {
        reader: usize,
        ring: usize,
        history: u64,
    },
    /// Writes up to `room` bytes.
    Write {
        reader: usize,
        room: usize,
    },
    /// Replaces two readers by new ones, fills a batch of `reader`, then publishes, and writes to `other` before that batch.
    Overtake {
        reader: usize,
        other: usize,
        topic: usize,
        count: usize,
    },
    /// Writes a text of this length to one reader, after what is pending.
    Private {
        reader: usize,
        length: usize,
    },
    /// Moves a reader past events without writing them.
    Skip {
        reader: usize,
        count: usize,
    },
    /// Ends a member.
    End {
        reader: usize,
    },
    /// Drops evicted groups.
    Tick,
}

/// What can be done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    JoinsAtFirstEvent,
    LeavesForPrivateBytes,
    LeavesForSkippedEvents,
    FinishesBlocks,
    TakesWholeBlocks,
    BeginsGroupAnew,
    ContinuesOwnGroup,
    CountsBlocks,
}

impl Rule {
    pub(super) const ALL: [Self; 8] = [
        Self::JoinsAtFirstEvent,
        Self::LeavesForPrivateBytes,
        Self::LeavesForSkippedEvents,
        Self::FinishesBlocks,
        Self::TakesWholeBlocks,
        Self::BeginsGroupAnew,
        Self::ContinuesOwnGroup,
        Self::CountsBlocks,
    ];
}

pub(super) struct World {
    hub: Hub,
    readers: [Option<Reader>; READERS],
    published: u64,
    broken: Option<Rule>,
}

struct Reader {
    subscription: Subscription,
    format: Format,
    member: Member,
    pending: Bytes,
    decoder: Decoder,
    /// What an uncompressed reader got.
    plain: Vec<u8>,
    /// The number of events that it got alone.
    stored: usize,
}

impl World {
    pub(super) fn new(broken: Option<Rule>) -> Self {
        let options = HubOptions { history: HISTORY, firehose_history: HISTORY, ..HubOptions::default() };
        Self { hub: Hub::new(&options), readers: Default::default(), published: 0, broken }
    }

    pub(super) fn play(&mut self, step: &Step) -> Result<(), String> {
        match *step {
            Step::Publish { topic, count } => (0..count).for_each(|_| self.publish(TOPICS[topic])),
            Step::Join { reader, ring, history } => self.readers[reader] = self.join(ring, history),
            Step::Write { reader, room } => return self.with(reader, |reader, broken| reader.write(room, broken)),
            Step::Overtake { reader, other, topic, count } => return self.overtake(reader, other, topic, count),
            Step::Private { reader, length } => {
                let text = "private and metric ".repeat(20);
                return self.with(reader, |reader, broken| {
                    reader.write_private(&text[..length], broken);
                    Ok(())
                });
            }
            Step::Skip { reader, count } => {
                return self.with(reader, |reader, broken| {
                    reader.skip(count, broken);
                    Ok(())
                });
            }
            Step::End { reader } => return self.end_of(reader),
            Step::Tick => self.hub.0.history.tick(),
        }
        Ok(())
    }

    /// Writes everything to all readers, and ends their members.
    pub(super) fn end(&mut self) -> Result<(), String> {
        (0..READERS).try_for_each(|reader| {
            self.write_all(reader)?;
            self.end_of(reader)
        })
    }

    /// Writes everything to a reader.
    pub(super) fn write_all(&mut self, reader: usize) -> Result<(), String> {
        self.with(reader, |reader, broken| {
            while !reader.pending.is_empty() || reader.fill().1 {
                reader.write(usize::MAX, broken)?;
            }
            Ok(())
        })
    }

    /// The number of events that a reader got alone.
    pub(super) fn stored(&self, reader: usize) -> usize {
        self.readers[reader].as_ref().map_or(0, |reader| reader.stored)
    }

    fn with(
        &mut self,
        reader: usize,
        act: impl FnOnce(&mut Reader, Option<Rule>) -> Result<(), String>,
    ) -> Result<(), String> {
        self.readers[reader].as_mut().map_or(Ok(()), |reader| act(reader, self.broken))
    }

    fn overtake(&mut self, reader: usize, other: usize, topic: usize, count: usize) -> Result<(), String> {
        if reader == other {
            return Ok(());
        }
        for reader in [reader, other] {
            self.readers[reader] = self.join(topic, 0);
            self.write_all(reader)?;
        }
        self.publish(TOPICS[topic]);
        let (batch, is_ready) = self.readers[reader].as_mut().expect("it has joined").fill();
        assert!(is_ready);
        (0..count).for_each(|_| self.publish(TOPICS[topic]));
        self.write_all(other)?;
        self.with(reader, |reader, broken| reader.write_batch(&batch, usize::MAX, broken))
    }

    fn publish(&mut self, topic: &str) {
        self.published += 1;
        let value = self.published.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let text = format!(r#"{{"metric":"cpu","value":{},"topic":"{topic}"}}"#, value % 1000);
        // Some do not fit into one block, and some cannot be compressed.
        let text = match value % 97 {
            0 => text.repeat(value as usize % 4000),
            1 => (0..value % 500).map(|i| char::from(b'!' + (value.wrapping_mul(i | 1) >> 57) as u8 % 90)).collect(),
            _ => text,
        };
        self.hub.try_publish(Event::new(Topic::new(topic).unwrap(), Payload::text(text))).unwrap();
    }

    fn join(&mut self, ring: usize, history: u64) -> Option<Reader> {
        let topic = TOPICS.get(ring).map(|topic| Topic::new(topic).unwrap());
        let filter = topic.map_or_else(SubscriptionFilter::everything, Into::into);
        let (subscription, _) = self.hub.subscribe(filter, Start::Newest(history));
        let format = if history.is_multiple_of(2) { Format::Plain } else { Format::Envelope };
        let member = subscription.compressed(format, false).expect("it reads one ring");
        let (pending, decoder, plain) = (Bytes::new(), Decoder::new(), Vec::new());
        let mut reader = Reader { subscription, format, member, pending, decoder, plain, stored: 0 };
        reader.write_private("hello", None);
        Some(reader)
    }

    fn end_of(&mut self, reader: usize) -> Result<(), String> {
        let Some(mut reader) = self.readers[reader].take() else { return Ok(()) };
        reader.flush()?;
        if self.broken == Some(Rule::CountsBlocks) {
            reader.member.taken = 0;
        }
        let end = reader.member.end();
        reader.decoder.feed(&end)?;
        reader.check()?;
        // The others must be found in the text.
        if matches!(self.broken, None | Some(Rule::CountsBlocks)) { reader.decoder.check_end() } else { Ok(()) }
    }
}

impl Reader {
    /// Returns what is ready, and whether something is. A gap is written first.
    fn fill(&mut self) -> (Batch, bool) {
        let mut batch = Batch::default();
        let read = self.subscription.poll_fill(&mut Context::from_waker(Waker::noop()), &mut batch);
        if let Poll::Ready(Err(_)) = read {
            self.write_private("gap", None);
        }
        let is_ready = read.is_ready();
        (batch, is_ready)
    }

    fn write(&mut self, room: usize, broken: Option<Rule>) -> Result<(), String> {
        if !self.pending.is_empty() {
            let bytes = self.pending.split_to(room.min(self.pending.len()));
            self.decoder.feed(&bytes)?;
            return self.check();
        }
        let (batch, is_ready) = self.fill();
        if is_ready { self.write_batch(&batch, room, broken) } else { Ok(()) }
    }

    fn write_batch(&mut self, batch: &Batch, room: usize, broken: Option<Rule>) -> Result<(), String> {
        if batch.is_empty() {
            return Ok(());
        }
        if broken == Some(Rule::JoinsAtFirstEvent) {
            self.join_late(batch);
        }
        if matches!(broken, Some(Rule::BeginsGroupAnew | Rule::ContinuesOwnGroup)) {
            self.displace_compressor(broken == Some(Rule::BeginsGroupAnew));
        }
        let (mut stored, mut slices) = (Vec::new(), [IoSlice::new(&[]); MAX_SLICES]);
        let offer = self.member.offer(&self.subscription, batch, &mut slices, &mut stored);
        if offer.frames == 0 {
            return self.write_overtaken(batch, room, broken);
        }
        let mut bytes = if offer.slices == 0 {
            stored
        } else {
            slices[..offer.slices].iter().flat_map(|slice| slice.iter().copied()).collect()
        };
        assert_eq!(bytes.len(), offer.bytes);
        bytes.truncate(room);
        let (count, rest) = self.member.begun(batch, bytes.len());
        assert!(count <= offer.frames && count > 0);
        let taken = self.member.take(batch, count);
        self.stored += if taken.is_shared { 0 } else { count };
        let before = self.plain.len();
        batch.frames().take(count).for_each(|frame| self.plain.extend_from_slice(frame.chunk(self.format).body()));
        if broken.is_none() {
            assert_eq!(taken.plain_bytes, (self.plain.len() - before) as u64);
        }
        self.subscription.take(batch, count);
        self.pending = rest;
        self.decoder.feed(&bytes)?;
        self.check()
    }

    /// Writes after another reader has made a block with more events than `batch` has.
    fn write_overtaken(&mut self, batch: &Batch, room: usize, broken: Option<Rule>) -> Result<(), String> {
        if broken == Some(Rule::TakesWholeBlocks) {
            let group = self.member.group.as_ref().expect("it has blocks");
            let block = group.block(self.member.taken.into()).expect("it was made").bytes(false).to_vec();
            self.subscription.take(batch, batch.len());
            batch.frames().for_each(|frame| self.plain.extend_from_slice(frame.chunk(self.format).body()));
            self.decoder.feed(&block)?;
            return self.check();
        }
        let (fuller, is_ready) = self.fill();
        assert!(is_ready && (fuller.is_empty() || fuller.len() > batch.len()), "the block's events are ready");
        self.write_batch(&fuller, room, broken)
    }

    fn write_private(&mut self, text: &str, broken: Option<Rule>) {
        let (group, taken) = (self.member.group.clone(), self.member.taken);
        let bytes = self.member.encode(text.as_bytes());
        if broken == Some(Rule::LeavesForPrivateBytes) {
            (self.member.group, self.member.taken) = (group, taken);
        }
        self.pending = if broken == Some(Rule::FinishesBlocks) {
            [bytes, self.pending.to_vec()].concat().into()
        } else {
            [self.pending.to_vec(), bytes].concat().into()
        };
        self.plain.extend_from_slice(text.as_bytes());
    }

    fn skip(&mut self, mut count: usize, broken: Option<Rule>) {
        let (batch, is_ready) = self.fill();
        if !is_ready || batch.is_empty() {
            return;
        }
        if broken == Some(Rule::LeavesForSkippedEvents) {
            // Makes the block that is skipped.
            let (mut stored, mut slices) = (Vec::new(), [IoSlice::new(&[]); MAX_SLICES]);
            self.member.offer(&self.subscription, &batch, &mut slices, &mut stored);
            if let Some(group) = &self.member.group
                && let Some(next) = group.block(self.member.taken.into())
                && group.indices().start + next.end() < group.indices().end
            {
                count = (next.end() - self.events_taken()) as usize;
                self.member.taken += 1;
            }
        }
        self.subscription.take(&batch, count.min(batch.len()));
    }

    /// The number of events of its group that it has.
    fn events_taken(&self) -> u64 {
        let last = usize::from(self.member.taken).checked_sub(1);
        let block = self.member.group.as_ref().zip(last).and_then(|(group, last)| group.block(last));
        block.map_or(0, Block::end)
    }

    fn ring(&self) -> &CompressedRing {
        self.member.ring.as_ref().expect("it reads one ring")
    }

    /// Joins a group that has begun.
    fn join_late(&mut self, batch: &Batch) {
        let Some(indices) = self.subscription.indices_in_ring(batch) else { return };
        let Some(group) = self.ring().group_with(indices.start) else { return };
        let events = indices.start.checked_sub(group.indices().start);
        let mut ends = (0..).map_while(|number| group.block(number).map(Block::end));
        let number = ends.position(|end| Some(end) == events);
        if let (None, Some(number)) = (&self.member.group, number) {
            (self.member.group, self.member.taken) = (Some(group.clone()), number as u8 + 1);
        }
    }

    /// Has the next group begun, or this one continued, by a compressor that is elsewhere.
    fn displace_compressor(&self, begins: bool) {
        let compressors = &self.ring().compressors;
        let place = match &self.member.group {
            _ if begins => Place { group: compressors.next_name(), events: 0 },
            Some(group) => Place { group: group.name(), events: self.events_taken() },
            None => return,
        };
        compressors.displace(place);
    }

    fn flush(&mut self) -> Result<(), String> {
        let bytes = std::mem::take(&mut self.pending);
        self.decoder.feed(bytes.chunk())
    }

    /// Checks that what was written decodes to what an uncompressed reader got.
    fn check(&self) -> Result<(), String> {
        let decoded = self.decoder.decoded();
        let is_right = if self.pending.is_empty() { self.plain == decoded } else { self.plain.starts_with(decoded) };
        is_right.then_some(()).ok_or_else(|| {
            let at = decoded.iter().zip(&self.plain).take_while(|(decoded, plain)| decoded == plain).count();
            format!("{} bytes were decoded, {} published, {at} of them equal", decoded.len(), self.plain.len())
        })
    }
}
