//! Streams that are polled in rounds, under loom, as in [`model`](super::model).
//!
//! **Forbidden:**
//! 1. a stream that is not woken although there is something for it to read, or although it was woken by a request;
//! 2. an event that a stream gets twice, or not, when it shares the batch of another one.

use loom::thread;

use super::model::{check, publish};
use super::*;
use crate::hub::{SleeperKey, WakeGroup};
use crate::position::Sequence;
use crate::sync::Arc;

struct Stream {
    subscription: Subscription,
    key: SleeperKey,
    received: Vec<Sequence>,
    polls: usize,
}

impl Stream {
    fn open(hub: &Hub, group: &Arc<WakeGroup>) -> Self {
        let start = Start::After(at(0));
        let (mut subscription, _) = hub.subscribe_in(group, filter(&["a"]), Mode::Events, start, usize::MAX).unwrap();
        let key = subscription.read_in_rounds();
        group.wake_stream(key);
        Self { subscription, key, received: Vec::new(), polls: 0 }
    }

    fn poll(&mut self, batch: &mut Batch) {
        self.polls += 1;
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(read) = self.subscription.poll_fill(&mut cx, batch) {
            read.unwrap();
            self.received.extend(batch.frames().map(Frame::sequence));
            self.subscription.take(batch, batch.len());
        }
    }
}

/// Runs rounds until no stream is woken.
fn run(group: &WakeGroup, streams: &mut [Stream]) {
    let (mut round, mut batch) = (Vec::new(), Batch::default());
    while pin!(group.round(&mut round)).poll(&mut Context::from_waker(Waker::noop())).is_ready() {
        for key in round.drain(..) {
            streams.iter_mut().find(|stream| stream.key == key).unwrap().poll(&mut batch);
        }
        batch.clear();
    }
}

#[test]
fn streams_of_one_topic_get_its_events_in_rounds() {
    check(2, || {
        let (hub, group) = (hub(8, 8), WakeGroup::dispatched());
        let mut streams = [Stream::open(&hub, &group), Stream::open(&hub, &group)];
        let publisher = publish(&hub, &[&["a"], &["a"]]);
        run(&group, &mut streams);
        publisher.join().unwrap();
        run(&group, &mut streams);
        streams.iter().for_each(|stream| assert_eq!(stream.received, [1, 2], "forbidden 1 or 2"));
    });
}

#[test]
fn request_of_another_thread_wakes_a_stream() {
    check(3, || {
        let (hub, group) = (hub(8, 8), WakeGroup::dispatched());
        let mut streams = [Stream::open(&hub, &group)];
        run(&group, &mut streams);
        let (key, other) = (streams[0].key, group.clone());
        let before = streams[0].polls;
        let request = thread::spawn(move || other.wake_stream(key));
        run(&group, &mut streams);
        request.join().unwrap();
        run(&group, &mut streams);
        assert_eq!(streams[0].polls, before + 1, "forbidden 1");
    });
}
