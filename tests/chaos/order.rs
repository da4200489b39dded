//! The one order, as far as anything was seen of it: which id names which event.
//!
//! It is the union of all that clients were sent and publishers were told. An id that two of these disagree about is a
//! violation by itself, so the union is well defined.

use std::collections::{BTreeMap, HashMap};

use crate::id::Id;
use crate::log::{Content, Contents, Line, Recording};
use crate::violation::Violation;

#[derive(Default)]
pub struct Order {
    epochs: BTreeMap<u64, Vec<(u64, Content)>>,
    ids_of: HashMap<Content, Vec<Id>>,
    topics: Vec<u16>,
    /// Epochs in the order in which they were first seen.
    seen: HashMap<u64, u32>,
}

impl Order {
    /// Gathers the order of `recording`, and what contradicts itself.
    pub fn of(recording: &Recording, violations: &mut Vec<Violation>) -> Self {
        let mut known: HashMap<Id, (Content, String)> = HashMap::new();
        let mut seen: HashMap<u64, u32> = HashMap::new();
        let contents = &recording.contents;
        let mut note = |id: Id, content: Content, by: &dyn Fn() -> String| -> Option<String> {
            let (there, first) = known.entry(id).or_insert_with(|| (content, by()));
            (*there != content).then(|| {
                let (one, other) = (contents.shown(*there), contents.shown(content));
                format!("{id} names two events: {one:?} ({first}), and {other:?} ({})", by())
            })
        };
        for (client, lines) in recording.clients.iter().enumerate() {
            for (number, (at, line)) in lines.iter().enumerate() {
                if let Line::Event { id, content } = line {
                    let first = seen.entry(id.epoch).or_insert(*at);
                    *first = (*first).min(*at);
                    let by = || format!("client {client} at {at} ms");
                    if let Some(text) = note(*id, *content, &by) {
                        violations.push(Violation::of_client("two-events", client, number, Some(*id), text));
                    }
                }
            }
        }
        let mut given: HashMap<Id, usize> = HashMap::new();
        for (number, answer) in recording.answers.iter().enumerate() {
            let by = || format!("acknowledged by server {} at {} ms", answer.server, answer.at);
            for (id, content) in answer.placed() {
                let first = seen.entry(id.epoch).or_insert(answer.at);
                *first = (*first).min(answer.at);
                if let Some(text) = note(id, content, &by) {
                    violations.push(Violation::of_answer("two-events", number, Some(id), text));
                }
                if let Some(other) = given.insert(id, number).filter(|&other| other != number) {
                    let other = &recording.answers[other];
                    let text = format!("{id} was given to two publishers: at {} ms, and {}", other.at, by());
                    violations.push(Violation::of_answer("two-events", number, Some(id), text));
                }
            }
        }
        let mut order = Self { seen, topics: Self::topics(contents), ..Self::default() };
        for (id, (content, _)) in known {
            order.epochs.entry(id.epoch).or_default().push((id.sequence, content));
            order.ids_of.entry(content).or_default().push(id);
        }
        order.epochs.values_mut().for_each(|events| events.sort_unstable());
        order
    }

    fn topics(contents: &Contents) -> Vec<u16> {
        (0..contents.len()).map(|content| contents.topic_number(content as Content) as u16).collect()
    }

    /// Known events after `after` up to and including `to`, of one epoch.
    pub fn between(&self, after: Id, to: u64) -> impl Iterator<Item = (Id, Content)> {
        let events = self.epochs.get(&after.epoch).map_or(&[][..], Vec::as_slice);
        let begin = events.partition_point(|event| event.0 <= after.sequence);
        let end = events.partition_point(|event| event.0 <= to).max(begin);
        events[begin..end].iter().map(move |&(sequence, content)| (Id::new(after.epoch, sequence), content))
    }

    pub fn topic_number(&self, content: Content) -> usize {
        usize::from(self.topics[content as usize])
    }

    /// All ids under which an event was seen.
    pub fn ids_of(&self, content: Content) -> &[Id] {
        self.ids_of.get(&content).map_or(&[], Vec::as_slice)
    }

    /// Whether events of `epoch` were seen before any of `other`, both having been seen.
    pub fn is_before(&self, epoch: u64, other: u64) -> bool {
        matches!((self.seen.get(&epoch), self.seen.get(&other)), (Some(one), Some(two)) if one < two)
    }

    /// Known events around `id`.
    pub fn around(&self, id: Id, by: usize) -> Vec<(Id, Content)> {
        let events = self.epochs.get(&id.epoch).map_or(&[][..], Vec::as_slice);
        let place = events.partition_point(|event| event.0 < id.sequence);
        let range = place.saturating_sub(by)..(place + by + 1).min(events.len());
        events[range].iter().map(|&(sequence, content)| (Id::new(id.epoch, sequence), content)).collect()
    }

    pub fn len(&self) -> usize {
        self.epochs.values().map(Vec::len).sum()
    }

    pub fn epochs(&self) -> usize {
        self.epochs.len()
    }
}
