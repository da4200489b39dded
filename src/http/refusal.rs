//! Refusals of `GET /stream` in band, in the body of a stream that ends at once.
//!
//! **Why.** An `EventSource` gives up for good after a response that is not a 200: a page that reconnects while the server is
//! full would never connect again.
//!
//! **Contract.** A refusal is in band if a retry may succeed later, if the client's `Accept` names `text/event-stream` as that
//! of an `EventSource` does, and unless the setting `stream_refusals` is `status`. The stream has `retry:` and one event
//! without an id, so that the client keeps its position. Every other refusal is a status and a problem.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::HeaderMap;

use super::problem::Problem;
use super::stream::{self, EVENT_STREAM};
use super::{Routes, accept};
use crate::conn;
use crate::presence::ClientId;

/// How a stream is refused when the reason is likely to pass: a limit, or a service that is unavailable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamRefusals {
    /// Clients whose `Accept` names `text/event-stream` get a 200 with one `system` event and the time to reconnect. Others
    /// get the status.
    #[default]
    Retry,
    /// All clients get the status, and a browser's `EventSource` does not reconnect.
    Status,
}

/// Whether the client reads an event stream, and would read a refusal in it.
pub(super) fn reads_refusals(headers: &HeaderMap) -> bool {
    accept::names(headers, EVENT_STREAM)
}

impl Routes {
    /// The refusal of a stream for `problem`. `None` if a status is to be sent.
    pub(super) fn refusal_in_band(&self, problem: &Problem) -> Option<Response<Full<Bytes>>> {
        let wait = problem.retry_after().filter(|_| self.options.stream_refusals == StreamRefusals::Retry)?;
        let retry = retry(wait.max(self.shard.options.retry), self.ids.next());
        let body = conn::unavailable(problem.reason(), problem.detail(), retry);
        Some(stream::response(Full::from(body)))
    }
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
