//! All publishers: which of them sends which event when, and what became of it.

use std::collections::{HashSet, VecDeque};
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use super::latency::Latency;
use super::marker::{Mark, Marker};
use super::plan::{DATA, Plan};
use super::problems::Problems;
use super::publisher::{Answer, Publisher, Sending};
use super::schedule::Schedule;
use super::topics::Draw;

/// Set in the names that publishers have in epoll.
pub const PUBLISHER: u64 = 1 << 40;

pub struct Press {
    publishers: Vec<Publisher>,
    /// Publishers that wait for an event, the longest waiting first.
    idle: VecDeque<u32>,
    /// Publishers that get no connection any more.
    gone: usize,
    pub schedule: Schedule,
    draw: Draw,
    marker: Marker,
    body: Vec<u8>,
    /// The next number of each publisher for each topic.
    pub issued: Vec<u32>,
    /// Events of which nobody knows whether they were published.
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

    /// Connects all publishers: the first events are not late for want of a connection.
    pub fn connect(&mut self, epoll: &OwnedFd) -> std::io::Result<()> {
        self.publishers.iter_mut().try_for_each(|publisher| publisher.connect(epoll))
    }

    /// When the next event is to be sent, if there is somebody to send it.
    pub fn next(&self, now: u64) -> u64 {
        if self.idle.is_empty() { super::schedule::NEVER } else { self.schedule.next(now) }
    }

    /// Sends what is due by `now`.
    pub fn send_due(&mut self, now: u64, plan: &Plan, epoll: &OwnedFd, problems: &mut Problems) {
        while !self.idle.is_empty()
            && let Some(due) = self.schedule.take(now)
            && let Some(index) = self.idle.pop_front()
        {
            let topic = self.draw.next();
            let number = self.issued[self.line(topic, index)];
            let mark = Mark { topic, publisher: index, number, due };
            self.sent += 1;
            self.late.record(due, now);
            write_request(&mut self.publishers[index as usize].request, &mut self.body, plan, &self.marker, mark);
            // It counts from now on: a stream may have it before the publisher has the answer.
            let line = self.line(topic, index);
            self.issued[line] = number + 1;
            let failed = self.publishers[index as usize].send(Sending { topic, number }, epoll);
            if let Some((sending, answer)) = failed {
                self.settle(index, sending, answer, problems);
            }
        }
    }

    /// Goes on with a publisher whose socket is ready.
    pub fn ready(&mut self, index: u32, buffer: &mut [u8], problems: &mut Problems) {
        if let Some((sending, answer)) = self.publishers[index as usize].ready(buffer) {
            self.settle(index, sending, answer, problems);
        }
    }

    fn settle(&mut self, index: u32, sending: Sending, answer: Answer, problems: &mut Problems) {
        let line = self.line(sending.topic, index);
        if answer == Answer::Published {
            self.published += 1;
            self.idle.push_back(index);
            return;
        }
        self.failures += 1;
        match answer {
            Answer::Published => {}
            Answer::Refused(why) => {
                // Nobody will ever see it, so the next one takes its number.
                self.issued[line] = sending.number;
                problems.note(format!("a publish was refused: {why}"));
                self.idle.push_back(index);
            }
            Answer::Unknown(why) => {
                self.uncertain.insert((sending.topic, index, sending.number));
                problems.note(format!("a publish failed: {why}"));
                self.idle.push_back(index);
            }
            Answer::NotSent(why) => {
                self.issued[line] = sending.number;
                problems.note(format!("a publisher gave up, as it got no connection: {why}"));
                self.gone += 1;
            }
        }
    }

    fn line(&self, topic: u32, publisher: u32) -> usize {
        topic as usize * self.publishers.len() + publisher as usize
    }

    /// Whether nobody is left to send anything.
    pub fn is_gone(&self) -> bool {
        self.gone == self.publishers.len()
    }

    /// Whether all that was due has been sent and answered.
    pub fn is_done(&self, now: u64) -> bool {
        self.is_gone() || (self.schedule.behind(now) == 0 && self.idle.len() + self.gone == self.publishers.len())
    }

    /// Whether nobody knows if this event was published.
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
        plan.publish.authority,
        plan.args.content_type,
        plan.publish_headers,
        body.len()
    );
    written.expect("a Vec takes all that is written");
    request.extend_from_slice(body);
}
