//! fanline
pub mod event;
pub mod hub;
pub mod position;
mod ring;
mod sync;
pub mod topic;
pub mod wire;
pub struct Server;
