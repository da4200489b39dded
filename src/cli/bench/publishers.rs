//! All publishers: which one sends which event, and its fate.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;

use super::engine::Shared;
use super::latency::Latency;
use super::marker::{Mark, Marker};
use super::plan::Plan;
use super::publisher::{Answer, Publisher};
use super::schedule::{NEVER, Schedule};
use super::topics::Draw;

/// Marks the epoll tokens of publishers.
pub const PUBLISHER: u64 = 1 << 40;

pub struct Publishers {
    all: Vec<Publisher>,
    /// The newest event of each publisher: its lane and number.
    newest: Vec<(usize, u32)>,
    /// Publishers that wait for an event, the longest waiting first.
    idle: VecDeque<u32>,
    /// Publishers that could not connect again.
    gone: usize,
    pub schedule: Schedule,
    draw: Draw,
    places: usize,
    lanes_per_place: usize,
    marker: Marker,
    /// The next number of each lane: of each publisher for each topic, or of each key, which has one publisher.
    pub issued: Vec<u32>,
    /// Lines and numbers of events that may or may not have been published.
    uncertain: HashSet<(usize, u32)>,
    pub sent: u64,
    pub published: u64,
    /// From when an event was due until it was sent.
    pub late: Latency,
}

impl Publishers {
    pub fn new(plan: &Plan, server: SocketAddr, marker: Marker) -> Self {
        let count = plan.args.publishers;
        Self {
            all: (0..count as u64).map(|index| Publisher::new(PUBLISHER | index, server)).collect(),
            newest: vec![(0, 0); count],
            idle: (0..count as u32).collect(),
            gone: 0,
            schedule: Schedule::at_once(0),
            draw: Draw::new(&plan.args),
            places: plan.args.places(),
            lanes_per_place: plan.args.lanes_per_place(),
            marker,
            issued: vec![0; plan.args.places() * plan.args.lanes_per_place()],
            uncertain: HashSet::new(),
            sent: 0,
            published: 0,
            late: Latency::new(1),
        }
    }

    /// Connects all publishers, so that connecting does not delay the first events.
    pub fn connect(&mut self, shared: &Shared<'_>) -> io::Result<()> {
        self.all.iter_mut().try_for_each(|publisher| publisher.connect(&shared.epoll))
    }

    /// When the next event is due, if a publisher is idle.
    pub fn next(&self, now: u64) -> u64 {
        if self.idle.is_empty() { NEVER } else { self.schedule.next(now) }
    }

    /// Sends what is due by `now`.
    pub fn send_due(&mut self, now: u64, shared: &mut Shared<'_>) {
        while !self.idle.is_empty()
            && let Some(due) = self.schedule.take(now)
            && let Some(publisher) = self.idle.pop_front()
        {
            let index = publisher as usize;
            let (topic, lane) = self.place(index);
            let number = self.issued[lane];
            self.newest[index] = (lane, number);
            // It counts from now on: a stream may receive it before the publisher has the answer.
            self.issued[lane] = number + 1;
            self.sent += 1;
            self.late.record(due, now);
            let payload =
                self.marker.payload(Mark { topic, publisher: publisher % self.lanes_per_place as u32, number, due });
            let request = shared.plan.publish_request(topic, &payload);
            if let Some(failed) = self.all[index].send(request, &shared.epoll) {
                self.settle(publisher, failed, shared);
            }
        }
    }

    /// The topic or key of the next event of a publisher, and its lane.
    fn place(&mut self, publisher: usize) -> (u32, usize) {
        let (place, count) = (self.draw.next() as usize, self.all.len());
        if self.lanes_per_place > 1 || count == 1 {
            return (place as u32, place * self.lanes_per_place + publisher % self.lanes_per_place);
        }
        // The nearest one that belongs to this publisher.
        let own = place - place % count + publisher;
        let own = if own < self.places { own } else { own - count };
        (own as u32, own)
    }

    /// Serves a publisher whose socket is ready.
    pub fn ready(&mut self, publisher: u32, shared: &mut Shared<'_>) {
        if let Some(answer) = self.all[publisher as usize].ready(&mut shared.buffer) {
            self.settle(publisher, answer, shared);
        }
    }

    fn settle(&mut self, publisher: u32, answer: Answer, shared: &mut Shared<'_>) {
        if matches!(answer, Answer::NotSent(_)) {
            self.gone += 1;
        } else {
            self.idle.push_back(publisher);
        }
        let (lane, number) = self.newest[publisher as usize];
        shared.problems.note(match answer {
            Answer::Published => {
                self.published += 1;
                return;
            }
            Answer::Unknown(why) => {
                self.uncertain.insert((lane, number));
                format!("a publish failed: {why}")
            }
            // The event does not exist, and the next one takes its number.
            Answer::Refused(why) => {
                self.issued[lane] = number;
                format!("a publish was refused: {why}")
            }
            Answer::NotSent(why) => {
                self.issued[lane] = number;
                format!("a publisher could not connect: {why}")
            }
        });
    }

    /// Whether no publisher is left.
    pub fn is_gone(&self) -> bool {
        self.gone == self.all.len()
    }

    /// Whether all events have been sent and answered, or no publisher is left.
    pub fn is_done(&self) -> bool {
        self.is_gone() || (self.schedule.left() == 0 && self.idle.len() + self.gone == self.all.len())
    }

    /// Whether this event may or may not have been published.
    pub fn is_uncertain(&self, lane: usize, number: u32) -> bool {
        !self.uncertain.is_empty() && self.uncertain.contains(&(lane, number))
    }
}
