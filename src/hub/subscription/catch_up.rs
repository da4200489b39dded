//! Reading pages of an archive until the rings have the next event.

use std::task::{Context, Poll, ready};

use super::{State, Subscription};
use crate::hub::archive::{ArchiveFuture, Page};
use crate::hub::frame::Frame;
use crate::hub::gap::{Gap, GapReason};
use crate::hub::merge::Batch;
use crate::position::Sequence;
use crate::ring::Read;

pub(super) enum CatchUp {
    /// Finds out whether the rings have the next event.
    Placing,
    /// Waits for the page that has it.
    Waiting(ArchiveFuture<Page>),
    /// Reads a page, from this index on.
    Reading(Page, u64),
}

impl Subscription {
    /// Waits until there is a page to read, or until the rings have the next event.
    pub(super) fn poll_page(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gap>> {
        let head = self.head()?;
        loop {
            let State::CatchUp(catch_up) = &mut self.state else { return Poll::Ready(Ok(())) };
            match &mut **catch_up {
                CatchUp::Placing => {
                    self.state = if self.place_cursors(self.taken).is_empty() {
                        State::Live
                    } else {
                        let archive = self.history.archive().expect("a subscription that catches up has an archive");
                        let page = archive.page_after(self.history.position(self.taken));
                        State::CatchUp(Box::new(CatchUp::Waiting(page)))
                    };
                }
                CatchUp::Waiting(page) => {
                    let page = ready!(page.as_mut().poll(cx));
                    return Poll::Ready(self.begin_page(page, head));
                }
                CatchUp::Reading(..) => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Begins to read a page, behind what was taken. Returns the gap before its first event, if there is one. Without a
    /// page the missing events are lost.
    fn begin_page(&mut self, page: Option<Page>, head: Sequence) -> Result<(), Gap> {
        let next = page.and_then(|page| {
            let index = page.index_after(self.taken);
            let first = page.sequence_at(index)?;
            Some((page, index, first))
        });
        let Some((page, index, first)) = next else {
            self.state = State::Live;
            self.place_and_note_gaps(head);
            return self.next_gap().map_or(Ok(()), Err);
        };
        self.state = State::CatchUp(Box::new(CatchUp::Reading(page, index)));
        let before = (first - 1).min(head);
        let is_oldest = std::mem::take(&mut self.from_oldest);
        if before <= self.taken || is_oldest {
            return Ok(());
        }
        let missed = self.count_of_all(before);
        let from = Some(self.history.position(self.taken));
        self.taken = before;
        let to = self.history.position(before);
        Err(Gap { reason: GapReason::Evicted, from, to, missed, topics: None, resume: to })
    }

    /// Fills `batch` from the page up to `head`, or finds that it has no more.
    pub(super) fn fill_from_page(&mut self, batch: &mut Batch, head: Sequence) {
        let State::CatchUp(catch_up) = &self.state else { return };
        let CatchUp::Reading(page, index) = &**catch_up else { return };
        let is_wanted = |frame: &Frame| match &self.selection {
            Some(selection) => selection.filter.matches(frame.topic()),
            None => self.cursors.iter().any(|cursor| cursor.channel.matches(frame.topic())),
        };
        if let Read::Run(run) = page.frames.read(*index) {
            batch.open(0, run);
        }
        batch.merge(head, |_| (&page.frames, Some(is_wanted)));
        // Whatever comes next, the archive or the rings have to be asked again.
        batch.cut();
        if batch.is_empty() {
            let last = page.index_after(head).checked_sub(1).and_then(|last| page.sequence_at(last));
            self.taken = self.taken.max(last.unwrap_or(0));
            self.state = State::CatchUp(Box::new(CatchUp::Placing));
        }
    }
}
