//! Saves what a hub retains, and begins a hub with what another one has saved.
//!
//! **Contract.** The new hub continues the saved one: with the same epoch and the next sequence. A subscription that resumes
//! after a position of the saved hub gets the events and gaps that it would have got there.
//!
//! **A history is continued once.** Two hubs that continue the same history would give one id to two events. Saving therefore
//! closes the hub, and a program must delete the file before the new hub publishes.
//!
//! **What is saved.** A firehose retains every event of its topics after one sequence. The rings of topics retain older ones
//! too, and may lack newer ones. The file has for each topic the sequence that it has evicted up to and the events that only its
//! ring has, then the ledger up to where both firehoses have everything, and the events of the firehoses in one order. This says which rings an event was in, and limits that
//! have become smaller evict as usual. Last come the [keys](super::idempotency) of publishers.
//!
//! **Latest values** with keys, and their deletions, come first. A reader of them that resumes begins again, with a gap.

mod lines;

use std::collections::HashMap;
use std::io::{self, BufRead, BufWriter, Write};
use std::time::Duration;

pub use lines::InvalidHistory;
#[cfg(any(test, fuzzing))]
pub(super) use lines::with_checksum;
use lines::{FORMAT, Header, Line, Reader, Reserved, SavedEvent, Writer};

use super::channel::Channel;
use super::encoder::Encoder;
use super::frame::Frame;
use super::history::{History, Rings};
use super::idempotency::SavedKey;
use super::ledger::{Ledger, LedgerKey, TopicHash};
use super::numbering::Numbering;
use super::{Hub, HubOptions, IdempotencyKey, Inner, Published};
use crate::event::Event;
use crate::position::{Epoch, Sequence};
use crate::ring::Read;
use crate::sync::Arc;
use crate::topic::Topic;

/// The number of events of the ledger in one line.
const LEDGER_LINE: usize = 1024;

/// The largest sequence of a file: far from an overflow.
const MAX_SEQUENCE: Sequence = Sequence::MAX / 2;

impl Hub {
    /// Closes the hub, and writes what it retains for [`Hub::continued`]. Returns the number of events.
    ///
    /// # Errors
    /// When writing fails, and for a [relayed](Hub::relayed) hub, whose history is in its backbone.
    pub fn save(&self, out: impl Write) -> io::Result<u64> {
        let history = &self.0.history;
        if history.upstream().is_some() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the history of a relayed hub is in its backbone"));
        }
        self.close();
        let keys = self.0.sequencer.saved_keys();
        let mut saved = Ok(0);
        self.0.sequencer.exclusively(history, || saved = save(history, &keys, BufWriter::new(out)));
        saved
    }

    /// A hub that continues the history that [`Hub::save`] has written, within the limits of `options`. The epoch is that of
    /// the saved hub.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use fanline::event::{Event, Payload};
    /// use fanline::hub::{Delivery, Hub, HubOptions, Start, SubscriptionFilter};
    /// use fanline::topic::Topic;
    ///
    /// let event = |text| Event::new(Topic::new("metric").unwrap(), Payload::text(text));
    /// let before = Hub::default();
    /// let first = before.publish(event("1")).await?;
    /// before.publish(event("2")).await?;
    /// let mut file = Vec::new();
    /// before.save(&mut file)?;
    ///
    /// let after = Hub::continued(&HubOptions::default(), &file[..])?;
    /// let (mut subscription, _) = after.subscribe(SubscriptionFilter::everything(), Start::After(first));
    /// let Some(Delivery::Event(second)) = subscription.next().await else { panic!("nothing is missing") };
    /// assert_eq!((second.payload(), second.id().sequence), ("2".into(), 2));
    /// assert_eq!(after.publish(event("3")).await?.sequence, 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`InvalidHistory`] if the file is damaged, incomplete or of another format.
    pub fn continued(options: &HubOptions, file: impl BufRead) -> Result<Self, InvalidHistory> {
        let (mut lines, header) = Reader::begin(file)?;
        let reserved = header.reserved.firehose_evicted.max(header.reserved.last);
        if header.head > MAX_SEQUENCE || header.firehose_evicted.max(header.forgotten).max(reserved) > header.head {
            return Err(lines.invalid("its sequences contradict each other"));
        }
        let options = HubOptions { epoch: Epoch(header.epoch), ..options.clone() };
        let mut inner = Inner::new(&options, None, LedgerKey(header.key));
        let mut restoration = Restoration::new(&inner.history, &options, &header);
        while let Some(line) = lines.next()? {
            if let Err(reason) = restoration.take(line) {
                return Err(lines.invalid(reason));
            }
        }
        let keys = restoration.finish().map_err(|reason| lines.invalid(reason))?;
        inner.sequencer.restore_keys(&keys);
        inner.sequencer.continue_after(header.head);
        inner.restored = inner.history.firehoses().map(|firehose| firehose.appended()).iter().sum();
        Ok(Self(Arc::new(inner)))
    }
}

fn save(history: &History, keys: &[SavedKey], out: impl Write) -> io::Result<u64> {
    let topics = &history.topics;
    let [firehose_evicted, reserved_evicted] = history.firehoses().map(|firehose| firehose.oldest_place().1);
    let reserved = Reserved { firehose_evicted: reserved_evicted, last: history.newest_reserved() };
    let head = history.head();
    let epoch = history.position(head).epoch.0;
    let (forgotten, LedgerKey(key)) = (topics.forgotten(), history.ledger.key);
    let header = Header { fanline_history: FORMAT, epoch, head, firehose_evicted, reserved, forgotten, key };
    let mut out = Writer::begin(out, &header)?;
    for list in topics.kept_lists().flatten() {
        for frame in list.frames() {
            out.write(&Line::Value(SavedEvent::new(&frame)))?;
        }
    }
    for (topic, newest) in topics.dropped() {
        out.write(&Line::Dropped { topic: topic.as_str().into(), newest })?;
    }
    let mut events = 0;
    for channel in topics.slices().flatten() {
        let Some(topic) = channel.topic.as_ref().map(|topic| topic.as_str().into()) else { continue };
        if channel.retained() > 0 {
            out.write(&Line::Topic { topic, evicted: channel.oldest_place().1 })?;
            let evicted = if channel.is_reserved { reserved_evicted } else { firehose_evicted };
            let older = retained(&channel).take_while(|frame| frame.sequence() <= evicted);
            events += save_events(older, &mut out)?;
        } else if channel.newest() > 0 {
            out.write(&Line::Dropped { topic, newest: channel.newest() })?;
        }
    }
    save_ledger(&history.ledger, firehose_evicted.max(reserved_evicted), &mut out)?;
    let [firehose, reserved] = history.firehoses().map(|firehose| retained(firehose));
    events += save_events(merged(firehose, reserved), &mut out)?;
    for SavedKey { key: IdempotencyKey { id, content }, published, left } in keys {
        let (first, last) = (published.first.sequence, published.last.sequence);
        let milliseconds_left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        out.write(&Line::Key { id: *id, content: *content, first, last, milliseconds_left })?;
    }
    out.end()?;
    Ok(events)
}

/// The retained events of the channel, the oldest first.
fn retained(channel: &Channel) -> impl Iterator<Item = Frame> + '_ {
    (channel.ring.retained().start..).map_while(|index| match channel.ring.read(index) {
        Read::Run(run) => Some(run.get(index).clone()),
        _ => None,
    })
}

/// The events of both, in one order.
fn merged(one: impl Iterator<Item = Frame>, other: impl Iterator<Item = Frame>) -> impl Iterator<Item = Frame> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    std::iter::from_fn(move || {
        let is_other_next = match (one.peek(), other.peek()) {
            (Some(one), Some(other)) => other.sequence() < one.sequence(),
            (one, _) => one.is_none(),
        };
        if is_other_next { other.next() } else { one.next() }
    })
}

/// Writes the events, and returns their number.
fn save_events(frames: impl Iterator<Item = Frame>, out: &mut Writer<impl Write>) -> io::Result<u64> {
    let mut count = 0;
    for frame in frames {
        out.write(&Line::Event(SavedEvent::new(&frame)))?;
        count += 1;
    }
    Ok(count)
}

/// Writes what the ledger knows up to `last`.
fn save_ledger(ledger: &Ledger, last: Sequence, out: &mut Writer<impl Write>) -> io::Result<()> {
    for first in (*ledger.known().start()..=last).step_by(LEDGER_LINE) {
        let sequences = first..=last.min(first + LEDGER_LINE as u64 - 1);
        let topics = sequences.map(|sequence| ledger.topic(sequence)).collect();
        out.write(&Line::Ledger { first, topics })?;
    }
    Ok(())
}

/// A history that gets its events back.
struct Restoration<'a> {
    history: &'a History,
    encoder: Encoder,
    /// The rings of the events in the encoder.
    rings: Rings,
    firehose_evicted: Sequence,
    reserved_evicted: Sequence,
    /// Whether an event of a firehose was taken: no others follow.
    has_begun_firehoses: bool,
    head: Sequence,
    /// The last event of the ledger that was taken. Without its lines, the ledger begins with the events of the firehoses.
    ledger: Option<Sequence>,
    /// The last event that was taken.
    last: Sequence,
    /// The newest sequence of each topic that its ring has had so far.
    topics: HashMap<Topic, Sequence>,
    /// The newest latest value of each topic so far.
    values: HashMap<Topic, Sequence>,
    keys: Vec<SavedKey>,
}

impl<'a> Restoration<'a> {
    fn new(history: &'a History, options: &HubOptions, header: &Header) -> Self {
        let numbering = Numbering { epoch: options.epoch, offset: 0 };
        let encoder = Encoder::new(numbering, options.history.min(options.firehose_history));
        let &Header { head, firehose_evicted, reserved, forgotten, .. } = header;
        history.firehose.break_off(firehose_evicted);
        history.reserved.break_off(reserved.firehose_evicted);
        history.note_reserved(reserved.last);
        history.ledger.skip_to(firehose_evicted.max(reserved.firehose_evicted));
        history.topics.forget(forgotten, |_| {});
        Self {
            history,
            encoder,
            rings: Rings::default(),
            firehose_evicted,
            reserved_evicted: reserved.firehose_evicted,
            has_begun_firehoses: false,
            head,
            ledger: None,
            last: 0,
            topics: HashMap::new(),
            values: HashMap::new(),
            keys: Vec::new(),
        }
    }

    /// The sequence after which both firehoses retain every event.
    fn dense_after(&self) -> Sequence {
        self.firehose_evicted.max(self.reserved_evicted)
    }

    /// Takes one line. The error is a rule that it breaks.
    fn take(&mut self, line: Line<'_>) -> Result<(), String> {
        let topic = |text: &str| Topic::new(text).map_err(|error| format!("the topic {text:?}: {error}"));
        match line {
            Line::Topic { evicted: last, .. } | Line::Dropped { newest: last, .. } if last > self.head => {
                return Err(format!("{last} is after the newest event"));
            }
            Line::Topic { topic: text, evicted } => {
                let topic = topic(&text)?;
                let History { topics, ledger, .. } = self.history;
                let evict = |channel: &Arc<Channel>| _ = channel.break_off(evicted);
                topics.enter(std::slice::from_ref(&topic), usize::MAX, ledger, evict).expect("there is no limit");
                self.topics.insert(topic, evicted);
            }
            Line::Dropped { topic: text, newest } => {
                self.history.topics.remember_dropped(&topic(&text)?, newest);
            }
            Line::Ledger { first, topics } => self.ledger(first, &topics)?,
            Line::Value(saved) => {
                let sequence = saved.sequence;
                self.value(sequence, &saved.event()?)?;
            }
            Line::Event(saved) => {
                let sequence = saved.sequence;
                self.event(sequence, &saved.event()?)?;
            }
            Line::Key { first, last, .. } if first == 0 || first > last || last > self.head => {
                return Err(format!("a key cannot be for events {first} to {last}"));
            }
            Line::Key { id, content, first, last, milliseconds_left } => {
                let at = |sequence| self.history.position(sequence);
                let published = Published { first: at(first), last: at(last) };
                let left = Duration::from_millis(milliseconds_left);
                self.keys.push(SavedKey { key: IdempotencyKey { id, content }, published, left });
            }
            Line::End { .. } => {}
        }
        Ok(())
    }

    fn value(&mut self, sequence: Sequence, event: &Event) -> Result<(), String> {
        let newest = self.values.entry(event.topic().clone()).or_default();
        if sequence <= *newest || sequence > self.head {
            return Err(format!("value {sequence} cannot follow value {newest} of its topic"));
        }
        *newest = sequence;
        self.encoder.push(sequence, event);
        self.history.restore_latest(&mut self.encoder, self.head);
        Ok(())
    }

    fn ledger(&mut self, first: Sequence, topics: &[TopicHash]) -> Result<(), String> {
        let ledger = &self.history.ledger;
        let before = first.checked_sub(1).filter(|before| self.ledger.is_none_or(|last| last == *before));
        let before = before.ok_or_else(|| format!("the ledger cannot continue with event {first}"))?;
        if self.ledger.replace(before).is_none() {
            ledger.skip_to(before);
        }
        for (sequence, &topic) in (first..).zip(topics) {
            if self.has_begun_firehoses || sequence > self.dense_after() {
                return Err(format!("event {sequence} of the ledger belongs to the firehose"));
            }
            ledger.record(sequence, topic);
            self.ledger = Some(sequence);
        }
        Ok(())
    }

    fn check_ledger(&self) -> Result<(), String> {
        match self.ledger {
            Some(last) if last != self.dense_after() => Err(format!("the ledger ends with event {last}")),
            _ => Ok(()),
        }
    }

    fn event(&mut self, sequence: Sequence, event: &Event) -> Result<(), String> {
        let evicted = if event.topic().is_reserved() { self.reserved_evicted } else { self.firehose_evicted };
        let in_firehose = sequence > evicted;
        if in_firehose {
            self.check_ledger()?;
        }
        let dense_after = self.dense_after();
        let newest = self.topics.get_mut(event.topic()).filter(|newest| sequence > **newest);
        let rings = Rings { topic: newest.is_some(), firehose: in_firehose };
        let is_in_order = if in_firehose {
            let last = if self.has_begun_firehoses { self.last } else { 0 };
            // Up to there, one of the firehoses lacks events.
            let is_next = sequence <= dense_after || sequence == last.max(dense_after) + 1;
            sequence > last && is_next
        } else {
            rings.topic && !self.has_begun_firehoses
        };
        if !is_in_order || sequence > self.head {
            return Err(format!("event {sequence} cannot follow event {}", self.last));
        }
        if let Some(newest) = newest {
            *newest = sequence;
        }
        let is_of_run = sequence == self.last + 1 && rings == self.rings && self.encoder.has_room_for(event);
        if !is_of_run {
            self.flush();
        }
        (self.last, self.rings, self.has_begun_firehoses) = (sequence, rings, in_firehose);
        self.encoder.push(sequence, event);
        Ok(())
    }

    fn flush(&mut self) {
        self.history.restore(&mut self.encoder, self.rings);
    }

    /// Lets readers take everything, and returns the keys.
    fn finish(mut self) -> Result<Vec<SavedKey>, String> {
        self.check_ledger()?;
        self.flush();
        let last = self.last.max(self.dense_after());
        if last < self.head {
            return Err(format!("event {} is missing", last + 1));
        }
        self.history.publish(self.head);
        // Those without events, all of which smaller limits have evicted.
        self.topics.keys().filter_map(|topic| self.history.topics.get(topic)).for_each(|channel| {
            self.history.topics.drop_unused(&channel);
        });
        Ok(self.keys)
    }
}

#[cfg(all(test, not(fanline_loom)))]
mod tests;
