//! What a process uses, as the kernel counts it.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

/// The memory of a process that is in the machine's memory.
pub fn resident_bytes(pid: u32) -> u64 {
    memory(pid, "VmRSS:")
}

/// The most that it has ever been.
pub fn peak_resident_bytes(pid: u32) -> u64 {
    memory(pid, "VmHWM:")
}

fn memory(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it has memory");
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes * 1024
}

/// The processor time of a process, its own and the kernel's for it, in ticks of 10 ms.
pub fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is there");
    // The name, in parentheses, may hold spaces; behind it the state is field 3.
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

/// How many connections the kernel of this machine (of its network namespace) has refused to queue for listeners.
pub fn listen_drops() -> u64 {
    let netstat = fs::read_to_string("/proc/net/netstat").expect("the kernel counts");
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let place = names.split(' ').position(|name| name == "ListenDrops").expect("it is counted");
    values.split(' ').nth(place).and_then(|value| value.parse().ok()).expect("a number")
}

/// Lowers the soft limit on open files of a process, which may have more already.
pub fn lower_open_file_limit(pid: u32, files: u64) {
    let pid = Pid::from_raw(pid as i32);
    let before = prlimit(pid, Resource::Nofile, Rlimit { current: Some(files), maximum: Some(1024) });
    before.expect("the process is ours");
}

/// Raises the soft limit on open files of this process to the hard one, which is at least `files`.
pub fn raise_open_file_limit(files: u64) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    assert!(maximum.is_none_or(|maximum| maximum >= files), "this test needs {files} open files (ulimit -Hn)");
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the hard limit it may be raised");
}
