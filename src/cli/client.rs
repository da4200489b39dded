//! One request to a fanline server over plain HTTP/1.1, and the bytes of its answer as they arrive.
//!
//! [`send`] connects and gives a [`Reply`]. The reply drives its connection itself: no task runs beside it, so that
//! [`Reply::poll_chunk`] is pending only when nothing more is at hand, and dropping it closes the connection.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::http::response;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::target::ServerUrl;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest answer that is read to its end: an id, or an error.
const SHORT_ANSWER: usize = 64 * 1024;

/// Why there is no answer.
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
        let socket = TcpStream::connect(url.host_and_port()).await?;
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
