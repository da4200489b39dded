//! Error responses: `application/problem+json` (RFC 9457). The only place that maps errors to statuses.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION,
    UPGRADE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::forwarded::Contradiction;
use crate::auth::Refusal;
use crate::hub::relay::NotCaughtUp;
use crate::hub::{Outcome, PublishError};
use crate::limit::{LimitExceeded, QuotaTimeout, Reason};
use crate::position::StreamPosition;
use crate::wire::publication::InvalidPublication;

/// An error response: the rule that the request broke, and the remedy.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// When a retry may succeed; `None` if waiting does not help.
    retry_after: Option<Duration>,
    /// The limit that was reached, because several limits share a status.
    limit: Option<Reason>,
    /// Additional members of the problem object.
    members: Map<String, Value>,
}

impl Problem {
    #[cold]
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let (headers, members) = (Vec::new(), Map::new());
        Self { status, detail: printable(detail.into()), headers, retry_after: None, limit: None, members }
    }

    #[cold]
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// The path exists, but not for this method.
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("allowed methods: {allow}"));
        problem.header(ALLOW, HeaderValue::from_static(allow))
    }

    /// The path is for another protocol, spoken in this version.
    pub(crate) fn upgrade_required(detail: impl Into<String>, version: Option<&'static str>) -> Self {
        let problem = Self::new(StatusCode::UPGRADE_REQUIRED, detail);
        let problem = problem.header(UPGRADE, HeaderValue::from_static("websocket"));
        let problem = problem.header(CONNECTION, HeaderValue::from_static("upgrade"));
        match version {
            None => problem,
            Some(version) => problem.header(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(version)),
        }
    }

    /// The body has a content coding other than `supported`.
    pub(crate) fn unsupported_coding(detail: &str, supported: &'static str) -> Self {
        let problem = Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail);
        problem.header(ACCEPT_ENCODING, HeaderValue::from_static(supported))
    }

    /// A condition that is likely to pass soon.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retried_after(Duration::from_secs(1))
    }

    /// Closes the connection after the response.
    #[must_use]
    pub(crate) fn closing(self) -> Self {
        self.header(CONNECTION, HeaderValue::from_static("close"))
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// When a retry may succeed; `None` if waiting does not help.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The reason in metrics and in refusals in band.
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
            422 => "key_reused",
            426 => "upgrade_required",
            500 => "panic",
            502.. => "unavailable",
            _ => "invalid",
        }
    }

    /// Adds a member to the problem object.
    #[must_use]
    pub(crate) fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.members.insert(member.to_owned(), value.into());
        self
    }

    /// Replaces the detail.
    #[must_use]
    pub(crate) fn with_detail(self, detail: String) -> Self {
        Self { detail: printable(detail), ..self }
    }

    /// Removes `Retry-After`, because a retry of the whole request would repeat what was done.
    #[must_use]
    pub(crate) fn without_retry(self) -> Self {
        Self { retry_after: None, ..self }
    }

    /// Prefixes the detail with the place of the error.
    #[must_use]
    pub(crate) fn at(self, place: &str) -> Self {
        Self { detail: format!("{place}: {}", self.detail), ..self }
    }

    fn retried_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn into_response(self) -> Response<Full<Bytes>> {
        self.into_bytes().map(Full::from)
    }

    /// The response, with the bytes of its body.
    #[cold]
    pub(crate) fn into_bytes(self) -> Response<Bytes> {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        body.as_object_mut().expect("an object").extend(self.members);
        let mut response = Response::new(Bytes::from(body.to_string()));
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers);
        if let Some(wait) = self.retry_after {
            // Rounded up: a client that retries then must not be too early.
            let seconds = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1);
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

/// Escapes control characters: a detail may quote the client, and appears in logs and terminals.
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
    #[cold]
    fn from(exceeded: LimitExceeded) -> Self {
        let status = match exceeded.reason {
            // Not the fault of this client.
            Reason::Connections | Reason::Firehose | Reason::SilentTopics | Reason::IdempotencyKeys => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            // Only a smaller request would succeed.
            _ if exceeded.retry_after.is_none() => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::TOO_MANY_REQUESTS,
        };
        let (limit, retry_after) = (Some(exceeded.reason), exceeded.retry_after);
        Self { limit, retry_after, ..Self::new(status, exceeded.detail) }
    }
}

impl From<Contradiction> for Problem {
    #[cold]
    fn from(error: Contradiction) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<QuotaTimeout> for Problem {
    #[cold]
    fn from(error: QuotaTimeout) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, error.to_string())
    }
}

impl From<Refusal> for Problem {
    #[cold]
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        // RFC 6750, section 3.1: without credentials in the request, there is no error code.
        let unauthenticated = |challenge| {
            Self::new(StatusCode::UNAUTHORIZED, detail.clone())
                .header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
        };
        match refusal {
            Refusal::Unauthenticated(_) => unauthenticated("Bearer realm=\"fanline\""),
            Refusal::InvalidCredentials(_) => unauthenticated("Bearer realm=\"fanline\", error=\"invalid_token\""),
            Refusal::Forbidden(_) => Self::new(StatusCode::FORBIDDEN, detail),
            Refusal::Unavailable { retry_after, .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retried_after(retry_after)
            }
        }
    }
}

impl From<NotCaughtUp> for Problem {
    #[cold]
    fn from(error: NotCaughtUp) -> Self {
        Self::unavailable(format!("{error} (setting resume_wait)"))
    }
}

impl From<InvalidPublication> for Problem {
    #[cold]
    fn from(error: InvalidPublication) -> Self {
        let status = if error.is_too_large() { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
        Self::new(status, error.to_string())
    }
}

impl From<PublishError> for Problem {
    #[cold]
    fn from(error: PublishError) -> Self {
        let detail = error.to_string();
        let problem = match error {
            PublishError::KeyReused => Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail),
            PublishError::TooManyKeys { retry_after } => {
                LimitExceeded { reason: Reason::IdempotencyKeys, detail, retry_after: Some(retry_after) }.into()
            }
            PublishError::TooManyValues { .. } | PublishError::ValuesTooLarge { .. } => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, detail)
            }
            _ => Self::unavailable(detail),
        };
        let id = |position: StreamPosition| Some(position.to_string());
        let (published, first, last) = match error.outcome() {
            Outcome::NotPublished => (Some(0), None, None),
            Outcome::Unknown => (None, None, None),
            Outcome::Published(at) => (Some(at.last.sequence - at.first.sequence + 1), id(at.first), id(at.last)),
        };
        // Clients retry on `Retry-After` automatically: only a request without effect may be retried.
        let problem = if published == Some(0) { problem } else { problem.without_retry() };
        problem.with("published", published).with("first_id", first).with("last_id", last)
    }
}
