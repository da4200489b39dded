//! One request to a fanline server over HTTP/1.1: over TCP, with TLS for an `https://` URL, or through a Unix socket.

#[cfg(feature = "auth")]
mod tls;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use fanline::server::ListenAddress;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
#[cfg(feature = "auth")]
use hyper::http::uri::Scheme;
use hyper::rt::{Read, Write};
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tower_service::Service;

use super::target::{Location, ServerUrl, TOKEN_HINT};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest response that is buffered: an id or an error.
const MAX_SHORT_BODY: usize = 64 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot connect to {url}: {cause}{remedy}", cause = with_causes(&**.source), remedy = remedy(&**.source))]
    Connect { url: ServerUrl, source: BoxError },
    #[error("cannot connect to {0}: no answer for {seconds} s", seconds = CONNECT_TIMEOUT.as_secs())]
    ConnectTimeout(ServerUrl),
    #[error("no answer from {0}: {cause}", cause = with_causes(.1))]
    Exchange(ServerUrl, hyper::Error),
}

/// An error with its sources: hyper's own message says what it was doing, only the source says what went wrong.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// What to do about the usual mistakes with TLS.
#[cfg(feature = "auth")]
use tls::remedy;

/// Without TLS there are no mistakes with it.
#[cfg(not(feature = "auth"))]
fn remedy(_: &(dyn std::error::Error + 'static)) -> &'static str {
    ""
}

/// Connects to `url` and sends `request`. Returns as soon as the response head arrives, which may be before all of the
/// request body is sent. The rest is sent meanwhile. Dropping the response body closes the connection.
pub async fn send<B>(url: &ServerUrl, request: Request<B>) -> Result<Response<Incoming>, Error>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let socket = timeout(CONNECT_TIMEOUT, connect(url)).await.map_err(|_| Error::ConnectTimeout(url.clone()))?;
    let socket = socket.map_err(|source| Error::Connect { url: url.clone(), source })?;
    let exchange = async {
        let (mut sender, connection) = http1::handshake(socket).await?;
        // An error of the connection reaches the response or the body as well.
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await
    };
    exchange.await.map_err(|error| Error::Exchange(url.clone(), error))
}

async fn connect(url: &ServerUrl) -> Result<Box<dyn Io>, BoxError> {
    let url = match url.location() {
        Location::Http(url) => url,
        Location::Unix(address) => return Ok(Box::new(TokioIo::new(connect_unix(address).await?))),
    };
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    #[cfg(feature = "auth")]
    if url.scheme() == Some(&Scheme::HTTPS) {
        return tls::connect(tcp, url.clone()).await;
    }
    poll_fn(|cx| tcp.poll_ready(cx)).await?;
    Ok(Box::new(tcp.call(url.clone()).await?))
}

async fn connect_unix(address: &ListenAddress) -> io::Result<UnixStream> {
    match address {
        ListenAddress::Unix(path) => UnixStream::connect(path).await,
        // tokio takes a leading zero for an abstract name.
        name => UnixStream::connect(name.to_string().replacen("unix:@", "\0", 1)).await,
    }
}

/// A connection to a server.
trait Io: Read + Write + Send + Unpin {}
impl<T: Read + Write + Send + Unpin> Io for T {}

/// The content type without its parameters, in lower case.
pub fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let essence = value.split(|&byte| byte == b';').next().unwrap_or_default();
    String::from_utf8_lossy(essence.trim_ascii()).to_ascii_lowercase()
}

/// Why a short response cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the answer is longer than {} KiB", MAX_SHORT_BODY / 1024)]
    TooLong,
    #[error("{}", with_causes(&**.0))]
    Broken(BoxError),
    #[error("{0}")]
    NotJson(#[from] serde_json::Error),
}

/// A short response in JSON.
pub async fn short_json<T: DeserializeOwned>(body: Incoming) -> Result<T, BodyError> {
    Ok(serde_json::from_slice(&short_body(body).await?)?)
}

/// The whole body of a short response.
async fn short_body(body: Incoming) -> Result<Bytes, BodyError> {
    match Limited::new(body, MAX_SHORT_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(BodyError::TooLong),
        Err(error) => Err(BodyError::Broken(error)),
    }
}

/// A response with an error status and, if it has one, its problem detail (RFC 9457).
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    problem: Problem,
}

#[derive(Debug, Default, Deserialize)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
}

impl Refusal {
    pub async fn of(response: Response<Incoming>) -> Self {
        let status = response.status();
        let is_problem = content_type(response.headers()) == "application/problem+json";
        let body = short_body(response.into_body()).await.unwrap_or_default();
        let problem = if is_problem { serde_json::from_slice(&body).ok() } else { None };
        Self { status, problem: problem.unwrap_or_default() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}", self.status.as_u16())?;
        if let Some(title) = self.problem.title.as_deref().or(self.status.canonical_reason()) {
            write!(f, " {title}")?;
        }
        if let Some(detail) = &self.problem.detail {
            write!(f, ": {detail}")?;
        }
        if self.status == StatusCode::UNAUTHORIZED {
            write!(f, " ({TOKEN_HINT})")?;
        }
        Ok(())
    }
}
