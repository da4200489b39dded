//! The limit on open files. Each connection is one.

use std::fs::File;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit on open files to the hard one. Returns the limit, or None when there is none.
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

/// Files for the rest of the process: listeners, the backbone, key sets, metrics, and the default number of concurrent
/// requests to an authorization service.
const REST: u64 = 128;

/// The file descriptors of a shard besides its connections: those of tokio (epoll twice, its wake-up, signals), and of the poller
/// of its streams (epoll).
const REST_OF_A_SHARD: u64 = 5;

/// The largest number of connections over the limit that get an error response at a time.
const TURNED_AWAY: u64 = 64;

/// The cause in an error when the number of connections follows from the limit on open files.
const SET_BY_FILES: &str = "by the limit on open files, ulimit -n; setting max_connections";

/// How the open files are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) connections: Option<usize>,
    /// The setting that the number of connections follows from, as an error names it.
    pub(super) set_by: &'static str,
    pub(super) turned_away: usize,
    /// The size of each listener's [`Reserve`].
    pub(super) reserved: usize,
}

/// Divides the open files: `wanted` connections, or as many as the limit allows. The rest of the process has at most half of
/// the files, so that a full server still responds to health checks.
///
/// # Errors
/// When the limit does not allow the wanted number of connections.
pub(super) fn room(wanted: Option<usize>, shards: usize) -> io::Result<Room> {
    let limit = getrlimit(Resource::Nofile).current;
    room_within(wanted, shards, limit).map_err(|message| io::Error::new(io::ErrorKind::InvalidInput, message))
}

fn room_within(wanted: Option<usize>, shards: usize, files: Option<u64>) -> Result<Room, String> {
    let (rest, files) = (REST + REST_OF_A_SHARD * shards as u64, files.unwrap_or(u64::MAX));
    let room = files.saturating_sub(rest + TURNED_AWAY).max(files / 2);
    let turned_away = (files - room).saturating_sub(rest).max((files - room) / 8).min(TURNED_AWAY);
    let as_size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    if let Some(wanted) = wanted.filter(|&wanted| wanted as u64 > room) {
        return Err(format!(
            "max_connections = {wanted} is more than this process has open files for: with its limit of {files} there is \
             room for {room} connections; raise the limit (ulimit -n, LimitNOFILE=), or lower max_connections"
        ));
    }
    let connections = wanted.or((files != u64::MAX).then(|| as_size(room)));
    let set_by = if wanted.is_some() { "setting max_connections" } else { SET_BY_FILES };
    let reserved = as_size((turned_away / 8).max(2));
    Ok(Room { connections, set_by, turned_away: as_size(turned_away), reserved })
}

/// File descriptors in reserve, released when no others are left. Connections that are turned away or request health and
/// metrics use them, and the rest of the process.
pub(super) struct Reserve {
    files: Vec<File>,
    size: usize,
}

impl Reserve {
    pub(super) fn new(size: usize) -> io::Result<Self> {
        let files = (0..size).map(|_| open()).collect::<io::Result<_>>()?;
        Ok(Self { files, size })
    }

    pub(super) fn release(&mut self) {
        self.files.clear();
    }

    pub(super) fn is_released(&self) -> bool {
        self.files.is_empty()
    }

    /// Takes the descriptors back if at least one more is free. Returns whether the reserve has them.
    pub(super) fn take_back(&mut self) -> bool {
        if let (true, Ok(reserve), Ok(_one_more)) = (self.is_released(), Self::new(self.size), open()) {
            *self = reserve;
        }
        !self.is_released()
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
        let room = |wanted, files| room_within(wanted, 2, files).map(|room| (room.connections, room.turned_away));
        assert_eq!(room(None, Some(20_000)), Ok((Some(19_798), 64)));
        assert_eq!(room(None, Some(64)), Ok((Some(32), 4)));
        assert_eq!(room(None, None), Ok((None, 64)));
        assert_eq!(room(Some(19_798), Some(20_000)), Ok((Some(19_798), 64)));
        assert_eq!(room(Some(1_000_000), None), Ok((Some(1_000_000), 64)));
        let error = room(Some(19_799), Some(20_000)).unwrap_err();
        assert!(error.contains("max_connections = 19799") && error.contains("room for 19798"), "{error}");
        let set_by = |wanted| room_within(wanted, 2, Some(64)).unwrap().set_by;
        assert_eq!(set_by(None), SET_BY_FILES);
        assert_eq!(set_by(Some(7)), "setting max_connections");
    }
}
