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

/// Open files that connections leave to the rest of the process: listeners, what the shards wait with, clients that are
/// told that there is no room, the backbone, key sets, metrics.
const REST: u64 = 128;
const REST_OF_A_SHARD: u64 = 4;

/// How many connections there may be: `wanted`, or as many as there are open files for. Where these are few, the rest of the
/// process has half of them.
///
/// # Errors
/// When there are not enough open files for those that are wanted.
pub(super) fn max_connections(wanted: Option<usize>, shards: usize) -> io::Result<usize> {
    let limit = getrlimit(Resource::Nofile).current;
    room(wanted, shards, limit).map_err(|message| io::Error::new(io::ErrorKind::InvalidInput, message))
}

fn room(wanted: Option<usize>, shards: usize, files: Option<u64>) -> Result<usize, String> {
    // Without a limit on files, and where somebody wants none on connections.
    let (Some(files), false) = (files, wanted == Some(usize::MAX)) else { return Ok(wanted.unwrap_or(usize::MAX)) };
    let rest = REST + REST_OF_A_SHARD * shards as u64;
    let room = files.saturating_sub(rest).max(files / 2);
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    match wanted {
        Some(wanted) if wanted > room => Err(format!(
            "max_connections = {wanted} is more than this process has open files for: with its limit of {files} there is \
             room for {room} connections; raise the limit (ulimit -n, LimitNOFILE=), or lower max_connections"
        )),
        _ => Ok(wanted.unwrap_or(room)),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_open_files_to_the_rest_of_the_process() {
        assert_eq!(room(None, 2, Some(20_000)), Ok(19_864));
        assert_eq!(room(None, 2, Some(64)), Ok(32));
        assert_eq!(room(None, 2, None), Ok(usize::MAX));
        assert_eq!(room(Some(19_864), 2, Some(20_000)), Ok(19_864));
        assert_eq!(room(Some(usize::MAX), 2, Some(64)), Ok(usize::MAX));
        assert_eq!(room(Some(1_000_000), 2, None), Ok(1_000_000));
        let error = room(Some(19_865), 2, Some(20_000)).unwrap_err();
        assert!(error.contains("max_connections = 19865") && error.contains("room for 19864"), "{error}");
    }
}
