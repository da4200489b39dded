//! `fanline health`: whether a server is ready for clients, for container health checks and scripts.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use fanline::server::{ListenAddress, PathPrefix};
use http_body_util::Empty;
use tokio::time::timeout;

use super::client::{self, Refusal};
use super::target::{ServerArgs, ServerUrl};
use crate::config::{self, ConfigError, Listen, Settings};

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
    #[error(
        "the settings name no address without the PROXY protocol (port 0 is any free port, systemd is any socket); give the server's with --url"
    )]
    NoAddress,
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
    let (url, prefix) = match args.url {
        Some(url) => (url, PathPrefix::default()),
        None => {
            let settings = config::load(None, std::env::vars_os())?.settings;
            (own_url(&settings)?, settings.prefix)
        }
    };
    let server = ServerArgs { url, token: None };
    let request = server.request(&format!("{prefix}/health/ready")).body(Empty::<Bytes>::new())?;
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

/// The URL of a server on this machine with these settings.
fn own_url(settings: &Settings) -> Result<ServerUrl, Error> {
    let reachable = |listen: &Listen| match listen {
        Listen::Address(ListenAddress::Tcp(address)) => (address.port() != 0).then(|| over_loopback(*address).into()),
        Listen::Address(unix) => Some(unix.clone()),
        Listen::Systemd(_) => None,
    };
    // A listener with the PROXY protocol would refuse the request.
    let listen = settings.listeners().filter(|(_, has_proxy_protocol)| !has_proxy_protocol).map(|(listen, _)| listen);
    let address: Option<ListenAddress> = listen.chain(&settings.admin_listen).find_map(reachable);
    address.map(|address| ServerUrl::from(&address)).ok_or(Error::NoAddress)
}

/// The address at which a server on this machine that listens on `address` is reached.
fn over_loopback(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(listen: &[&str]) -> Result<String, Error> {
        let listen = listen.iter().map(|text| text.parse().unwrap()).collect();
        own_url(&Settings { listen, ..Settings::default() }).map(|url| url.to_string())
    }

    #[test]
    fn unspecified_address_is_reached_over_loopback() {
        for (listen, expected) in [
            ("0.0.0.0:9000", "http://127.0.0.1:9000"),
            ("[::]:80", "http://[::1]:80"),
            ("10.0.0.1:8000", "http://10.0.0.1:8000"),
        ] {
            assert_eq!(url(&[listen]).unwrap(), expected);
        }
    }

    #[test]
    fn the_first_known_address_is_the_servers() {
        assert_eq!(url(&["systemd", "127.0.0.1:0", "unix:@fanline", "127.0.0.1:1"]).unwrap(), "unix:@fanline");
        assert!(matches!(url(&["127.0.0.1:0", "systemd"]), Err(Error::NoAddress)));
    }
}
