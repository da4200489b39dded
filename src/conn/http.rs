//! The HTTP connections of one shard: the wait for the first bytes, and the choice of the protocol.
//!
//! HTTP/2 is spoken with prior knowledge, on the same port as HTTP/1.1: a connection that begins with the preface of
//! RFC 9113, section 3.4, is HTTP/2, and any other is HTTP/1. The first bytes are looked at and stay in the socket, so that
//! the part that speaks the protocol reads all of them.

use std::io;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper::Request;
use tokio::time::Instant;

use super::http1::Exchange;
use super::proxy_protocol::{self, ProxyHeader};
use super::reply::Reply;
use super::socket::Socket;
use super::{Incoming, Poller, Shard};
use crate::limit::{LimitExceeded, Limiter};
use crate::metrics::ConnectionGuard;
use crate::peer::{Peer, TrustedProxy};
use crate::sync::{Arc, Ordering};

/// The bytes that an HTTP/2 connection begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The longest time that a connection over a limit stays open.
const REJECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Handles the requests of connections.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Handles one request. On a connection over a limit, the response is the error `exceeded`.
    ///
    /// The future is boxed here, so that each kind of request allocates only what it needs.
    fn handle<'a>(
        self: &'a Arc<Self>,
        request: Request<Incoming>,
        peer: &'a Peer,
        exceeded: Option<&'a LimitExceeded>,
    ) -> BoxFuture<'a, Reply>;
}

/// Bounds on the requests of a connection.
#[derive(Clone, Copy)]
pub(crate) struct RequestLimits {
    /// The longest time for a head, and the longest idle time between requests.
    pub(crate) head_timeout: Duration,
    pub(crate) max_head_bytes: usize,
    pub(crate) max_headers: usize,
    /// The number of concurrent requests of an HTTP/2 connection.
    pub(crate) max_streams: u32,
}

/// Serves the HTTP connections of one shard.
pub(crate) struct Http<H> {
    pub(crate) handler: Arc<H>,
    pub(crate) shard: Arc<Shard>,
    /// Watches the sockets of the shard's streams.
    pub(crate) poller: Poller,
    pub(crate) limits: RequestLimits,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) trusted_proxies: Arc<[TrustedProxy]>,
}

/// A protocol, by the first bytes of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    /// Returns the protocol of a connection that begins with `bytes`. `None` if more bytes decide.
    fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(PREFACE) {
            Some(Self::Http2)
        } else {
            (!PREFACE.starts_with(bytes)).then_some(Self::Http1)
        }
    }
}

impl<H: Handler> Http<H> {
    /// Serves one connection until it ends or becomes a stream. If it exceeds a limit, its first request gets that error, and
    /// the connection is closed.
    pub(crate) async fn serve(
        self: Arc<Self>,
        socket: Socket,
        mut peer: Peer,
        mut guard: ConnectionGuard,
        mut exceeded: Option<Box<LimitExceeded>>,
    ) {
        let began = Instant::now();
        let deadline = began + self.limits.head_timeout;
        if peer.awaits_proxy_header {
            // Boxed: its buffers are not needed afterwards.
            if !Box::pin(self.read_proxy_header(&socket, &mut peer, deadline)).await {
                return;
            }
            if exceeded.is_none() && !self.trusted_proxies.iter().any(|proxy| proxy.is_at(peer.address)) {
                match self.limiter.connect_forwarded(peer.address) {
                    Ok(permit) => guard.count_for(permit),
                    Err(over) => exceeded = Some(Box::new(over)),
                }
            }
        }
        let exchange = Arc::new(Exchange::new(began));
        let Some(exceeded) = exceeded else {
            let Some(protocol) = self.protocol(&socket, deadline).await else { return };
            // The buffers of a connection are many times the size of a stream, therefore they are allocated only now.
            return match protocol {
                Protocol::Http1 => Box::pin(self.serve_http1(socket, &peer, guard, None, &exchange, deadline)).await,
                Protocol::Http2 => Box::pin(self.serve_http2(socket, peer, guard, None, &exchange, deadline)).await,
            };
        };
        let reason = exceeded.reason.as_str();
        let rejected = async {
            match self.protocol(&socket, deadline).await {
                Some(Protocol::Http1) => {
                    self.serve_http1(socket, &peer, guard, Some(&exceeded), &exchange, deadline).await;
                }
                Some(Protocol::Http2) => {
                    self.serve_http2(socket, peer, guard, Some(exceeded), &exchange, deadline).await;
                }
                None => {}
            }
        };
        let _ = tokio::time::timeout(REJECT_TIMEOUT, Box::pin(rejected)).await;
        if !exchange.has_request.load(Ordering::Relaxed) {
            self.shard.metrics.rejections.add(reason);
        }
    }

    /// Waits for the first bytes. Returns `None` when they do not arrive before the deadline or before the drain begins.
    async fn protocol(&self, socket: &Socket, deadline: Instant) -> Option<Protocol> {
        tokio::time::timeout_at(deadline, self.before_drain(peek(socket))).await.ok()??.ok()
    }

    /// Reads the header of the PROXY protocol. Returns whether the connection has a valid one.
    async fn read_proxy_header(&self, socket: &Socket, peer: &mut Peer, deadline: Instant) -> bool {
        let read = self.before_drain(proxy_protocol::read(socket));
        let header = match tokio::time::timeout_at(deadline, read).await {
            // The drain, or a port check: the connection ended before it began.
            Ok(None | Some(Ok(None))) => return false,
            Ok(Some(Ok(Some(header)))) => header,
            Ok(Some(Err(error))) => {
                tracing::debug!(remote = %peer, %error, "closed: no valid PROXY protocol header");
                self.shard.metrics.rejections.add("proxy_header");
                return false;
            }
            Err(_) => {
                self.shard.metrics.rejections.add("proxy_header_timeout");
                return false;
            }
        };
        if let ProxyHeader::Client(client) = header {
            peer.set_client(client);
        }
        true
    }

    /// Returns the output of `arrival`, or `None` if the drain begins first. Once it has begun, new connections are served.
    async fn before_drain<T>(&self, arrival: impl Future<Output = T>) -> Option<T> {
        let drain = &self.shard.drain;
        if drain.has_begun() {
            return Some(arrival.await);
        }
        tokio::select! {
            biased;
            arrived = arrival => Some(arrived),
            () = drain.begun() => None,
        }
    }

    /// Counts a connection that ended before a handler was called. One over a limit is counted elsewhere.
    pub(super) fn rejected(&self, reason: &'static str, exceeded: Option<&LimitExceeded>) {
        if exceeded.is_none() {
            self.shard.metrics.rejections.add(reason);
        }
    }
}

/// Returns the protocol as soon as the first bytes decide it. They stay in the socket.
async fn peek(socket: &Socket) -> io::Result<Protocol> {
    // A part of the preface, and nothing will follow: HTTP/1 has an error for it.
    let decide = |bytes: &[u8], is_all: bool| Protocol::of(bytes).or(is_all.then_some(Protocol::Http1));
    socket.peek::<{ PREFACE.len() }, _>(decide).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preface_decides_the_protocol_at_its_last_byte() {
        for length in 0..PREFACE.len() {
            assert_eq!(Protocol::of(&PREFACE[..length]), None, "{length}");
            let mut other = PREFACE[..=length].to_vec();
            other[length] ^= 1;
            assert_eq!(Protocol::of(&other), Some(Protocol::Http1), "{length}");
        }
        assert_eq!(Protocol::of(PREFACE), Some(Protocol::Http2));
        assert_eq!(Protocol::of(b"GET / HTTP/1.1\r\n"), Some(Protocol::Http1));
        assert_eq!(Protocol::of(b"P"), None);
        assert_eq!(Protocol::of(b"PO"), Some(Protocol::Http1));
    }
}
