//! The observed order of events: which id names which event.
//!
//! The order is the union of what all clients received and all responses to publishers. Two different events under one id
//! are a violation of their own, so the union is well defined.

use std::collections::{BTreeMap, HashMap};

use crate::id::Id;
use crate::recording::{Content, Contents, Line, Recording};
use crate::violation::Violation;

#[derive(Default)]
pub struct Order {
    epochs: BTreeMap<u64, Vec<(u64, Content)>>,
    ids_of: HashMap<Content, Vec<Id>>,
    topics: Vec<u16>,
    /// When each epoch was first observed, in milliseconds of the phase.
    seen: HashMap<u64, u32>,
}

impl Order {
    /// Builds the order of `recording`, and reports contradictions.
    pub fn of(recording: &Recording, violations: &mut Vec<Violation>) -> Self {
        let mut known: HashMap<Id, (Content, String)> = HashMap::new();
        let mut seen: HashMap<u64, u32> = HashMap::new();
        let contents = &recording.contents;
        let mut note = |id: Id, content: Content, by: &dyn Fn() -> String| -> Option<String> {
            let (other, first) = known.entry(id).or_insert_with(|| (content, by()));
            (*other != content).then(|| {
                let (one, other) = (contents.summary(*other), contents.summary(content));
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
        let mut issued: HashMap<Id, usize> = HashMap::new();
        for (number, answer) in recording.answers.iter().enumerate() {
            let by = || format!("acknowledged by server {} at {} ms", answer.server, answer.at);
            for (id, content) in answer.placed() {
                let first = seen.entry(id.epoch).or_insert(answer.at);
                *first = (*first).min(answer.at);
                if let Some(text) = note(id, content, &by) {
                    violations.push(Violation::of_answer("two-events", number, Some(id), text));
                }
                if let Some(other) = issued.insert(id, number).filter(|&other| other != number) {
                    let other = &recording.answers[other];
                    let text = format!("{id} was issued to two publishers: at {} ms, and {}", other.at, by());
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

    /// Returns the known events of one epoch, after `after` up to and including `to`.
    pub fn between(&self, after: Id, to: u64) -> impl Iterator<Item = (Id, Content)> {
        let events = self.epochs.get(&after.epoch).map_or(&[][..], Vec::as_slice);
        let begin = events.partition_point(|event| event.0 <= after.sequence);
        let end = events.partition_point(|event| event.0 <= to).max(begin);
        events[begin..end].iter().map(move |&(sequence, content)| (Id::new(after.epoch, sequence), content))
    }

    pub fn topic_number(&self, content: Content) -> usize {
        usize::from(self.topics[content as usize])
    }

    /// Returns all ids of an event.
    pub fn ids_of(&self, content: Content) -> &[Id] {
        self.ids_of.get(&content).map_or(&[], Vec::as_slice)
    }

    /// Whether `epoch` was observed before `other`. False if either was never observed.
    pub fn is_before(&self, epoch: u64, other: u64) -> bool {
        matches!((self.seen.get(&epoch), self.seen.get(&other)), (Some(one), Some(two)) if one < two)
    }

    /// Returns up to `by` known events on each side of `id`, with the event at `id`.
    pub fn around(&self, id: Id, by: usize) -> Vec<(Id, Content)> {
        let events = self.epochs.get(&id.epoch).map_or(&[][..], Vec::as_slice);
        let index = events.partition_point(|event| event.0 < id.sequence);
        let range = index.saturating_sub(by)..(index + by + 1).min(events.len());
        events[range].iter().map(|&(sequence, content)| (Id::new(id.epoch, sequence), content)).collect()
    }

    pub fn len(&self) -> usize {
        self.epochs.values().map(Vec::len).sum()
    }

    pub fn epochs(&self) -> usize {
        self.epochs.len()
    }
}
