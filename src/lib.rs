//! Server-Sent Events and WebSockets for thousands of clients, from your own program.
//!
//! A [`Hub`] numbers events and retains the newest of each topic. A [`Subscription`](hub::Subscription) reads them in the
//! process, as a [`Stream`](futures_core::Stream). A [`Server`] delivers them over HTTP, to `EventSource`, `curl -N`, any other SSE
//! client, and WebSockets.
//!
//! | to | use |
//! |---|---|
//! | publish, and read in the process | [`hub`], with [`event`] and [`topic`] |
//! | serve streams on ports of their own, beside the routes of your application | [`server`] |
//! | serve streams from your application's own listener | [`http::stream_response`] |
//! | decide what each client may do | [`auth`] |
//! | share one stream among several servers | `backbone`, with the feature `redis` |
//!
//! `docs/embedding.md` in the repository is a guide for applications, `docs/library.md` a reference of the parts, and
//! `docs/contributing.md` maps the private modules.
//!
//! # Publish and subscribe in the process
//!
//! ```
//! use fanline::Hub;
//! use fanline::event::{Event, Payload};
//! use fanline::hub::{Delivery, Start};
//! use fanline::topic::Topic;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let hub = Hub::default();
//! let topic = Topic::new("price:EUR")?;
//! let (mut subscription, _) = hub.subscribe("price:*".parse()?, Start::Live);
//!
//! hub.publish(Event::new(topic.clone(), Payload::text("1.0842"))).await?;
//!
//! match subscription.next().await {
//!     Some(Delivery::Event(event)) => assert_eq!(event.topic(), &topic),
//!     Some(Delivery::Gap(gap)) => panic!("events are missing: {gap:?}"),
//!     None => panic!("the hub is closed"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Serve over HTTP
//!
//! ```
//! use fanline::event::{Event, Payload};
//! use fanline::topic::Topic;
//! use fanline::{Hub, Server};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let hub = Hub::default();
//! let server = Server::builder(hub.clone()).listen(([127, 0, 0, 1], 0)).bind()?;
//! println!("curl -N http://{}/stream", server.local_addresses()[0]);
//!
//! hub.publish(Event::new(Topic::new("greeting")?, Payload::text("hello"))).await?;
//! # let stop = async {};
//! server.run(stop).await?; // `stop` is a future: when it completes, the server drains and returns
//! # Ok(())
//! # }
//! ```
//!
//! # The guarantee
//!
//! A subscriber gets every event of its topics in order, exactly once, or a [`Gap`](hub::Gap) that says what is missing.
//!
//! * **Ids.** An event's id is its [position](position::StreamPosition), `<epoch>-<sequence>`. Sequences are dense over all
//!   topics of a hub: 1, 2, 3 … A subscriber resumes after any id that it has received ([`Start::After`](hub::Start::After)).
//! * **Epochs.** An [epoch](position::Epoch) is one numbering. A hub that starts without its history begins a new epoch, and
//!   so does a shared Redis that may have lost events. An id therefore never names two events, and a subscriber with an id
//!   of another epoch gets a gap.
//! * **Lag.** A subscription is a cursor in the shared history: a slow one delays nothing and costs no memory. When the
//!   history drops an event that a subscription has not read, the subscription gets a gap and continues with the oldest
//!   retained event. An HTTP client chooses between that gap and the end of its stream.
//! * **Bounds.** History, queues, request bodies, connections and times have [limits](server::Limits).
//!
//! `docs/guarantee.md` in the repository lists what clients and publishers get for each fault.
//!
//! # Features
//!
//! * `cli` (default): the `fanline` binary with its settings, commands and producers. A library does not need it:
//!   `default-features = false`.
//! * `auth`: JSON Web Tokens, key sets, and an HTTP service that authorizes subscriptions. [API keys](auth::ApiKeys),
//!   anonymous access and your own [`Authorize`](auth::Authorize) need no feature. In the binary also `https://` URLs of
//!   client commands.
//! * `redis`: `backbone`, several servers that share one stream through Redis.
//! * `testing` (default): `testing`, a client for the tests of an application. A library enables it for its dev-dependency.
//! * `full`: all of them.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod auth;
#[cfg(any(feature = "cli", feature = "redis"))]
#[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "as below"))]
pub mod backbone;
#[cfg(not(any(feature = "cli", feature = "redis")))]
#[expect(dead_code, unreachable_pub, reason = "without a kind of backbone, the server still asks for the state of one")]
mod backbone;
mod conn;
pub mod event;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
pub mod http;
pub mod hub;
mod limit;
mod metrics;
mod peer;
pub mod position;
mod presence;
mod ring;
pub mod server;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
pub mod topic;
mod wire;

pub use hub::Hub;
pub use server::{Server, ServerStats, Stats};
#[doc(hidden)]
pub use wire::lines;
pub use wire::publication;

/// The examples of the README and of the library's page compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[cfg_attr(all(feature = "auth", feature = "redis", feature = "testing"), doc = include_str!("../docs/library.md"))]
struct Pages;
