//! Bodies that are published as a whole, in one buffer.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use hyper::StatusCode;
use hyper::body::Body;

use super::super::admit::Permit;
use super::super::content_encoding::DecodedBody;
use super::super::problem::Problem;

/// Reads a body to its end, within a size and a time. If it has to be waited for, the permit is checked again.
pub(super) fn collect<'a, 'p>(
    body: DecodedBody,
    max_bytes: usize,
    timeout: Duration,
    permit: &'a mut Permit<'p>,
) -> Collect<'a, 'p> {
    let reading = Reading { body, max_bytes, permit, first: Bytes::new(), all: BytesMut::new() };
    Collect { reading: Some(reading), timeout, waiting: None }
}

/// The future of [`collect`].
pub(super) struct Collect<'a, 'p> {
    /// Until the body has to be waited for. Most bodies arrive with their head, and need no timer.
    reading: Option<Reading<'a, 'p>>,
    timeout: Duration,
    waiting: Option<BoxFuture<'a, Result<Bytes, Problem>>>,
}

impl Future for Collect<'_, '_> {
    type Output = Result<Bytes, Problem>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Bytes, Problem>> {
        if let Some(mut reading) = self.reading.take() {
            // Before the first read, so that a client that waits for 100 Continue does not send the body.
            if reading.body.size_hint().lower() > reading.max_bytes as u64 {
                return Poll::Ready(Err(reading.too_large()));
            }
            if let Poll::Ready(body) = reading.poll(cx) {
                return Poll::Ready(body);
            }
            self.waiting = Some(Box::pin(finish(reading, self.timeout)));
        }
        self.waiting.as_mut().expect("polled after its end").as_mut().poll(cx)
    }
}

async fn finish(mut reading: Reading<'_, '_>, timeout: Duration) -> Result<Bytes, Problem> {
    let body = tokio::time::timeout(timeout, poll_fn(|cx| reading.poll(cx))).await.unwrap_or_else(|_| {
        let detail = format!("the body did not come within {} s (setting body_timeout)", timeout.as_secs_f64());
        Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail))
    })?;
    reading.permit.check_upload()?;
    Ok(body)
}

/// A body, and what of it has arrived, in one buffer. Keeping its frames would cost far more memory than bytes if each has
/// one byte.
struct Reading<'a, 'p> {
    body: DecodedBody,
    max_bytes: usize,
    permit: &'a mut Permit<'p>,
    /// The first frame. Most bodies have no other, and are not copied.
    first: Bytes,
    /// All frames, once there are several.
    all: BytesMut,
}

impl Reading<'_, '_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Problem>> {
        while let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            let frame = frame.map_err(|error| Problem::bad_request(format!("the body could not be read: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            if data.len() > self.max_bytes - self.first.len().max(self.all.len()) {
                return Poll::Ready(Err(self.too_large()));
            }
            self.add(data);
            // Saves another poll. A chunked body may have trailers after its last frame.
            if self.body.is_end_stream() {
                break;
            }
        }
        let all = std::mem::take(&mut self.all);
        Poll::Ready(Ok(if all.is_empty() { std::mem::take(&mut self.first) } else { all.freeze() }))
    }

    fn add(&mut self, data: Bytes) {
        if self.first.is_empty() {
            self.first = data;
            return;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&self.first);
        }
        self.all.extend_from_slice(&data);
    }

    fn too_large(&self) -> Problem {
        let detail = format!("the body is larger than {} bytes (setting max_body_bytes)", self.max_bytes);
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    }
}
