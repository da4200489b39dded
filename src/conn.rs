//! Connections, from the accepted socket to the stream's end.

mod control_events;
pub(crate) mod linger;
mod request;
mod shard;
mod stream;
mod wheel;

pub(crate) use request::{OnLag, StreamRequest};
pub(crate) use shard::Shard;
pub use shard::StreamOptions;
pub(crate) use stream::Connection;
