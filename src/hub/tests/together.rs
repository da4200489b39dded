//! Publications of the tasks of one thread: at once, or in one batch where readers gain from it.

use super::*;
use crate::wire::Format;

/// Publishes an event to each topic, as tasks that are ready at the same time do. Returns how many of them yielded.
fn publish_in_turn(hub: &Hub, topics: &[&str]) -> usize {
    let mut cx = Context::from_waker(Waker::noop());
    let publish = |topic: &&str| {
        let event = event(topic);
        Box::pin(async { hub.publish_some([event], true, None).await })
    };
    let mut publications: Vec<_> = topics.iter().map(publish).collect();
    publications.retain_mut(|publication| publication.as_mut().poll(&mut cx).is_pending());
    for publication in &mut publications {
        assert!(publication.as_mut().poll(&mut cx).is_ready(), "the first one publishes for all");
    }
    publications.len()
}

/// The number of slices that a reader of `topic` writes.
fn slices(hub: &Hub, topic: &str) -> usize {
    let (mut subscription, _) = hub.subscribe(filter(&[topic]), Start::Earliest);
    let mut batch = Batch::default();
    subscription.fill(&mut batch).unwrap();
    batch.offer(Format::Plain, true, &mut vec![std::io::IoSlice::new(&[]); 64]).slices
}

#[test]
fn publications_of_one_thread_share_a_block() {
    let hub = hub(1000, 1000);
    let _reader = hub.subscribe(filter(&["a"]), Start::Live);
    assert_eq!((publish_in_turn(&hub, &["a"; 15]), slices(&hub, "a")), (0, 15), "at once");
    assert_eq!(
        (publish_in_turn(&hub, &["a"; 9]), slices(&hub, "a")),
        (9, 16),
        "one yields, and the others join its batch"
    );
    assert_eq!((publish_in_turn(&hub, &["a"; 9]), slices(&hub, "a")), (9, 17), "that saved blocks");
    assert_eq!(publish_in_turn(&hub, &["a"]), 1, "others are expected");
    assert_eq!(publish_in_turn(&hub, &["a"]), 0, "there were none");
    assert_eq!(hub.position(), at(35));
}

#[test]
fn publications_to_several_topics_do_not_wait_for_each_other() {
    let hub = hub(1000, 1000);
    let _reader = hub.subscribe(filter(&[]), Start::Live);
    assert_eq!(publish_in_turn(&hub, &["a"; 15]), 0);
    assert_eq!(publish_in_turn(&hub, &["a", "b", "c"]), 3);
    assert_eq!(publish_in_turn(&hub, &["a", "b", "c"]), 0, "no two of them shared a block");
}

#[test]
fn publications_without_readers_do_not_wait_for_each_other() {
    let hub = hub(1000, 1000);
    let reader = hub.subscribe(filter(&["a"]), Start::Live);
    assert_eq!(publish_in_turn(&hub, &["a"; 16]), 1);
    drop(reader);
    assert_eq!(publish_in_turn(&hub, &["a"; 40]), 0);
}

#[test]
fn publication_at_once_is_behind_what_is_queued() {
    let hub = hub(8, 8);
    let mut publication = Box::pin(async { hub.publish_some([event("c")], true, None).await });
    hub.0.sequencer.exclusively(&hub.0.history, || {
        // The role is taken: both are queued.
        hub.try_publish(event("a")).unwrap();
        assert!(publication.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    });
    assert_eq!(now(publication).unwrap().published.last, at(2));
    assert_eq!(read(&hub, &["c"], Start::Earliest).0, [2]);
}
