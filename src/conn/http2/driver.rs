//! Drives the connection of h2: accepts its requests, writes what they send, and decides when it ends.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::Reason;
use h2::server::Connection;

use super::request::Requests;
use super::socket::{Collecting, Shared};
use super::watch::{Expired, Watch};
use crate::conn::Drain;
use crate::conn::http::Handler;
use crate::conn::http1::Exchange;
use crate::sync::{Arc, Ordering};

/// How h2's part of a connection ended.
pub(super) enum Outcome {
    Done,
    /// The first request did not come in time.
    HeadTimeout,
    /// The client did not answer a ping, or did not read the last frames.
    Unresponsive,
    Failed(h2::Error),
    /// The socket could not be written.
    Broken(io::Error),
}

/// A connection, with what decides when it ends.
pub(super) struct Driver<'a, H> {
    pub(super) connection: Connection<Collecting, Bytes>,
    pub(super) socket: &'a Shared,
    pub(super) requests: &'a Arc<Requests<H>>,
    pub(super) exchange: &'a Exchange,
    pub(super) drain: &'a Drain,
    pub(super) watch: Watch,
    /// The number of requests at which the connection is closed.
    pub(super) max_requests: u32,
    /// Whether the connection gets one response: it exceeds a limit, or began during a drain.
    pub(super) is_last: bool,
    /// Whether the client knows that the connection ends with its open requests.
    pub(super) is_closing: bool,
    /// Whether the connection had no request for too long.
    pub(super) has_expired: bool,
}

impl<H: Handler> Driver<'_, H> {
    /// Completes when the connection has ended.
    pub(super) async fn run(mut self) -> Outcome {
        let mut drain_begins = pin!(self.drain.begun());
        // Registers the task, once: the connections of all shards share a lock in there.
        poll_fn(|cx| Poll::Ready(drain_begins.as_mut().poll(cx).is_ready())).await;
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        self.socket.begin_turn();
        if !self.is_last && self.drain.has_begun() {
            self.announce_end();
        }
        loop {
            while let Poll::Ready(accepted) = self.connection.poll_accept(cx) {
                match accepted {
                    Some(Ok((request, respond))) => {
                        self.exchange.has_request.store(true, Ordering::Relaxed);
                        self.requests.start(request, respond);
                        self.check_requests();
                    }
                    Some(Err(error)) => return Poll::Ready(Outcome::Failed(error)),
                    None => return Poll::Ready(self.ended()),
                }
            }
            if let Poll::Ready(Err(error)) = self.socket.poll_flush(cx) {
                return Poll::Ready(Outcome::Broken(error));
            }
            match self.watch.poll(cx, !self.connection.has_streams()) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Expired::Unresponsive) => return Poll::Ready(Outcome::Unresponsive),
                // Once more: h2 writes its last frame.
                Poll::Ready(Expired::Idle) => {
                    self.has_expired = true;
                    self.close(Reason::NO_ERROR);
                }
            }
        }
    }

    /// Decides whether another request may follow.
    fn check_requests(&mut self) {
        if self.requests.open() > self.max_requests {
            self.close(Reason::ENHANCE_YOUR_CALM);
        } else if self.is_last {
            self.announce_end();
        }
    }

    /// Ends the connection with its open requests.
    fn announce_end(&mut self) {
        if !std::mem::replace(&mut self.is_closing, true) {
            self.connection.graceful_shutdown();
        }
    }

    /// Ends the connection now.
    fn close(&mut self, reason: Reason) {
        self.connection.abrupt_shutdown(reason);
        self.watch.close();
    }

    fn ended(&self) -> Outcome {
        let has_request = self.exchange.has_request.load(Ordering::Relaxed);
        if self.has_expired && !has_request { Outcome::HeadTimeout } else { Outcome::Done }
    }
}
