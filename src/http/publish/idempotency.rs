//! Publishing events together, all or none: under an `Idempotency-Key`, once.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use super::super::admit::Permit;
use super::super::problem::Problem;
use super::super::{Routes, json_body};
use super::observe_latency;
use super::receipt::Receipt;
use crate::auth::{KnownHeaders, Rare};
use crate::conn::Shard;
use crate::event::Event;
use crate::hub::{IdempotencyKey, Published, PublishedOnce, Publishing};
use crate::peer::PeerAddress;
use crate::position::StreamPosition;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The longest key, in bytes.
const MAX_BYTES: usize = 255;

/// Returns the key of a request, if it has one. A key may be quoted, as the draft of the header
/// (draft-ietf-httpapi-idempotency-key-header) has it, or not, as most services have it.
pub(super) fn key<'a>(headers: &'a HeaderMap, known: &KnownHeaders<'_>) -> Result<Option<&'a str>, Problem> {
    if !known.may_have(Rare::IdempotencyKey) {
        return Ok(None);
    }
    let mut values = headers.get_all(KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let value = value.as_bytes();
    let key = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
    let is_valid =
        (1..=MAX_BYTES).contains(&key.len()) && key.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'"');
    match std::str::from_utf8(key) {
        Ok(key) if is_valid && values.next().is_none() => Ok(Some(key)),
        _ => {
            let detail =
                format!("one Idempotency-Key has 1 to {MAX_BYTES} visible ASCII characters, without quotes inside");
            Err(Problem::bad_request(detail))
        }
    }
}

/// Events that were published together, if there were any.
pub(super) struct Together(Option<PublishedOnce>);

impl Together {
    /// The position of the last event.
    pub(super) fn last(&self) -> Option<StreamPosition> {
        self.0.as_ref().map(|once| once.published.last)
    }

    /// The response with this receipt. It is the same for a repetition, apart from a header that says so.
    pub(super) fn response(self, receipt: impl FnOnce(Option<Published>) -> Receipt) -> Response<Full<Bytes>> {
        let mut response = json_body(receipt(self.0.map(|once| once.published)).to_json());
        if self.0.is_some_and(|once| once.is_repeat) {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

/// Publishes `events` of a client at `address` if they are permitted, all or none. A repetition counts towards the rate as well:
/// it may be as much work.
///
/// No future of its own, which would keep the events: most are published when this returns.
pub(super) fn publish_together<'a>(
    routes: &'a Routes,
    permit: &Permit<'_>,
    address: PeerAddress,
    key: Option<&str>,
    events: impl AsRef<[Event]> + Into<Vec<Event>>,
) -> Result<PublishTogether<'a>, Problem> {
    let shard = &*routes.shard;
    let all = events.as_ref();
    all.iter().try_for_each(|event| permit.check_topic(event.topic()))?;
    routes.limiter.publish_quota(address, || permit.grant.identity()).charge(all.len())?;
    let began = Instant::now();
    if all.is_empty() {
        return Ok(PublishTogether { shard, began, publishing: None });
    }
    let key = key.map(|key| {
        // Publishers without credentials share their keys.
        let publisher = permit.grant.identity().unwrap_or_default();
        Box::new(IdempotencyKey::new(&publisher, key, all))
    });
    Ok(PublishTogether { shard, began, publishing: Some(shard.hub.publish_some(events, true, key)) })
}

/// The future of [`publish_together`].
pub(super) struct PublishTogether<'a> {
    shard: &'a Shard,
    began: Instant,
    /// `None` if there are no events.
    publishing: Option<Publishing<'a>>,
}

impl Future for PublishTogether<'_> {
    type Output = Result<Together, Problem>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Together, Problem>> {
        let answer = match &mut self.publishing {
            Some(publishing) => Some(ready!(Pin::new(publishing).poll(cx))?),
            None => None,
        };
        observe_latency(self.shard, self.began);
        if answer.is_some_and(|once| once.is_repeat) {
            self.shard.metrics.publishes_repeated.add_shared(1);
        }
        Poll::Ready(Ok(Together(answer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(values: &[&[u8]]) -> Result<Option<String>, ()> {
        let headers: HeaderMap = values.iter().map(|value| (KEY, HeaderValue::from_bytes(value).unwrap())).collect();
        key(&headers, &KnownHeaders::of(&headers)).map(|key| key.map(str::to_owned)).map_err(|_| ())
    }

    #[test]
    fn key_is_visible_ascii_with_or_without_quotes() {
        assert_eq!(key_of(&[]), Ok(None));
        for (value, expected) in [
            (&b"8e03978e-40d5"[..], Ok(Some("8e03978e-40d5".to_owned()))),
            (b"\"8e03978e-40d5\"", Ok(Some("8e03978e-40d5".to_owned()))),
            (&[b'x'; 255], Ok(Some("x".repeat(255)))),
            (&[b'x'; 256], Err(())),
            (b"", Err(())),
            (b"\"\"", Err(())),
            (b"\"", Err(())),
            (b"a b", Err(())),
            (b"a\"b", Err(())),
            ("ü".as_bytes(), Err(())),
            (b"\xff", Err(())),
        ] {
            assert_eq!(key_of(&[value]), expected, "{value:?}");
        }
        assert_eq!(key_of(&[b"a", b"a"]), Err(()));
    }
}
