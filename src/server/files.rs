//! Open files: each connection takes one.

use std::fs::File;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit on open files to the hard one, and answers it; none when there is no limit.
///
/// # Errors
/// When the system refuses.
pub fn raise_open_file_limit() -> io::Result<Option<u64>> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(maximum)
}

/// A file descriptor that is kept for the moment when there is no other: given back then, it lets the rest of the process
/// (health checks, metrics) go on opening files while no connection is accepted.
pub(super) struct Reserve(Option<File>);

impl Reserve {
    pub(super) fn new() -> io::Result<Self> {
        open().map(|file| Self(Some(file)))
    }

    pub(super) fn release(&mut self) {
        self.0 = None;
    }

    /// Takes the descriptor back, if there is one more besides.
    pub(super) fn take_back(&mut self) -> bool {
        if let (Ok(reserve), Ok(_one_more)) = (open(), open()) {
            self.0 = Some(reserve);
        }
        self.0.is_some()
    }
}

fn open() -> io::Result<File> {
    File::open("/dev/null")
}
