//! The server that a client command talks to, and the token for it.

use std::fmt;
use std::str::FromStr;

use fanline::server::{InvalidListenAddress, ListenAddress};
use hyper::header::{AUTHORIZATION, HOST, HeaderValue, USER_AGENT};
use hyper::http::request;
use hyper::http::uri::Scheme;
use hyper::{Request, Uri};

use super::hidden::Hidden;
use crate::config::{Feature, MissingFeature};

/// The remedy for a response with the status 401.
pub const TOKEN_HINT: &str = "--token or FANLINE_TOKEN sets the API key or token of this command";

/// The flags of every client command.
#[derive(clap::Args, Clone, Debug)]
pub struct ServerArgs {
    /// Where the server is: http:// or https://host:port, with a path if a proxy adds one, or unix:/path of its socket
    #[arg(long, env = "FANLINE_URL", default_value = "http://127.0.0.1:8000", value_name = "URL")]
    pub url: ServerUrl,

    /// Sent as `Authorization: Bearer <TOKEN>`
    #[arg(long, env = "FANLINE_TOKEN", hide_env_values = true, value_parser = Hidden(Token::from_str))]
    pub token: Option<Token>,
}

impl ServerArgs {
    /// A request for `path_and_query`, which begins with `/`, below the path of the URL.
    pub fn request(&self, path_and_query: &str) -> request::Builder {
        let request = Request::builder()
            .uri(format!("{}{path_and_query}", self.url.path()))
            .header(HOST, self.url.authority())
            .header(USER_AGENT, concat!("fanline/", env!("CARGO_PKG_VERSION")));
        match &self.token {
            Some(Token(value)) => request.header(AUTHORIZATION, value),
            None => request,
        }
    }
}

/// A bearer token, as the value of its header. It is never printed.
#[derive(Clone)]
pub struct Token(HeaderValue);

impl Token {
    /// The value of the `Authorization` header, for the requests of the load generator.
    pub fn header_value(&self) -> &str {
        self.0.to_str().expect("a token is made of visible ASCII characters")
    }
}

impl FromStr for Token {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a token is one word of visible ASCII characters");
        }
        let mut value = HeaderValue::try_from(format!("Bearer {text}")).map_err(|_| "a token fits in a header")?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The base URL of a server, whose endpoints are below its path, or the server's Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl(Location);

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A URL with an authority.
    Http(Uri),
    /// A Unix socket.
    Unix(ListenAddress),
}

impl ServerUrl {
    /// Where to connect to.
    pub fn location(&self) -> &Location {
        &self.0
    }

    pub fn is_https(&self) -> bool {
        matches!(&self.0, Location::Http(url) if url.scheme() == Some(&Scheme::HTTPS))
    }

    /// The host and port as in the URL, for the `Host` header.
    pub fn authority(&self) -> &str {
        match &self.0 {
            Location::Http(url) => url.authority().expect("the parser requires an authority").as_str(),
            Location::Unix(_) => "localhost",
        }
    }

    /// The TCP address to resolve and connect to.
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        let Location::Http(url) = &self.0 else { return None };
        let host = url.host().expect("the parser requires a host");
        let default = if self.is_https() { 443 } else { 80 };
        Some((host.trim_start_matches('[').trim_end_matches(']'), url.port_u16().unwrap_or(default)))
    }

    /// Empty, or begins with `/` and does not end with one.
    fn path(&self) -> &str {
        match &self.0 {
            Location::Http(url) => url.path().trim_end_matches('/'),
            Location::Unix(_) => "",
        }
    }
}

impl From<&ListenAddress> for ServerUrl {
    /// The URL of a server that listens on `address`.
    fn from(address: &ListenAddress) -> Self {
        let url = match address {
            ListenAddress::Tcp(address) => format!("http://{address}"),
            unix => unix.to_string(),
        };
        url.parse().expect("an address is a URL")
    }
}

impl FromStr for ServerUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
        match (scheme.as_str(), text.contains("://")) {
            ("unix", _) => return text.parse().map(|address| Self(Location::Unix(address))).map_err(InvalidUrl::Unix),
            ("http", true) => {}
            ("https", true) => Feature::Auth.require().map_err(InvalidUrl::Https)?,
            _ => return Err(InvalidUrl::Scheme),
        }
        let uri: Uri = text.parse().map_err(|_| InvalidUrl::Malformed)?;
        if uri.query().is_some() || text.contains('#') {
            return Err(InvalidUrl::Query);
        }
        let authority = uri.authority().ok_or(InvalidUrl::Malformed)?.as_str();
        if authority.contains('@') {
            return Err(InvalidUrl::Credentials);
        }
        // `Uri` ignores a port that is too large.
        let port = authority[uri.host().unwrap_or_default().len()..].trim_start_matches(':');
        if !port.is_empty() && !port.parse().is_ok_and(|port: u16| port != 0) {
            return Err(InvalidUrl::Malformed);
        }
        Ok(Self(Location::Http(uri)))
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Location::Unix(address) = &self.0 {
            return address.fmt(f);
        }
        let scheme = if self.is_https() { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path())
    }
}

/// Why a text is not the URL of a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    #[error("it must begin with http://, https:// or unix:, as in http://127.0.0.1:8000 or unix:/run/fanline.sock")]
    Scheme,
    #[error("{0}")]
    Unix(InvalidListenAddress),
    #[error("https:// {0}")]
    Https(MissingFeature),
    #[error("it must be http://host:port or https://host:port, as in http://127.0.0.1:8000")]
    Malformed,
    #[error("it must have no query or fragment; topics have flags of their own")]
    Query,
    #[error("it must have no name and password; give a token with --token")]
    Credentials,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> ServerUrl {
        text.parse().unwrap()
    }

    #[test]
    fn url_has_a_host_a_port_and_an_optional_path() {
        let full = url("http://Example.com:8080/live/");
        assert_eq!((full.host_and_port(), full.path()), (Some(("Example.com", 8080)), "/live"));
        assert_eq!(full.to_string(), "http://Example.com:8080/live");
        assert_eq!((url("http://host/").host_and_port(), url("http://host/").path()), (Some(("host", 80)), ""));
        assert_eq!(url("HTTP://host:").host_and_port(), Some(("host", 80)));
        #[cfg(feature = "auth")]
        let tls = url("https://host/live");
        #[cfg(feature = "auth")]
        assert_eq!(
            (tls.host_and_port(), tls.is_https(), tls.to_string()),
            (Some(("host", 443)), true, "https://host/live".into())
        );
        let v6 = url("http://[::1]:8000");
        assert_eq!((v6.host_and_port(), v6.authority()), (Some(("::1", 8000)), "[::1]:8000"));
        for text in ["unix:/run/fanline.sock", "unix:@fanline"] {
            let unix = url(text);
            assert_eq!((unix.to_string(), unix.authority(), unix.path()), (text.into(), "localhost", ""));
            assert_eq!(unix.host_and_port(), None);
        }
        assert!(matches!("unix:fanline.sock".parse::<ServerUrl>(), Err(InvalidUrl::Unix(_))));
    }

    #[test]
    fn invalid_url_is_refused_with_its_remedy() {
        for (text, error) in [
            ("", InvalidUrl::Scheme),
            ("127.0.0.1:8000", InvalidUrl::Scheme),
            ("localhost", InvalidUrl::Scheme),
            ("http:host", InvalidUrl::Scheme),
            ("ftp://host", InvalidUrl::Scheme),
            ("https:host", InvalidUrl::Scheme),
            ("http://", InvalidUrl::Malformed),
            ("http://host:0", InvalidUrl::Malformed),
            ("http://host:65536", InvalidUrl::Malformed),
            ("http://ho st", InvalidUrl::Malformed),
            ("http://host/?topics=a", InvalidUrl::Query),
            ("http://host/#a", InvalidUrl::Query),
            ("http://me:secret@host", InvalidUrl::Credentials),
        ] {
            assert_eq!(text.parse::<ServerUrl>(), Err(error), "{text}");
        }
    }

    #[test]
    fn token_is_never_printed() {
        let token: Token = "s3cret".parse().unwrap();
        assert_eq!(token.0, "Bearer s3cret");
        assert!(!format!("{token:?} {:?}", token.0).contains("s3cret"));
        assert!("two words".parse::<Token>().is_err() && "".parse::<Token>().is_err());
    }
}
