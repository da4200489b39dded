//! `fanline health`: whether a server is ready for clients, for container health checks and scripts.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use tokio::time::timeout;

use super::client::{self, Refusal};
use super::target::{ServerArgs, ServerUrl};
use crate::config::{self, ConfigError};

/// Longer than a busy server takes, and shorter than the interval of common health checks.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The flags of `fanline health`.
#[derive(clap::Args, Debug)]
pub struct HealthArgs {
    /// Where the server is [default: the first address that `fanline serve` without flags listens on]
    #[arg(long, env = "FANLINE_URL", value_name = "URL")]
    url: Option<ServerUrl>,
}

/// Why the server is not known to be ready.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Settings(#[from] ConfigError),
    #[error("the settings choose port 0, which is any free port; give the server's address with --url")]
    AnyPort,
    #[error("{0}")]
    Unreachable(#[from] client::Error),
    #[error("no answer from {0} for {seconds} s", seconds = ANSWER_TIMEOUT.as_secs())]
    Silent(ServerUrl),
    #[error("{0} is not ready: {1}")]
    NotReady(ServerUrl, Box<Refusal>),
    #[error("invalid request: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

/// Asks `/health/ready`, and prints one line.
pub async fn run(args: HealthArgs) -> Result<(), Error> {
    let url = match args.url {
        Some(url) => url,
        None => own_url(config::load(None, std::env::vars_os())?.settings.listen[0])?,
    };
    let server = ServerArgs { url, token: None };
    let request = server.request("/health/ready").body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = client::send(&server.url, request).await?;
        match response.status().is_success() {
            true => Ok(()),
            false => Err(Error::NotReady(server.url.clone(), Box::new(Refusal::of(response).await))),
        }
    };
    timeout(ANSWER_TIMEOUT, exchange).await.unwrap_or_else(|_| Err(Error::Silent(server.url.clone())))?;
    Ok(writeln!(io::stdout(), "{} is ready", server.url)?)
}

/// The URL at which a server on this machine that listens on `address` is reached.
fn own_url(mut address: SocketAddr) -> Result<ServerUrl, Error> {
    if address.port() == 0 {
        return Err(Error::AnyPort);
    }
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    Ok(format!("http://{address}").parse().expect("an address and a port are a URL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unspecified_address_is_reached_over_loopback() {
        for (listen, url) in [
            ("0.0.0.0:9000", "http://127.0.0.1:9000"),
            ("[::]:80", "http://[::1]:80"),
            ("10.0.0.1:8000", "http://10.0.0.1:8000"),
        ] {
            assert_eq!(own_url(listen.parse().unwrap()).unwrap().to_string(), url);
        }
        assert!(matches!(own_url("127.0.0.1:0".parse().unwrap()), Err(Error::AnyPort)));
    }
}
