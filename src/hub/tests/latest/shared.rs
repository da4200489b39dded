//! Readers of latest values that share what they write, plain or compressed.

use std::io::IoSlice;

use proptest::sample::Index;

use super::*;
use crate::hub::compression::tests::decoder::Decoder;
use crate::wire::Format;

/// What a compressed reader is written.
pub(super) struct Wire {
    member: Member,
    decoder: Decoder,
    /// The bytes that were decoded and checked.
    checked: usize,
}

/// The sequences of events, from the ids in their text.
fn sequences(text: &[u8]) -> Vec<u64> {
    let ids = std::str::from_utf8(text).unwrap().split("id: 1000-").skip(1);
    ids.map(|text| text.split_once('\n').unwrap().0.parse().unwrap()).collect()
}

impl Wire {
    /// `None` if this is not compressed.
    pub(super) fn new(subscription: &Subscription) -> Option<Self> {
        let member = subscription.is_compressible(true).then(|| subscription.compressed(Format::Plain, false).unwrap());
        let wire = member.map(|member| Self { member, decoder: Decoder::new(), checked: 0 });
        wire.map(|mut wire| {
            wire.write_own("hello");
            wire
        })
    }

    /// Returns what these bytes are decoded to.
    fn decode(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.decoder.feed(bytes).unwrap();
        let text = self.decoder.decoded()[self.checked..].to_vec();
        self.checked += text.len();
        text
    }

    /// Writes something for this reader alone.
    pub(super) fn write_own(&mut self, text: &str) {
        let bytes = self.member.encode(text.as_bytes());
        assert_eq!(self.decode(&bytes), text.as_bytes());
    }

    /// Writes up to `count` events that were read alone. Returns how many.
    pub(super) fn write_batch(&mut self, subscription: &Subscription, batch: &Batch, count: usize) -> usize {
        let mut stored = Vec::new();
        let offer = self.member.offer(subscription, batch, &mut [IoSlice::new(&[]); MAX_SLICES], &mut stored);
        assert_eq!((offer.slices, offer.bytes), (0, stored.len()));
        let text = self.decode(&stored);
        let expected: Vec<_> = batch.frames().map(|frame| frame.sequence()).collect();
        assert_eq!(sequences(&text), expected[..offer.frames]);
        self.member.take(batch, offer.frames);
        assert!(offer.frames >= count);
        offer.frames
    }

    /// Ends the member.
    pub(super) fn end(mut self) {
        let end = self.member.end();
        self.decode(&end);
        self.decoder.check_end().unwrap();
    }
}

impl World {
    /// Reads what is shared, or else alone, and writes a part of it.
    pub(super) fn read_shared(&self, reader: &mut Reader, shared: &mut Shared, part: Index) -> bool {
        let is_compressed = reader.wire.is_some();
        // Some are late.
        let number = self.moment - u64::from(part.index(8) == 0).min(self.moment);
        let moment = Moment { number, interval: 100, is_first_write: reader.moment != self.moment };
        let coding = Coding { format: Format::Plain, is_framed: !is_compressed, is_compressed };
        reader.moment = self.moment;
        let Some(values) = reader.subscription.shared_values(shared, moment, coding) else {
            return self.read(reader, |len| len);
        };
        assert!(reader.has_mark || is_compressed, "snapshots are read alone");
        let written = part.index(values.bytes().len()) + 1;
        let (taken, rest) = values.begun(written);
        let bytes = [&values.bytes()[..written], &rest].concat();
        let text = match &mut reader.wire {
            None => bytes,
            Some(wire) => {
                wire.member.take_values(values.checksum(taken));
                wire.decode(&bytes)
            }
        };
        let sequences = sequences(&text);
        assert_eq!(sequences.len(), taken);
        sequences.into_iter().for_each(|sequence| _ = reader.apply(sequence, &self.log));
        reader.subscription.take_shared(&values, taken);
        true
    }
}

#[test]
fn reader_that_begins_with_shared_values_gets_what_was_deleted_since() {
    let hub = hub(10, 10);
    put(&hub, "a", "x");
    put(&hub, "a", "y");
    let mut shared = Shared::default();
    let open = || hub.subscribe_in(&WakeGroup::inline(), filter(&["a"]), Mode::Latest, Start::Earliest, usize::MAX);
    let moment = Moment { number: 1, interval: 100, is_first_write: true };
    let coding = Coding { format: Format::Plain, is_framed: false, is_compressed: true };
    let (first, _) = open().unwrap();
    let values = first.shared_values(&mut shared, moment, coding).unwrap();
    now(hub.publish(Event::deletion(Topic::new("a").unwrap(), Some(Key::new("x").unwrap())))).unwrap();
    let (mut second, _) = open().unwrap();
    let same = second.shared_values(&mut shared, moment, coding).unwrap();
    assert_eq!((same.len(), same.bytes().as_ptr()), (2, values.bytes().as_ptr()));
    second.take_shared(&same, 2);
    let mut batch = Batch::default();
    assert!(second.poll_fill(&mut Context::from_waker(Waker::noop()), &mut batch).is_ready());
    assert_eq!(batch.frames().map(|frame| (frame.sequence(), frame.is_deletion())).collect::<Vec<_>>(), [(3, true)]);
}

#[test]
fn reader_between_two_pieces_gets_values_up_to_the_same_end() {
    let hub = hub(10, 10);
    let mut shared = Shared::default();
    let coding = Coding { format: Format::Plain, is_framed: false, is_compressed: true };
    let open = |after| {
        let group = WakeGroup::inline();
        hub.subscribe_in(&group, filter(&["a"]), Mode::Latest, Start::After(at(after)), usize::MAX).unwrap().0
    };
    let mut readers = [0, 1].map(|_| open(0));
    for number in 0..20 {
        put(&hub, "a", &number.to_string());
    }
    let moment = Moment { number: 1, interval: 100, is_first_write: true };
    let ends = readers.each_mut().map(|reader| {
        let values = reader.shared_values(&mut shared, moment, coding).unwrap();
        let taken = values.begun(1).0;
        reader.take_shared(&values, taken);
        taken
    });
    assert_eq!(ends[0], ends[1], "both take the first piece");
    assert!(ends[0] > 1);
    put(&hub, "a", "21");
    let mut between = open(2);
    let mut taken = 2;
    while let Some(values) = between.shared_values(&mut shared, moment, coding) {
        between.take_shared(&values, values.len());
        taken += values.len();
    }
    assert_eq!(taken, 20, "the newest value is for the next moment");
}
