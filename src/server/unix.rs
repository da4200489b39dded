//! Unix sockets to listen on.
//!
//! **Contract.** A path that something accepts on, or that is not a socket, is left alone. A socket that nothing accepts on is
//! what a killed server left, and is replaced. The server removes its own socket when it ends. No connection is accepted
//! before the socket has its mode and owner.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// The access to the Unix sockets of a server. Sockets with abstract names and inherited ones have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixSocketOptions {
    /// The permissions of the file. Connecting takes the permission to write. Default: 0o660.
    pub mode: u32,
    /// The owner. Default: the server's user.
    pub uid: Option<u32>,
    /// The group. Default: the server's group.
    pub gid: Option<u32>,
}

impl Default for UnixSocketOptions {
    fn default() -> Self {
        Self { mode: 0o660, uid: None, gid: None }
    }
}

/// The file of a bound Unix socket, removed on drop if it is still the same file.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// The device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).ok() == Some(self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Listens at `path`.
pub(super) fn listen_at(path: &Path, options: &UnixSocketOptions, backlog: i32) -> io::Result<(Socket, SocketFile)> {
    // Held until the socket listens: two servers that start together must not take each other's for a stale one.
    let _lock = path.parent().map(lock_directory).transpose()?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let address = SockAddr::unix(path)?;
    if let Err(error) = socket.bind(&address) {
        if error.kind() != io::ErrorKind::AddrInUse {
            return Err(error);
        }
        check_stale(path)?;
        tracing::warn!(path = %path.display(), "replacing a socket that nothing listens on");
        fs::remove_file(path)?;
        socket.bind(&address)?;
    }
    // Dropped on failure, which removes the socket.
    let file = SocketFile::new(path)?;
    let named =
        |error: io::Error, what| io::Error::new(error.kind(), format!("cannot set the {what} of the socket: {error}"));
    if options.uid.is_some() || options.gid.is_some() {
        chown(path, options.uid, options.gid).map_err(|error| named(error, "owner"))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(options.mode)).map_err(|error| named(error, "mode"))?;
    socket.listen(backlog)?;
    Ok((socket, file))
}

/// Binds a socket to an abstract name, not listening yet.
pub(super) fn bind_abstract(name: &str) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let path = [b"\0", name.as_bytes()].concat();
    socket.bind(&SockAddr::unix(Path::new(std::ffi::OsStr::from_bytes(&path)))?)?;
    Ok(socket)
}

/// Locks a directory until the file is closed.
fn lock_directory(directory: &Path) -> io::Result<fs::File> {
    let directory = fs::File::open(directory)?;
    directory.lock()?;
    Ok(directory)
}

/// Checks that `path` is a socket that nothing accepts on.
fn check_stale(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        let reason = "the file exists and is not a socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, reason));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A full queue of connections would block.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}
