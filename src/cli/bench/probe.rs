//! Processor time, memory and accept losses, from the kernel.

use std::{fs, io};

/// CPU time of the threads of a process, in nanoseconds, without threads that have ended.
pub fn cpu_time(pid: u32) -> io::Result<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = match fs::read_to_string(task?.path().join("schedstat")) {
            Ok(text) => text,
            // A thread that ended in between.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        total += text.split(' ').next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(total)
}

/// Time of all processors since boot, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct MachineTime {
    /// Not idle, or stolen by other guests of the host.
    pub busy: u64,
    pub total: u64,
}

impl MachineTime {
    pub fn now() -> Option<Self> {
        const NANOSECONDS_PER_TICK: u64 = 10_000_000;
        let text = fs::read_to_string("/proc/stat").ok()?;
        let fields = text.lines().next()?.split_ascii_whitespace().skip(1);
        let ticks: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
        let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = ticks[..] else { return None };
        let busy = (user + nice + system + irq + softirq + steal) * NANOSECONDS_PER_TICK;
        Some(Self { busy, total: busy + (idle + iowait) * NANOSECONDS_PER_TICK })
    }
}

/// VmRSS of a process in kilobytes.
pub fn resident(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    kilobytes(&status, "VmRSS:").ok_or_else(|| io::Error::other("its status has no VmRSS, because it has ended"))
}

/// The kernel's slab memory in kilobytes. With many sockets, they are most of it.
pub fn slab() -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/meminfo").ok()?, "Slab:")
}

fn kilobytes(table: &str, name: &str) -> Option<u64> {
    let value = table.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().trim_end_matches(" kB").parse().ok()
}

/// The machine's counters of connections that a full backlog rejected.
#[derive(Clone, Copy, Debug, Default)]
pub struct AcceptLosses {
    pub overflows: u64,
    pub drops: u64,
}

impl AcceptLosses {
    pub fn now() -> Option<Self> {
        let text = fs::read_to_string("/proc/net/netstat").ok()?;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
        let (names, values) = (lines.next()?, lines.next()?);
        let value = |wanted: &str| {
            let pair = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == wanted);
            pair.and_then(|(_, value)| value.parse().ok())
        };
        Some(Self { overflows: value("ListenOverflows")?, drops: value("ListenDrops")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_has_time_and_memory() {
        let pid = std::process::id();
        assert!(cpu_time(pid).unwrap() > 0 && resident(pid).unwrap() > 100);
        let machine = MachineTime::now().unwrap();
        assert!(machine.busy > 0 && machine.total > machine.busy);
        assert!(slab().unwrap() > 0 && AcceptLosses::now().is_some());
        assert!(cpu_time(u32::MAX).is_err() && resident(u32::MAX).is_err());
    }
}
