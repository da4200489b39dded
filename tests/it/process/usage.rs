//! Resource usage of processes, from the kernel.

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

/// The resident memory of a process.
pub fn resident_bytes(pid: u32) -> u64 {
    memory(pid, "VmRSS:")
}

/// The peak resident memory of a process.
pub fn peak_resident_bytes(pid: u32) -> u64 {
    memory(pid, "VmHWM:")
}

fn memory(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the process has memory");
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes * 1024
}

/// The CPU time of a process in user and kernel mode, in ticks of 10 ms.
pub fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The name, in parentheses, may contain spaces. The state, field 3, comes after it.
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

/// The number of connections that the kernel has dropped from full accept queues in this network namespace.
pub fn listen_drops() -> u64 {
    let netstat = fs::read_to_string("/proc/net/netstat").expect("the kernel counts");
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let place = names.split(' ').position(|name| name == "ListenDrops").expect("the gap has a count");
    values.split(' ').nth(place).and_then(|value| value.parse().ok()).expect("a number")
}

/// Lowers the soft limit on open files of a process, which may have more open.
pub fn lower_open_file_limit(pid: u32, files: u64) {
    let pid = Pid::from_raw(pid as i32);
    let before = prlimit(pid, Resource::Nofile, Rlimit { current: Some(files), maximum: Some(1024) });
    before.expect("the process is ours");
}

/// Raises the soft limit on open files of this process to the hard limit, which must be at least `files`. Blocks while another
/// test holds a reservation, because two such tests together would exceed the limit.
pub fn reserve_open_files(files: u64) -> MutexGuard<'static, ()> {
    static RESERVATION: Mutex<()> = Mutex::new(());

    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    assert!(maximum.is_none_or(|maximum| maximum >= files), "this test needs {files} open files (ulimit -Hn)");
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .expect("the soft limit can be raised to the hard limit");
    RESERVATION.lock().unwrap_or_else(PoisonError::into_inner)
}
