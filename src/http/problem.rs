//! Errors as clients see them: `application/problem+json` (RFC 9457). The only place that turns errors into statuses.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::json;

use crate::auth::Refusal;
use crate::hub::relay::NotCaughtUp;
use crate::hub::{Outcome, PublishError};
use crate::limit::{LimitExceeded, QuotaTimeout, Reason};
use crate::position::StreamPosition;
use crate::wire::publication::InvalidPublication;

/// Why a request was refused, and what to do about it.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    /// Methods that the path has.
    allow: Option<&'static str>,
    /// Seconds after which to try again.
    retry_after: Option<u32>,
    /// Whether credentials would help.
    wants_credentials: bool,
    /// Which limit was reached, where there are several of one status.
    limit: Option<Reason>,
    /// Whether the connection takes no more requests.
    closes: bool,
    /// More that the client should know, as members of the problem object.
    more: serde_json::Map<String, serde_json::Value>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: printable(detail.into()),
            allow: None,
            retry_after: None,
            wants_credentials: false,
            limit: None,
            closes: false,
            more: serde_json::Map::new(),
        }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// The path is there, but not for this method.
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("this path takes {allow}"));
        Self { allow: Some(allow), ..problem }
    }

    /// The server can't now, and most likely can soon.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self { retry_after: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }

    /// The same problem, and the connection's end.
    #[must_use]
    pub(crate) fn closing(self) -> Self {
        Self { closes: true, ..self }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// In a word what was wrong, for metrics.
    pub(crate) fn reason(&self) -> &'static str {
        if let Some(limit) = self.limit {
            return limit.as_str();
        }
        match self.status.as_u16() {
            401 | 403 => "forbidden",
            404 => "not_found",
            405 => "method",
            406 => "not_acceptable",
            408 => "body_timeout",
            413 => "too_large",
            414 => "query_too_long",
            415 => "media_type",
            500 => "panic",
            501 => "invalid",
            502.. => "unavailable",
            _ => "invalid",
        }
    }

    #[must_use]
    pub(crate) fn with(mut self, member: &str, value: impl Into<serde_json::Value>) -> Self {
        self.more.insert(member.to_owned(), value.into());
        self
    }

    /// The same problem, in other words.
    #[must_use]
    pub(crate) fn saying(self, detail: String) -> Self {
        Self { detail: printable(detail), ..self }
    }

    /// The same problem of a request that must not be repeated as a whole.
    #[must_use]
    pub(crate) fn without_retry(self) -> Self {
        Self { retry_after: None, ..self }
    }

    /// The same problem, its detail put after what it is about.
    #[must_use]
    pub(crate) fn at(self, place: &str) -> Self {
        Self { detail: format!("{place}: {}", self.detail), ..self }
    }

    pub(crate) fn into_response(self) -> Response<Full<Bytes>> {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        body.as_object_mut().expect("it is an object").extend(self.more);
        let mut response = Response::new(Full::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.wants_credentials {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"fanline\""));
        }
        if self.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Control characters as escapes: a detail may repeat what a client sent, and stands in logs and terminals.
fn printable(detail: String) -> String {
    if !detail.contains(char::is_control) {
        return detail;
    }
    let mut printable = String::with_capacity(detail.len() + 16);
    for c in detail.chars() {
        if c.is_control() { printable.extend(c.escape_debug()) } else { printable.push(c) }
    }
    printable
}

impl From<LimitExceeded> for Problem {
    fn from(over: LimitExceeded) -> Self {
        let status = match over.reason {
            // Nobody's fault in particular.
            Reason::Connections | Reason::Firehose | Reason::SilentTopics => StatusCode::SERVICE_UNAVAILABLE,
            // Less at once is taken: later changes nothing.
            _ if over.retry_after.is_none() => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::TOO_MANY_REQUESTS,
        };
        // Not a moment too early: a client that comes then is to be let in.
        let seconds = |wait: Duration| u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1);
        let (retry_after, limit) = (over.retry_after.map(seconds), Some(over.reason));
        Self { retry_after, limit, ..Self::new(status, over.detail) }
    }
}

impl From<QuotaTimeout> for Problem {
    fn from(error: QuotaTimeout) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, error.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::Unauthenticated(_) => {
                Self { wants_credentials: true, ..Self::new(StatusCode::UNAUTHORIZED, detail) }
            }
            Refusal::Forbidden(_) => Self::new(StatusCode::FORBIDDEN, detail),
            Refusal::Unavailable(_, wait) => {
                let seconds = u32::try_from(wait.as_secs().max(1)).unwrap_or(u32::MAX);
                Self { retry_after: Some(seconds), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
            }
        }
    }
}

impl From<NotCaughtUp> for Problem {
    fn from(error: NotCaughtUp) -> Self {
        Self::unavailable(format!("{error} (setting resume_wait)"))
    }
}

impl From<InvalidPublication> for Problem {
    fn from(error: InvalidPublication) -> Self {
        let status = if error.is_too_large() { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
        Self::new(status, error.to_string())
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        let problem = Self::unavailable(error.to_string());
        let id = |position: StreamPosition| Some(position.to_string());
        let (published, first, last) = match error.outcome() {
            Outcome::NotPublished => (Some(0), None, None),
            Outcome::Unknown => (None, None, None),
            Outcome::Published(at) => (Some(at.last.sequence - at.first.sequence + 1), id(at.first), id(at.last)),
        };
        // `Retry-After` has clients repeat a request by themselves: only one that did nothing may be repeated.
        let problem = if published == Some(0) { problem } else { problem.without_retry() };
        problem.with("published", published).with("first_id", first).with("last_id", last)
    }
}
