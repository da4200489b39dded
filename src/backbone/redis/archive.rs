//! The Redis stream as an archive of what has left the rings.
//!
//! [`RedisArchive`] is the hub's end; [`ArchiveReader`] reads on the backbone's thread, and outlives sessions.
//!
//! The stream is cut into pages at fixed places. A page is read and encoded once, and shared by all subscriptions: clients
//! that return after the same failure read the same pages. One page is read at a time, so that replays do not delay live
//! events.
//!
//! The extent of the stream tells whether it issued an id that this server does not have yet. Requests that arrive together
//! share one look at the stream.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use redis::cmd;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Context;
use super::confirmation::Confirmed;
use super::connection::{Connection, Error};
use super::entry::Entry;
use super::script::{self, Extent};
use super::tail::is_before;
use crate::event::Event;
use crate::hub::archive::{Archive, ArchiveFuture, Page};
use crate::hub::relay::Relay;
use crate::position::{Epoch, Sequence, StreamPosition};

/// How many events a page has.
const PAGE: u64 = 512;

/// How many bytes of pages are kept.
const KEPT: usize = 32 << 20;

/// Sends requests to an [`ArchiveReader`]. They stay open while Redis is away.
pub(super) struct RedisArchive {
    pages: mpsc::UnboundedSender<PageRequest>,
    extents: mpsc::UnboundedSender<ExtentRequest>,
}

/// The requests of a [`RedisArchive`].
pub(super) struct Requests {
    pages: mpsc::UnboundedReceiver<PageRequest>,
    extents: mpsc::UnboundedReceiver<ExtentRequest>,
}

struct PageRequest {
    after: StreamPosition,
    reply: oneshot::Sender<Option<Page>>,
}

/// A request for the stream's extent at a moment after the request.
struct ExtentRequest {
    asked: Instant,
    /// A position that a client has. If the stream does not reach it, the master has to be confirmed first.
    wanted: Option<StreamPosition>,
    reply: oneshot::Sender<Extent>,
}

impl RedisArchive {
    pub(super) fn new() -> (Self, Requests) {
        let (pages, page_requests) = mpsc::unbounded_channel();
        let (extents, extent_requests) = mpsc::unbounded_channel();
        (Self { pages, extents }, Requests { pages: page_requests, extents: extent_requests })
    }

    fn extent<T: Send + 'static>(
        &self,
        wanted: Option<StreamPosition>,
        answer: impl FnOnce(Extent) -> T + Send + 'static,
    ) -> ArchiveFuture<T> {
        let (reply, extent) = oneshot::channel();
        // Without a reader, the reply's sender is dropped and the answer is `None`.
        let _ = self.extents.send(ExtentRequest { asked: Instant::now(), wanted, reply });
        Box::pin(async move { extent.await.ok().map(answer) })
    }
}

impl Archive for RedisArchive {
    fn page_after(&self, after: StreamPosition) -> ArchiveFuture<Page> {
        let (reply, page) = oneshot::channel();
        let _ = self.pages.send(PageRequest { after, reply });
        Box::pin(async move { page.await.ok().flatten() })
    }

    fn before_oldest(&self) -> ArchiveFuture<StreamPosition> {
        self.extent(None, |extent| extent.before_oldest)
    }

    fn has_issued(&self, position: StreamPosition) -> ArchiveFuture<bool> {
        self.extent(Some(position), move |extent| has_issued(extent, position))
    }
}

/// Answers the requests of a [`RedisArchive`].
pub(super) struct ArchiveReader {
    context: Arc<Context>,
    requests: Requests,
    relay: Relay,
    /// The request that is being answered, kept when the connection is lost.
    page_request: Option<PageRequest>,
    /// The requests for the extent that are open, likewise.
    extent_requests: Vec<ExtentRequest>,
    /// Whole pages by their number, least recently used first.
    kept: VecDeque<((Epoch, u64), Page)>,
}

impl ArchiveReader {
    pub(super) fn new(context: Arc<Context>, requests: Requests, relay: Relay) -> Self {
        let (page_request, extent_requests, kept) = (None, Vec::new(), VecDeque::new());
        Self { context, requests, relay, page_request, extent_requests, kept }
    }

    /// Answers requests for as long as the connection lasts.
    pub(super) async fn serve(
        &mut self,
        redis: &mut Connection,
        confirmed: &mut Confirmed,
    ) -> Result<Infallible, Error> {
        loop {
            while let Ok(request) = self.requests.extents.try_recv() {
                self.extent_requests.push(request);
            }
            self.extent_requests.retain(|request| !request.reply.is_closed());
            if !self.extent_requests.is_empty() {
                self.answer_extents(redis, confirmed).await?;
            }
            if self.page_request.as_ref().is_none_or(|request| request.reply.is_closed()) {
                self.page_request = self.requests.pages.try_recv().ok();
            }
            if let Some(request) = &self.page_request {
                let page = self.page_after(redis, request.after).await?;
                self.context.status.counts.pages.add(1);
                if let Some(request) = self.page_request.take() {
                    // The subscription may have been dropped.
                    let _ = request.reply.send(page);
                }
                continue;
            }
            tokio::select! {
                Some(request) = self.requests.extents.recv() => self.extent_requests.push(request),
                Some(request) = self.requests.pages.recv() => self.page_request = Some(request),
                () = confirmed.next(), if !self.extent_requests.is_empty() => {}
                else => std::future::pending().await,
            }
        }
    }

    /// Answers requests for the extent. A position that is not in the stream of this Redis may have been issued by the
    /// master that replaced it: such a request stays open until the master is confirmed once more.
    async fn answer_extents(&mut self, redis: &mut Connection, confirmed: &Confirmed) -> Result<(), Error> {
        let extent = script::extent(redis, &self.context).await?;
        let is_certain = |request: &mut ExtentRequest| {
            request.wanted.is_none_or(|wanted| has_issued(extent, wanted)) || confirmed.is_later_than(request.asked)
        };
        for request in self.extent_requests.extract_if(.., is_certain) {
            self.context.status.counts.lookups.add(1);
            let _ = request.reply.send(extent);
        }
        Ok(())
    }

    /// Returns a page with the oldest events after `after` that are there.
    async fn page_after(&mut self, redis: &mut Connection, after: StreamPosition) -> Result<Option<Page>, Error> {
        let StreamPosition { epoch, sequence } = after;
        if epoch != self.relay.position().epoch {
            return Ok(None);
        }
        let number = sequence / PAGE;
        if let Some(place) = self.kept.iter().position(|(key, _)| *key == (epoch, number)) {
            let kept = self.kept.remove(place).expect("it was found");
            let page = kept.1.clone();
            self.kept.push_back(kept);
            return Ok(Some(page));
        }
        let begin = number * PAGE + 1;
        let mut entries = self.read(redis, epoch, begin).await?;
        let is_whole = entries.len() as u64 == PAGE && is_run(&entries, begin);
        if !entries.iter().any(|entry| entry.position.sequence > sequence) {
            // The page was trimmed, or never existed: the next event comes later.
            entries = self.read(redis, epoch, sequence + 1).await?;
        }
        let entries = if is_whole { &entries[..] } else { run_after(&entries, sequence) };
        let events: Vec<Event> = entries.iter().filter_map(|entry| entry.event.clone()).collect();
        let first = entries.first().map(|entry| entry.position);
        let page = first.and_then(|first| self.relay.page(first, &events));
        if is_whole && let Some(page) = &page {
            self.keep((epoch, number), page.clone());
        }
        Ok(page)
    }

    async fn read(&mut self, redis: &mut Connection, epoch: Epoch, begin: Sequence) -> Result<Vec<Entry>, Error> {
        self.context.status.counts.pages_fetched.add(1);
        let begin = StreamPosition::new(epoch, begin).to_string();
        let mut read = cmd("XRANGE");
        // An epoch without a sequence means the end of the epoch.
        read.arg(&self.context.keys.stream).arg(begin).arg(epoch.0).arg("COUNT").arg(PAGE);
        redis.query(&read).await
    }

    fn keep(&mut self, key: (Epoch, u64), page: Page) {
        self.kept.push_back((key, page));
        // Added up each time: a page grows with its envelopes.
        let mut bytes: usize = self.kept.iter().map(|(_, page)| page.bytes()).sum();
        while bytes > KEPT
            && let Some((_, page)) = self.kept.pop_front()
        {
            bytes = bytes.saturating_sub(page.bytes());
        }
    }
}

/// Whether the stream has issued `position`, in this epoch or in an earlier one.
fn has_issued(extent: Extent, position: StreamPosition) -> bool {
    !is_before(extent.newest, position)
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
