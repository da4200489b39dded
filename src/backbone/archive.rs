//! What has left the rings: read again from the stream, for readers that come back late.
//!
//! The stream is cut into pages at fixed places. A page is read and encoded once, and shared by all who want it: a crowd
//! that comes back after the same failure reads the same pages. One page is read at a time, so that a crowd does not crowd
//! out what is live.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cmd;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Lost;
use super::entry::{self, Entry};
use super::keys::Keys;
use super::status::{Status, add};
use crate::event::Event;
use crate::hub::relay::{Page, Relay, Replay};
use crate::position::{Epoch, Sequence, StreamPosition};

/// How many events a page has.
const PAGE: u64 = 512;

/// How many bytes of pages are kept.
const KEPT: usize = 32 << 20;

pub(super) struct Archive {
    replays: mpsc::UnboundedReceiver<Replay>,
    relay: Relay,
    keys: Keys,
    status: Arc<Status>,
    timeout: Duration,
    /// The question whose answer was not there when the connection was lost.
    open: Option<Replay>,
    /// Whole pages by their number, the one that was used last at the end.
    kept: VecDeque<((Epoch, u64), Page)>,
    bytes: usize,
}

impl Archive {
    pub(super) fn new(
        replays: mpsc::UnboundedReceiver<Replay>,
        relay: Relay,
        keys: Keys,
        status: Arc<Status>,
        timeout: Duration,
    ) -> Self {
        Self { replays, relay, keys, status, timeout, open: None, kept: VecDeque::new(), bytes: 0 }
    }

    /// Answers readers, for as long as the connection lasts.
    pub(super) async fn serve(&mut self, redis: &mut MultiplexedConnection) -> Result<(), Lost> {
        loop {
            if self.open.is_none() {
                self.open = self.replays.recv().await;
            }
            let after = match &self.open {
                None => std::future::pending().await,
                Some(replay) if replay.is_abandoned() => {
                    self.open = None;
                    continue;
                }
                Some(replay) => replay.after,
            };
            let page = self.page_after(redis, after).await?;
            add(&self.status.counts.pages, 1);
            if let Some(replay) = self.open.take() {
                replay.answer(&page);
            }
        }
    }

    /// A page with the oldest events after `after` that are there.
    async fn page_after(&mut self, redis: &mut MultiplexedConnection, after: StreamPosition) -> Result<Page, Lost> {
        let StreamPosition { epoch, sequence } = after;
        if epoch != self.relay.position().epoch {
            return Ok(self.relay.empty_page());
        }
        let number = sequence / PAGE;
        if let Some(place) = self.kept.iter().position(|(key, _)| *key == (epoch, number)) {
            let kept = self.kept.remove(place).expect("it was found");
            let page = kept.1.clone();
            self.kept.push_back(kept);
            return Ok(page);
        }
        let begin = number * PAGE + 1;
        let mut entries = self.read(redis, epoch, begin).await?;
        let is_whole = entries.len() as u64 == PAGE && is_run(&entries, begin);
        if !entries.iter().any(|entry| entry.position.sequence > sequence) {
            // The page was dropped, or never was: what comes next stands further on.
            entries = self.read(redis, epoch, sequence + 1).await?;
        }
        let entries = if is_whole { &entries[..] } else { run_after(&entries, sequence) };
        let events: Vec<Event> = entries.iter().filter_map(|entry| entry.event.clone()).collect();
        let first = entries.first().map(|entry| entry.position);
        let Some(page) = first.and_then(|first| self.relay.page(first, &events)) else {
            return Ok(self.relay.empty_page());
        };
        if is_whole {
            self.keep((epoch, number), page.clone());
        }
        Ok(page)
    }

    async fn read(
        &mut self,
        redis: &mut MultiplexedConnection,
        epoch: Epoch,
        begin: Sequence,
    ) -> Result<Vec<Entry>, Lost> {
        add(&self.status.counts.pages_fetched, 1);
        let begin = StreamPosition::new(epoch, begin).to_string();
        let mut read = cmd("XRANGE");
        // An epoch alone stands for its end.
        read.arg(&self.keys.stream).arg(begin).arg(epoch.0).arg("COUNT").arg(PAGE);
        match timeout(self.timeout, read.query_async(redis)).await {
            Ok(reply) => Ok(entry::entries(reply?)?),
            Err(_) => Err(Lost::no_answer(self.timeout)),
        }
    }

    fn keep(&mut self, key: (Epoch, u64), page: Page) {
        self.bytes += page.bytes();
        self.kept.push_back((key, page));
        while self.bytes > KEPT
            && let Some((_, page)) = self.kept.pop_front()
        {
            self.bytes -= page.bytes();
        }
    }
}

/// Whether the entries are events that follow each other from `first` on.
fn is_run(entries: &[Entry], first: Sequence) -> bool {
    entries.iter().zip(first..).all(|(entry, sequence)| entry.position.sequence == sequence && entry.event.is_some())
}

/// The events after `sequence` that follow each other.
fn run_after(entries: &[Entry], sequence: Sequence) -> &[Entry] {
    let is_next = |entry: &Entry| entry.position.sequence > sequence && entry.event.is_some();
    let Some(begin) = entries.iter().position(is_next) else { return &[] };
    let entries = &entries[begin..];
    let first = entries[0].position.sequence;
    let run =
        entries.iter().zip(first..).take_while(|(e, sequence)| e.position.sequence == *sequence && e.event.is_some());
    &entries[..run.count()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Payload;
    use crate::topic::Topic;

    #[test]
    fn a_run_ends_where_an_entry_is_missing_or_is_no_event() {
        let entry = |sequence: u64, is_event: bool| Entry {
            position: StreamPosition::new(Epoch(7), sequence),
            event: is_event.then(|| Event::new(Topic::new("a").unwrap(), Payload::text("x"))),
        };
        let entries = [entry(3, true), entry(4, true), entry(6, true), entry(7, false), entry(8, true)];
        let run = |after| run_after(&entries, after).iter().map(|entry| entry.position.sequence).collect::<Vec<_>>();
        assert_eq!([run(0), run(3), run(4), run(6), run(8)], [vec![3, 4], vec![4], vec![6], vec![8], vec![]]);
        assert!(is_run(&entries[..2], 3) && !is_run(&entries[..3], 3) && !is_run(&entries[..2], 2));
    }
}
