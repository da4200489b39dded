//! A connection, from the accepted socket to its end.
//!
//! ```text
//! http             the wait for the first bytes, and the choice of the protocol
//! http1            the HTTP/1 exchange: head timeout, request, response, keep-alive; hands a stream's socket over
//! http2            an HTTP/2 connection: its requests, limits, timers and end
//! incoming         a request's body, over either protocol
//! socket           a connection's socket: TCP or Unix
//! proxy_protocol   the header in which a proxy names its client
//! reply            what a handler returns: an ordinary response, a stream, or a WebSocket
//! linger           closes a connection so that its last response arrives
//! stream           a stream's task: nothing but the cursor and its output
//! streams          the streams that a shard polls itself, without a task of the runtime for each
//! source           what it reads events from
//! poller           the readiness of the sockets of a shard's streams
//! output           where a stream's bytes go: a socket, a stream of an HTTP/2 connection, or a body
//! body             a stream as the body of a response that another server sends
//! control          what ends or interrupts a stream, and the one state machine that decides what follows
//! control_events   hello, gap, keep-alive, farewells
//! transport        how events and control events are laid out on the wire: Server-Sent Events
//! gzip             the same, compressed
//! websocket        the other transport, with messages in both directions
//! end              why a stream ended
//! shard, wheel     what the connections of one thread share: clock, deadlines, counts
//! pacer            streams that write at most once in an interval
//! drain            whether the server drains
//! ```

mod body;
mod control;
mod control_events;
mod drain;
mod end;
mod gzip;
pub(crate) mod http;
mod http1;
mod http2;
mod incoming;
mod linger;
mod output;
mod pacer;
mod poller;
pub(crate) mod proxy_protocol;
pub(crate) mod reply;
mod shard;
mod socket;
mod source;
mod stream;
mod streams;
mod transport;
pub(crate) mod websocket;
mod wheel;

pub(crate) use body::RuntimeShard;
pub use body::{StreamBody, StreamBodyError};
pub(crate) use control::{Control, OnLag, Request};
pub(crate) use control_events::unavailable;
pub(crate) use drain::Drain;
pub(crate) use end::EndReason;
pub(crate) use incoming::Incoming;
pub use incoming::RequestBodyError;
pub(crate) use pacer::Interval;
pub(crate) use poller::Poller;
pub(crate) use shard::Shard;
pub use shard::StreamOptions;
pub(crate) use socket::Unregistered;
pub(crate) use stream::StreamRequest;

use crate::presence;

/// A connected client, with the handle that ends or interrupts its stream.
pub(crate) type Client = presence::Client<Control>;
pub(crate) type Clients = presence::Clients<Control>;
pub(crate) type Registration = presence::Registration<Control>;
