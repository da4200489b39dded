//! An HTTP/2 connection (RFC 9113), with prior knowledge of the protocol.
//!
//! h2 parses frames, keeps the windows of flow control, and refuses what exceeds a limit. The [driver] accepts requests, each
//! of which gets a [task](request) of its own, and ends the connection. A stream of events is the same [task](super::stream) as
//! over HTTP/1.1, with another [output].
//!
//! **Bounds.** At most `max_streams` requests of a connection are open; h2 refuses more. Requests that the client has reset but
//! that are still handled count too: at twice that number the connection is closed. Bodies wait in windows of [`STREAM_WINDOW`]
//! bytes, responses in at most [`MAX_BUFFERED`] bytes each and what the [socket] collects. A request's head is bounded as over
//! HTTP/1.1; h2 answers a longer one with 431, and closes the connection if its CONTINUATION frames do not end.
//!
//! **Ends.** A connection is closed when it has had no request for the head timeout, when it does not answer a ping for the write
//! timeout, and when the server drains: a GOAWAY announces it, new requests are refused, and it ends with its last stream.

mod driver;
mod output;
mod request;
mod response;
mod socket;
mod watch;

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use driver::{Driver, Outcome};
use h2::Reason;
use h2::server::Connection;
use output::MAX_BUFFERED;
use request::Requests;
use socket::{Collecting, Shared};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use watch::{CLOSE_TIMEOUT, Watch};

use super::http::{Handler, Http, RequestLimits};
use super::http1::Exchange;
use super::linger;
use super::socket::Socket;
use crate::limit::LimitExceeded;
use crate::metrics::ConnectionGuard;
use crate::peer::Peer;
use crate::sync::Arc;

/// The window of each request's body, in bytes. The connection's window has room for all of them, so that a body that is not read
/// does not delay the others.
const STREAM_WINDOW: u32 = 64 << 10;

/// The largest window that HTTP/2 allows (RFC 9113, section 6.9.1).
const MAX_WINDOW: u32 = i32::MAX as u32;

/// The longest time that a connection stays after its last response when it exceeds a limit, or when the server drains.
const HURRIED_LINGER: Duration = Duration::from_secs(1);

impl<H: Handler> Http<H> {
    /// Lets h2 serve requests until the connection ends.
    pub(super) async fn serve_http2(
        self: &Arc<Self>,
        socket: Socket,
        peer: Peer,
        mut guard: ConnectionGuard,
        exceeded: Option<Box<LimitExceeded>>,
        exchange: &Exchange,
        deadline: Instant,
    ) {
        guard.multiplexes();
        let socket = Shared::new(socket);
        let requests = Requests::new(self.clone(), peer, exceeded, guard);
        let outcome = self.drive_http2(&socket, &requests, exchange, deadline).await;
        let (remote, exceeded) = (&requests.peer, requests.exceeded.as_deref());
        match outcome {
            Outcome::Done => {}
            Outcome::HeadTimeout => self.rejected("head_timeout", exceeded),
            Outcome::Unresponsive => {
                return tracing::debug!(%remote, "closed: the client did not answer a ping in time");
            }
            Outcome::Broken(error) => return tracing::debug!(%remote, %error, "connection failed"),
            Outcome::Failed(error) => {
                tracing::debug!(%remote, %error, "connection failed");
                if error.is_io() {
                    return;
                }
                if let Some(reason) = error.reason().filter(|_| error.is_library()) {
                    self.shard.metrics.http2_errors.add(name_of(reason));
                }
            }
        }
        let written = poll_fn(|cx| socket.poll_flush(cx));
        if let Ok(Ok(())) = timeout(CLOSE_TIMEOUT, written).await
            && let Some(Shared { socket, .. }) = Arc::into_inner(socket)
        {
            // Also in a drain: clients send frames until they have read the last ones, and a reset could discard these.
            let hurry = async {
                if exceeded.is_none() {
                    self.shard.drain.begun().await;
                }
                sleep(HURRIED_LINGER).await;
            };
            linger::close(socket, hurry).await;
        }
    }

    async fn handshake(&self, socket: &Arc<Shared>) -> Result<Connection<Collecting, Bytes>, h2::Error> {
        let RequestLimits { max_streams, max_head_bytes, .. } = self.limits;
        let connection_window = STREAM_WINDOW.saturating_mul(max_streams).clamp(STREAM_WINDOW, MAX_WINDOW);
        h2::server::Builder::new()
            .max_concurrent_streams(max_streams)
            .max_header_list_size(u32::try_from(max_head_bytes).unwrap_or(u32::MAX))
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(connection_window)
            .max_send_buffer_size(MAX_BUFFERED)
            .handshake(Collecting(socket.clone()))
            .await
    }

    /// Lets h2 read and write until the connection ends.
    async fn drive_http2(
        &self,
        socket: &Arc<Shared>,
        requests: &Arc<Requests<H>>,
        exchange: &Exchange,
        deadline: Instant,
    ) -> Outcome {
        let mut connection = match timeout_at(deadline, self.handshake(socket)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Outcome::Failed(error),
            Err(_) => return Outcome::HeadTimeout,
        };
        let pings = connection.ping_pong().expect("taken once");
        let (drain, limits) = (&*self.shard.drain, &self.limits);
        let driver = Driver {
            connection,
            socket,
            requests,
            exchange,
            drain,
            watch: Watch::new(pings, self.shard.options.write_timeout, limits.head_timeout, deadline),
            max_requests: limits.max_streams.saturating_mul(2),
            is_last: drain.has_begun() || requests.exceeded.is_some(),
            is_closing: false,
            has_expired: false,
        };
        driver.run().await
    }
}

/// The name of an error code (RFC 9113, section 7) in metrics.
fn name_of(code: Reason) -> &'static str {
    match code {
        Reason::PROTOCOL_ERROR => "protocol_error",
        Reason::FLOW_CONTROL_ERROR => "flow_control_error",
        Reason::FRAME_SIZE_ERROR => "frame_size_error",
        Reason::STREAM_CLOSED => "stream_closed",
        Reason::COMPRESSION_ERROR => "compression_error",
        Reason::ENHANCE_YOUR_CALM => "enhance_your_calm",
        _ => "other",
    }
}
