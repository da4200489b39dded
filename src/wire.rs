//! Events as bytes: what goes over the wire, and how it is framed there. Nothing here knows about connections.

pub(crate) mod chunk;
pub(crate) mod envelope;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod lines;
pub mod publication;
pub(crate) mod sse;
