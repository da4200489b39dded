//! Wakes the subscriptions of a channel that has new events.
//!
//! The subscriptions of one shard form a [`WakeGroup`]. A channel has a [`Link`] for each group with a subscription of it.
//! A publish marks the link and notifies the group once, however many subscriptions there are and however often the channel
//! is published to before the group runs; the group then wakes them, on its own thread.
//!
//! **Rounds.** A subscription is read by a task, which has a waker, or by a stream that the shard polls itself. The keys of the
//! streams that are woken are collected, and [`WakeGroup::round`] returns them. Each round begins with the links that were marked
//! during the one before: a stream is polled at most once in a round, however often its channels are published to.
//!
//! **No wake-up is lost.** The publisher stores the new head first, then marks the link. A subscription is added to the
//! link's list before it reads a head for the first time. The group clears the mark before it wakes the list:
//! * mark found clear: the link is queued, and the group will clear it and wake the list, whose tasks then see the head;
//! * mark found set: the group has not cleared it yet. Both sides swap it (acquire and release), so that a task that is
//!   woken after the group's swap sees what was published before the publisher's.

use std::task::Waker;

use slab::Slab;
use smallvec::{SmallVec, smallvec};
use tokio::sync::Notify;

use crate::sync::{Arc, AtomicBool, Mutex, Ordering, lock};

/// Subscriptions that are woken together.
pub(crate) struct WakeGroup {
    sleepers: Mutex<Sleepers>,
    /// Links that were marked and not yet served. A publisher holds the lock only to push.
    marked: Mutex<Vec<Arc<Link>>>,
    /// Notifies the task that runs the rounds. Without one, a publisher that marks a link serves it at once.
    dispatcher: Option<Notify>,
}

#[derive(Default)]
struct Sleepers {
    all: Slab<Sleeper>,
    /// The subscriptions of each link. A few are stored without an allocation: most topics of a hub with very many have one.
    lists: Slab<SmallVec<[SleeperKey; 4]>>,
    /// The streams of the next round.
    woken: Vec<SleeperKey>,
    /// Empty memory for the next marked links.
    served: Vec<Arc<Link>>,
}

/// What reads a subscription.
enum Sleeper {
    /// A task. A no-op waker before it waits for the first time.
    Task(Waker),
    /// A stream that its shard polls.
    Stream {
        awaits_events: bool,
        /// Whether it is in the next round.
        is_woken: bool,
    },
}

/// A subscription within its group.
pub(crate) type SleeperKey = u32;

/// A group with subscriptions of one channel.
pub(crate) struct Link {
    group: Arc<WakeGroup>,
    list: usize,
    is_marked: AtomicBool,
}

impl WakeGroup {
    /// A group whose links are served by publishers.
    pub(crate) fn inline() -> Arc<Self> {
        Arc::new(Self { sleepers: Mutex::default(), marked: Mutex::default(), dispatcher: None })
    }

    /// A group whose links are served by a task that runs its rounds.
    pub(crate) fn dispatched() -> Arc<Self> {
        Arc::new(Self { sleepers: Mutex::default(), marked: Mutex::default(), dispatcher: Some(Notify::new()) })
    }

    /// Wakes the subscriptions of each marked link, and appends the streams that were woken to `round`, which is empty. Waits until
    /// there is one.
    pub(crate) async fn round(&self, round: &mut Vec<SleeperKey>) {
        loop {
            self.begin_round(round);
            match &self.dispatcher {
                Some(dispatcher) if round.is_empty() => dispatcher.notified().await,
                _ => return,
            }
        }
    }

    fn begin_round(&self, round: &mut Vec<SleeperKey>) {
        let mut sleepers = lock(&self.sleepers);
        // Swapped with the list that was served: neither side allocates.
        let mut marked = std::mem::take(&mut sleepers.served);
        std::mem::swap(&mut marked, &mut *lock(&self.marked));
        marked.drain(..).for_each(|link| sleepers.serve(&link));
        sleepers.served = marked;
        sleepers.begin_round(round);
    }

    pub(crate) fn enter(&self) -> SleeperKey {
        let key = lock(&self.sleepers).all.insert(Sleeper::Task(Waker::noop().clone()));
        SleeperKey::try_from(key).expect("fewer than 2^32 subscriptions in one group")
    }

    pub(crate) fn leave(&self, key: SleeperKey) {
        // Bound to a name, so that it is dropped after the lock: a waker may be the last owner of its task.
        let _sleeper = lock(&self.sleepers).all.remove(key as usize);
    }

    pub(crate) fn set_waker(&self, key: SleeperKey, waker: &Waker) {
        let task = Sleeper::Task(waker.clone());
        let _former = std::mem::replace(&mut lock(&self.sleepers).all[key as usize], task);
    }

    /// Has the subscription's stream polled in rounds instead of a task: after each wake-up and, if it awaits events, after each
    /// event.
    pub(crate) fn set_stream(&self, key: SleeperKey, awaits_events: bool) {
        let _former = {
            let sleeper = &mut lock(&self.sleepers).all[key as usize];
            let is_woken = matches!(sleeper, Sleeper::Stream { is_woken: true, .. });
            std::mem::replace(sleeper, Sleeper::Stream { awaits_events, is_woken })
        };
    }

    /// Adds a stream to the next round.
    pub(crate) fn wake_stream(&self, key: SleeperKey) {
        let is_new = lock(&self.sleepers).wake_stream(key);
        if let Some(dispatcher) = self.dispatcher.as_ref().filter(|_| is_new) {
            dispatcher.notify_one();
        }
    }
}

impl Sleepers {
    fn serve(&mut self, link: &Link) {
        link.is_marked.swap(false, Ordering::AcqRel);
        for &key in self.lists.get(link.list).into_iter().flatten() {
            match &mut self.all[key as usize] {
                Sleeper::Task(waker) => waker.wake_by_ref(),
                Sleeper::Stream { awaits_events: true, is_woken } if !*is_woken => {
                    *is_woken = true;
                    self.woken.push(key);
                }
                Sleeper::Stream { .. } => {}
            }
        }
    }

    /// Returns whether the stream is new in the next round. A key whose stream has ended may belong to another one.
    fn wake_stream(&mut self, key: SleeperKey) -> bool {
        let Some(Sleeper::Stream { is_woken, .. }) = self.all.get_mut(key as usize) else { return false };
        let is_new = !std::mem::replace(is_woken, true);
        if is_new {
            self.woken.push(key);
        }
        is_new
    }

    /// Moves the streams that were woken to `round`. From now on they are woken for the next one.
    fn begin_round(&mut self, round: &mut Vec<SleeperKey>) {
        for &key in &self.woken {
            if let Some(Sleeper::Stream { is_woken, .. }) = self.all.get_mut(key as usize) {
                *is_woken = false;
            }
        }
        std::mem::swap(&mut self.woken, round);
    }
}

impl Link {
    /// Notifies the group, unless it is notified already.
    fn mark(self: &Arc<Self>) {
        if self.is_marked.swap(true, Ordering::AcqRel) {
            return;
        }
        match &self.group.dispatcher {
            Some(dispatcher) => {
                lock(&self.group.marked).push(self.clone());
                dispatcher.notify_one();
            }
            None => lock(&self.group.sleepers).serve(self),
        }
    }
}

/// The groups with subscriptions of one channel. One group is stored without an allocation: most topics of a hub with very many
/// have one subscriber.
#[derive(Default)]
pub(crate) struct Listeners(Mutex<SmallVec<[Arc<Link>; 1]>>);

impl Listeners {
    /// Adds a subscription. Its first read of the channel comes after this.
    pub(crate) fn add(&self, group: &Arc<WakeGroup>, key: SleeperKey) {
        let mut links = lock(&self.0);
        let mut sleepers = lock(&group.sleepers);
        match links.iter().find(|link| Arc::ptr_eq(&link.group, group)) {
            Some(link) => sleepers.lists[link.list].push(key),
            None => {
                let list = sleepers.lists.insert(smallvec![key]);
                links.push(Arc::new(Link { group: group.clone(), list, is_marked: AtomicBool::new(false) }));
            }
        }
    }

    /// Removes a subscription; the group's link is removed with its last one. Returns whether none is left.
    pub(crate) fn remove(&self, group: &Arc<WakeGroup>, key: SleeperKey) -> bool {
        let mut links = lock(&self.0);
        let Some(index) = links.iter().position(|link| Arc::ptr_eq(&link.group, group)) else {
            return links.is_empty();
        };
        let mut sleepers = lock(&group.sleepers);
        let list = &mut sleepers.lists[links[index].list];
        if let Some(place) = list.iter().position(|&other| other == key) {
            list.swap_remove(place);
        }
        if list.is_empty() {
            sleepers.lists.remove(links[index].list);
            links.swap_remove(index);
        }
        links.is_empty()
    }

    /// The number of subscriptions.
    pub(crate) fn count(&self) -> usize {
        lock(&self.0).iter().map(|link| lock(&link.group.sleepers).lists[link.list].len()).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }

    /// Orders this thread with one that calls `notify`: the second of both sees what the first did before its call.
    pub(crate) fn take_and_release_lock(&self) {
        drop(lock(&self.0));
    }

    /// Notifies each group. The head that they have to see was stored before. Returns whether there are subscriptions.
    pub(crate) fn notify(&self) -> bool {
        let links = lock(&self.0);
        links.iter().for_each(Link::mark);
        !links.is_empty()
    }
}
