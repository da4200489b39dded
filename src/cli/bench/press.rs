//! All publishers: which one sends which event, and its fate.

use std::collections::{HashSet, VecDeque};
use std::io::Write;
use std::net::SocketAddr;

use super::engine::Shared;
use super::latency::Latency;
use super::marker::{Mark, Marker};
use super::plan::{DATA, Plan};
use super::publisher::{Answer, Publisher, Sending};
use super::schedule::{NEVER, Schedule};
use super::topics::Draw;

/// Marks the epoll tokens of publishers.
pub const PUBLISHER: u64 = 1 << 40;

pub struct Press {
    publishers: Vec<Publisher>,
    /// Publishers that wait for an event, the longest waiting first.
    idle: VecDeque<u32>,
    /// Publishers that could not connect again.
    gone: usize,
    pub schedule: Schedule,
    draw: Draw,
    marker: Marker,
    body: Vec<u8>,
    /// The next number of each publisher for each topic.
    pub issued: Vec<u32>,
    /// Events that may or may not have been published.
    uncertain: HashSet<(u32, u32, u32)>,
    pub sent: u64,
    pub published: u64,
    pub failures: u64,
    /// From when an event was due until it was sent.
    pub late: Latency,
}

impl Press {
    pub fn new(plan: &Plan, server: SocketAddr, marker: Marker) -> Self {
        let count = plan.args.publishers;
        Self {
            publishers: (0..count as u64).map(|index| Publisher::new(PUBLISHER | index, server)).collect(),
            idle: (0..count as u32).collect(),
            gone: 0,
            schedule: Schedule::empty(),
            draw: Draw::new(&plan.args),
            marker,
            body: Vec::new(),
            issued: vec![0; plan.topics.len() * count],
            uncertain: HashSet::new(),
            sent: 0,
            published: 0,
            failures: 0,
            late: Latency::new(1),
        }
    }

    /// Connects all publishers, so that connecting does not delay the first events.
    pub fn connect(&mut self, shared: &Shared<'_>) -> std::io::Result<()> {
        self.publishers.iter_mut().try_for_each(|publisher| publisher.connect(&shared.epoll))
    }

    /// When the next event is due, if a publisher is idle.
    pub fn next(&self, now: u64) -> u64 {
        if self.idle.is_empty() { NEVER } else { self.schedule.next(now) }
    }

    /// Sends what is due by `now`.
    pub fn send_due(&mut self, now: u64, shared: &mut Shared<'_>) {
        while !self.idle.is_empty()
            && let Some(due) = self.schedule.take(now)
            && let Some(index) = self.idle.pop_front()
        {
            let topic = self.draw.next();
            let line = self.line(topic, index);
            let number = self.issued[line];
            let mark = Mark { topic, publisher: index, number, due };
            self.sent += 1;
            self.late.record(due, now);
            let publisher = &mut self.publishers[index as usize];
            write_request(&mut publisher.request, &mut self.body, shared.plan, &self.marker, mark);
            // It counts from now on: a stream may receive it before the publisher has the answer.
            self.issued[line] = number + 1;
            if let Some(failed) = publisher.send(Sending { topic, number }, &shared.epoll) {
                self.settle(index, failed, shared);
            }
        }
    }

    /// Serves a publisher whose socket is ready.
    pub fn ready(&mut self, index: u32, shared: &mut Shared<'_>) {
        if let Some(settled) = self.publishers[index as usize].ready(&mut shared.buffer) {
            self.settle(index, settled, shared);
        }
    }

    fn settle(&mut self, index: u32, (Sending { topic, number }, answer): (Sending, Answer), shared: &mut Shared<'_>) {
        if matches!(answer, Answer::NotSent(_)) {
            self.gone += 1;
        } else {
            self.idle.push_back(index);
        }
        let line = self.line(topic, index);
        let problem = match answer {
            Answer::Published => {
                self.published += 1;
                return;
            }
            Answer::Unknown(why) => {
                self.uncertain.insert((topic, index, number));
                format!("a publish failed: {why}")
            }
            // The event does not exist, and the next one takes its number.
            Answer::Refused(why) => {
                self.issued[line] = number;
                format!("a publish was refused: {why}")
            }
            Answer::NotSent(why) => {
                self.issued[line] = number;
                format!("a publisher could not connect: {why}")
            }
        };
        self.failures += 1;
        shared.problems.note(problem);
    }

    fn line(&self, topic: u32, publisher: u32) -> usize {
        topic as usize * self.publishers.len() + publisher as usize
    }

    /// Whether no publisher is left.
    pub fn is_gone(&self) -> bool {
        self.gone == self.publishers.len()
    }

    /// Whether all events due have been sent and answered.
    pub fn is_done(&self, now: u64) -> bool {
        self.is_gone() || (self.schedule.behind(now) == 0 && self.idle.len() + self.gone == self.publishers.len())
    }

    /// Whether this event may or may not have been published.
    pub fn is_uncertain(&self, topic: u32, publisher: usize, number: u32) -> bool {
        !self.uncertain.is_empty() && self.uncertain.contains(&(topic, publisher as u32, number))
    }
}

fn write_request(request: &mut Vec<u8>, body: &mut Vec<u8>, plan: &Plan, marker: &Marker, mark: Mark) {
    let topic = plan.topics[mark.topic as usize].as_bytes();
    body.clear();
    plan.body.render(body, |name, out| match name {
        DATA => marker.write(out, mark),
        _ => out.extend_from_slice(topic),
    });
    request.clear();
    request.extend_from_slice(plan.args.method.as_bytes());
    request.push(b' ');
    plan.publish.path.render(request, |_, out| out.extend_from_slice(topic));
    let written = write!(
        request,
        " HTTP/1.1\r\nhost: {}\r\ncontent-type: {}\r\n{}content-length: {}\r\n\r\n",
        plan.publish.server.authority(),
        plan.args.content_type,
        plan.publish_headers,
        body.len()
    );
    written.expect("writing to a Vec does not fail");
    request.extend_from_slice(body);
}
