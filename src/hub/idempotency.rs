//! Publishing once: a publisher that got no answer repeats its publication under the same key.
//!
//! **Contract.** A key is remembered for at least the window after its events were published. The same events under the same key
//! are not published again: the publisher gets their positions. Other events under that key are an error. Events that were not
//! published leave no key behind.
//!
//! **Bounds.** A hub remembers a limited number of keys. Beyond it a new key is an error: publishing without remembering it would
//! turn a repetition into a duplicate.
//!
//! The sequencer owns the keys. It puts two publications with one key into an order like any others, and the second one
//! finds the positions of the first. On a relayed hub the backbone does this.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::{PublishError, Published};
use crate::event::Event;

/// How many expired keys one publication forgets: more than it adds.
const FORGOTTEN_AT_A_TIME: usize = 2;

/// The first half of a SHA-256 digest.
type Id = [u8; 16];

/// A publisher's key for one publication, with a digest of its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    pub(crate) id: Id,
    pub(crate) content: Id,
}

/// The positions of events that were published under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedOnce {
    /// The positions.
    pub published: Published,
    /// Whether an earlier publication with the same key has published the events.
    pub is_repeat: bool,
}

impl From<Published> for PublishedOnce {
    fn from(published: Published) -> Self {
        Self { published, is_repeat: false }
    }
}

impl IdempotencyKey {
    /// The key `key` of the publisher `publisher` for these events. Two publishers may use the same key.
    pub fn new(publisher: &[u8], key: &str, events: &[Event]) -> Self {
        let mut content = Sha256::new();
        for event in events {
            for part in [event.topic().as_str().as_bytes(), event.name().as_bytes(), event.payload().as_bytes()] {
                update(&mut content, part);
            }
            let (is_json, has_key) = (event.payload().is_json(), event.key().is_some());
            content.update([u8::from(is_json) | u8::from(has_key) << 1 | u8::from(event.is_deletion()) << 2]);
            // Without a key the digest is that of earlier versions.
            if let Some(key) = event.key() {
                update(&mut content, key.as_str().as_bytes());
            }
        }
        let mut id = Sha256::new();
        update(&mut id, publisher);
        update(&mut id, key.as_bytes());
        Self { id: half(id), content: half(content) }
    }
}

/// With its length, so that two sequences of parts never have one digest.
fn update(digest: &mut Sha256, part: &[u8]) {
    digest.update((part.len() as u64).to_le_bytes());
    digest.update(part);
}

fn half(digest: Sha256) -> Id {
    digest.finalize()[..16].try_into().expect("a digest has 32 bytes")
}

/// The keys that a hub remembers.
pub(super) struct Keys {
    window: Duration,
    max: usize,
    uses: HashMap<Id, Use>,
    /// The keys by age, the oldest first.
    ages: VecDeque<(Instant, Id)>,
}

/// A key that another hub remembered.
pub(super) struct SavedKey {
    pub(super) key: IdempotencyKey,
    pub(super) published: Published,
    /// How long it is still remembered.
    pub(super) left: Duration,
}

/// What a key was used for.
struct Use {
    content: Id,
    published: Published,
}

impl Keys {
    pub(super) fn new(window: Duration, max: usize) -> Self {
        Self { window, max, uses: HashMap::new(), ages: VecDeque::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.uses.len()
    }

    /// Returns the positions of the events if they were published, and `None` if they may be published now.
    pub(super) fn find(&mut self, key: &IdempotencyKey, now: Instant) -> Result<Option<Published>, PublishError> {
        match self.uses.get(&key.id) {
            Some(used) if used.content == key.content => return Ok(Some(used.published)),
            Some(_) => return Err(PublishError::KeyReused),
            None => {}
        }
        self.forget_expired(FORGOTTEN_AT_A_TIME, now);
        if self.uses.len() < self.max {
            return Ok(None);
        }
        let oldest = self.ages.front().map_or(now, |(used, _)| *used);
        Err(PublishError::TooManyKeys { retry_after: (oldest + self.window).saturating_duration_since(now) })
    }

    pub(super) fn remember(&mut self, key: &IdempotencyKey, published: Published, now: Instant) {
        self.uses.insert(key.id, Use { content: key.content, published });
        self.ages.push_back((now, key.id));
    }

    /// Returns the keys, the oldest first, with what they were used for and how long they are still remembered.
    pub(super) fn saved(&self, now: Instant) -> impl Iterator<Item = SavedKey> {
        self.ages.iter().filter_map(move |(used, id)| {
            let left = (*used + self.window).checked_duration_since(now)?;
            let &Use { content, published } = self.uses.get(id)?;
            Some(SavedKey { key: IdempotencyKey { id: *id, content }, published, left })
        })
    }

    pub(super) fn restore(&mut self, saved: &SavedKey, now: Instant) {
        // The clock of a machine that has just started may not reach back that far.
        let used = now.checked_sub(self.window.saturating_sub(saved.left)).unwrap_or(now);
        self.remember(&saved.key, saved.published, used);
    }

    /// Forgets up to `limit` expired keys. Returns whether there may be more.
    pub(super) fn forget_expired(&mut self, limit: usize, now: Instant) -> bool {
        for _ in 0..limit {
            let Some((_, id)) = self.ages.pop_front_if(|(used, _)| *used + self.window <= now) else {
                if self.uses.is_empty() {
                    // Frees the memory of a burst.
                    *self = Self::new(self.window, self.max);
                }
                return false;
            };
            self.uses.remove(&id);
        }
        true
    }
}

#[cfg(all(test, not(fanline_loom)))]
mod tests {
    use super::*;
    use crate::event::{EventName, Payload};
    use crate::position::{Epoch, StreamPosition};
    use crate::topic::Topic;

    const WINDOW: Duration = Duration::from_secs(60);

    fn event(topic: &str, text: &str) -> Event {
        Event::new(Topic::new(topic).unwrap(), Payload::text(text))
    }

    fn key(key: &str) -> IdempotencyKey {
        IdempotencyKey::new(b"publisher", key, &[event("t", "x")])
    }

    fn at(sequence: u64) -> Published {
        let position = StreamPosition::new(Epoch(7), sequence);
        Published { first: position, last: position }
    }

    #[test]
    fn key_is_known_for_the_window_and_forgotten_after_it() {
        let (mut keys, now) = (Keys::new(WINDOW, 10), Instant::now());
        assert_eq!(keys.find(&key("a"), now), Ok(None));
        keys.remember(&key("a"), at(1), now);
        let end = now + WINDOW;
        assert!(!keys.forget_expired(10, end - Duration::from_nanos(1)));
        assert_eq!(keys.find(&key("a"), end - Duration::from_nanos(1)), Ok(Some(at(1))));
        assert!(!keys.forget_expired(10, end));
        assert_eq!((keys.find(&key("a"), end), keys.len()), (Ok(None), 0));
    }

    #[test]
    fn full_hub_rejects_new_keys_until_the_oldest_expires() {
        let (mut keys, now) = (Keys::new(WINDOW, 2), Instant::now());
        let later = now + Duration::from_secs(20);
        keys.remember(&key("a"), at(1), now);
        keys.remember(&key("b"), at(2), later);
        let retry_after = Duration::from_secs(40);
        assert_eq!(keys.find(&key("c"), later), Err(PublishError::TooManyKeys { retry_after }));
        assert_eq!(keys.find(&key("a"), later), Ok(Some(at(1))), "known keys are found");
        assert_eq!(keys.find(&key("c"), now + WINDOW), Ok(None));
        assert_eq!(keys.find(&key("b"), now + WINDOW), Ok(Some(at(2))));
    }

    #[test]
    fn expired_keys_are_forgotten_in_bounded_steps() {
        let (mut keys, now) = (Keys::new(WINDOW, 100), Instant::now());
        for n in 0..10 {
            keys.remember(&key(&n.to_string()), at(n), now);
        }
        assert!(keys.forget_expired(4, now + WINDOW));
        assert_eq!(keys.len(), 6);
        assert!(!keys.forget_expired(100, now + WINDOW));
        assert_eq!((keys.len(), keys.uses.capacity(), keys.ages.capacity()), (0, 0, 0));
    }

    #[test]
    fn saved_key_is_remembered_for_the_rest_of_its_window() {
        let (mut keys, now) = (Keys::new(WINDOW, 10), Instant::now() + 2 * WINDOW);
        keys.remember(&key("expired"), at(1), now - 2 * WINDOW);
        keys.remember(&key("a"), at(2), now - WINDOW / 4);
        let saved: Vec<_> = keys.saved(now).collect();
        assert_eq!(saved.len(), 1);
        let mut continued = Keys::new(WINDOW, 10);
        continued.restore(&saved[0], now);
        let rest = WINDOW / 4 * 3;
        assert!(!continued.forget_expired(10, now + rest - Duration::from_millis(1)));
        assert_eq!(continued.find(&key("a"), now), Ok(Some(at(2))));
        continued.forget_expired(10, now + rest);
        assert_eq!(continued.find(&key("a"), now + rest), Ok(None));
    }

    #[test]
    fn digest_covers_everything_that_a_subscriber_receives() {
        let of = |events: &[Event]| IdempotencyKey::new(b"", "k", events).content;
        let json = Event::new(Topic::new("a").unwrap(), Payload::json("1").unwrap());
        let named = event("a", "1").named(EventName::new("n").unwrap());
        let all = [
            of(&[event("a", "1")]),
            of(&[event("b", "1")]),
            of(&[event("a", "2")]),
            of(&[json]),
            of(&[named]),
            of(&[event("a", "1").keyed("k".parse().unwrap())]),
            of(&[event("a", "1").keyed("l".parse().unwrap())]),
            of(&[event("a", "1").keyed("k".parse().unwrap()).deleting()]),
            of(&[event("a", "1").deleting()]),
            of(&[event("a", "1"), event("a", "1")]),
            of(&[event("a", "11")]),
        ];
        for (place, one) in all.iter().enumerate() {
            assert!(!all[..place].contains(one), "{place}");
        }
        assert_eq!(all[0], of(&[event("a", "1")]));
    }

    #[test]
    fn publishers_do_not_share_keys() {
        let id = |publisher: &str, key| IdempotencyKey::new(publisher.as_bytes(), key, &[]).id;
        assert_ne!(id("a", "k"), id("b", "k"));
        assert_ne!(id("ab", "c"), id("a", "bc"));
        assert_eq!(id("a", "k"), id("a", "k"));
    }
}
