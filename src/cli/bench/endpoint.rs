//! Where subscribers and publishers connect to, and what they ask for there.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::template::{Template, Unknown};

/// How long one address of a server may take to accept before the next is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A URL whose path may have placeholders.
#[derive(Debug)]
pub struct Endpoint {
    /// For the `Host` header and for people.
    pub authority: String,
    pub path: Template,
}

/// Why a template is no URL.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    #[error("it must begin with http://host:port or with {{url}}")]
    Scheme,
    #[error("https is not supported; give the plain http:// address that the TLS terminator forwards to")]
    Tls,
    #[error("the host has no place for a placeholder or a name and a password")]
    Host,
    #[error("a URL has no spaces and no control characters; write %20 for a space")]
    Space,
    #[error("{0}")]
    Placeholder(#[from] Unknown),
}

impl Endpoint {
    /// Reads `text`, with `{url}` standing for `base`.
    ///
    /// # Errors
    /// [`InvalidUrl`]
    pub fn new(text: &str, base: &str, names: &[&str]) -> Result<Self, InvalidUrl> {
        let text = text.replace("{url}", base);
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some(("https", _)) => return Err(InvalidUrl::Tls),
            _ => return Err(InvalidUrl::Scheme),
        };
        let path_at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path_at);
        if authority.is_empty() || authority.contains(['{', '@']) {
            return Err(InvalidUrl::Host);
        }
        if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(InvalidUrl::Space);
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        let path = format!("{slash}{path}");
        let path = path.split_once('#').map_or(path.as_str(), |(path, _)| path);
        Ok(Self { authority: authority.to_owned(), path: Template::new(path, names)? })
    }

    /// The first address of the host that accepts a connection.
    ///
    /// # Errors
    /// That of the last address, when none does.
    pub fn resolve(&self) -> io::Result<SocketAddr> {
        let has_port = self.authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let host = if has_port { self.authority.clone() } else { format!("{}:80", self.authority) };
        let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in host.to_socket_addrs()? {
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

    fn endpoint(text: &str) -> Result<(String, String), InvalidUrl> {
        let endpoint = Endpoint::new(text, "http://127.0.0.1:8000/live", &["topic"])?;
        Ok((endpoint.authority.clone(), endpoint.path.render_text(|_| "T".into())))
    }

    #[test]
    fn a_url_has_a_host_and_a_path_with_placeholders() {
        let pair = |authority: &str, path: &str| Ok((authority.to_owned(), path.to_owned()));
        assert_eq!(endpoint("{url}/stream?topics={topic}"), pair("127.0.0.1:8000", "/live/stream?topics=T"));
        assert_eq!(endpoint("http://host"), pair("host", "/"));
        assert_eq!(endpoint("http://host:1?id={topic}#a"), pair("host:1", "/?id=T"));
        assert_eq!(endpoint("http://[::1]:80/{topic}"), pair("[::1]:80", "/T"));
    }

    #[test]
    fn what_is_no_url_is_refused_with_what_would_be_right() {
        assert_eq!(endpoint("/stream"), Err(InvalidUrl::Scheme));
        assert_eq!(endpoint("https://host/"), Err(InvalidUrl::Tls));
        assert_eq!(endpoint("http://{topic}.host/"), Err(InvalidUrl::Host));
        assert_eq!(endpoint("http://host/a b"), Err(InvalidUrl::Space));
        assert!(endpoint("http://host/{id}").unwrap_err().to_string().contains("{id} means nothing here"));
    }
}
