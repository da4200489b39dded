//! Slow connections: each sends the head of a request one byte at a time, and never finishes it.
//!
//! Connections that the server closes are replaced at a limited pace, so that they open and close evenly, as from many
//! independent clients. Prints a line when nearly all are open for the first time. After SIGTERM it opens no more, waits
//! until the last one is closed, and prints as JSON how many there were and how long they lasted.

use std::io::{self, ErrorKind, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Parser;
use tokio::net::{TcpSocket, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until};

/// The number of loopback addresses to connect from. A port stays in use for a minute after it is closed, and one address
/// has too few of them.
const SOURCES: u8 = 8;

/// Holds slow connections to an HTTP server on this machine.
#[derive(Parser)]
struct Options {
    /// The server's address.
    #[arg(long)]
    address: SocketAddr,
    /// The number of connections.
    #[arg(long, default_value_t = 5000)]
    connections: usize,
    /// Seconds between two bytes of a connection.
    #[arg(long, default_value_t = 3.0)]
    interval: f64,
    /// The most connections to open per second.
    #[arg(long, default_value_t = 600.0)]
    pace: f64,
}

/// How long a connection was open, and whether the server sent anything.
struct Outcome {
    lasted: Duration,
    was_answered: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let options = Options::parse();
    let every = Duration::from_secs_f64(options.interval);
    let mut over = signal(SignalKind::terminate())?;
    let mut pace = interval(Duration::from_secs_f64(1.0 / options.pace));
    let (mut open, mut outcomes) = (JoinSet::new(), Vec::new());
    let (mut opened, mut is_crowded, mut is_over) = (0_u64, false, false);
    while !is_over || !open.is_empty() {
        tokio::select! {
            _ = over.recv(), if !is_over => is_over = true,
            Some(ended) = open.join_next() => outcomes.push(ended.map_err(io::Error::other)??),
            _ = pace.tick(), if !is_over => if open.len() < options.connections {
                let source = [127, 0, 0, 2 + (opened % u64::from(SOURCES)) as u8];
                open.spawn(live(options.address, source.into(), every));
                opened += 1;
            }
        }
        // At any moment some connections are closing.
        if !is_crowded && open.len() * 100 >= options.connections * 99 {
            is_crowded = true;
            writeln!(io::stdout(), "{} connections are open", open.len())?;
        }
    }
    let lasted = || outcomes.iter().map(|outcome| outcome.lasted.as_secs_f64());
    let report = serde_json::json!({
        "opened": opened,
        "closed": outcomes.len(),
        "answered": outcomes.iter().filter(|outcome| outcome.was_answered).count(),
        "shortest_s": lasted().reduce(f64::min),
        "longest_s": lasted().reduce(f64::max),
    });
    writeln!(io::stdout(), "{report}")
}

/// Connects, and sends a byte at each interval until the server closes the connection.
async fn live(address: SocketAddr, source: Ipv4Addr, every: Duration) -> io::Result<Outcome> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    let opened = Instant::now();
    let socket = socket.connect(address).await?;
    let (mut due, mut was_answered) = (opened, false);
    loop {
        tokio::select! {
            () = sleep_until(due) => {
                // Part of a long method name. A failed write shows in the next read.
                let _ = socket.try_write(b"G");
                due += every;
            }
            readable = socket.readable() => {
                readable?;
                if is_closed(&socket, &mut was_answered)? {
                    return Ok(Outcome { lasted: opened.elapsed(), was_answered });
                }
            }
        }
    }
}

fn is_closed(socket: &TcpStream, was_answered: &mut bool) -> io::Result<bool> {
    match socket.try_read(&mut [0; 4096]) {
        Ok(0) => Ok(true),
        Ok(_) => {
            *was_answered = true;
            Ok(false)
        }
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock => Ok(false),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Ok(true),
            _ => Err(error),
        },
    }
}
