//! `--history-file`: the history of a stopped server, for the next one.
//!
//! **Contract.** A server that a signal stops writes its history, and the next one continues it: the same epoch, the same
//! events. After a crash there is no file, and a new epoch begins. A file that is damaged or of another version is reported
//! and ignored.
//!
//! **A history is continued once.** Otherwise an id would name two events. The file is deleted, and the deletion is on disk,
//! before the server that has read it gets an event. It is locked until then, and deleted only when the server has bound its
//! addresses: a second server that was started by mistake does not take it.
//!
//! **A file is complete.** It is written under a temporary name, synced, and renamed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use fanline::hub::{Hub, HubOptions, InvalidHistory};

/// Reads the file in pieces of this size.
const BUFFER: usize = 256 << 10;

/// The place of the file.
pub struct HistoryFile {
    path: PathBuf,
}

/// A file that a hub was read from, and which is to be deleted.
pub struct Loaded<'a> {
    path: &'a Path,
    /// Locked as long as it is open.
    _file: File,
}

impl HistoryFile {
    /// Checks that a file can be written there.
    ///
    /// # Errors
    /// When it cannot.
    pub fn new(path: &Path) -> io::Result<Self> {
        let this = Self { path: path.to_owned() };
        if path.is_dir() {
            return Err(failed(
                "it is a directory: give the path of a file in it",
                path,
                &io::ErrorKind::IsADirectory.into(),
            ));
        }
        this.create_temporary()
            .and_then(|_| fs::remove_file(this.temporary()))
            .map_err(|error| failed("cannot write there", path, &error))?;
        Ok(this)
    }

    /// The hub that continues the history in the file. Without a usable file, an empty hub with a new epoch.
    ///
    /// # Errors
    /// When another server is reading the file.
    pub fn load(&self, options: &HubOptions) -> io::Result<(Hub, Option<Loaded<'_>>)> {
        let (path, began) = (self.path.as_path(), Instant::now());
        let file = match self.open() {
            Ok(Some(file)) => file,
            Ok(None) => {
                tracing::info!(path = %path.display(), "no history file: a new epoch begins");
                return Ok((Hub::new(options), None));
            }
            Err(error) => return Err(failed("cannot open it", path, &error)),
        };
        match Hub::continued(options, BufReader::with_capacity(BUFFER, &file)) {
            Ok(hub) => {
                let (events, position) = (hub.stats().restored, hub.position());
                tracing::info!(path = %path.display(), events, %position, elapsed = ?began.elapsed(), "the history continues");
                Ok((hub, Some(Loaded { path, _file: file })))
            }
            Err(InvalidHistory::Unreadable(error)) => Err(failed("cannot read it", path, &error)),
            Err(reason) => {
                tracing::error!(path = %path.display(), %reason, "the history file is not usable and is ignored: a new epoch begins");
                Ok((Hub::new(options), None))
            }
        }
    }

    /// Opens and locks the file, if there is one.
    fn open(&self) -> io::Result<Option<File>> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::other("another server is starting with it"),
            TryLockError::Error(error) => error,
        })?;
        // Another server may have deleted it before the lock, and a third one may have written it again.
        let (opened, there) = (file.metadata()?, fs::metadata(&self.path)?);
        let is_same = (opened.dev(), opened.ino()) == (there.dev(), there.ino());
        if is_same { Ok(Some(file)) } else { Err(io::Error::other("another server has replaced it")) }
    }

    /// Closes `hub`, and writes what it retains.
    ///
    /// # Errors
    /// When writing fails. There is no file then.
    pub fn save(&self, hub: &Hub) -> io::Result<()> {
        let began = Instant::now();
        let written = self.create_temporary().and_then(|mut file| {
            let events = hub.save(&mut file)?;
            file.sync_all()?;
            fs::rename(self.temporary(), &self.path)?;
            sync_directory(&self.path)?;
            Ok((events, file.metadata()?.len()))
        });
        match written {
            Ok((events, bytes)) => {
                let (path, position) = (self.path.display(), hub.position());
                tracing::info!(%path, events, bytes, %position, elapsed = ?began.elapsed(), "the history is saved");
                Ok(())
            }
            Err(error) => {
                let _ = fs::remove_file(self.temporary());
                Err(failed("cannot write it, so that the next start begins a new epoch", &self.path, &error))
            }
        }
    }

    /// Creates the temporary file, for this user only.
    fn create_temporary(&self) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(self.temporary())
    }

    fn temporary(&self) -> PathBuf {
        self.path.with_added_extension("tmp")
    }
}

impl Loaded<'_> {
    /// Deletes the file, so that no later start continues the same history.
    ///
    /// # Errors
    /// When that fails: the hub must not be used then.
    pub fn delete(self) -> io::Result<()> {
        let deleted = fs::remove_file(self.path).and_then(|()| sync_directory(self.path));
        deleted
            .map_err(|error| failed("cannot delete it, and a later start would give its ids again", self.path, &error))
    }
}

/// Makes a change of the directory of `path` durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

fn failed(what: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("history_file {}: {what}: {error}", path.display()))
}
