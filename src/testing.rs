//! A client for tests of streams. It connects to a running server, or calls a router in the process without a socket.
//!
//! Each wait has a timeout, and its error shows what came instead:
//!
//! ```text
//! no event named "created" within 5s; instead came:
//!   1795186660483920175-0 system {"message":"connected","client_id":"1-1","position":"1795186660483920175-0",…}
//!   1795186660483920175-1 deleted {"comment":17}
//! ```
//!
//! ```
//! use fanline::event::{Event, Payload};
//! use fanline::testing::TestClient;
//! use fanline::topic::Topic;
//! use fanline::{Hub, Server};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let hub = Hub::default();
//! let server = Server::builder(hub.clone()).listen(([127, 0, 0, 1], 0)).bind()?;
//! let client = TestClient::new(&server.local_addresses()[0]);
//! let test = async {
//!     let mut stream = client.subscribe("/stream?topics=comment:17").await?;
//!     hub.publish(Event::new(Topic::of(["comment", "17"])?, Payload::serialize(&["hello"])?)).await?;
//!     assert_eq!(stream.event().await?.json::<Vec<String>>()?, ["hello"]);
//!     Ok::<_, Box<dyn std::error::Error>>(())
//! };
//! tokio::select! {
//!     result = test => result,
//!     result = server.run(std::future::pending()) => Ok(result?),
//! }
//! # }
//! ```
//!
//! **What does not come** is best tested with an event that comes later: publish it, and it is the next one. That is quick, and
//! needs no time to wait for.

mod client;
mod error;
mod event;
mod stream;

pub use client::TestClient;
pub use error::TestError;
pub use event::TestEvent;
pub use stream::TestStream;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
