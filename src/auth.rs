//! Who may do what.
//!
//! **Contract.** Every request that subscribes, publishes or asks for what operators see passes [`Access`] once, before
//! it is answered. It comes out with a [`Grant`] that covers it, or with a [`Refusal`] that says why not and what would
//! open the door. A stream keeps its grant until it ends, and ends when the grant does.
//!
//! **How.** An [`Authorize`] looks at an [`AuthRequest`] and answers a grant, a refusal, or that it has nothing to say: API
//! keys ([`ApiKeys`]), tokens (`Tokens`) and an HTTP service (`Service`) are such, and an application may bring its own.
//! Who shows no credentials at all gets what [`Access`] opens to everybody.
//!
//! **Invariants.** Where credentials are accepted, a key or token that is not good is refused, and never taken for none;
//! other schemes of `Authorization` are for whoever stands before the server. A pattern, or everything, needs one granted
//! pattern that covers all of it. Secrets are in no error, log line or `Debug` text.

mod access;
mod api_keys;
#[cfg(feature = "auth")]
mod crypto;
#[cfg(feature = "auth")]
mod fetch;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod grant;
#[cfg(feature = "auth")]
mod jwks;
#[cfg(feature = "auth")]
mod key_set;
mod patterns;
mod refusal;
mod request;
#[cfg(feature = "auth")]
mod service;
#[cfg(feature = "auth")]
mod tokens;

use std::future::Future;
use std::pin::Pin;

pub use access::Access;
pub use api_keys::{ApiKey, ApiKeys, InvalidDigest, KeyDigest};
#[cfg(feature = "auth")]
pub use crypto::random_key;
#[cfg(feature = "auth")]
pub use fetch::{InvalidUrl, Url};
pub use grant::Grant;
#[cfg(feature = "auth")]
pub use jwks::Jwks;
#[cfg(feature = "auth")]
pub use key_set::{KeyError, KeySet, SigningKey};
pub use patterns::{InvalidPatterns, Patterns};
pub use refusal::Refusal;
pub use request::{Action, AuthRequest};
#[cfg(feature = "auth")]
pub use service::{Service, ServiceOptions};
#[cfg(feature = "auth")]
pub use tokens::{Claims, Permissions, TokenRules, Tokens};

/// What an [`Authorize`] answers with, in time.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Option<Grant>, Refusal>> + Send + 'a>>;

/// Decides what a request may do.
///
/// ```
/// use fanline::auth::{Access, Answer, AuthRequest, Authorize, Grant};
/// use fanline::{Hub, Server};
///
/// /// Knows people by the session that another part of the application gave them.
/// struct Sessions;
///
/// impl Authorize for Sessions {
///     fn authorize<'a>(&'a self, request: &'a AuthRequest<'a>) -> Answer<'a> {
///         Box::pin(async move {
///             let is_anna = request.cookie("session") == Some("a7c3");
///             Ok(is_anna.then(|| {
///                 let mut grant = Grant::default();
///                 grant.subscribe = "news, user:anna".parse().expect("these are patterns");
///                 grant.subject = Some("anna".into());
///                 grant
///             }))
///         })
///     }
/// }
///
/// let server = Server::builder(Hub::default()).access(Access::new().accept(Sessions));
/// ```
pub trait Authorize: Send + Sync + 'static {
    /// What whoever makes the request may do; none when this has nothing to say about it, so that others are asked.
    fn authorize<'a>(&'a self, request: &'a AuthRequest<'a>) -> Answer<'a>;

    /// What a grant of an earlier time, perhaps of other settings, is worth now: asked of each open stream when the rules
    /// of a running server are replaced. None takes it back.
    fn renew(&self, grant: &Grant) -> Option<Grant> {
        let _ = grant;
        None
    }
}
