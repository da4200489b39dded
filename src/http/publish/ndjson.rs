//! NDJSON bodies: one event a line, published as the lines arrive.
//!
//! **Contract.** The upload stops at the first line that cannot be published. The problem then has the number of events
//! published (`published`, `first_id`, `last_id`) and `line`, the first line from which on nothing was published. Of
//! the lines before it, only those in `unknown_lines`, if present, may or may not have been published. `Retry-After` is
//! sent only when nothing was published, because an automatic retry repeats the whole body.

use std::future::{Future, poll_fn};
use std::ops::RangeInclusive;
use std::pin::{Pin, pin};
use std::task::Poll;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::Body;
use tokio::time::{Instant, sleep_until};

use super::super::Options;
use super::super::admit::Permit;
use super::super::content_encoding::DecodedBody;
use super::super::problem::Problem;
use super::observe_latency;
use super::receipt::Receipt;
use crate::conn::Shard;
use crate::event::Event;
use crate::hub::{Outcome, PublishError, Published};
use crate::limit::PublishQuota;
use crate::wire::lines::{LineSplitter, LineTooLong};
use crate::wire::publication::{parse_event, parse_event_after};

/// How many lines are published before readers on the same shard get their turn.
const LINES_PER_TURN: usize = 256;

/// Publishes each line as it arrives. Stops at the first invalid one.
pub(super) async fn publish(
    shard: &Shard,
    options: &Options,
    permit: &mut Permit<'_>,
    quota: PublishQuota<'_>,
    mut body: DecodedBody,
) -> Result<Receipt, Problem> {
    // An escaped character takes up to six times its bytes, and the other keys need room.
    let max_line_bytes = options.max_event_as_json();
    let lines = LineSplitter::new(max_line_bytes);
    let deadline = Instant::now() + options.upload_timeout;
    // Moved rather than replaced for each frame: a later end costs no lock.
    let mut end = pin!(sleep_until(deadline));
    let mut upload = Upload {
        shard,
        options,
        permit,
        quota,
        lines,
        deadline,
        within_line: false,
        line: 0,
        count: 0,
        published: None,
        of_turn: 0,
    };
    loop {
        let frame = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Some(frame)),
            Poll::Pending => end.as_mut().poll(cx).map(|()| None),
        });
        let frame = match frame.await {
            Some(None) => break,
            Some(Some(Ok(frame))) => frame,
            // The client disconnected. Its complete lines are published.
            Some(Some(Err(error))) => {
                return Err(upload.stopped(Problem::bad_request(format!("the body broke off: {error}"))));
            }
            None => return Err(upload.timed_out()),
        };
        let Ok(data) = frame.into_data() else { continue };
        let ends_line = memchr::memchr(b'\n', &data).is_some();
        upload.lines.push(data);
        upload.publish_lines().await?;
        upload.extend_deadline(ends_line);
        end.as_mut().reset(upload.deadline);
    }
    upload.lines.finish();
    upload.publish_lines().await?;
    Ok(Receipt::of_several(upload.published, upload.count))
}

/// Parses a whole body, which is published all or none.
pub(super) fn parse(body: &Bytes, max_event_bytes: usize) -> Result<Vec<Event>, Problem> {
    let lines = (1..).zip(body.split(|&byte| byte == b'\n')).filter(|(_, line)| !line.trim_ascii().is_empty());
    let events = lines.map(|(number, line)| {
        let event = parse_event(&body.slice_ref(line), max_event_bytes);
        event.map_err(|error| {
            Problem::from(error).at(&format!("line {number}")).with("line", number).with("published", 0)
        })
    });
    events.collect()
}

/// An upload and its progress.
struct Upload<'a, 'p> {
    shard: &'a Shard,
    options: &'a Options,
    permit: &'a mut Permit<'p>,
    quota: PublishQuota<'a>,
    lines: LineSplitter,
    /// When the next bytes must have arrived: a line that has begun must end soon, and the next one may take its time.
    deadline: Instant,
    /// Whether a line has begun that is not complete.
    within_line: bool,
    /// Lines read. They are published or empty, except for those of the current [`Turn`].
    line: u64,
    /// Events published.
    count: u64,
    published: Option<Published>,
    /// Lines read since readers on the same shard got their turn.
    of_turn: usize,
}

/// The next events of an upload, which are published together or not at all.
#[derive(Default)]
struct Turn {
    events: Vec<Event>,
    first_line: u64,
    last_line: u64,
    /// The problem of the line after them, if that is invalid.
    problem: Option<Problem>,
}

impl Upload<'_, '_> {
    /// Extends the deadline after bytes arrived, unless they only continue a line.
    fn extend_deadline(&mut self, ends_line: bool) {
        let was_within_line = std::mem::replace(&mut self.within_line, self.lines.is_within_line());
        if !self.within_line {
            self.deadline = Instant::now() + self.options.upload_timeout;
        } else if !was_within_line || ends_line {
            self.deadline = Instant::now() + self.options.body_timeout;
        }
    }

    fn timed_out(&self) -> Problem {
        let Options { body_timeout, upload_timeout, .. } = self.options;
        let detail = if self.within_line {
            let (line, seconds) = (self.line + 1, body_timeout.as_secs_f64());
            format!("line {line} did not end within {seconds} s (setting body_timeout)")
        } else {
            format!("nothing came for {} s (setting upload_timeout)", upload_timeout.as_secs_f64())
        };
        self.stopped(Problem::new(StatusCode::REQUEST_TIMEOUT, detail))
    }

    /// Publishes the complete lines.
    async fn publish_lines(&mut self) -> Result<(), Problem> {
        self.permit.check_upload().map_err(|problem| self.stopped(problem))?;
        while let Some(turn) = self.read_turn() {
            if !turn.events.is_empty() {
                self.publish_events(turn.events, turn.first_line..=turn.last_line).await?;
            }
            if let Some(problem) = turn.problem {
                let line = self.line;
                return Err(self.stopped_at(line, problem.at(&format!("line {line}"))));
            }
            // A body may arrive faster than readers on this shard are woken: they get their turn now. Not after each line: a
            // turn of a thread that has nothing else to do costs a system call.
            if self.of_turn >= LINES_PER_TURN {
                self.of_turn = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Reads lines up to the first invalid one. Returns `None` when no complete line is left.
    fn read_turn(&mut self) -> Option<Turn> {
        let mut turn = Turn::default();
        let before = self.line;
        for line in self.lines.by_ref().take(LINES_PER_TURN.min(self.quota.max_batch())) {
            self.line += 1;
            // Most lines of an upload have the topic of the line before, which was checked.
            let before = turn.events.last().map(Event::topic);
            let event = match line {
                Ok(line) if line.trim_ascii().is_empty() => continue,
                Ok(line) => parse_event_after(&line, self.options.max_event_bytes, before).map_err(Problem::from),
                Err(LineTooLong) => Err(too_long(self.options)),
            };
            let permitted = event.and_then(|event| match event.topic() {
                topic if Some(topic) == before => Ok(event),
                topic => self.permit.check_topic(topic).map(|()| event),
            });
            match permitted {
                Ok(event) => {
                    if turn.events.is_empty() {
                        turn.first_line = self.line;
                    }
                    turn.last_line = self.line;
                    turn.events.push(event);
                }
                Err(problem) => {
                    turn.problem = Some(problem);
                    break;
                }
            }
        }
        self.of_turn += (self.line - before) as usize;
        (self.line > before).then_some(turn)
    }

    async fn publish_events(&mut self, events: Vec<Event>, lines: RangeInclusive<u64>) -> Result<(), Problem> {
        let first = *lines.start();
        // An upload above its rate waits, and with it its socket.
        let waited = self.quota.charge_when_available(events.len(), self.options.upload_timeout).await;
        if waited.map_err(|error| self.stopped_at(first, error.into()))? {
            self.permit.check_upload().map_err(|problem| self.stopped_at(first, problem))?;
            let permitted = events.iter().try_for_each(|event| self.permit.check_topic(event.topic()));
            permitted.map_err(|problem| self.stopped_at(first, problem))?;
        }
        let count = events.len() as u64;
        let began = Instant::now();
        match self.shard.hub.publish_all(events).await {
            Ok(published) => {
                observe_latency(self.shard, began);
                self.note(count, published);
            }
            Err(error) => return Err(self.failed(error, lines, count)),
        }
        Ok(())
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
                self.stopped_at(next, problem.with_detail(detail))
            }
            Outcome::NotPublished if self.count == 0 => self.stopped_at(first, problem),
            Outcome::NotPublished => {
                let detail = format!("{}: the lines from {first} on were not published{before}", error.cause());
                self.stopped_at(first, problem.with_detail(detail))
            }
            Outcome::Unknown => {
                let lines = if first == last { format!("line {first}") } else { format!("lines {first} to {last}") };
                let detail = format!(
                    "{}: {lines} may have been published, or may be yet{before}; the lines from {} on were not published",
                    error.cause(),
                    last + 1
                );
                self.stopped_at(last + 1, problem.with_detail(detail)).with("unknown_lines", vec![first, last])
            }
        }
    }

    /// The problem of an upload whose lines read so far were published.
    fn stopped(&self, problem: Problem) -> Problem {
        self.stopped_at(self.line + 1, problem)
    }

    /// The problem of an upload that published nothing from `line` on.
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
