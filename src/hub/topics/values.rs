//! The latest values of topics, which outlive their channels.
//!
//! **Contract.** A list that has keys or their deletions is kept in the shard of its topic. A channel of that topic has this list, from
//! when it is created or from when the list is kept. So a slice of a shard has each topic once: with its channel, or with
//! nothing but its values.

use super::{Shard, Topics};
use crate::hub::channel::Channel;
use crate::hub::latest::List;
use crate::position::Sequence;
use crate::sync::{Arc, Ordering, read, write};
use crate::topic::Topic;

/// The list of a topic, and whether the topic has a channel.
pub(super) struct Kept {
    topic: Topic,
    list: Arc<List>,
    has_channel: bool,
}

/// A topic of a slice.
#[derive(Clone)]
pub(crate) enum Listed {
    Channel(Arc<Channel>),
    /// A topic of which only latest values are left.
    Values(Topic, Arc<List>),
}

impl Listed {
    /// `None` for a firehose.
    pub(crate) fn topic(&self) -> Option<&Topic> {
        match self {
            Self::Channel(channel) => channel.topic.as_ref(),
            Self::Values(topic, _) => Some(topic),
        }
    }

    pub(crate) fn channel(&self) -> Option<&Arc<Channel>> {
        match self {
            Self::Channel(channel) => Some(channel),
            Self::Values(..) => None,
        }
    }

    pub(crate) fn list(&self) -> Option<&Arc<List>> {
        match self {
            Self::Channel(channel) => channel.latest.get(),
            Self::Values(_, list) => Some(list),
        }
    }
}

impl Topics {
    /// All topics in slices, each with a short lock of its own.
    pub(crate) fn listed(&self) -> impl Iterator<Item = Vec<Listed>> {
        self.shards.iter().map(|shard| {
            let shard = read(shard);
            let alone = shard.kept.iter().filter(|kept| !kept.has_channel);
            let alone = alone.map(|kept| Listed::Values(kept.topic.clone(), kept.list.clone()));
            shard.channels.iter().cloned().map(Listed::Channel).chain(alone).collect()
        })
    }

    /// The list of `topic`, if it is kept.
    pub(crate) fn kept(&self, topic: &Topic) -> Option<Arc<List>> {
        let hash = self.hash(topic);
        read(self.shard(hash)).kept(hash, topic).map(|kept| kept.list.clone())
    }

    /// The lists that are kept, in slices.
    pub(crate) fn kept_lists(&self) -> impl Iterator<Item = Vec<Arc<List>>> {
        self.shards.iter().map(|shard| read(shard).kept.iter().map(|kept| kept.list.clone()).collect())
    }

    /// Keeps a list, unless its topic has one that is kept, and returns the one that is. For the sequencer.
    pub(crate) fn keep(&self, topic: &Topic, list: &Arc<List>) -> Arc<List> {
        let hash = self.hash(topic);
        let mut shard = write(self.shard(hash));
        if let Some(kept) = shard.kept(hash, topic) {
            return kept.list.clone();
        }
        let channel = shard.get(hash, topic);
        // It may have it already.
        channel.inspect(|channel| _ = channel.latest.set(list.clone()));
        let has_channel = channel.is_some();
        if !has_channel {
            self.alone.fetch_add(1, Ordering::Relaxed);
        }
        let kept = Kept { topic: topic.clone(), list: list.clone(), has_channel };
        shard.kept.insert_unique(hash, kept, |other| self.hash(&other.topic));
        list.clone()
    }

    /// Keeps the list of `topic` no longer. For the sequencer.
    pub(crate) fn forget_list(&self, topic: &Topic) {
        let hash = self.hash(topic);
        let mut shard = write(self.shard(hash));
        let Ok(entry) = shard.kept.find_entry(hash, |kept| kept.topic == *topic) else { return };
        if !entry.remove().0.has_channel {
            self.alone.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Keeps no list any longer, and calls `each` with those that were kept. For the sequencer.
    pub(crate) fn forget_lists(&self, mut each: impl FnMut(&Arc<List>)) {
        for shard in &self.shards {
            let kept = std::mem::take(&mut write(shard).kept);
            let alone = kept.iter().filter(|kept| !kept.has_channel).count();
            self.alone.fetch_sub(alone, Ordering::Relaxed);
            kept.iter().for_each(|kept| each(&kept.list));
        }
    }

    /// The newest event of a topic without a channel, if the topic is remembered by name.
    pub(crate) fn newest_of_dropped(&self, topic: &Topic) -> Option<Sequence> {
        read(self.shard(self.hash(topic))).gone.newest.get(topic).copied()
    }

    /// Notes that a topic has a channel now, and gives it the list that is kept.
    pub(super) fn attach(&self, shard: &mut Shard, hash: u64, topic: &Topic, channel: &Channel) {
        let Some(kept) = shard.kept.find_mut(hash, |kept| kept.topic == *topic) else { return };
        let _ = channel.latest.set(kept.list.clone());
        kept.has_channel = true;
        self.alone.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes that a topic has no channel any longer.
    pub(super) fn detach(&self, shard: &mut Shard, hash: u64, topic: &Topic) {
        let Some(kept) = shard.kept.find_mut(hash, |kept| kept.topic == *topic) else { return };
        kept.has_channel = false;
        self.alone.fetch_add(1, Ordering::Relaxed);
    }
}

impl Shard {
    fn kept(&self, hash: u64, topic: &Topic) -> Option<&Kept> {
        self.kept.find(hash, |kept| kept.topic == *topic)
    }
}
