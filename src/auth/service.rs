//! Authorization of subscriptions by an HTTP service.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, ORIGIN, USER_AGENT};
use hyper::{Method, StatusCode};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::fetch::Fetcher;
use super::grant::Grant;
use super::options::ServiceOptions;
use super::patterns::Patterns;
use super::request::{Action, AuthRequest, ambiguous};
use super::url::Url;
use super::{Authorize, Refusal};
use crate::peer::PeerAddress;
use crate::sync::{Mutex, lock};
use crate::topic::TopicFilter;

/// The headers of the client's request that the service receives.
const FORWARDED: [HeaderName; 4] = [AUTHORIZATION, COOKIE, ORIGIN, USER_AGENT];
/// The longest response body that is read; only the status matters.
const MAX_BYTES: usize = 64 << 10;
const MAX_CACHED: usize = 10_000;
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An HTTP service as an [`Authorize`] for subscriptions.
///
/// The service receives `POST` with `{"action": "subscribe", "topics": […], "remote_addr": "…"}`, and the headers
/// Authorization, Cookie, Origin and User-Agent of the client's request. A key or token from elsewhere in the request is
/// forwarded as `Authorization: Bearer`. The status 200 allows the subscription, 401 and 403 deny it. With any other
/// status, or none in time, the client gets 503.
pub struct Service {
    fetcher: Fetcher,
    options: ServiceOptions,
    slots: Semaphore,
    allowed: Mutex<HashMap<[u8; 32], Instant>>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("url", self.fetcher.url())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Service {
    /// The service at `url`.
    pub fn new(url: Url, options: ServiceOptions) -> Self {
        let slots = Semaphore::new(options.concurrency.clamp(1, Semaphore::MAX_PERMITS));
        Self { fetcher: Fetcher::new(url, options.time_limit, MAX_BYTES), options, slots, allowed: Mutex::default() }
    }

    async fn ask(&self, request: &AuthRequest<'_>, filters: &[TopicFilter]) -> Result<Option<Grant>, Refusal> {
        let wanted: Patterns =
            if filters.is_empty() { Patterns::everything() } else { filters.iter().cloned().collect() };
        let question = Question::new(request, &wanted)?;
        let digest = question.digest;
        if !self.is_cached(&digest) {
            let exchange = async {
                let _slot = self.slots.acquire().await;
                self.fetcher.send(Method::POST, question.headers, question.body.into()).await
            };
            match tokio::time::timeout(self.options.time_limit, exchange).await {
                Ok(Ok((StatusCode::OK, _))) => self.cache(digest),
                Ok(Ok((StatusCode::UNAUTHORIZED, _))) => {
                    let detail = "the authorization service requires other credentials for this subscription";
                    return Err(Refusal::Unauthenticated(detail.into()));
                }
                Ok(Ok((StatusCode::FORBIDDEN, _))) => {
                    let detail = format!("the authorization service does not allow subscribing to {wanted}");
                    return Err(Refusal::Forbidden(detail));
                }
                Ok(Ok((status, _))) => return Err(self.unavailable(&format!("unexpected status {status}"))),
                Ok(Err(error)) => return Err(self.unavailable(&error.to_string())),
                Err(_) => return Err(self.unavailable("no response within the time limit")),
            }
        }
        Ok(Some(Grant { subscribe: wanted, ..Grant::default() }))
    }

    fn unavailable(&self, reason: &str) -> Refusal {
        tracing::warn!(url = %self.fetcher.url(), reason, "the authorization service failed");
        let detail = "the authorization service is unavailable".to_owned();
        Refusal::Unavailable { detail, retry_after: RETRY_AFTER }
    }

    fn is_cached(&self, digest: &[u8; 32]) -> bool {
        let allowed = lock(&self.allowed);
        allowed.get(digest).is_some_and(|since| since.elapsed() < self.options.cache)
    }

    fn cache(&self, digest: [u8; 32]) {
        if self.options.cache.is_zero() {
            return;
        }
        let mut allowed = lock(&self.allowed);
        if allowed.len() >= MAX_CACHED {
            allowed.retain(|_, since| since.elapsed() < self.options.cache);
            if allowed.len() >= MAX_CACHED {
                allowed.clear();
            }
        }
        allowed.insert(digest, Instant::now());
    }
}

/// The request to the service about one subscription.
struct Question {
    headers: HeaderMap,
    body: String,
    /// Identifies the question in the cache: covers the body and each forwarded header.
    digest: [u8; 32],
}

impl Question {
    fn new(request: &AuthRequest<'_>, wanted: &Patterns) -> Result<Self, Refusal> {
        let remote = match request.client {
            PeerAddress::Ip(address) => address.ip().to_canonical().to_string(),
            address => address.to_string(),
        };
        let topics: Vec<_> = wanted.iter().map(TopicFilter::as_str).collect();
        let body = json!({"action": "subscribe", "topics": topics, "remote_addr": remote}).to_string();
        let mut headers = HeaderMap::new();
        for name in FORWARDED {
            headers.extend(request.parts.headers.get_all(&name).iter().map(|value| (name.clone(), value.clone())));
        }
        if let Some(secret) = request.secret()? {
            // A secret from the query may hold bytes that a header cannot.
            let bearer = HeaderValue::from_bytes(format!("Bearer {secret}").as_bytes());
            headers.insert(AUTHORIZATION, bearer.map_err(|_| ambiguous("the key or token is not valid text"))?);
        }
        let mut digest = Sha256::new_with_prefix(&body);
        for name in FORWARDED {
            for value in headers.get_all(&name) {
                for part in [name.as_str().as_bytes(), value.as_bytes()] {
                    digest.update(part.len().to_le_bytes());
                    digest.update(part);
                }
            }
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(Self { headers, body, digest: digest.finalize().into() })
    }
}

impl Authorize for Service {
    async fn authorize(&self, request: &AuthRequest<'_>) -> Result<Option<Grant>, Refusal> {
        match request.action {
            Action::Subscribe(filters) => self.ask(request, filters).await,
            _ => Ok(None),
        }
    }
}
