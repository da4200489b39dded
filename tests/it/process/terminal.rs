//! Pseudo terminals.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Returns the two ends of a pseudo terminal: the one that a person sees, and the one for a process.
pub fn pseudo_terminal() -> (File, File) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let path = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    // The process that opens a terminal first must not be controlled by it.
    let flags = i32::try_from(OpenptFlags::NOCTTY.bits()).unwrap();
    let other = File::options().read(true).write(true).custom_flags(flags).open(path).unwrap();
    (terminal.into(), other)
}
