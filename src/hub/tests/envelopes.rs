//! Envelopes: made once, for the first reader that wants them, and counted.

use std::io::IoSlice;

use super::*;
use crate::wire::Format;

/// All frames that `filters` match, from the oldest on.
fn frames(hub: &Hub, filters: &[&str]) -> Vec<Frame> {
    let (mut subscription, _) = hub.subscribe(filter(filters), Start::Earliest);
    let mut frames = Vec::new();
    while let Poll::Ready(Some(delivery)) = poll_next(&mut subscription, Waker::noop()) {
        match delivery {
            Delivery::Event(frame) => frames.push(frame),
            Delivery::Gap(gap) => panic!("nothing is missing: {gap:?}"),
        }
    }
    frames
}

fn envelope(frame: &Frame) -> &[u8] {
    frame.chunk(Format::Envelope).body()
}

fn derived_bytes(hub: &Hub) -> u64 {
    hub.0.history.derived_bytes.get()
}

#[test]
fn envelope_is_made_on_first_use_and_shared_by_all_rings() {
    let hub = hub(1000, 1000);
    now(hub.publish_all(vec![event("a"), event("a"), event("b"), event("a")])).unwrap();
    let everything = frames(&hub, &["**"]);
    assert!(everything.iter().all(|frame| !frame.sse().is_empty()));
    assert_eq!(derived_bytes(&hub), 0, "readers of the plain format need none");

    let first = envelope(&everything[0]);
    let json = r#"{"type":"event","id":"1000-1","topic":"a","event":"message","text":"x"}"#;
    assert_eq!(first, format!("id: 1000-1\ndata: {json}\n\n").as_bytes());
    let of_a_run = derived_bytes(&hub);
    assert!(of_a_run > 2 * first.len() as u64, "both events of the run");
    envelope(&everything[1]);
    assert_eq!(derived_bytes(&hub), of_a_run);
    // Another subscription, which reads another ring.
    let of_a = frames(&hub, &["a"]);
    assert!(of_a[..2].iter().zip(&everything).all(|(one, other)| std::ptr::eq(envelope(one), envelope(other))));
    assert_eq!(derived_bytes(&hub), of_a_run);
    envelope(&of_a[2]);
    assert!(std::ptr::eq(envelope(&of_a[2]), envelope(&everything[3])));
    assert!(derived_bytes(&hub) > of_a_run);
}

#[test]
fn all_threads_get_the_same_envelope() {
    let hub = hub(1000, 1000);
    now(hub.publish_all(vec![event("a"); 100])).unwrap();
    let frames = frames(&hub, &["a"]);
    let start = std::sync::Barrier::new(4);
    let addresses = &|thread: usize| {
        start.wait();
        let addresses =
            frames.iter().cycle().skip(thread * 25).take(100).map(|frame| envelope(frame).as_ptr() as usize);
        let mut addresses: Vec<_> = addresses.collect();
        addresses.sort_unstable();
        addresses
    };
    let found: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || addresses(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(found.iter().all(|addresses| *addresses == found[0]));
}

#[test]
fn envelopes_of_a_run_are_one_slice() {
    let hub = hub(1000, 1000);
    now(hub.publish_all(vec![event("a"); 100])).unwrap();
    let (mut subscription, _) = hub.subscribe(filter(&["a"]), Start::Earliest);
    let mut batch = Batch::default();
    subscription.fill(&mut batch).unwrap();
    for is_framed in [true, false] {
        let mut slices = vec![IoSlice::new(&[]); 100];
        let offer = batch.offer(Format::Envelope, is_framed, &mut slices);
        assert_eq!((offer.frames, offer.slices), (100, if is_framed { 1 } else { 100 }));
        let chunks = batch.frames().map(|frame| frame.chunk(Format::Envelope));
        let expected: Vec<_> = chunks.map(|chunk| if is_framed { chunk.framed() } else { chunk.body() }).collect();
        let bytes: Vec<_> = slices[..offer.slices].iter().flat_map(|slice| slice.iter().copied()).collect();
        assert_eq!((offer.bytes, bytes), (expected.concat().len(), expected.concat()));
    }
}

#[test]
fn payloads_of_both_kinds_are_told_apart() {
    let hub = hub(1000, 1000);
    let event = |payload| Event::new(Topic::new("a").unwrap(), payload);
    let payloads = [Payload::text("1"), Payload::json("1").unwrap(), Payload::json("[]").unwrap(), Payload::text("[]")];
    now(hub.publish_all(payloads.into_iter().map(event).collect())).unwrap();
    let ends = [r#""text":"1"}"#, r#""data":1}"#, r#""data":[]}"#, r#""text":"[]"}"#];
    for (frame, end) in frames(&hub, &["a"]).iter().zip(ends) {
        assert!(envelope(frame).ends_with(format!("{end}\n\n").as_bytes()));
    }
}

#[test]
fn envelopes_leave_memory_with_their_events() {
    let hub = hub(16, 64);
    for _ in 0..16 {
        publish(&hub, "a");
    }
    let plain = hub.stats().retained_bytes;
    frames(&hub, &["a"]).iter().for_each(|frame| assert!(!envelope(frame).is_empty()));
    let made = derived_bytes(&hub);
    assert_eq!(hub.stats().retained_bytes, plain + made);
    publish_some(&hub, 16, "a");
    assert_eq!(derived_bytes(&hub), made, "they are in the firehose");
    publish_some(&hub, 64, "b");
    assert_eq!(derived_bytes(&hub), 0);
}

#[test]
fn envelopes_count_towards_the_limit_of_bytes() {
    let limit = 1 << 20;
    let hub = Hub::new(&HubOptions { history: 100_000, history_bytes: limit as usize, ..HubOptions::default() });
    publish_some(&hub, 3000, "a");
    let before = hub.stats().retained_events;
    frames(&hub, &["a"]).iter().for_each(|frame| assert!(!envelope(frame).is_empty()));
    assert!(hub.stats().retained_bytes > limit, "nothing was published that would have made room");
    now(hub.evict_expired());
    let stats = hub.stats();
    assert!(stats.retained_bytes <= limit && (1..before).contains(&stats.retained_events), "{stats:?}");

    let (mut subscription, _) = hub.subscribe(filter(&["a"]), Start::Live);
    for _ in 0..3000 {
        publish(&hub, "a");
        let Poll::Ready(Some(Delivery::Event(frame))) = poll_next(&mut subscription, Waker::noop()) else {
            panic!("a reader that keeps up has every event")
        };
        let size = envelope(&frame).len() as u64;
        assert!(hub.stats().retained_bytes <= limit + 2 * size, "no more than the newest");
    }
}

fn message(frame: &Frame) -> &[u8] {
    frame.chunk(Format::Message).framed()
}

#[test]
fn websocket_message_is_the_envelope_in_one_frame_that_all_rings_share() {
    let hub = hub(1000, 1000);
    now(hub.publish_all(vec![event("a"), event("a"), event("b")])).unwrap();
    let everything = frames(&hub, &["**"]);
    let json = r#"{"type":"event","id":"1000-1","topic":"a","event":"message","text":"x"}"#;
    assert_eq!(message(&everything[0]), crate::wire::websocket::text(json));
    let of_a_run = derived_bytes(&hub);
    assert!(of_a_run > 2 * json.len() as u64, "both events of the run");
    let of_a = frames(&hub, &["a"]);
    assert!(of_a.iter().zip(&everything).all(|(one, other)| std::ptr::eq(message(one), message(other))));
    assert_eq!(derived_bytes(&hub), of_a_run);
    // Envelopes have memory of their own.
    envelope(&everything[0]);
    assert!(derived_bytes(&hub) > of_a_run);
}

#[test]
fn adjacent_websocket_messages_are_one_slice_of_a_write() {
    let hub = hub(1000, 1000);
    now(hub.publish_all(vec![event("a"); 30])).unwrap();
    let (mut subscription, _) = hub.subscribe(filter(&["a"]), Start::Earliest);
    let mut batch = Batch::default();
    subscription.fill(&mut batch).unwrap();
    let mut slices = [IoSlice::new(&[]); 4];
    let offer = batch.offer(Format::Message, true, &mut slices);
    let messages: Vec<u8> = batch.frames().flat_map(message).copied().collect();
    assert_eq!((offer.slices, offer.frames, offer.bytes), (1, 30, messages.len()));
    assert_eq!(&*slices[0], messages);
}
