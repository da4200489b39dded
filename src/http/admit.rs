//! The way past [`Access`]: every handler that is not for anybody comes by here.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hyper::{Request, StatusCode};

use super::Routes;
use super::problem::Problem;
use crate::auth::{Access, Action, AuthRequest, Grant, Refusal};
use crate::topic::{Topic, TopicFilter};

/// A grant, and the rules that it was given under.
pub(super) struct Permit<'a> {
    pub(super) grant: Grant,
    rules: Arc<Access>,
    now: &'a ArcSwap<Access>,
}

/// The attempt that `request` makes.
pub(super) fn auth_request<'a, B>(request: &'a Request<B>, remote: SocketAddr, action: Action<'a>) -> AuthRequest<'a> {
    let query = request.uri().query().unwrap_or("");
    AuthRequest { action, method: request.method(), headers: request.headers(), query, remote }
}

impl Routes {
    /// Lets the attempt in, or says why not.
    pub(super) async fn admit(&self, request: &AuthRequest<'_>) -> Result<Permit<'_>, Problem> {
        let rules = self.access.load_full();
        let grant = rules.admit(request).await?;
        Ok(Permit { grant, rules, now: &self.access })
    }
}

impl Permit<'_> {
    /// Makes sure that a stream of `filters` may stay, though the rules be others by now.
    pub(super) fn renew(&self, filters: &[TopicFilter]) -> Result<(), Problem> {
        let now = self.now.load_full();
        if Arc::ptr_eq(&now, &self.rules) || now.still_holds(&self.grant, filters) {
            return Ok(());
        }
        Err(Refusal::Unauthenticated("the rules changed meanwhile, and do not allow this subscription".to_owned())
            .into())
    }

    /// Makes sure that an upload may go on: its grant has not ended, and the rules still give it.
    pub(super) fn goes_on(&mut self) -> Result<(), Problem> {
        if self.grant.has_expired() {
            return Err(Refusal::Unauthenticated("the token has expired (exp)".to_owned()).into());
        }
        let now = self.now.load();
        if !Arc::ptr_eq(&now, &self.rules) {
            let changed = || Refusal::Unauthenticated("the rules changed meanwhile: publish the rest anew".to_owned());
            self.grant = now.renew(&self.grant).ok_or_else(changed)?;
            self.rules = now.clone();
        }
        Ok(())
    }

    /// Makes sure that events of `topic` may be published.
    pub(super) fn publishes(&self, topic: &Topic) -> Result<(), Problem> {
        if self.grant.publish.matches(topic) {
            return Ok(());
        }
        let detail = format!("publishing to {:?} is not allowed with these credentials", topic.as_str());
        Err(Problem::new(StatusCode::FORBIDDEN, detail))
    }
}
