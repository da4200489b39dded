//! What the kernel says about the server and the machine.

use std::{fs, io};

/// CPU time of all threads of a process, in nanoseconds. A thread that ends takes its time with it.
///
/// # Errors
/// When there is no such process any more, or it may not be looked at.
pub fn cpu_time(pid: u32) -> io::Result<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = match fs::read_to_string(task?.path().join("schedstat")) {
            Ok(text) => text,
            // A thread that ended between the listing and the look.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        total += text.split(' ').next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(total)
}

/// Time that all processors were not idle, in nanoseconds: what was stolen by other guests of the host included.
pub fn busy_time() -> Option<u64> {
    const NANOSECONDS_PER_TICK: u64 = 10_000_000;
    let text = fs::read_to_string("/proc/stat").ok()?;
    let fields = text.lines().next()?.split_ascii_whitespace().skip(1);
    let ticks: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = ticks[..] else { return None };
    Some((user + nice + system + irq + softirq + steal) * NANOSECONDS_PER_TICK)
}

/// VmRSS of a process in kilobytes.
///
/// # Errors
/// When there is no such process, or it may not be looked at.
pub fn resident(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    kilobytes(&status, "VmRSS:").ok_or_else(|| io::Error::other("its status has no VmRSS: it has ended"))
}

/// What all of the kernel's small objects take, in kilobytes; sockets are most of it when there are many.
pub fn slab() -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/meminfo").ok()?, "Slab:")
}

fn kilobytes(table: &str, name: &str) -> Option<u64> {
    let value = table.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().trim_end_matches(" kB").parse().ok()
}

/// The machine's counters of connections that a full backlog turned away.
#[derive(Clone, Copy, Debug, Default)]
pub struct TurnedAway {
    pub overflows: u64,
    pub drops: u64,
}

impl TurnedAway {
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
    fn this_process_has_used_time_and_memory() {
        let pid = std::process::id();
        assert!(cpu_time(pid).unwrap() > 0 && resident(pid).unwrap() > 100);
        assert!(busy_time().unwrap() > 0 && slab().unwrap() > 0 && TurnedAway::now().is_some());
        assert!(cpu_time(u32::MAX).is_err() && resident(u32::MAX).is_err());
    }
}
