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

/// Open files that connections leave to the rest of the process: listeners, what the shards wait with, the backbone, key
/// sets, metrics, and as many questions to an authorization service as there are at a time by default.
const REST: u64 = 128;
const REST_OF_A_SHARD: u64 = 4;

/// Connections that are told at a time that there is no room for them.
const TURNED_AWAY: u64 = 64;

/// What limits connections when no number of them is wanted.
const SET_BY_FILES: &str = "by the limit on open files, ulimit -n; setting max_connections";

/// What there are open files for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) connections: Option<usize>,
    /// What the number of connections follows from, as in an error.
    pub(super) set_by: &'static str,
    pub(super) turned_away: usize,
    /// The size of each listener's [`Reserve`].
    pub(super) reserved: usize,
}

/// How many connections there may be: `wanted`, or as many as there are open files for, also when any number is wanted: the
/// files that are left answer health checks on new connections. Where files are few, the rest of the process has half of them.
///
/// # Errors
/// When there are not enough open files for those that are wanted.
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

/// File descriptors that are kept for the moment when there are no others. Released then, they are for connections that are
/// turned away or that ask for health and metrics, and for the rest of the process.
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

    /// Takes the descriptors back, if there is one more besides. Returns whether it has them.
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
        assert_eq!(room(None, Some(20_000)), Ok((Some(19_800), 64)));
        assert_eq!(room(None, Some(64)), Ok((Some(32), 4)));
        assert_eq!(room(None, None), Ok((None, 64)));
        assert_eq!(room(Some(19_800), Some(20_000)), Ok((Some(19_800), 64)));
        assert_eq!(room(Some(1_000_000), None), Ok((Some(1_000_000), 64)));
        let error = room(Some(19_801), Some(20_000)).unwrap_err();
        assert!(error.contains("max_connections = 19801") && error.contains("room for 19800"), "{error}");
        let set_by = |wanted| room_within(wanted, 2, Some(64)).unwrap().set_by;
        assert_eq!(set_by(None), SET_BY_FILES);
        assert_eq!(set_by(Some(7)), "setting max_connections");
    }
}
