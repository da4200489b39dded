//! What has left the rings: read again from the stream, for readers that come back late.
//!
//! The stream is cut into pages at fixed places. A page is read and encoded once, and shared by all who want it: a crowd
//! that comes back after the same failure reads the same pages. One page is read at a time, so that a crowd does not crowd
//! out what is live.
//!
//! The archive also knows how far the stream reaches, for a client that comes with an id which this server does not have
//! yet. Questions that come at the same time share one look at the stream.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use redis::cmd;
use tokio::sync::mpsc;

use super::Context;
use super::confirmation::Confirmed;
use super::connection::{Connection, Error};
use super::entry::{self, Entry};
use super::script;
use crate::backbone::status::add;
use crate::event::Event;
use crate::hub::relay::{Extent, ExtentRequest, Page, Relay, Replay};
use crate::position::{Epoch, Sequence, StreamPosition};

/// How many events a page has.
const PAGE: u64 = 512;

/// How many bytes of pages are kept.
const KEPT: usize = 32 << 20;

pub(super) struct Archive {
    context: Arc<Context>,
    replays: mpsc::UnboundedReceiver<Replay>,
    extents: mpsc::UnboundedReceiver<ExtentRequest>,
    relay: Relay,
    /// The page that is wanted, also after the connection was lost.
    replay: Option<Replay>,
    /// The questions how far the stream reaches, likewise.
    open_extents: Vec<ExtentRequest>,
    /// Whole pages by their number, the one that was used last at the end.
    kept: VecDeque<((Epoch, u64), Page)>,
    bytes: usize,
}

impl Archive {
    pub(super) fn new(
        context: Arc<Context>,
        replays: mpsc::UnboundedReceiver<Replay>,
        extents: mpsc::UnboundedReceiver<ExtentRequest>,
        relay: Relay,
    ) -> Self {
        let (kept, open_extents) = (VecDeque::new(), Vec::new());
        Self { context, replays, extents, relay, replay: None, open_extents, kept, bytes: 0 }
    }

    /// Answers readers for as long as the connection lasts.
    pub(super) async fn serve(
        &mut self,
        redis: &mut Connection,
        confirmed: &mut Confirmed,
    ) -> Result<Infallible, Error> {
        loop {
            while let Ok(request) = self.extents.try_recv() {
                self.open_extents.push(request);
            }
            self.open_extents.retain(|request| !request.is_abandoned());
            if !self.open_extents.is_empty() {
                self.answer_extents(redis, confirmed).await?;
            }
            if self.replay.as_ref().is_none_or(Replay::is_abandoned) {
                self.replay = self.replays.try_recv().ok();
            }
            if let Some(replay) = &self.replay {
                let page = self.page_after(redis, replay.after).await?;
                add(&self.context.status.counts.pages, 1);
                if let Some(replay) = self.replay.take() {
                    replay.answer(&page);
                }
                continue;
            }
            tokio::select! {
                Some(request) = self.extents.recv() => self.open_extents.push(request),
                Some(replay) = self.replays.recv() => self.replay = Some(replay),
                () = confirmed.next(), if !self.open_extents.is_empty() => {}
                else => std::future::pending().await,
            }
        }
    }

    /// Answers the questions how far the stream reaches. A position that is not in the stream of this Redis may have been
    /// given by the master that replaced it: such a question stays open until the master is confirmed once more.
    async fn answer_extents(&mut self, redis: &mut Connection, confirmed: &Confirmed) -> Result<(), Error> {
        let Some((newest, before_oldest)) = script::extent(redis, &self.context.keys.stream).await? else {
            return Err(Error::unavailable("the stream is gone"));
        };
        let extent = Extent { before_oldest, newest };
        let is_certain =
            |request: &mut ExtentRequest| request.is_within(&extent) || confirmed.is_later_than(request.asked);
        for request in self.open_extents.extract_if(.., is_certain) {
            add(&self.context.status.counts.lookups, 1);
            request.answer(extent);
        }
        Ok(())
    }

    /// A page with the oldest events after `after` that are there.
    async fn page_after(&mut self, redis: &mut Connection, after: StreamPosition) -> Result<Page, Error> {
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

    async fn read(&mut self, redis: &mut Connection, epoch: Epoch, begin: Sequence) -> Result<Vec<Entry>, Error> {
        add(&self.context.status.counts.pages_fetched, 1);
        let begin = StreamPosition::new(epoch, begin).to_string();
        let mut read = cmd("XRANGE");
        // An epoch alone stands for its end.
        read.arg(&self.context.keys.stream).arg(begin).arg(epoch.0).arg("COUNT").arg(PAGE);
        entry::entries(redis.query(&read).await?)
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
