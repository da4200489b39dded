//! What the tests of the whole program share: the `fanline` binary as a process, and clients that look at every byte.
//!
//! A process gets a clean environment and listens on a free port, which it tells in its log. Whatever a test waits for
//! has [`PATIENCE`], and what is too slow fails with what was waited for.

mod child;
mod crowd;
mod http;
mod random;
mod server;
mod stream;
mod usage;

use std::time::Duration;

pub use child::{Process, fanline};
pub use crowd::{Crowd, News};
pub use http::{Answer, Http};
pub use random::Random;
pub use server::{Server, limit_open_files, serve};
pub use stream::{Decoder, End, Event, Stream, request_stream};
pub use usage::{cpu_time, listen_drops, raise_open_file_limit, resident_bytes};

/// How long anything may take that should take no time at all: a debug build on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
