//! Events compressed once for all readers of a ring.
//!
//! **Contract.** A reader's [`Member`] is one gzip member that decodes to exactly the bytes that an uncompressed reader gets. Its
//! compressed blocks are those of all other readers of the ring. Each event is decoded as soon as its bytes have arrived.
//!
//! **Rules.** A compressed block refers to earlier bytes by their distance, so it is right only behind exactly these bytes.
//! Otherwise it decodes to wrong text, without an error. Therefore:
//! 1. A reader joins a [group] at its first event, and takes its blocks without a hole, each once and whole.
//! 2. Whatever else is written to it, or not taken from the ring, makes it leave the group.
//! 3. A reader that is in no group gets stored blocks, which refer to nothing.
//! 4. A block that was begun is finished before anything else is written. That is up to the connection.
//!
//! **Memory.** Groups live while the ring has their events and a compressed reader; they count as bytes of the history. Rings
//! without compressed readers, and readers without compression, have nothing of this.

mod blocks;
mod compressor;
mod group;
mod member;
#[cfg(all(test, not(fanline_loom)))]
pub(in crate::hub) mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Weak;

pub(in crate::hub) use compressor::Compressor;
use compressor::Compressors;
use group::Group;
pub(crate) use member::{MAX_SLICES, Member};

use super::channel::Channel;
use super::encoder::DerivedBytes;
use crate::sync::{Arc, Mutex, lock};
use crate::wire::Format;

/// The compressed rings of a hub: those with compressed readers.
#[derive(Default)]
pub(crate) struct Compression {
    rings: Arc<Rings>,
    compressors: Arc<Compressors>,
}

type Rings = Mutex<HashMap<Key, Weak<CompressedRing>>>;

/// The address of a channel that exists, and the format of its events.
type Key = (usize, Format);

/// The groups of one ring in one format.
pub(crate) struct CompressedRing {
    channel: Arc<Channel>,
    format: Format,
    /// By the index that they end before.
    groups: Mutex<BTreeMap<u64, Arc<Group>>>,
    rings: Arc<Rings>,
    compressors: Arc<Compressors>,
    derived_bytes: DerivedBytes,
}

impl Compression {
    /// Returns the member of a new reader of `channel`.
    pub(super) fn member(
        &self,
        channel: &Arc<Channel>,
        format: Format,
        is_framed: bool,
        derived_bytes: &DerivedBytes,
    ) -> Member {
        Member::new(Some(self.ring(channel, format, derived_bytes)), format, is_framed)
    }

    fn ring(&self, channel: &Arc<Channel>, format: Format, derived_bytes: &DerivedBytes) -> Arc<CompressedRing> {
        let mut rings = lock(&self.rings);
        let key = key(channel, format);
        if let Some(ring) = rings.get(&key).and_then(Weak::upgrade) {
            return ring;
        }
        let ring = Arc::new(CompressedRing {
            channel: channel.clone(),
            format,
            groups: Mutex::default(),
            rings: self.rings.clone(),
            compressors: self.compressors.clone(),
            derived_bytes: derived_bytes.clone(),
        });
        rings.insert(key, Arc::downgrade(&ring));
        ring
    }

    /// Drops the groups whose events have left the ring of `channel`.
    pub(super) fn drop_evicted_of(&self, channel: &Arc<Channel>) {
        for format in [Format::Plain, Format::Envelope] {
            let ring = lock(&self.rings).get(&key(channel, format)).and_then(Weak::upgrade);
            ring.iter().for_each(|ring| ring.drop_evicted());
        }
    }

    /// Drops the groups whose events have left their rings.
    pub(super) fn drop_evicted(&self) {
        // Outside the lock: dropping the last handle to a ring takes it.
        let rings: Vec<_> = lock(&self.rings).values().filter_map(Weak::upgrade).collect();
        rings.iter().for_each(|ring| ring.drop_evicted());
    }
}

fn key(channel: &Arc<Channel>, format: Format) -> Key {
    (Arc::as_ptr(channel).addr(), format)
}

impl CompressedRing {
    /// Returns the group that begins with the event at `first`, unless other readers are in a group that has it.
    fn group(&self, first: u64) -> Option<Arc<Group>> {
        let mut groups = lock(&self.groups);
        let end = group::end_of(first);
        let present = groups.get(&end);
        if present.is_some_and(|group| group.indices().start != first && Arc::strong_count(group) > 1) {
            return None;
        }
        let present = present.filter(|group| group.indices().start == first).cloned();
        let group = present.unwrap_or_else(|| {
            let new = Arc::new(Group::new(first..end, &self.compressors, &self.derived_bytes));
            groups.insert(end, new.clone());
            self.drop_from(&mut groups);
            new
        });
        Some(group)
    }

    /// The group that has the event at `index`.
    #[cfg(all(test, not(fanline_loom)))]
    fn group_with(&self, index: u64) -> Option<Arc<Group>> {
        lock(&self.groups).get(&group::end_of(index)).cloned()
    }

    fn drop_evicted(&self) {
        self.drop_from(&mut lock(&self.groups));
    }

    fn drop_from(&self, groups: &mut BTreeMap<u64, Arc<Group>>) {
        let oldest = self.channel.ring.retained().start;
        while let Some(first) = groups.first_entry()
            && *first.key() <= oldest
        {
            first.remove();
        }
    }
}

impl Drop for CompressedRing {
    fn drop(&mut self) {
        let mut rings = lock(&self.rings);
        let key = key(&self.channel, self.format);
        // Another one may have taken its place.
        if rings.get(&key).is_some_and(|ring| ring.strong_count() == 0) {
            rings.remove(&key);
        }
        if rings.is_empty() {
            self.compressors.clear();
        }
    }
}
