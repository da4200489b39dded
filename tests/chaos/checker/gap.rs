//! Checks a gap: its reason, range, filters, and count.

use super::{Checker, GapRange};
use crate::filter::belongs_to;
use crate::id::Id;
use crate::recording::Gap;

impl<'a> Checker<'a> {
    pub(super) fn gap(&mut self, gap: &'a Gap) {
        if !self.has_hello {
            self.report("no-hello", gap.id, "a gap arrived before a hello".to_owned());
        }
        let (Some(resume), Some(to)) = (gap.id, gap.to) else {
            self.report("gap-without-id", gap.id, "a gap without an id or `to`".to_owned());
            return;
        };
        self.gap_required = None;
        let is_unknown = std::mem::take(&mut self.sent_unknown_id);
        self.check_reason(gap, is_unknown);
        self.check_range(gap, to, is_unknown);
        let topics = gap.topics.as_deref().unwrap_or(&[]);
        if gap.topics.is_some() && (topics.is_empty() || topics.iter().any(|topic| !self.filters.contains(topic))) {
            self.report("gap-topics", gap.id, format!("{topics:?} are not filters of the client: {:?}", self.filters));
        }
        let from = gap.from.filter(|from| from.epoch == to.epoch && gap.reason != "unknown_id");
        let from = from.unwrap_or(Id::new(to.epoch, 0));
        if let Some(missed) = gap.missed {
            self.check_count(gap, missed, from, to, topics);
        }
        let is_new_start = gap.reason == "unknown_id" || is_unknown;
        self.gaps.push(GapRange { from, to: to.sequence, topics });
        if let Some(current) = self.current.filter(|current| current.epoch == resume.epoch && !is_new_start) {
            if resume.sequence < current.sequence {
                let text = format!("the gap leads back to {resume}, but the client was at {current}");
                self.report("order", Some(resume), text);
            }
            self.nothing_missing(current, resume.sequence);
        }
        self.current = Some(resume);
    }

    fn check_reason(&mut self, gap: &Gap, is_unknown: bool) {
        let reason = gap.reason.as_str();
        if reason == "unknown_id" {
            if !is_unknown {
                let text = format!("reason unknown_id, but this stream issued {:?}", self.requested);
                self.report("unknown-id", self.current, text);
            }
        } else if !is_unknown && !self.recording.expectations.reasons.contains(&reason) {
            self.report("gap-without-cause", gap.id, format!("this phase cannot cause a gap for {reason}"));
        }
        if gap.missed.is_some() && ["unknown_id", "epoch", "lost"].contains(&reason) {
            self.report(
                "gap-count",
                gap.id,
                format!("a gap for {reason} cannot know its count, but has {:?}", gap.missed),
            );
        }
        let ring = self.recording.expectations.smallest_ring;
        if let Some(behind) = gap.behind.filter(|&behind| reason == "lagged" && behind < ring) {
            let text = format!("the client was at most {behind} events behind, but the ring holds {ring}");
            self.report("lag-without-cause", gap.id, text);
        }
    }

    fn check_range(&mut self, gap: &Gap, to: Id, is_unknown: bool) {
        if let (Some(current), Some(resume)) = (self.current, gap.id)
            && current.epoch != resume.epoch
            && self.order.is_before(resume.epoch, current.epoch)
        {
            let text = format!("from {current} back to {resume}, in an older epoch");
            self.report("epoch-backwards", Some(resume), text);
        }
        let Some(from) = gap.from else {
            if gap.reason != "unknown_id" && !is_unknown {
                self.report("gap-range", gap.id, "the gap has no `from`".to_owned());
            }
            return;
        };
        if from == to || (from.epoch == to.epoch && from.sequence > to.sequence) {
            self.report("gap-range", gap.id, format!("a gap from {from} to {to} is empty"));
        }
        let Some(current) = self.current.filter(|_| !is_unknown) else { return };
        if current.epoch != from.epoch {
            self.report("gap-range", gap.id, format!("the gap begins at {from}, but the client was at {current}"));
        } else if from.sequence > current.sequence {
            self.nothing_missing(current, from.sequence);
        } else {
            let topics = gap.topics.as_deref().unwrap_or(&[]);
            let order = self.order;
            let is_of = |topic: &str| topics.is_empty() || belongs_to(topic, topics, self.filters);
            let last = if from.epoch == to.epoch { current.sequence.min(to.sequence) } else { current.sequence };
            let sent = order
                .between(from, last)
                .find(|(id, content)| is_of(self.recording.contents.topic(*content)) && self.was_sent(*id));
            if let Some((id, _)) = sent {
                self.report(
                    "gap-of-delivered",
                    Some(id),
                    format!("the gap from {from} covers {id}, which was delivered"),
                );
            }
        }
    }

    /// Checks that `missed` is the number of the client's events in the range, as far as they are known, without events that
    /// an earlier gap of the connection has counted.
    fn check_count(&mut self, gap: &Gap, missed: u64, from: Id, to: Id, topics: &[String]) {
        let (mut known, mut all) = (0, 0);
        for (id, content) in self.order.between(from, to.sequence) {
            all += 1;
            let topic = self.recording.contents.topic(content);
            let is_of = topics.is_empty() || belongs_to(topic, topics, self.filters);
            let is_counted = is_of && self.subscribed[self.order.topic_number(content)] && !self.is_covered(id, topic);
            known += u64::from(is_counted);
        }
        let unknown = to.sequence.saturating_sub(from.sequence).saturating_sub(all);
        if !(known..=known + unknown).contains(&missed) {
            let most = if unknown > 0 { format!(" to {}", known + unknown) } else { String::new() };
            let text = format!("missed is {missed}, but the client has {known}{most} events from {from} to {to}");
            self.report("gap-count", gap.id, text);
        }
    }
}
