//! What the kernel says about the server and its listener.

use std::net::SocketAddr;
use std::{fs, io};

/// CPU time of all threads of a process, in nanoseconds. A thread that ends takes its time with it.
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
pub fn busy_time() -> io::Result<u64> {
    const NANOSECONDS_PER_TICK: u64 = 10_000_000;
    let text = fs::read_to_string("/proc/stat")?;
    let fields = text.lines().next().unwrap_or_default().split_ascii_whitespace().skip(1);
    let ticks: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = ticks[..] else {
        return Err(io::Error::other("the kernel's processor times have fewer columns than expected"));
    };
    Ok((user + nice + system + irq + softirq + steal) * NANOSECONDS_PER_TICK)
}

/// VmRSS in kilobytes.
pub fn resident(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|value| value.trim().trim_end_matches(" kB").parse().ok())
        .ok_or_else(|| io::Error::other("no VmRSS in the process status"))
}

/// The machine's counters of connections that a full backlog turned away.
#[derive(Clone, Copy, Default)]
pub struct Listener {
    pub overflows: u64,
    pub drops: u64,
}

impl Listener {
    pub fn now() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/net/netstat")?;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
        let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return Ok(Self::default()) };
        let value = |wanted: &str| {
            let pair = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == wanted);
            pair.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
        };
        Ok(Self { overflows: value("ListenOverflows"), drops: value("ListenDrops") })
    }
}

/// Bytes that the server's side of the connection from `client` has not got rid of; `None` when it is closed.
pub fn unsent(server: SocketAddr, client: SocketAddr) -> io::Result<Option<u64>> {
    let (SocketAddr::V4(server), SocketAddr::V4(client)) = (server, client) else { return Ok(None) };
    let (server, client) = (hexadecimal(server), hexadecimal(client));
    let table = fs::read_to_string("/proc/net/tcp")?;
    Ok(table.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let established = "01";
        (fields.next() == Some(&server) && fields.next() == Some(&client) && fields.next() == Some(established))
            .then(|| fields.next()?.split(':').next().and_then(|queue| u64::from_str_radix(queue, 16).ok()))?
    }))
}

/// As `/proc/net/tcp` writes an address: its bytes read as a number of this machine.
fn hexadecimal(address: std::net::SocketAddrV4) -> String {
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}
