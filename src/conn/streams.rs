//! The streams of Server-Sent Events of one shard over HTTP/1, which it polls itself.
//!
//! A task of the runtime has a header, a waker with a count, and a place in a queue that all kinds of tasks share. A stream needs
//! none of that: its shard has a list of boxed streams, and the [rounds](WakeGroup::round) of its wake group are lists of keys.
//!
//! **Contract.** A stream is polled after it was added, after an event of its subscription, and after each
//! [wake-up](super::control::Control), once in each round. One that panics is dropped, and the others continue. All are dropped with
//! the future of [`Streams::run`].
//!
//! **Turns.** After [`POLLS_PER_TURN`] polls the runtime accepts, reads and publishes before the next ones.
//!
//! **Shared batches.** The streams of a turn read into one [`Batch`]. A stream that reads the same events as the one before it
//! finds them there.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use crate::hub::{Batch, SleeperKey, WakeGroup};
use crate::sync::{Mutex, lock};

/// The number of polls until other tasks of the shard run.
const POLLS_PER_TURN: usize = 128;

/// A stream that its shard polls.
pub(super) trait ShardStream: Send {
    /// Reads into `batch`, which streams before may have filled, and writes. Ready when the stream has ended.
    fn poll(&mut self, batch: &mut Batch) -> Poll<()>;
}

/// Those that were added and not polled yet, with the keys of their subscriptions. `None` when streams are not polled any more.
type Added = Mutex<Option<Vec<(SleeperKey, Box<dyn ShardStream>)>>>;

/// The streams of one shard.
pub(super) struct Streams(Added);

impl Streams {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }

    /// Adds a stream whose subscription has this key in the shard's group.
    pub(super) fn add(&self, group: &WakeGroup, key: SleeperKey, stream: impl ShardStream + 'static) {
        let stream: Box<dyn ShardStream> = Box::new(stream);
        match &mut *lock(&self.0) {
            Some(added) => added.push((key, stream)),
            // Dropped outside of the lock, with the argument.
            None => return,
        }
        group.wake_stream(key);
    }

    /// Wakes the subscriptions of `group`, and polls the streams among them. Does not return.
    pub(super) async fn run(&self, group: &WakeGroup) {
        let mut open = Open { added: &self.0, streams: Vec::new(), batch: Batch::default() };
        let (mut round, mut polls) = (Vec::new(), 0);
        loop {
            group.round(&mut round).await;
            open.receive();
            for key in round.drain(..) {
                open.poll(key);
                polls += 1;
                if polls == POLLS_PER_TURN {
                    polls = 0;
                    open.batch.clear();
                    tokio::task::yield_now().await;
                }
            }
            open.batch.clear();
        }
    }
}

/// The streams that are polled, by their keys.
struct Open<'a> {
    added: &'a Added,
    streams: Vec<Option<Box<dyn ShardStream>>>,
    batch: Batch,
}

impl Open<'_> {
    /// Takes the streams that were added.
    fn receive(&mut self) {
        let mut added = lock(self.added);
        for (key, stream) in added.iter_mut().flat_map(|added| added.drain(..)) {
            let key = key as usize;
            if key >= self.streams.len() {
                self.streams.resize_with(key + 1, || None);
            }
            self.streams[key] = Some(stream);
        }
    }

    /// Polls a stream, and drops it if it has ended.
    fn poll(&mut self, key: SleeperKey) {
        let Some(place) = self.streams.get_mut(key as usize) else { return };
        let Some(stream) = place else { return };
        if let Ok(Poll::Pending) = catch_unwind(AssertUnwindSafe(|| stream.poll(&mut self.batch))) {
            return;
        }
        let ended = place.take();
        _ = catch_unwind(AssertUnwindSafe(|| drop(ended)));
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        // Dropped outside of the lock. A stream owns its shard, which owns the list.
        let _added = lock(self.added).take();
    }
}

#[cfg(all(test, not(fanline_loom)))]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::task::{Context, Waker};

    use futures_util::FutureExt;

    use super::*;
    use crate::sync::{Arc, AtomicBool, AtomicU32, Ordering};

    /// A stream that counts its polls.
    struct Counter {
        group: Arc<WakeGroup>,
        key: SleeperKey,
        state: Arc<State>,
        next: fn(u32) -> Next,
    }

    #[derive(Default)]
    struct State {
        polls: AtomicU32,
        is_dropped: AtomicBool,
    }

    enum Next {
        Wait,
        Again,
        End,
    }

    impl ShardStream for Counter {
        fn poll(&mut self, _: &mut Batch) -> Poll<()> {
            match (self.next)(self.state.polls.fetch_add(1, Ordering::Relaxed) + 1) {
                Next::Wait => Poll::Pending,
                Next::Again => {
                    self.group.wake_stream(self.key);
                    Poll::Pending
                }
                Next::End => Poll::Ready(()),
            }
        }
    }

    impl Drop for Counter {
        fn drop(&mut self) {
            self.state.is_dropped.store(true, Ordering::Relaxed);
        }
    }

    fn add(streams: &Streams, group: &Arc<WakeGroup>, next: fn(u32) -> Next) -> (SleeperKey, Arc<State>) {
        let (key, state) = (group.enter(), Arc::new(State::default()));
        group.set_stream(key, true);
        streams.add(group, key, Counter { group: group.clone(), key, state: state.clone(), next });
        (key, state)
    }

    fn seen(state: &State) -> (u32, bool) {
        (state.polls.load(Ordering::Relaxed), state.is_dropped.load(Ordering::Relaxed))
    }

    #[test]
    fn each_stream_is_polled_when_it_is_woken_until_it_ends() {
        let (streams, group) = (Streams::new(), WakeGroup::dispatched());
        let (waiting, one) = add(&streams, &group, |_| Next::Wait);
        let (ending, two) = add(&streams, &group, |polls| if polls < 3 { Next::Again } else { Next::End });
        let (_, panicking) = add(&streams, &group, |_| panic!("on purpose"));
        let mut run = Box::pin(streams.run(&group));
        let mut poll = || assert!(run.poll_unpin(&mut Context::from_waker(Waker::noop())).is_pending());
        poll();
        assert_eq!([&one, &two, &panicking].map(|state| seen(state)), [(1, false), (3, true), (1, true)]);
        group.wake_stream(waiting);
        group.wake_stream(ending);
        poll();
        assert_eq!([&one, &two, &panicking].map(|state| seen(state)), [(2, false), (3, true), (1, true)]);
        let (_, late) = add(&streams, &group, |_| Next::Wait);
        drop(run);
        assert_eq!([&one, &late].map(|state| seen(state)), [(2, true), (0, true)]);
        let (_, too_late) = add(&streams, &group, |_| Next::Wait);
        assert_eq!(seen(&too_late), (0, true));
    }

    #[tokio::test]
    async fn other_tasks_run_beside_streams_that_are_always_ready() {
        let (streams, group) = (Streams::new(), WakeGroup::dispatched());
        let (_, state) = add(&streams, &group, |_| Next::Again);
        let turns = Rc::new(Cell::new(0));
        let other = async {
            while turns.replace(turns.get() + 1) < 10 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! { () = other => {}, () = streams.run(&group) => {} }
        assert!(seen(&state).0 as usize <= 11 * POLLS_PER_TURN);
    }
}
