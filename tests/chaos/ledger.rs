//! Judges what publishers were told against what clients were sent.

use std::collections::HashMap;

use crate::log::{Content, Recording, Rest};
use crate::order::Order;
use crate::violation::Violation;

/// How often an event was asked to be published: identical ones are told apart by their ids only.
#[derive(Default)]
struct Asked {
    published: usize,
    unknown: usize,
    never: Option<usize>,
}

/// Judges all answers.
pub fn judge(recording: &Recording, order: &Order, violations: &mut Vec<Violation>) {
    let mut asked: HashMap<Content, Asked> = HashMap::new();
    for (number, answer) in recording.answers.iter().enumerate() {
        let mut report = |rule, text: String| {
            violations.push(Violation::of_answer(rule, number, answer.ids.map(|ids| ids.0), text));
        };
        let (published, count) = (answer.published, answer.contents.len());
        if published > count {
            report("answer", format!("{published} events are said to be published, and {count} were sent"));
        }
        match answer.ids {
            Some(_) if published == 0 => report("answer", "ids of no events".to_owned()),
            None if published > 0 => report("answer", format!("{published} published events have no ids")),
            Some((first, last)) => {
                let span = (last.sequence + 1).saturating_sub(first.sequence);
                let is_dense = span == published as u64 || (answer.is_ndjson && span > published as u64);
                if first.epoch == last.epoch && !is_dense {
                    report("answer", format!("{published} events from {first} to {last}"));
                }
            }
            None => {}
        }
        let says = |words| answer.text.contains(words);
        if (says("nothing was published") && published > 0) || (says("published up to") && published == 0) {
            report("answer", format!("{:?}, beside {published} published events", answer.text));
        }
        if answer.has_retry_after && published == count {
            report("answer", format!("all events are published, and are to be sent again: {:?}", answer.text));
        }
        for (place, &content) in answer.contents.iter().enumerate() {
            let asked = asked.entry(content).or_default();
            match answer.rest {
                _ if place < published => asked.published += 1,
                Rest::Unknown => asked.unknown += 1,
                Rest::Never => asked.never = Some(number),
            }
        }
    }
    let is_lossless = recording.terms.is_lossless;
    for (content, asked) in &asked {
        let ids = order.ids_of(*content);
        let most = asked.published + asked.unknown;
        let shown = recording.contents.shown(*content);
        if let Some(never) = asked.never.filter(|_| ids.len() > most) {
            let at = ids.last().map(ToString::to_string).unwrap_or_default();
            let text = format!("{shown:?} is in the stream (last as {at}), and its publisher was told that it is not");
            violations.push(Violation::of_answer("never-published", never, ids.last().copied(), text));
        } else if is_lossless && ids.len() > most {
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            let text = format!("{shown:?} was published {most} times, and is in the stream as {}", ids.join(", "));
            violations.push(Violation::of_world("published-twice", text));
        }
        if is_lossless && ids.len() < asked.published {
            let (there, published) = (ids.len(), asked.published);
            let text = format!("{shown:?} was acknowledged {published} times, and is in the stream {there} times");
            violations.push(Violation::of_world("acknowledged-lost", text));
        }
    }
}
