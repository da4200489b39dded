//! An NDJSON body: one event a line, published as the lines come.
//!
//! **Contract.** The upload stops at the first line that cannot be published. The problem then counts the events that were
//! published (`published`, `first_id`, `last_id`), and `line` is the first line from which on nothing was published. Of the
//! lines before it only `unknown_lines`, when that member is there, may or may not have been published. `Retry-After` is
//! sent only when nothing of the body was published: an automatic retry sends all of it again.

use std::ops::RangeInclusive;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::Instant;

use super::super::Options;
use super::super::admit::Permit;
use super::super::problem::Problem;
use super::{answer, timed};
use crate::conn::Shard;
use crate::event::Event;
use crate::hub::{Outcome, PublishError, Published};
use crate::limit::PublishQuota;
use crate::wire::lines::{LineSplitter, LineTooLong};
use crate::wire::publication::parse_event;

/// How many lines are published before readers on the same shard get their turn.
const LINES_PER_TURN: usize = 256;

/// Publishes each line as it comes; stops at the first that is not right.
pub(super) async fn publish(
    shard: &Shard,
    options: &Options,
    mut permit: Permit<'_>,
    quota: &PublishQuota<'_>,
    mut body: Incoming,
) -> Result<Value, Problem> {
    let mut lines = LineSplitter::new(max_line_bytes(options));
    let mut progress = Progress::default();
    let mut patience = Patience::new(options);
    loop {
        let frame = match tokio::time::timeout_at(patience.deadline, body.frame()).await {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame,
            // The client disconnected: the lines that came whole are published.
            Ok(Some(Err(error))) => {
                return Err(progress.stopped(Problem::bad_request(format!("the body broke off: {error}"))));
            }
            Err(_) => return Err(progress.stopped(patience.is_over(progress.lines + 1))),
        };
        let Ok(data) = frame.into_data() else { continue };
        let ends_a_line = memchr::memchr(b'\n', &data).is_some();
        lines.push(data);
        permit.goes_on().map_err(|problem| progress.stopped(problem))?;
        progress.publish(shard, options, &mut permit, quota, &mut lines).await?;
        patience.goes_on(lines.is_within_line(), ends_a_line);
    }
    lines.finish();
    permit.goes_on().map_err(|problem| progress.stopped(problem))?;
    progress.publish(shard, options, &mut permit, quota, &mut lines).await?;
    Ok(answer(progress.published, progress.count))
}

fn max_line_bytes(options: &Options) -> usize {
    // An escaped character takes up to six times its bytes; and there is room for the other keys.
    options.max_line_bytes.unwrap_or(options.max_event_bytes * 6 + 2048)
}

/// How long a body of lines is waited for: a line that has begun is to end soon, and the next may take its time to begin.
struct Patience<'a> {
    options: &'a Options,
    is_within_a_line: bool,
    deadline: Instant,
}

impl<'a> Patience<'a> {
    fn new(options: &'a Options) -> Self {
        Self { options, is_within_a_line: false, deadline: Instant::now() + options.upload_timeout }
    }

    /// More has come. A line that goes on has the time that it was given when it began.
    fn goes_on(&mut self, is_within_a_line: bool, ends_a_line: bool) {
        if is_within_a_line && self.is_within_a_line && !ends_a_line {
            return;
        }
        self.is_within_a_line = is_within_a_line;
        let time = if is_within_a_line { self.options.body_timeout } else { self.options.upload_timeout };
        self.deadline = Instant::now() + time;
    }

    fn is_over(&self, line: u64) -> Problem {
        let Options { body_timeout, upload_timeout, .. } = self.options;
        let detail = if self.is_within_a_line {
            format!("line {line} did not end within {} s (setting body_timeout)", body_timeout.as_secs_f64())
        } else {
            format!("nothing came for {} s (setting upload_timeout)", upload_timeout.as_secs_f64())
        };
        Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
    }
}

/// How far an upload has got.
#[derive(Default)]
struct Progress {
    /// Lines that were read: they are published or empty, except for those that [`Progress::publish`] works on.
    lines: u64,
    count: u64,
    published: Option<Published>,
}

/// The next events of an upload, which are published whole or not at all.
#[derive(Default)]
struct Turn {
    events: Vec<Event>,
    first_line: u64,
    last_line: u64,
    /// What is wrong with the line behind them, if it was read and is wrong.
    problem: Option<Problem>,
}

impl Turn {
    fn lines(&self) -> RangeInclusive<u64> {
        self.first_line..=self.last_line
    }
}

impl Progress {
    async fn publish(
        &mut self,
        shard: &Shard,
        options: &Options,
        permit: &mut Permit<'_>,
        quota: &PublishQuota<'_>,
        lines: impl Iterator<Item = Result<Bytes, LineTooLong>>,
    ) -> Result<(), Problem> {
        let mut lines = lines.peekable();
        let at_once = LINES_PER_TURN.min(quota.max_batch());
        while lines.peek().is_some() {
            let mut turn = self.read(options, permit, lines.by_ref().take(at_once));
            if !turn.events.is_empty() {
                let first_line = turn.first_line;
                // An upload that is faster than its rate waits, and its socket with it.
                let waited = quota.charge_when_available(turn.events.len(), options.upload_timeout).await;
                if waited.map_err(|error| self.stopped_at(first_line, error.into()))? {
                    permit.goes_on().map_err(|problem| self.stopped_at(first_line, problem))?;
                    let may = turn.events.iter().try_for_each(|event| permit.publishes(event.topic()));
                    may.map_err(|problem| self.stopped_at(first_line, problem))?;
                }
                let events = std::mem::take(&mut turn.events);
                let count = events.len() as u64;
                match timed(shard, shard.hub.publish_all(events)).await {
                    Ok(published) => self.note(count, published),
                    Err(error) => return Err(self.failed(error, turn.lines(), count)),
                }
            }
            if let Some(problem) = turn.problem {
                let line = self.lines;
                return Err(self.stopped_at(line, problem.at(&format!("line {line}"))));
            }
            // A body can come faster than readers on this shard are woken: they have their turn now.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Reads `lines` up to the first that is wrong.
    fn read(
        &mut self,
        options: &Options,
        permit: &Permit<'_>,
        lines: impl Iterator<Item = Result<Bytes, LineTooLong>>,
    ) -> Turn {
        let mut turn = Turn::default();
        for line in lines {
            self.lines += 1;
            let event = match line {
                Ok(line) if line.trim_ascii().is_empty() => continue,
                Ok(line) => parse_event(&line, options.max_event_bytes).map_err(Problem::from),
                Err(_) => Err(too_long(options)),
            };
            match event.and_then(|event| permit.publishes(event.topic()).map(|()| event)) {
                Ok(event) => {
                    if turn.events.is_empty() {
                        turn.first_line = self.lines;
                    }
                    turn.last_line = self.lines;
                    turn.events.push(event);
                }
                Err(problem) => {
                    turn.problem = Some(problem);
                    break;
                }
            }
        }
        turn
    }

    fn note(&mut self, count: u64, published: Option<Published>) {
        self.count += count;
        if let Some(Published { first, last }) = published {
            let first = self.published.map_or(first, |earlier| earlier.first);
            self.published = Some(Published { first, last });
        }
    }

    /// The problem of `count` events in `lines` that were not acknowledged.
    fn failed(&mut self, error: PublishError, lines: RangeInclusive<u64>, count: u64) -> Problem {
        let (first, last, problem) = (*lines.start(), *lines.end(), Problem::from(error));
        let before = match self.count {
            0 => String::new(),
            1 => "; the event before them was published".to_owned(),
            count => format!("; the {count} events before them were published"),
        };
        match error.outcome() {
            Outcome::Published(published) => {
                self.note(count, Some(published));
                let next = last + 1;
                let detail = format!("{error}; the lines from {next} on were not published");
                self.stopped_at(next, problem.saying(detail))
            }
            Outcome::NotPublished if self.count == 0 => self.stopped_at(first, problem),
            Outcome::NotPublished => {
                let detail = format!("{}: the lines from {first} on were not published{before}", error.cause());
                self.stopped_at(first, problem.saying(detail))
            }
            Outcome::Unknown => {
                let lines = if first == last { format!("line {first}") } else { format!("lines {first} to {last}") };
                let detail = format!(
                    "{}: {lines} may have been published, or may be yet{before}; the lines from {} on were not published",
                    error.cause(),
                    last + 1
                );
                self.stopped_at(last + 1, problem.saying(detail)).with("unknown_lines", vec![first, last])
            }
        }
    }

    /// The problem of an upload whose lines were all published as far as they were read.
    fn stopped(&self, problem: Problem) -> Problem {
        self.stopped_at(self.lines + 1, problem)
    }

    /// The problem of an upload of which nothing was published from `line` on.
    fn stopped_at(&self, line: u64, problem: Problem) -> Problem {
        let problem = if self.count > 0 { problem.without_retry() } else { problem };
        let first = self.published.map(|published| published.first.to_string());
        let last = self.published.map(|published| published.last.to_string());
        problem.with("line", line).with("published", self.count).with("first_id", first).with("last_id", last)
    }
}

fn too_long(options: &Options) -> Problem {
    let detail = match options.max_line_bytes {
        Some(max) => format!("the line has more than {max} bytes (setting max_line_bytes)"),
        None => {
            format!("the line is too long for an event of {} bytes (setting max_event_bytes)", options.max_event_bytes)
        }
    };
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}
