//! The `fanline` binary as a process, and clients that see every byte.
//!
//! A process gets a clean environment and listens on a free port, which it logs. Everything that a test waits for must
//! happen within [`TIMEOUT`]; otherwise the test fails and names it.

#[cfg(feature = "auth")]
mod certificate;
mod child;
mod crowd;
mod directory;
mod http;
mod random;
mod server;
mod stream;
mod terminal;
mod usage;

use std::thread;
use std::time::{Duration, Instant};

#[cfg(feature = "auth")]
pub use certificate::certificate;
pub use child::{Process, fanline};
pub use crowd::{Crowd, Update};
pub use directory::Directory;
pub use http::{Http, Response};
pub use random::Random;
pub use server::{Server, limit_open_files, serve};
pub use stream::{Decoder, End, Event, Stream, request_stream};
pub use terminal::pseudo_terminal;
pub use usage::{
    cpu_time, listen_drops, lower_open_file_limit, peak_resident_bytes, reserve_open_files, resident_bytes,
};

/// The longest wait for anything, sized for a debug build on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Calls `look` until it succeeds, and fails with its last error after [`TIMEOUT`].
pub fn wait_until<T>(mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < deadline, "{seen}"),
        }
        // Yields to the process that is waited for.
        thread::park_timeout(Duration::from_millis(2));
    }
}
