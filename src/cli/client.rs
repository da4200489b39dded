//! One request to a fanline server over plain HTTP/1.1, and the bytes of its answer as they arrive.
//!
//! [`ServerUrl`] and [`ServerArgs`] say where to; [`send`] connects and gives a [`Reply`]. The reply drives its connection
//! itself: no task runs beside it, so that [`Reply::poll_chunk`] is pending only when nothing more is at hand, and
//! dropping it closes the connection.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::str::FromStr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::http::{request, response};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest answer that is read to its end: an id, or an error.
const SHORT_ANSWER: usize = 64 * 1024;

/// Which server a command talks to, and as whom.
#[derive(clap::Args, Clone, Debug)]
pub struct ServerArgs {
    /// Where the server is: http://host:port, with a path if a proxy adds one
    #[arg(long, env = "FANLINE_URL", default_value = "http://127.0.0.1:8000", value_name = "URL")]
    pub url: ServerUrl,

    /// Sent as `Authorization: Bearer <TOKEN>`
    #[arg(long, env = "FANLINE_TOKEN", hide_env_values = true)]
    pub token: Option<Token>,
}

impl ServerArgs {
    /// A request for `path_and_query`, which begins with `/`, below the server's own path.
    pub fn request(&self, path_and_query: &str) -> request::Builder {
        let request = Request::builder()
            .uri(format!("{}{path_and_query}", self.url.path))
            .header(HOST, &self.url.authority)
            .header(USER_AGENT, concat!("fanline/", env!("CARGO_PKG_VERSION")));
        match &self.token {
            Some(Token(value)) => request.header(AUTHORIZATION, value),
            None => request,
        }
    }
}

/// A bearer token, as the header that carries it. It is never printed.
#[derive(Clone)]
pub struct Token(HeaderValue);

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

/// The base URL of a server: scheme `http`, and below which path its endpoints are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    /// Host and port as the URL has them, for the `Host` header and for people.
    authority: String,
    /// The host without the brackets of an IPv6 address, as the resolver wants it.
    host: String,
    port: u16,
    /// Empty, or begins with `/` and does not end with one.
    path: String,
}

impl FromStr for ServerUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
        match (scheme.as_str(), text.contains("://")) {
            ("https", _) => return Err(InvalidUrl::Tls),
            ("unix", _) => return Err(InvalidUrl::Unix),
            ("http", true) => {}
            _ => return Err(InvalidUrl::Scheme),
        }
        let uri: Uri = text.parse().map_err(|_| InvalidUrl::Malformed)?;
        if uri.query().is_some() || text.contains('#') {
            return Err(InvalidUrl::Query);
        }
        let authority = uri.authority().ok_or(InvalidUrl::Malformed)?;
        if authority.as_str().contains('@') {
            return Err(InvalidUrl::Credentials);
        }
        let host = authority.host();
        let port = match authority.as_str()[host.len()..].strip_prefix(':') {
            None | Some("") => 80,
            Some(digits) => digits.parse().ok().filter(|&port| port != 0).ok_or(InvalidUrl::Malformed)?,
        };
        Ok(Self {
            authority: authority.to_string(),
            host: host.trim_start_matches('[').trim_end_matches(']').to_string(),
            port,
            path: uri.path().trim_end_matches('/').to_string(),
        })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// Why a text is not the URL of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    #[error("it must begin with http://, as in http://127.0.0.1:8000")]
    Scheme,
    #[error("https is not supported; give the plain http:// address that the TLS terminator forwards to")]
    Tls,
    #[error("Unix sockets are not supported; give an http:// address that the server also listens on")]
    Unix,
    #[error("it must be http://host:port, as in http://127.0.0.1:8000")]
    Malformed,
    #[error("a query or a fragment has no place in it; topics and the like have flags of their own")]
    Query,
    #[error("a name and a password have no place in it; give a token with --token")]
    Credentials,
}

/// Why there is no answer, or no answer that says yes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot connect to {url}: {source}")]
    Connect { url: ServerUrl, source: io::Error },
    #[error("no answer from {0}: {cause}", cause = with_causes(.1))]
    Exchange(ServerUrl, hyper::Error),
}

/// An error of hyper says what it was doing; only its source says what went wrong.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// Connects to the server of `url` and sends `request`. The reply is there as soon as its head is, which may be before
/// all of the request's body is sent; the rest goes out while the reply is read.
///
/// # Errors
/// [`Error::Connect`] and [`Error::Exchange`]. A status that says no is a reply like any other.
pub async fn send<B>(url: &ServerUrl, request: Request<B>) -> Result<Reply<B>, Error>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
{
    let connect = async {
        let socket = TcpStream::connect((url.host.as_str(), url.port)).await?;
        socket.set_nodelay(true)?;
        Ok(socket)
    };
    let socket = match timeout(CONNECT_TIMEOUT, connect).await {
        Ok(connected) => connected,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "nobody answered for 10 s")),
    };
    let socket = socket.map_err(|source| Error::Connect { url: url.clone(), source })?;
    exchange(socket, request).await.map_err(|error| Error::Exchange(url.clone(), error))
}

async fn exchange<B>(socket: TcpStream, request: Request<B>) -> hyper::Result<Reply<B>>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let mut connection = Some(connection);
    let mut response = pin!(sender.send_request(request));
    let response = poll_fn(|cx| {
        if let Poll::Ready(response) = response.as_mut().poll(cx) {
            return Poll::Ready(response);
        }
        // A connection that has ended has told the response why.
        drive(&mut connection, cx);
        response.as_mut().poll(cx)
    });
    let (head, body) = response.await?.into_parts();
    Ok(Reply { head, body, connection })
}

type Connection<B> = http1::Connection<TokioIo<TcpStream>, B>;

/// Lets the connection go on. What it fails with reaches the response or the body that waits for it.
fn drive<B>(connection: &mut Option<Connection<B>>, cx: &mut Context<'_>)
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
{
    if let Some(open) = connection
        && Pin::new(open).poll(cx).is_ready()
    {
        *connection = None;
    }
}

/// An answer whose head has arrived.
pub struct Reply<B>
where
    B: Body + 'static,
{
    pub head: response::Parts,
    body: Incoming,
    connection: Option<Connection<B>>,
}

impl<B> Reply<B>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
{
    /// The next bytes of the body, or `None` at its end. Pending: all that has arrived has been given out.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Bytes>>> {
        loop {
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => {
                    drive(&mut self.connection, cx);
                    ready!(Pin::new(&mut self.body).poll_frame(cx))
                }
                Poll::Ready(frame) => frame,
            };
            match frame.map(|frame| frame.map(hyper::body::Frame::into_data)) {
                // Trailers.
                Some(Ok(Err(_))) => {}
                Some(Ok(Ok(data))) => return Poll::Ready(Some(Ok(data))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }

    /// The content type without its parameters, in lower case.
    pub fn content_type(&self) -> String {
        let value = self.head.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let essence = value.split(|&byte| byte == b';').next().unwrap_or_default();
        String::from_utf8_lossy(essence.trim_ascii()).to_ascii_lowercase()
    }

    /// The whole body, which is expected to be short.
    ///
    /// # Errors
    /// When it breaks off, or goes on for more than 64 KiB.
    pub async fn short_body(&mut self) -> io::Result<Bytes> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = poll_fn(|cx| self.poll_chunk(cx)).await {
            whole.extend_from_slice(&chunk.map_err(|error| io::Error::other(with_causes(&error)))?);
            if whole.len() > SHORT_ANSWER {
                return Err(io::Error::other("the answer is longer than 64 KiB"));
            }
        }
        Ok(whole.freeze())
    }

    /// What the server says about a status that is not a success.
    pub async fn refusal(mut self) -> Refusal {
        let status = self.head.status;
        let is_problem = self.content_type() == "application/problem+json";
        let body = self.short_body().await.unwrap_or_default();
        let problem = if is_problem { serde_json::from_slice(&body).ok() } else { None };
        Refusal { status, problem: problem.unwrap_or_default() }
    }
}

/// An answer that says no, with what there was of a problem detail (RFC 9457).
#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    problem: Problem,
}

#[derive(Debug, Default, Deserialize)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}", self.status.as_u16())?;
        if let Some(title) = self.problem.title.as_deref().or(self.status.canonical_reason()) {
            write!(f, " {title}")?;
        }
        match &self.problem.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> ServerUrl {
        text.parse().unwrap()
    }

    #[test]
    fn a_url_has_a_host_a_port_and_perhaps_a_path() {
        let full = url("http://Example.com:8080/live/");
        assert_eq!((full.host.as_str(), full.port, full.path.as_str()), ("Example.com", 8080, "/live"));
        assert_eq!(full.to_string(), "http://Example.com:8080/live");
        assert_eq!((url("http://host").port, url("http://host/").path.as_str()), (80, ""));
        assert_eq!(url("HTTP://host:").port, 80);
        let v6 = url("http://[::1]:8000");
        assert_eq!((v6.host.as_str(), v6.authority.as_str()), ("::1", "[::1]:8000"));
    }

    #[test]
    fn a_text_that_is_no_url_of_a_server_is_refused_with_what_would_be_right() {
        for (text, error) in [
            ("", InvalidUrl::Scheme),
            ("127.0.0.1:8000", InvalidUrl::Scheme),
            ("localhost", InvalidUrl::Scheme),
            ("http:host", InvalidUrl::Scheme),
            ("ftp://host", InvalidUrl::Scheme),
            ("https://host", InvalidUrl::Tls),
            ("unix:/run/fanline.sock", InvalidUrl::Unix),
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
    fn a_token_is_never_shown() {
        let token: Token = "s3cret".parse().unwrap();
        assert_eq!(token.0, "Bearer s3cret");
        assert!(!format!("{token:?} {:?}", token.0).contains("s3cret"));
        assert!("two words".parse::<Token>().is_err() && "".parse::<Token>().is_err());
    }
}
