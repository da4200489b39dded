//! Checks the responses to publishers against the events that clients received.

use std::collections::HashMap;

use crate::order::Order;
use crate::recording::{Answer, Content, Recording, Unpublished};
use crate::violation::Violation;

/// The outcomes of all requests to publish one event. Identical events differ only by their ids.
#[derive(Default)]
struct Outcomes {
    published: usize,
    unknown: usize,
    /// The last response that said that the event was not published.
    never: Option<usize>,
}

/// Checks all responses.
pub fn check(recording: &Recording, order: &Order, violations: &mut Vec<Violation>) {
    let mut requested: HashMap<Content, Outcomes> = HashMap::new();
    for (number, answer) in recording.answers.iter().enumerate() {
        check_answer(answer, |text| {
            violations.push(Violation::of_answer("answer", number, answer.ids.map(|ids| ids.0), text));
        });
        for (place, &content) in answer.contents.iter().enumerate() {
            let outcomes = requested.entry(content).or_default();
            match answer.unpublished {
                _ if place < answer.published => outcomes.published += 1,
                Unpublished::Unknown => outcomes.unknown += 1,
                Unpublished::Never => outcomes.never = Some(number),
            }
        }
    }
    for (content, outcomes) in &requested {
        check_event(recording, order, *content, outcomes, violations);
    }
}

/// Checks that the parts of a response agree.
fn check_answer(answer: &Answer, mut report: impl FnMut(String)) {
    let (published, count) = (answer.published, answer.contents.len());
    if published > count {
        report(format!("{published} events published of {count} requested"));
    }
    match answer.ids {
        Some(_) if published == 0 => report("ids, but no published events".to_owned()),
        None if published > 0 => report(format!("{published} published events without ids")),
        Some((first, last)) => {
            let span = (last.sequence + 1).saturating_sub(first.sequence);
            let is_dense = span == published as u64 || (answer.is_ndjson && span > published as u64);
            if first.epoch == last.epoch && !is_dense {
                report(format!("{published} published events do not fit the ids {first} to {last}"));
            }
        }
        None => {}
    }
    let says = |phrase| answer.text.contains(phrase);
    if (says("nothing was published") && published > 0) || (says("published up to") && published == 0) {
        report(format!("{:?}, but {published} events were published", answer.text));
    }
    if answer.has_retry_after && published == count {
        report(format!("all events were published, but Retry-After asks to send them again: {:?}", answer.text));
    }
}

/// Compares how often an event is in the stream with the responses to its publishers.
fn check_event(
    recording: &Recording,
    order: &Order,
    content: Content,
    outcomes: &Outcomes,
    violations: &mut Vec<Violation>,
) {
    let (ids, event) = (order.ids_of(content), recording.contents.summary(content));
    let (is_lossless, most) = (recording.expectations.is_lossless, outcomes.published + outcomes.unknown);
    if let Some(never) = outcomes.never.filter(|_| ids.len() > most) {
        let at = ids.last().map(ToString::to_string).unwrap_or_default();
        let text =
            format!("{event:?} is in the stream (last id {at}), but the response said that it was not published");
        violations.push(Violation::of_answer("never-published", never, ids.last().copied(), text));
    } else if is_lossless && ids.len() > most {
        let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
        let text = format!("{event:?} was published at most {most} times, but the stream has it as {}", ids.join(", "));
        violations.push(Violation::of_world("published-twice", text));
    }
    if is_lossless && ids.len() < outcomes.published {
        let (found, published) = (ids.len(), outcomes.published);
        let text = format!("{event:?} was acknowledged {published} times, but the stream has it {found} times");
        violations.push(Violation::of_world("acknowledged-lost", text));
    }
}
