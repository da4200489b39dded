//! Batches that are written in part, and the slices they are written as.

use std::io::IoSlice;

use super::*;
use crate::wire::Format;

/// A socket takes one frame of each batch, so that there is always a frame that was offered and not taken. The cursor of the
/// pattern delivers nothing: no frame of its own moves it.
#[test]
fn partial_writes_leave_no_cursor_behind() {
    let hub = hub(2000, 1000);
    let (mut subscription, _) = hub.subscribe(filter(&["log", "zz:*"]), Start::Live);
    let mut batch = Batch::default();
    publish_some(&hub, 100, "log");
    for taken in 1..5000 {
        publish(&hub, if taken % 100 == 0 { "zz:1" } else { "log" });
        assert_eq!(subscription.fill(&mut batch), Ok(()), "after {taken}");
        assert_eq!(batch.frames().next().map(Frame::sequence), Some(taken));
        subscription.take(&batch, 1);
        assert!(!subscription.has_lagged());
        assert_eq!(subscription.behind(), 100, "an event in two rings counts once");
        assert_eq!(hub.appended(&filters(&["log", "zz:*"])) - subscription.passed(), 100);
    }
}

/// Between the batch and its partial write the firehose loses what the batch took from the topic's ring.
#[test]
fn event_taken_before_firehose_eviction_is_no_gap() {
    let hub = hub(100, 4);
    let (mut subscription, _) = hub.subscribe(filter(&["a", "zz:*"]), Start::Live);
    publish_some(&hub, 4, "a");
    let mut batch = Batch::default();
    subscription.fill(&mut batch).unwrap();
    publish_some(&hub, 3, "b");
    subscription.take(&batch, 3);
    assert!(!subscription.has_lagged());
    assert_eq!(drain(&mut subscription), (vec![4], vec![]));
}

/// Like the test above, but the event of the pattern was not taken yet.
#[test]
fn event_evicted_before_it_is_taken_is_a_gap() {
    let hub = hub(100, 2);
    let (mut subscription, _) = hub.subscribe(filter(&["a", "zz:*"]), Start::Live);
    publish(&hub, "a");
    publish(&hub, "zz:1");
    let mut batch = Batch::default();
    subscription.fill(&mut batch).unwrap();
    for topic in ["b", "a", "b"] {
        publish(&hub, topic);
    }
    subscription.take(&batch, 1);
    assert!(subscription.has_lagged());
    let (sequences, gaps) = drain(&mut subscription);
    assert_eq!((sequences, gaps[0].from, gaps[0].to), (vec![4], Some(at(1)), at(3)));
    assert_eq!((&gaps[0].topics, gaps.len()), (&Some(filters(&["zz:*"])), 1));
}

/// Returns what a connection would write: the number of frames and slices, and the bytes.
fn offer(hub: &Hub, filters: &[&str], is_framed: bool, room: usize) -> (usize, usize, Vec<u8>) {
    let (mut subscription, _) = hub.subscribe(filter(filters), Start::Earliest);
    let mut batch = Batch::default();
    subscription.fill(&mut batch).unwrap();
    let mut slices = vec![IoSlice::new(&[]); room];
    let offer = batch.offer(Format::Plain, is_framed, &mut slices);
    let bytes = slices[..offer.slices].iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<u8>>();
    assert_eq!(bytes.len(), offer.bytes);
    let whole = batch.frames().take(offer.frames);
    let one_by_one: Vec<&[u8]> =
        whole.map(|frame| if is_framed { frame.chunk(Format::Plain).framed() } else { frame.sse() }).collect();
    assert_eq!(bytes, one_by_one.concat());
    (offer.frames, offer.slices, bytes)
}

#[test]
fn events_published_together_are_one_slice() {
    let hub = hub(1000, 10_000);
    now(hub.publish_all(vec![event("a"); 100])).unwrap();
    let (frames, slices, bytes) = offer(&hub, &["a"], true, 16);
    assert_eq!((frames, slices), (100, 1), "over the ends of the ring's segments");
    assert_eq!(offer(&hub, &["**"], true, 16).2, bytes);
    assert_eq!(offer(&hub, &["a", "b"], true, 16).2, bytes);
    let (frames, slices, _) = offer(&hub, &["a"], false, 16);
    assert_eq!((frames, slices), (16, 16), "without framing each event is a slice, and no more fit");

    now(hub.publish_all(vec![event("b"), event("b"), event("a"), event("b"), event("b"), event("b")])).unwrap();
    let (frames, slices, _) = offer(&hub, &["**"], true, 16);
    assert_eq!((frames, slices), (106, 4), "one for each run of a topic");
    let (frames, slices, _) = offer(&hub, &["b"], true, 16);
    assert_eq!((frames, slices), (5, 2), "an event of another topic splits the run");
    let (frames, slices, _) = offer(&hub, &["**"], true, 2);
    assert_eq!((frames, slices), (102, 2));
}

/// Fills the batch for one subscription after the other, and joins it each time. Returns whether it is joined.
fn join(hub: &Hub, batch: &mut Batch, filters: &[&str]) -> bool {
    let (subscription, _) = hub.subscribe(filter(filters), Start::Earliest);
    assert!(subscription.fill_from_ring(batch));
    batch.join(Format::Plain, true);
    assert_eq!(batch.joined(Format::Plain, false), None, "a batch has one encoding");
    let Some(bytes) = batch.joined(Format::Plain, true) else { return false };
    assert_eq!(bytes, batch.frames().map(|frame| frame.chunk(Format::Plain).framed()).collect::<Vec<_>>().concat());
    true
}

#[test]
fn bytes_are_joined_for_the_second_stream_that_reads_them() {
    let (hub, mut batch) = (hub(1000, 1000), Batch::default());
    publish(&hub, "a");
    assert_eq!([(); 2].map(|()| join(&hub, &mut batch, &["a"])), [false; 2], "one frame is in one piece");
    publish_some(&hub, 40, "a");
    assert_eq!([(); 3].map(|()| join(&hub, &mut batch, &["a"])), [false, true, true]);
    assert_eq!([(); 2].map(|()| join(&hub, &mut batch, &["**"])), [false, true], "another ring");
    let (several, _) = hub.subscribe(filter(&["a", "b"]), Start::Earliest);
    assert!(!several.fill_from_ring(&mut batch), "two rings");
    batch.clear();
    assert!(batch.joined(Format::Plain, true).is_none());
}

#[test]
fn very_many_bytes_are_not_joined() {
    let (hub, mut batch) = (hub(1000, 1000), Batch::default());
    for _ in 0..5 {
        now(hub.publish(Event::new(Topic::new("a").unwrap(), Payload::text("x".repeat(60_000))))).unwrap();
    }
    assert_eq!([(); 3].map(|()| join(&hub, &mut batch, &["a"])), [false; 3]);
}
