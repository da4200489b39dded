//! Authorization of requests, and of their streams and uploads while the access rules change.

use std::sync::Arc;

use arc_swap::ArcSwap;
use hyper::StatusCode;
use hyper::http::request::Parts;

use super::Routes;
use super::problem::Problem;
use crate::auth::{Access, Action, AuthRequest, Grant, Host, KnownHeaders, Refusal};
use crate::peer::{Peer, PeerAddress};
use crate::topic::{Topic, TopicFilter};

/// A grant, with the access rules that it is based on.
pub(super) struct Permit<'a> {
    pub(super) grant: Grant,
    pub(super) rules: Arc<Access>,
    current: &'a ArcSwap<Access>,
}

/// Where a request comes from.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    /// The other end of the connection.
    pub(super) peer: &'a Peer,
    /// The address of the client: that of the peer, or the one that a trusted proxy forwarded.
    pub(super) client: PeerAddress,
    /// The host that the request names.
    pub(super) host: Option<Host<'a>>,
    pub(super) known: KnownHeaders<'a>,
}

impl Source<'_> {
    /// Whether a trusted proxy forwarded the request of this client.
    pub(super) fn is_forwarded(self) -> bool {
        self.client != self.peer.address
    }
}

/// Returns what authorization needs of the request with this head.
pub(super) fn auth_request<'a>(head: &'a Parts, source: Source<'a>, action: Action<'a>) -> AuthRequest<'a> {
    let Source { peer, client, host, known } = source;
    AuthRequest { action, parts: head, peer, client, host, known }
}

impl Routes {
    /// Authorizes a request.
    pub(super) async fn admit(&self, request: &AuthRequest<'_>) -> Result<Permit<'_>, Problem> {
        let rules = self.access.load_full();
        let grant = rules.admit(request).await?;
        Ok(Permit { grant, rules, current: &self.access })
    }

    /// Authorizes a publication. The access rules may change while the authorization waits.
    pub(super) async fn admit_to_publish(&self, head: &Parts, source: &Source<'_>) -> Result<Permit<'_>, Problem> {
        let mut permit = self.admit(&auth_request(head, *source, Action::Publish)).await?;
        permit.check_upload()?;
        Ok(permit)
    }

    /// Authorizes a request if nothing has to be waited for, as on servers without credentials. `None` for any other.
    pub(super) fn admit_at_once(&self, request: &AuthRequest<'_>) -> Option<Result<Permit<'_>, Problem>> {
        let rules = self.access.load_full();
        let grant = rules.admit_at_once(request)?;
        Some(grant.map(|grant| Permit { grant, rules, current: &self.access }).map_err(Problem::from))
    }

    /// What `grant`, which was given to a connection under the rules `given`, allows under the current rules.
    pub(super) fn renew(&self, grant: &Grant, given: &Arc<Access>) -> Result<Permit<'_>, Refusal> {
        if grant.has_expired() {
            return Err(Refusal::expired());
        }
        let rules = self.access.load_full();
        let detail = "the access rules changed, and do not accept the credentials of this connection";
        // The keys that a token depends on may change while the rules stay the same.
        let holds = grant.is_of_application() && Arc::ptr_eq(&rules, given);
        let renewed = if holds { Some(grant.clone()) } else { rules.renew(grant) };
        let grant = renewed.ok_or_else(|| Refusal::InvalidCredentials(detail.into()))?;
        Ok(Permit { grant, rules, current: &self.access })
    }
}

impl Permit<'_> {
    /// Checks that current rules still allow a stream of `filters`.
    pub(super) fn check_subscription(&self, filters: &[TopicFilter]) -> Result<(), Problem> {
        let current = self.current.load_full();
        if Arc::ptr_eq(&current, &self.rules) || current.still_holds(&self.grant, filters) {
            return Ok(());
        }
        Err(Refusal::InvalidCredentials("the access rules changed, and do not allow this subscription".into()).into())
    }

    /// Checks that an upload may continue: its grant has not expired, and the current rules still allow it.
    pub(super) fn check_upload(&mut self) -> Result<(), Problem> {
        if self.grant.has_expired() {
            return Err(Refusal::expired().into());
        }
        let current = self.current.load();
        if !Arc::ptr_eq(&current, &self.rules) {
            let detail = "the access rules changed: publish the rest in a new request";
            self.grant = current.renew(&self.grant).ok_or_else(|| Refusal::InvalidCredentials(detail.into()))?;
            self.rules = current.clone();
        }
        Ok(())
    }

    /// Checks that the grant allows publishing to `topic`.
    pub(super) fn check_topic(&self, topic: &Topic) -> Result<(), Problem> {
        if self.grant.publish.matches(topic) { Ok(()) } else { Err(topic_forbidden(topic)) }
    }
}

#[cold]
fn topic_forbidden(topic: &Topic) -> Problem {
    let mut detail = format!("these credentials do not allow publishing to {:?}", topic.as_str());
    if topic.is_reserved() {
        detail += ": topics of users and presence need a pattern that begins with user: or presence:";
    }
    Problem::new(StatusCode::FORBIDDEN, detail)
}
