//! What the command line asks for.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::Parser;

/// Holds many SSE clients, publishes at a rate, checks every stream, and says what it cost the server.
///
/// Exit code 0 when every client got every event once and in order, 1 when not, 2 when the run could not be made.
#[derive(Parser)]
pub struct Options {
    /// The server under test.
    #[arg(long)]
    pub target: SocketAddr,

    /// What clients GET. `{n}` is the client's number.
    #[arg(long, default_value = "/stream?topics=bench")]
    pub path: String,

    /// Where publishers POST.
    #[arg(long, default_value = "/publish")]
    pub publish_path: String,

    /// The topic that is published to.
    #[arg(long, default_value = "bench")]
    pub topic: String,

    /// How many subscribers.
    #[arg(long, default_value_t = 100)]
    pub clients: usize,

    /// Handshakes under way at once, from connect to the response head.
    #[arg(long, default_value_t = 512, value_parser = at_least_one)]
    pub connect_window: usize,

    /// Source addresses that clients are spread over; the system chooses when there are none.
    #[arg(long, value_delimiter = ',')]
    pub sources: Vec<IpAddr>,

    /// Keep-alive connections that publish.
    #[arg(long, default_value_t = 4, value_parser = at_least_one)]
    pub publishers: usize,

    /// Events per second, open loop: an event's latency counts from when it was due, however late it was sent.
    #[arg(long, default_value_t = 100.0, value_parser = rate)]
    pub rate: f64,

    /// Each publisher sends its next event as soon as the last was answered; `--rate` is not used.
    #[arg(long)]
    pub closed_loop: bool,

    /// Bytes of padding in each event.
    #[arg(long, default_value_t = 64)]
    pub pad: usize,

    /// Seconds of publishing before the measured window.
    #[arg(long, default_value = "2", value_parser = seconds)]
    pub warmup: Duration,

    /// Seconds of the measured window.
    #[arg(long, default_value = "10", value_parser = seconds)]
    pub duration: Duration,

    /// Seconds to wait for what is still under way after the window, and for clients to connect.
    #[arg(long, default_value = "30", value_parser = seconds)]
    pub patience: Duration,

    /// The server's process, for its CPU time and memory.
    #[arg(long)]
    pub pid: Option<u32>,

    /// Clients besides `--clients` that read the response head and then never again.
    #[arg(long, default_value_t = 0)]
    pub stuck: usize,

    /// Receive buffer of a stuck client: the smaller, the sooner the server's writes to it block.
    #[arg(long, default_value_t = 4096)]
    pub stuck_receive_buffer: usize,

    /// What stuck clients GET; as `--path` when not given.
    #[arg(long)]
    pub stuck_path: Option<String>,

    /// Before the warm-up, publish to this topic until the server's sockets of stuck clients take no more. With this
    /// topic in `--stuck-path` and not in `--path`, only they get it.
    #[arg(long)]
    pub fill_topic: Option<String>,

    /// Connect all, wait for every hello, report, hold, and publish nothing.
    #[arg(long)]
    pub connect_only: bool,

    /// Seconds to keep the clients of `--connect-only`.
    #[arg(long, default_value = "0", value_parser = seconds)]
    pub hold: Duration,

    /// Report as one flat JSON object, one member a line.
    #[arg(long)]
    pub json: bool,

    /// Exit with 0 though a stream was not whole.
    #[arg(long)]
    pub allow_loss: bool,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("must be a number above 0".into()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "must be a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
