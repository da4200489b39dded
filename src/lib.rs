//! fanline
mod conn;
pub mod event;
mod http;
pub mod hub;
mod metrics;
pub mod position;
mod presence;
mod ring;
pub mod server;
mod sync;
pub mod topic;
mod wire;

pub use hub::Hub;
pub use metrics::{ServerStats, Stats};
pub use server::Server;
pub use wire::publication;
