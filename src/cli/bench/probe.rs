//! Processor time, memory and rejected connections, from the kernel.

use std::{fs, io};

use rustix::io::Errno;

/// What the kernel says at one moment. Processor times are in nanoseconds. Without `--pid`, nothing is known of the
/// server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub server_cpu: Option<u64>,
    pub load_cpu: u64,
    pub machine: Option<MachineTime>,
    pub rss_kb: Option<u64>,
    /// The kernel's slab memory. With many sockets, they are most of it.
    pub slab_kb: Option<u64>,
    /// The machine's connections that a full backlog rejected.
    pub listen_overflows: Option<u64>,
    pub listen_drops: Option<u64>,
}

/// Time of all processors since boot, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct MachineTime {
    /// Not idle, or stolen by other guests of the host.
    pub busy: u64,
    pub total: u64,
}

impl Sample {
    /// What cannot be read is unknown: that a server has ended shows in its streams.
    pub fn take(server: Option<u32>) -> Self {
        let [listen_overflows, listen_drops] = rejected_connections().unwrap_or_default();
        Self {
            server_cpu: server.and_then(|pid| cpu_time(pid).ok()),
            load_cpu: cpu_time(std::process::id()).unwrap_or(0),
            machine: machine_time(),
            rss_kb: server.and_then(|pid| resident(pid).ok()),
            slab_kb: fs::read_to_string("/proc/meminfo").ok().and_then(|table| kilobytes(&table, "Slab:")),
            listen_overflows,
            listen_drops,
        }
    }
}

/// CPU time of the threads of a process, in nanoseconds, without threads that have ended.
fn cpu_time(pid: u32) -> io::Result<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = match fs::read_to_string(task?.path().join("schedstat")) {
            Ok(text) => text,
            // The thread ended before its file was opened, or before it was read.
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOENT | Errno::SRCH)) => continue,
            Err(error) => return Err(error),
        };
        total += text.split(' ').next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(total)
}

fn machine_time() -> Option<MachineTime> {
    const NANOSECONDS_PER_TICK: u64 = 10_000_000;
    let text = fs::read_to_string("/proc/stat").ok()?;
    let fields = text.lines().next()?.split_ascii_whitespace().skip(1);
    let ticks: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
    let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = ticks[..] else { return None };
    let busy = (user + nice + system + irq + softirq + steal) * NANOSECONDS_PER_TICK;
    Some(MachineTime { busy, total: busy + (idle + iowait) * NANOSECONDS_PER_TICK })
}

/// VmRSS of a process in kilobytes.
pub fn resident(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    kilobytes(&status, "VmRSS:").ok_or_else(|| io::Error::other("its status has no VmRSS, because it has ended"))
}

fn kilobytes(table: &str, name: &str) -> Option<u64> {
    let value = table.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().trim_end_matches(" kB").parse().ok()
}

fn rejected_connections() -> Option<[Option<u64>; 2]> {
    let text = fs::read_to_string("/proc/net/netstat").ok()?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next()?, lines.next()?);
    Some(["ListenOverflows", "ListenDrops"].map(|wanted| {
        let pair = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == wanted);
        pair.and_then(|(_, value)| value.parse().ok())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_has_time_and_memory() {
        let sample = Sample::take(Some(std::process::id()));
        assert!(sample.server_cpu > Some(0) && sample.load_cpu > 0 && sample.rss_kb > Some(100), "{sample:?}");
        assert!(sample.slab_kb > Some(0) && sample.listen_overflows.and(sample.listen_drops).is_some(), "{sample:?}");
        assert!(sample.machine.is_some_and(|machine| machine.total > machine.busy && machine.busy > 0), "{sample:?}");
        assert!(cpu_time(u32::MAX).is_err() && resident(u32::MAX).is_err());
    }

    #[test]
    fn cpu_time_is_known_while_threads_end() {
        std::thread::scope(|scope| {
            let threads = scope.spawn(|| (0..500).for_each(|_| std::thread::spawn(|| {}).join().unwrap()));
            while !threads.is_finished() {
                cpu_time(std::process::id()).unwrap();
            }
        });
    }
}
