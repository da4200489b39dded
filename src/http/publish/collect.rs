//! Bodies that are published as a whole, in one buffer.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::StatusCode;
use hyper::body::Body;

use super::super::content_encoding::DecodedBody;
use super::super::problem::Problem;

/// Reads a body to its end, within a size and a time.
pub(super) async fn collect(body: DecodedBody, max_bytes: usize, timeout: Duration) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("the body is larger than {max_bytes} bytes (setting max_body_bytes)");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    // Before the first read, so that a client that waits for 100 Continue does not send the body.
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(too_large());
    }
    let mut reading = pin!(concat(Limited::new(body, max_bytes)));
    // Most bodies arrive with their head, and need no timer.
    let body = match poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx))).await {
        Poll::Ready(body) => body,
        Poll::Pending => tokio::time::timeout(timeout, reading).await.map_err(|_| {
            let detail = format!("the body did not come within {} s (setting body_timeout)", timeout.as_secs_f64());
            Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
        })?,
    };
    body.map_err(|error| {
        if error.is::<LengthLimitError>() {
            too_large()
        } else {
            Problem::bad_request(format!("the body could not be read: {error}"))
        }
    })
}

/// Collects a body into one buffer. Keeping its frames would cost far more memory than bytes if each has one byte.
async fn concat(mut body: Limited<DecodedBody>) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    // Most bodies have one frame and are not copied.
    let (mut first, mut all) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if first.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            all.extend_from_slice(&first);
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}
