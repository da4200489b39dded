//! Sends an ordinary response over a stream of an HTTP/2 connection.
//!
//! **Flow control.** The next part of a body is asked for when the client's windows had room for all earlier ones, so that at most
//! one part waits in memory. A client that accepts no bytes for the write timeout has its stream reset, and so has one whose body
//! fails. A body is dropped as soon as the client resets its stream.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes};
use h2::SendStream;
use h2::server::SendResponse;
use hyper::body::{Body, Frame};
use hyper::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use hyper::http::response::Parts;
use hyper::{Response, StatusCode};
use tokio::time::timeout;

use super::output::Http2Output;
use crate::conn::output::Output;
use crate::conn::reply::{BoxError, ReplyBody};

/// The fields of HTTP/1.1 that HTTP/2 forbids (RFC 9113, section 8.2.2).
const FORBIDDEN: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Sends a response, without its body if the request's method is HEAD.
pub(super) async fn send(
    respond: SendResponse<Bytes>,
    response: Response<ReplyBody>,
    is_head: bool,
    write_timeout: Duration,
) -> io::Result<()> {
    let (mut head, body) = response.into_parts();
    let body = pin!(body);
    let has_no_body = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    // A service may have removed the body of a response to HEAD.
    let length = body.size_hint().exact().filter(|&length| !(has_no_body || is_head && length == 0));
    if head.status == StatusCode::NO_CONTENT {
        head.headers.remove(CONTENT_LENGTH);
    }
    if let Some(length) = length {
        head.headers.entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    let is_end = is_head || has_no_body || body.is_end_stream();
    let stream = send_head(respond, head, is_end)?;
    if is_end {
        return Ok(());
    }
    let mut output = Http2Output::new(stream);
    let sent = send_body(&mut output, body, write_timeout).await;
    match &sent {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => output.abort(),
        Err(_) => output.fail(),
        Ok(()) => {}
    }
    sent
}

async fn send_body(output: &mut Http2Output, mut body: Pin<&mut ReplyBody>, write_timeout: Duration) -> io::Result<()> {
    while let Some(frame) = next_frame(output, body.as_mut()).await? {
        match frame.map_err(io::Error::other)?.into_data() {
            // An empty frame would only be sent if it ended the body.
            Ok(data) if data.is_empty() => {}
            Ok(data) => {
                let is_last = body.is_end_stream();
                send_data(output, data, is_last, write_timeout).await?;
                if is_last {
                    return Ok(());
                }
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    return output.send_trailers(trailers);
                }
            }
        }
    }
    output.finish();
    Ok(())
}

/// The next frame of the body, `None` at its end. An error of the outer result means that the client has reset the stream.
async fn next_frame(
    output: &mut Http2Output,
    mut body: Pin<&mut ReplyBody>,
) -> io::Result<Option<Result<Frame<Bytes>, BoxError>>> {
    poll_fn(|cx| match body.as_mut().poll_frame(cx) {
        Poll::Pending if output.check_client(cx).is_err() => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        frame => frame.map(Ok),
    })
    .await
}

async fn send_data(
    output: &mut Http2Output,
    mut data: Bytes,
    is_last: bool,
    write_timeout: Duration,
) -> io::Result<()> {
    loop {
        match output.write_part(&data, is_last) {
            Ok(bytes) if bytes == data.len() => return Ok(()),
            Ok(bytes) => data.advance(bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                timeout(write_timeout, poll_fn(|cx| output.poll_writable(cx)))
                    .await
                    .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Sends the head of a response.
pub(super) fn send_head(
    mut respond: SendResponse<Bytes>,
    mut head: Parts,
    is_end: bool,
) -> io::Result<SendStream<Bytes>> {
    for name in &FORBIDDEN {
        head.headers.remove(name);
    }
    if let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(SystemTime::now())) {
        head.headers.entry(DATE).or_insert(date);
    }
    respond.send_response(Response::from_parts(head, ()), is_end).map_err(io::Error::other)
}
