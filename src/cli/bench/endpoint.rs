//! The URLs of subscribers and publishers.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::template::{Template, UnknownPlaceholder};
use crate::cli::target::{InvalidUrl, ServerUrl};

/// How long one address of a server may take to accept before the next is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A URL whose path may have placeholders.
#[derive(Debug)]
pub struct Endpoint {
    pub server: ServerUrl,
    pub path: Template,
}

/// Why a template is not a URL.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    #[error("{0}; {{url}} stands for the URL of --url")]
    Server(#[from] InvalidUrl),
    #[error("a URL has no spaces and no control characters; write %20 for a space")]
    Space,
    #[error("{0}")]
    Placeholder(#[from] UnknownPlaceholder),
}

impl Endpoint {
    /// Parses `text`, in which `{url}` stands for `base`, with placeholders of these names in its path.
    pub fn new(text: &str, base: &ServerUrl, names: &[&str]) -> Result<Self, InvalidEndpoint> {
        let text = text.replace("{url}", &base.to_string());
        if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(InvalidEndpoint::Space);
        }
        let host_at = text.find("://").map_or(0, |at| at + 3);
        let path_at = text[host_at..].find(['/', '?', '#']).map_or(text.len(), |at| host_at + at);
        let (server, path) = text.split_at(path_at);
        let path = path.split_once('#').map_or(path, |(path, _)| path);
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self { server: server.parse()?, path: Template::new(&format!("{slash}{path}"), names)? })
    }

    /// The first address of the host that accepts a connection, or the error of the last one.
    pub fn resolve(&self) -> io::Result<SocketAddr> {
        let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in self.server.host_and_port().to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(_) => return Ok(address),
                Err(failed) => error = failed,
            }
        }
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Result<(String, String), InvalidEndpoint> {
        let endpoint = Endpoint::new(text, &"http://127.0.0.1:8000/live".parse().unwrap(), &["topic"])?;
        Ok((endpoint.server.authority().to_owned(), endpoint.path.render_text(|_| "T".into())))
    }

    #[test]
    fn endpoint_has_a_host_and_a_path_with_placeholders() {
        let pair = |authority: &str, path: &str| Ok((authority.to_owned(), path.to_owned()));
        assert_eq!(endpoint("{url}/stream?topics={topic}"), pair("127.0.0.1:8000", "/live/stream?topics=T"));
        assert_eq!(endpoint("http://host"), pair("host", "/"));
        assert_eq!(endpoint("http://host:1?id={topic}#a"), pair("host:1", "/?id=T"));
        assert_eq!(endpoint("http://[::1]:80/{topic}"), pair("[::1]:80", "/T"));
    }

    #[test]
    fn invalid_endpoint_is_refused_with_its_remedy() {
        assert_eq!(endpoint("/stream"), Err(InvalidUrl::Scheme.into()));
        assert_eq!(endpoint("https://host/"), Err(InvalidUrl::Tls.into()));
        assert_eq!(endpoint("http://{topic}.host/"), Err(InvalidUrl::Malformed.into()));
        assert_eq!(endpoint("http://host/a b"), Err(InvalidEndpoint::Space));
        assert!(endpoint("http://host/{id}").unwrap_err().to_string().contains("unknown placeholder {id}"));
    }
}
