//! fanline
pub mod event;
pub mod position;
pub mod topic;
