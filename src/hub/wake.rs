//! Wakes the subscriptions of a channel that has new events.
//!
//! The subscriptions of one shard form a [`WakeGroup`]. A channel has a [`Link`] for each group with a subscription of it.
//! A publish marks the link and notifies the group once, however many subscriptions there are and however often the channel
//! is published to before the group runs; the group then wakes the tasks, on its own thread.
//!
//! **No wake-up is lost.** The publisher stores the new head first, then marks the link. A subscription is added to the
//! link's list before it reads a head for the first time. The group clears the mark before it wakes the list:
//! * mark found clear: the link is queued, and the group will clear it and wake the list, whose tasks then see the head;
//! * mark found set: the group has not cleared it yet. Both sides swap it (acquire and release), so that a task that is
//!   woken after the group's swap sees what was published before the publisher's.

use std::task::Waker;

use slab::Slab;
use smallvec::SmallVec;
use tokio::sync::Notify;

use crate::sync::{Arc, AtomicBool, Mutex, Ordering, lock};

/// Subscriptions that are woken together.
pub(crate) struct WakeGroup {
    sleepers: Mutex<Sleepers>,
    /// Links that were marked and not yet served. A publisher holds the lock only to push.
    marked: Mutex<Vec<Arc<Link>>>,
    /// Notifies the group's own task. Without one, a publisher that marks a link serves it at once.
    dispatcher: Option<Notify>,
}

#[derive(Default)]
struct Sleepers {
    /// The task of each subscription, or no-op wakers before it waits for the first time.
    wakers: Slab<Waker>,
    /// The subscriptions of each link.
    lists: Slab<Vec<SleeperKey>>,
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

    /// A group whose links are served by a task that runs [`WakeGroup::dispatch`].
    pub(crate) fn dispatched() -> Arc<Self> {
        Arc::new(Self { sleepers: Mutex::default(), marked: Mutex::default(), dispatcher: Some(Notify::new()) })
    }

    /// Wakes the subscriptions of each marked link, forever.
    pub(crate) async fn dispatch(&self) {
        let Some(dispatcher) = &self.dispatcher else { return };
        let mut marked = Vec::new();
        loop {
            dispatcher.notified().await;
            // Swapped with the list that was served: neither side allocates.
            std::mem::swap(&mut marked, &mut *lock(&self.marked));
            self.serve(marked.drain(..));
        }
    }

    fn serve(&self, marked: impl Iterator<Item = Arc<Link>>) {
        let sleepers = lock(&self.sleepers);
        for link in marked {
            link.is_marked.swap(false, Ordering::AcqRel);
            let Some(list) = sleepers.lists.get(link.list) else { continue };
            for &key in list {
                sleepers.wakers[key as usize].wake_by_ref();
            }
        }
    }

    pub(crate) fn enter(&self) -> SleeperKey {
        let key = lock(&self.sleepers).wakers.insert(Waker::noop().clone());
        SleeperKey::try_from(key).expect("fewer than 2^32 subscriptions in one group")
    }

    pub(crate) fn leave(&self, key: SleeperKey) {
        // Bound to a name, so that it is dropped after the lock: a waker may be the last owner of its task.
        let _waker = lock(&self.sleepers).wakers.remove(key as usize);
    }

    pub(crate) fn set_waker(&self, key: SleeperKey, waker: &Waker) {
        let _former = std::mem::replace(&mut lock(&self.sleepers).wakers[key as usize], waker.clone());
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
            None => self.group.serve(std::iter::once(self.clone())),
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
                let list = sleepers.lists.insert(vec![key]);
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

    /// Notifies each group. The head that they have to see was stored before. Returns whether there are subscriptions.
    pub(crate) fn notify(&self) -> bool {
        let links = lock(&self.0);
        links.iter().for_each(Link::mark);
        !links.is_empty()
    }
}
