//! What the tests of the whole program share: the `fanline` binary as a process, and clients that look at every byte.
//!
//! A process gets a clean environment and listens on a free port, which it tells in its log. Whatever a test waits for
//! has [`PATIENCE`], and what is too slow fails with what was waited for.

mod certificate;
mod child;
mod crowd;
mod http;
mod random;
mod server;
mod stream;
mod usage;

use std::thread;
use std::time::{Duration, Instant};

pub use certificate::certificate;
pub use child::{Process, fanline};
pub use crowd::{Crowd, News};
pub use http::{Answer, Http};
pub use random::Random;
pub use server::{Server, limit_open_files, serve};
pub use stream::{Decoder, End, Event, Stream, request_stream};
pub use usage::{
    cpu_time, listen_drops, lower_open_file_limit, peak_resident_bytes, raise_open_file_limit, resident_bytes,
};

/// How long anything may take that should take no time at all: a debug build on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks until there is what `look` looks for; fails with what it saw instead when that takes too long.
pub fn wait_until<T>(mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < deadline, "{seen}"),
        }
        // A moment for whoever it is that is waited for.
        thread::park_timeout(Duration::from_millis(2));
    }
}
