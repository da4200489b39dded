//! An HTTP service that is asked about each subscription.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderName, HeaderValue, ORIGIN, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::attempt::{Action, Attempt, unclear};
use super::fetch::{Fetcher, Url};
use super::grant::Grant;
use super::refusal::Refusal;
use super::{Answer, Authorize};
use crate::topic::TopicFilter;

/// What of the client's request the service gets to see.
const PASSED_ON: [HeaderName; 4] = [AUTHORIZATION, COOKIE, ORIGIN, USER_AGENT];
/// What is read of the service's answer: its status says it all.
const MAX_BYTES: usize = 64 << 10;
const MAX_CACHED: usize = 10_000;
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How a [`Service`] is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceOptions {
    /// How long it may take, waiting for its turn included.
    pub time_limit: Duration,
    /// How many questions are open at a time.
    pub concurrency: usize,
    /// How long a yes is good for the same question; zero asks each time. A no is never kept.
    pub cache: Duration,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self { time_limit: Duration::from_secs(2), concurrency: 64, cache: Duration::from_secs(10) }
    }
}

/// An HTTP service as an [`Authorize`] for subscriptions.
///
/// It gets `POST` with `{"action": "subscribe", "topics": […], "remote_addr": "…"}`, and the headers Authorization,
/// Cookie, Origin and User-Agent of the client's request; a key or token that was shown in another way comes as
/// Authorization: Bearer. 200 allows the subscription, 401 and 403 deny it. Anything else, or nothing in time, is answered
/// with 503: it is never let in unasked.
pub struct Service {
    fetcher: Fetcher,
    options: ServiceOptions,
    turns: Semaphore,
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
        let turns = Semaphore::new(options.concurrency.clamp(1, Semaphore::MAX_PERMITS));
        Self { fetcher: Fetcher::new(url, options.time_limit, MAX_BYTES), options, turns, allowed: Mutex::default() }
    }

    async fn ask(&self, attempt: &Attempt<'_>, filters: &[TopicFilter]) -> Result<Option<Grant>, Refusal> {
        let topics: Vec<_> =
            if filters.is_empty() { vec!["**"] } else { filters.iter().map(TopicFilter::as_str).collect() };
        let remote = attempt.remote.ip().to_canonical().to_string();
        let question = json!({"action": "subscribe", "topics": topics, "remote_addr": remote}).to_string();
        let mut request = Request::builder().method(Method::POST).header(CONTENT_TYPE, "application/json");
        let mut digest = Sha256::new_with_prefix(&question);
        let mut pass_on = |name: &HeaderName, value: &[u8]| {
            for part in [name.as_str().as_bytes(), value] {
                digest.update(part.len().to_le_bytes());
                digest.update(part);
            }
            // What came as a header is one, and so may be what came in the query.
            let value = HeaderValue::from_bytes(value).map_err(|_| unclear("the key or token is no text"))?;
            if let Some(headers) = request.headers_mut() {
                headers.append(name, value);
            }
            Ok::<_, Refusal>(())
        };
        let secret = attempt.secret()?;
        for name in PASSED_ON {
            // However it was shown.
            if let Some(secret) = secret.as_ref().filter(|_| name == AUTHORIZATION) {
                pass_on(&name, format!("Bearer {secret}").as_bytes())?;
                continue;
            }
            for value in attempt.headers.get_all(&name) {
                pass_on(&name, value.as_bytes())?;
            }
        }
        let digest = digest.finalize().into();
        if self.is_cached(&digest) {
            return Ok(Some(allow(filters)));
        }
        let answer = async {
            let _turn = self.turns.acquire().await;
            self.fetcher.send(request, question.into()).await
        };
        match tokio::time::timeout(self.options.time_limit, answer).await {
            Ok(Ok((StatusCode::OK, _))) => {
                self.cache(digest);
                Ok(Some(allow(filters)))
            }
            Ok(Ok((StatusCode::UNAUTHORIZED, _))) => Err(Refusal::Unknown(
                "the authorization service wants other credentials for this subscription".to_owned(),
            )),
            Ok(Ok((StatusCode::FORBIDDEN, _))) => Err(Refusal::Forbidden(format!(
                "the authorization service does not allow subscribing to {}",
                topics.join(",")
            ))),
            Ok(Ok((status, _))) => Err(self.undecided(&format!("it answered {status}"))),
            Ok(Err(error)) => Err(self.undecided(&error.to_string())),
            Err(_) => Err(self.undecided("no answer in time")),
        }
    }

    fn undecided(&self, reason: &str) -> Refusal {
        tracing::warn!(url = %self.fetcher.url(), reason, "the authorization service did not decide");
        Refusal::Undecided("the authorization service cannot say now whether this is allowed".to_owned(), RETRY_AFTER)
    }

    fn is_cached(&self, digest: &[u8; 32]) -> bool {
        let allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        allowed.get(digest).is_some_and(|since| since.elapsed() < self.options.cache)
    }

    fn cache(&self, digest: [u8; 32]) {
        if self.options.cache.is_zero() {
            return;
        }
        let mut allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        if allowed.len() >= MAX_CACHED {
            allowed.retain(|_, since| since.elapsed() < self.options.cache);
            if allowed.len() >= MAX_CACHED {
                allowed.clear();
            }
        }
        allowed.insert(digest, Instant::now());
    }
}

fn allow(filters: &[TopicFilter]) -> Grant {
    let everything = || TopicFilter::new("**").expect("it is a pattern");
    let filters = if filters.is_empty() { vec![everything()] } else { filters.to_vec() };
    Grant { subscribe: filters.into_iter().collect(), ..Grant::default() }
}

impl Authorize for Service {
    fn authorize<'a>(&'a self, attempt: &'a Attempt<'a>) -> Answer<'a> {
        Box::pin(async move {
            match attempt.action {
                Action::Subscribe(filters) => self.ask(attempt, filters).await,
                _ => Ok(None),
            }
        })
    }
}
