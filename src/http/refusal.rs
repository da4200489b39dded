//! Refusals of `GET /stream` in band, in the body of a stream that ends at once.
//!
//! **Why.** An `EventSource` gives up for good after a response that is not a 200: a page that reconnects while the server is
//! full would never connect again.
//!
//! **Contract.** A refusal is in band if a retry may succeed later, if the client's `Accept` names `text/event-stream` as that
//! of an `EventSource` does, and unless the setting `stream_refusals` is `status`. The stream has `retry:` and one event
//! with the id that the client sent, so that the client keeps its position. Every other refusal is a status and a problem.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::HeaderValue;
use hyper::http::request::Parts;

use super::problem::Problem;
use super::query::last_event_id;
use super::stream::{self, EVENT_STREAM};
use super::{Routes, accept};
use crate::conn;
use crate::presence::ClientId;

/// How a stream is refused when the reason is likely to pass: a limit, or a service that is unavailable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamRefusals {
    /// Clients whose `Accept` names `text/event-stream` get a 200 with one `system` event and the time to reconnect. Others
    /// get the status.
    #[default]
    Retry,
    /// All clients get the status, and a browser's `EventSource` does not reconnect.
    Status,
}

/// A request for a stream whose refusal can be in band.
pub(super) struct Refusable {
    /// The id that the client resumes with.
    last_id: Option<String>,
}

impl Refusable {
    /// `None` if the client of the request does not read event streams.
    pub(super) fn of(head: &Parts) -> Option<Self> {
        let headers = &head.headers;
        if !accept::names(headers, EVENT_STREAM) {
            return None;
        }
        let last_id = last_event_id(head.uri.query().unwrap_or(""), headers);
        // With a control character it is none that a server has sent, and would break the stream. `earliest` in the query
        // belongs to the URL, which the client uses again.
        let is_in_url = |id: &str| id == "earliest" && headers.get("last-event-id").is_none_or(HeaderValue::is_empty);
        Some(Self { last_id: last_id.filter(|id| !id.contains(char::is_control) && !is_in_url(id)) })
    }
}

impl Routes {
    /// The refusal of a `request` for a stream because of `problem`. `None` if a status is to be sent.
    pub(super) fn refusal_in_band(&self, request: &Refusable, problem: &Problem) -> Option<Response<Full<Bytes>>> {
        let allowed = self.options.stream_refusals;
        let body = in_band(request, problem, allowed, self.shard.options.retry, || self.ids.next())?;
        Some(stream::response(Full::from(body)))
    }
}

/// The stream that refuses `request` because of `problem`. Its client waits for at least `min_retry`. `None` if a status is to be
/// sent.
pub(super) fn in_band(
    request: &Refusable,
    problem: &Problem,
    allowed: StreamRefusals,
    min_retry: Duration,
    next_id: impl FnOnce() -> ClientId,
) -> Option<Bytes> {
    let wait = problem.retry_after().filter(|_| allowed == StreamRefusals::Retry)?;
    let retry = retry(wait.max(min_retry), next_id());
    Some(conn::unavailable(problem.reason(), problem.detail(), retry, request.last_id.as_deref()))
}

/// When the client should reconnect: after `wait` or up to two fifths later, so that refused clients do not return at once.
fn retry(wait: Duration, client: ClientId) -> Duration {
    wait.mul_f64(1.0 + 0.4 * client.spread())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::ClientIds;

    #[test]
    fn refused_clients_wait_at_least_as_long_as_asked_and_are_spread() {
        let ids = ClientIds::new();
        let mut waits: Vec<_> = (0..100).map(|_| retry(Duration::from_secs(10), ids.next())).collect();
        waits.sort();
        assert!(waits[0] >= Duration::from_secs(10) && waits[99] <= Duration::from_secs(14), "{waits:?}");
        let widest = waits.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(widest < Some(Duration::from_millis(200)), "{waits:?}");
    }
}
