//! fanline fans one stream of events out to thousands of HTTP clients, as Server-Sent Events on raw hyper.
//!
//! It keeps four promises:
//!
//! 1. **One encode, many writes.** An event becomes wire bytes once, whatever the number of subscribers.
//! 2. **No silent gap.** A subscriber either gets every event of its topics in order, or is told which ones it will not
//!    get, on replay, on lag and after a restart alike.
//! 3. **Bounded everything.** Memory, queues, bodies, times. A slow reader costs itself its stream, and nobody else
//!    anything.
//! 4. **Close to the kernel's limit.** The yardstick is a bare `write()` loop, measured in the same run (`perf/`).
//!
//! The public names are few: a [`Hub`] takes [events](event) and gives each an [id](position); a
//! [`Subscription`](hub::Subscription) reads them; a [`Server`] puts both on HTTP.
//!
//! # The life of an event
//!
//! ```text
//! POST /publish, stdin, a producer ─► Event (validated) ─► Hub::publish
//!    hub::sequencer: the next sequence, encoded once (wire::sse) ─► Frame
//!      ─► the ring of its topic, and the firehose (hub::channel, ring)
//!    ─► each shard that has a subscriber of that topic is told once (hub::wake), and wakes their tasks
//!    ─► each task (conn) reads from its own cursor to the head, and writes all of it with one vectored write
//! ```
//!
//! # The life of a subscriber
//!
//! ```text
//! accept (server::listener), if there is room (limit) ─► the shard with the fewest connections (server::shard_thread)
//!    ─► hyper parses the request; http::Routes finds the handler; GET /stream is read (http::query)
//!    ─► http::admit asks auth::Access whether it may have these topics; limit, whether there is room for them
//!    ─► a Subscription is opened (http::stream), and the client is entered (presence)
//!    ─► http::takeover takes the socket back from hyper and hands it to a task of its own (conn)
//!    ─► hello ─► replay ─► live: the same cursor in the same ring, so there is no hand-over
//!    ─► the end: closed by the client, misused by it, lagged, stalled, drained, disconnected by an operator, its token
//!       expired, or its access revoked (conn); counted by reason (metrics)
//! ```
//!
//! # Layers
//!
//! Imports point down only; a test reads the `use` lines and enforces it.
//!
//! | layer | modules | what is in it |
//! |---|---|---|
//! | 0 | `event`, `topic`, `position`, `sync` | validated values; the primitives that loom stands in for |
//! | 1 | `wire`, `ring` | bytes on the wire; the lock-free ring |
//! | 2 | `hub` | channels, sequencer, history, subscriptions, wake-ups |
//! | 3 | `metrics`, `presence`, `auth`, `limit` | what is counted; who is connected; who may do what; how much of it |
//! | 4 | `conn`, [`backbone`] | a stream's task, its keep-alive, what a shard's connections share; many servers as one |
//! | 5 | `http` | routes, handlers, problems, the takeover |
//! | 6 | `server` | listeners, shards, drain |
//! | 7 | `config`, `cli`, `producer` (the binary) | the library's users: they see its public face only |
//!
//! # Positions
//!
//! An event's id is `<epoch>-<sequence>`. Sequences are dense over all topics of a hub: 1, 2, 3 … within one epoch. An
//! [epoch](position::Epoch) is a number that no other numbering has. A server that starts without history begins a new
//! one, and so does a backbone that may have lost events: an id never names two events, and a client that resumes with an id
//! of another epoch gets a gap. `docs/guarantee.md` lists what clients and publishers get for each fault.
//!
//! Where several servers share a [backbone], it numbers the events, and the ids are good on each of them. The hub then
//! publishes nothing by itself: what is published goes out through a [relay](hub::relay), and what comes in is appended
//! to the same history. A client that comes back late is given pages of what the backbone has kept, and goes over to the
//! rings after any of their events. A client that comes with an id which the hub does not have yet waits for it
//! ([`Hub::resolve`]).
//!
//! # Where to look
//!
//! | what | where |
//! |---|---|
//! | paths, methods, and what a handler's panic costs | `http` |
//! | errors as `application/problem+json`, and their statuses | `http::problem` |
//! | what a request's framing may be: `Host`, `Transfer-Encoding` | `http::framing` |
//! | which pages of other origins may read (CORS) | `http::cors` |
//! | keys, tokens, key sets, the authorization service | [`auth`]: `keys`, `tokens`, `key_set`, `service` |
//! | what counts as the server's own machine | `auth::request` |
//! | new rules for a running server | [`server::AccessHandle`]; `cli::reload` (SIGHUP) |
//! | places and rates | `limit`; the price of publishing in `limit::publish_quota` |
//! | bodies of publishers | `http::publish`, [`publication`], `wire::lines` |
//! | health and readiness | `http::status` |
//! | lists for operators, metrics | `http::clients`, `http::topics`, `http::cluster`, `http::metrics` |
//! | the dashboard | `http::demo` |
//! | a last answer that reaches a client which is still sending | `http::linger` |
//! | heartbeats, slow clients, farewells | `conn`, `conn::wheel`, `conn::notice` |
//! | gaps and replay | `hub::subscription` (`start`, `gaps`, `catch_up`), `hub::gap`, `hub::archive` |
//! | resuming on a server that is behind | `hub::relay`, `backbone::redis::archive` |
//! | a Redis that lost events, or was replaced | `backbone::tail`, `backbone::confirmation` |
//! | open files | `server::files` |
//!
//! # Features
//!
//! * `cli` (default): the `fanline` binary, with its settings, commands and producers. It brings the other two. Turn it
//!   off for a library: `default-features = false`.
//! * `auth`: JSON Web Tokens, key sets, an HTTP service that is asked about each subscription, and making API keys. API
//!   keys themselves, what is open to everybody, and an [`auth::Authorize`] of your own need no feature.
//! * `redis`: [`backbone`], many servers as one over a Redis.

pub mod auth;
#[cfg(feature = "redis")]
pub mod backbone;
#[cfg(not(feature = "redis"))]
#[expect(
    dead_code,
    unreachable_pub,
    reason = "there is no kind of backbone: this is the state that the server asks for"
)]
mod backbone;
mod conn;
pub mod event;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod http;
pub mod hub;
mod limit;
mod metrics;
pub mod position;
mod presence;
mod ring;
pub mod server;
mod sync;
pub mod topic;
mod wire;

pub use hub::Hub;
pub use server::{Server, ServerStats, Stats};
#[doc(hidden)]
pub use wire::lines;
pub use wire::publication;

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
