//! A violation of a rule, and the trace that shows it.

use std::fmt::Write as _;

use crate::id::Id;
use crate::order::Order;
use crate::recording::{Line, Recording};

/// Lines of a client's log in a trace.
const LINES: usize = 12;

#[derive(Clone, Debug)]
pub struct Violation {
    /// The violated rule; `--ignore` takes this name.
    pub rule: &'static str,
    pub place: Place,
    /// The affected id.
    pub id: Option<Id>,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A client, and a line of its log.
    Client(usize, usize),
    /// A response to a publisher.
    Answer(usize),
    World,
}

impl Violation {
    pub fn of_client(rule: &'static str, client: usize, line: usize, id: Option<Id>, text: String) -> Self {
        Self { rule, place: Place::Client(client, line), id, text }
    }

    pub fn of_answer(rule: &'static str, answer: usize, id: Option<Id>, text: String) -> Self {
        Self { rule, place: Place::Answer(answer), id, text }
    }

    pub fn of_world(rule: &'static str, text: String) -> Self {
        Self { rule, place: Place::World, id: None, text }
    }

    /// Returns the time of the violation, in milliseconds of the phase.
    pub fn at(&self, recording: &Recording) -> Option<u32> {
        match self.place {
            Place::Client(client, line) => Some(recording.clients[client].get(line)?.0),
            Place::Answer(answer) => Some(recording.answers[answer].at),
            Place::World => None,
        }
    }

    /// Returns the end of the client's log up to the violation, the events around the id, and the faults before it.
    pub fn trace(&self, recording: &Recording, order: &Order) -> String {
        let mut trace = format!("{}: {}\n", self.rule, self.text);
        let at = self.at(recording).unwrap_or(u32::MAX);
        match self.place {
            Place::Client(client, line) => {
                let _ = writeln!(trace, "  client {client}:");
                let lines = &recording.clients[client];
                let from = (line + 1).saturating_sub(LINES);
                let begin = lines[..from].iter().rposition(|(_, line)| matches!(line, Line::Begin { .. }));
                let connect = lines[..from].iter().rposition(|(_, line)| matches!(line, Line::Connect { .. }));
                for place in begin.into_iter().chain(connect).chain(from..line + 1) {
                    let (at, line) = &lines[place];
                    let _ = writeln!(trace, "    {at:>6} ms  {}", line.describe(&recording.contents));
                }
            }
            Place::Answer(answer) => {
                let answer = &recording.answers[answer];
                let first = answer.contents.first().map(|&content| recording.contents.summary(content));
                let _ = writeln!(
                    trace,
                    "  {} events to server {}, first {first:?}: {} published, ids {:?}, {}",
                    answer.contents.len(),
                    answer.server,
                    answer.published,
                    answer.ids.map(|(first, last)| format!("{first} to {last}")),
                    answer.text
                );
            }
            Place::World => {}
        }
        if let Some(id) = self.id {
            let _ = writeln!(trace, "  events around {id}:");
            for (neighbor, content) in order.around(id, 4) {
                let mark = if neighbor == id { ">" } else { " " };
                let _ = writeln!(trace, "   {mark}{neighbor} {}", recording.contents.summary(content));
            }
        }
        let _ = writeln!(trace, "  faults before the violation:");
        let faults: Vec<_> = recording.faults.iter().filter(|fault| fault.0 <= at).collect();
        for (at, fault) in &faults[faults.len().saturating_sub(12)..] {
            let _ = writeln!(trace, "    {at:>6} ms  {fault}");
        }
        trace
    }
}
