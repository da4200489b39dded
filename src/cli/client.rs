//! One request to a fanline server over plain HTTP/1.1.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::target::ServerUrl;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest response that is buffered: an id or an error.
const MAX_SHORT_BODY: usize = 64 * 1024;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot connect to {url}: {source}")]
    Connect { url: ServerUrl, source: io::Error },
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

/// Connects to `url` and sends `request`. Returns as soon as the response head arrives, which may be before all of the
/// request body is sent. The rest is sent meanwhile. Dropping the response body closes the connection.
pub async fn send<B>(url: &ServerUrl, request: Request<B>) -> Result<Response<Incoming>, Error>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let connect = async {
        let socket = TcpStream::connect(url.host_and_port()).await?;
        socket.set_nodelay(true)?;
        Ok(socket)
    };
    let timed_out = || Err(io::Error::new(io::ErrorKind::TimedOut, "no answer for 10 s"));
    let socket = timeout(CONNECT_TIMEOUT, connect).await.unwrap_or_else(|_| timed_out());
    let socket = socket.map_err(|source| Error::Connect { url: url.clone(), source })?;
    let exchange = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        // An error of the connection reaches the response or the body as well.
        tokio::spawn(connection);
        sender.send_request(request).await
    };
    exchange.await.map_err(|error| Error::Exchange(url.clone(), error))
}

/// The content type without its parameters, in lower case.
pub fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let essence = value.split(|&byte| byte == b';').next().unwrap_or_default();
    String::from_utf8_lossy(essence.trim_ascii()).to_ascii_lowercase()
}

/// The whole body of a short response. The error says what was received instead.
pub async fn short_body(body: Incoming) -> Result<Bytes, String> {
    match Limited::new(body, MAX_SHORT_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err("the answer is longer than 64 KiB".into()),
        Err(error) => Err(with_causes(&*error)),
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
            f.write_str(" (--token or FANLINE_TOKEN sets the API key or token of this command)")?;
        }
        Ok(())
    }
}
