//! The access rules of a server, which every request passes.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::authorize::Authorizer;
use super::grant::{Credential, Grant};
use super::locality::LoopbackTrust;
use super::patterns::Patterns;
use super::request::{Action, AuthRequest};
use super::{Authorize, Refusal};
use crate::topic::TopicFilter;

/// The access rules of a server.
///
/// By default, every client may subscribe, and only local clients of the server's own user may publish, read metrics and use
/// the admin endpoints.
/// Once the rules [accept](Access::accept) credentials, loopback is not trusted, and anonymous clients may do only what
/// the `anonymous_*` rules allow.
///
/// ```
/// use fanline::auth::{Access, ApiKey, ApiKeys, KeyDigest, Patterns};
///
/// let shop = ApiKey {
///     name: "shop".into(),
///     digest: KeyDigest::of("the key that the shop sends"),
///     publish: "orders:*".parse()?,
///     subscribe: Patterns::default(),
///     admin: false,
/// };
/// // The shop publishes, and anyone may subscribe to news.
/// let access = Access::new().accept(ApiKeys::new([shop])).anonymous_subscribe("news".parse()?);
/// # let server = fanline::Server::builder(fanline::Hub::default()).access(access);
/// # Ok::<_, fanline::auth::InvalidPatterns>(())
/// ```
#[derive(Clone, Default)]
pub struct Access {
    /// The sources of grants. The first that returns one decides.
    accepts: Vec<Arc<dyn Authorizer>>,
    /// Must allow each subscription as well.
    asks: Vec<Arc<dyn Authorizer>>,
    anonymous_subscribe: Option<Patterns>,
    anonymous_publish: Patterns,
    anonymous_metrics: bool,
    loopback_trust: LoopbackTrust,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("accepts", &self.accepts.len())
            .field("asks", &self.asks.len())
            .field("anonymous_subscribe", &self.anonymous_subscribe)
            .field("anonymous_publish", &self.anonymous_publish)
            .field("anonymous_metrics", &self.anonymous_metrics)
            .field("loopback_trust", &self.loopback_trust)
            .finish()
    }
}

impl Access {
    /// The rules of a server without credentials.
    pub fn new() -> Self {
        Self::default()
    }

    /// Accepts the credentials that `authorize` recognizes.
    #[must_use]
    pub fn accept(mut self, authorize: impl Authorize) -> Self {
        self.accepts.push(Arc::new(authorize));
        self
    }

    /// Asks `authorize` about each subscription that the other rules allow. It is refused unless the returned grant covers
    /// it.
    #[must_use]
    pub fn ask_for_each_subscription(mut self, authorize: impl Authorize) -> Self {
        self.asks.push(Arc::new(authorize));
        self
    }

    /// Sets what anonymous clients may subscribe to. Default: everything, or nothing once credentials are accepted.
    #[must_use]
    pub fn anonymous_subscribe(self, patterns: Patterns) -> Self {
        Self { anonymous_subscribe: Some(patterns), ..self }
    }

    /// Sets what anonymous clients may publish to.
    #[must_use]
    pub fn anonymous_publish(self, patterns: Patterns) -> Self {
        Self { anonymous_publish: patterns, ..self }
    }

    /// Sets whether anonymous clients may read metrics.
    #[must_use]
    pub fn anonymous_metrics(self, is_open: bool) -> Self {
        Self { anonymous_metrics: is_open, ..self }
    }

    /// Sets which processes of this machine may do everything as long as no credentials are accepted.
    #[must_use]
    pub fn loopback_trust(self, trust: LoopbackTrust) -> Self {
        Self { loopback_trust: trust, ..self }
    }

    /// Whether a service is asked about each subscription.
    pub(crate) fn asks_for_each_subscription(&self) -> bool {
        !self.asks.is_empty()
    }

    pub(crate) fn has_open_metrics(&self) -> bool {
        self.anonymous_metrics
    }

    fn has_credentials(&self) -> bool {
        !self.accepts.is_empty()
    }

    /// Returns the grant of `request`, which covers its action.
    pub(crate) async fn admit(&self, request: &AuthRequest<'_>) -> Result<Grant, Refusal> {
        let authenticated = self.authenticate(request).await?;
        let mut grant = self.grant(request, authenticated)?;
        if let Action::Subscribe(filters) = request.action {
            for ask in &self.asks {
                let other = ask.authorize(request).await?.unwrap_or_default();
                if let Some(missing) = other.subscribe.first_missing(filters) {
                    return Err(Refusal::Forbidden(format!("subscribing to {missing:?} is not allowed")));
                }
                grant.user = grant.user.or(other.user);
                grant.tags.extend(other.tags);
                grant.expires = [grant.expires, other.expires].into_iter().flatten().min();
            }
        }
        Ok(grant)
    }

    /// Like [`Access::admit`], for a request that nothing has to be waited for. `None` for any other.
    pub(crate) fn admit_at_once(&self, request: &AuthRequest<'_>) -> Option<Result<Grant, Refusal>> {
        let asks = matches!(request.action, Action::Subscribe(_)) && !self.asks.is_empty();
        let is_ready = !self.has_credentials() && !asks;
        is_ready.then(|| self.check_unused_secret(request).and_then(|()| self.grant(request, None)))
    }

    /// Returns the grant of a request, which covers its action: that of its credentials, or the anonymous one.
    fn grant(&self, request: &AuthRequest<'_>, authenticated: Option<Grant>) -> Result<Grant, Refusal> {
        let is_authenticated = authenticated.is_some();
        let grant = authenticated.unwrap_or_else(|| self.anonymous(self.is_local(request)));
        let (is_covered, what) = match request.action {
            Action::Subscribe(filters) => match grant.first_missing(filters) {
                None => (true, "".into()),
                Some("**") => (false, "subscribing to everything".into()),
                Some(missing) => (false, Cow::from(format!("subscribing to {}", named(missing)))),
            },
            Action::Connect => {
                let is_covered = !grant.subscribe.is_empty() || !grant.publish.is_empty() || grant.user.is_some();
                (is_covered, "connecting".into())
            }
            Action::Publish => (!grant.publish.is_empty(), "publishing".into()),
            Action::Administer => (grant.admin, "using the admin endpoints".into()),
            Action::Measure => (grant.admin || self.anonymous_metrics, "reading metrics".into()),
        };
        if is_covered { Ok(grant) } else { Err(self.refusal(request, is_authenticated, &what)) }
    }

    /// Whether a stream of `filters` that was opened under `grant` may stay open under these rules.
    pub(crate) fn still_holds(&self, grant: &Grant, filters: &[TopicFilter]) -> bool {
        self.renew(grant).is_some_and(|renewed| renewed.first_missing(filters).is_none())
    }

    /// Returns what an earlier grant allows under these rules; `None` if it is revoked.
    pub(crate) fn renew(&self, grant: &Grant) -> Option<Grant> {
        match grant.credential {
            Credential::Anonymous { is_local } => Some(self.anonymous(is_local)),
            _ => self.accepts.iter().find_map(|authorize| authorize.renew(grant)),
        }
    }

    async fn authenticate(&self, request: &AuthRequest<'_>) -> Result<Option<Grant>, Refusal> {
        for authorize in &self.accepts {
            match authorize.authorize(request).await? {
                Some(grant) if grant.has_expired() => return Err(Refusal::expired()),
                Some(grant) => return Ok(Some(grant)),
                None => {}
            }
        }
        self.check_unused_secret(request).map(|()| None)
    }

    /// Refuses a request whose credentials nothing has recognized.
    fn check_unused_secret(&self, request: &AuthRequest<'_>) -> Result<(), Refusal> {
        // A server without keys and tokens leaves the credentials of subscriptions to the authorization service.
        let is_left_to_service = !self.has_credentials()
            && matches!(request.action, Action::Connect | Action::Subscribe(_) if !self.asks.is_empty());
        if is_left_to_service || request.secret()?.is_none() {
            return Ok(());
        }
        let detail = if self.has_credentials() {
            "unknown API key or token"
        } else {
            "this server accepts no API keys and tokens, and the request has one: send it without, or configure [[keys]], \
             jwt_secret, jwt_public_key or jwks"
        };
        Err(Refusal::InvalidCredentials(detail.into()))
    }

    /// Whether the request is local, if that matters: the answer may take a call of the kernel.
    pub(crate) fn is_local(&self, request: &AuthRequest<'_>) -> bool {
        let matters = match request.action {
            Action::Connect => false,
            Action::Subscribe(filters) => filters.iter().any(TopicFilter::is_reserved),
            Action::Measure => !self.anonymous_metrics,
            Action::Publish | Action::Administer => true,
        };
        matters && !self.has_credentials() && request.check_locality(self.loopback_trust).is_ok()
    }

    fn anonymous(&self, is_local: bool) -> Grant {
        // Once credentials are configured, loopback is not trusted: a local proxy that adds no headers looks the same.
        let is_trusted = is_local && !self.has_credentials() && self.loopback_trust != LoopbackTrust::None;
        let subscribe = match &self.anonymous_subscribe {
            Some(patterns) => patterns.clone(),
            None if self.has_credentials() => Patterns::default(),
            None if is_trusted => Patterns::all_topics(),
            None => Patterns::everything(),
        };
        let publish = if is_trusted { Patterns::all_topics() } else { self.anonymous_publish.clone() };
        // Without defaults: each request has one.
        Grant {
            subscribe,
            publish,
            admin: is_trusted,
            user: None,
            tags: Vec::new(),
            expires: None,
            credential: Credential::Anonymous { is_local },
        }
    }

    #[cold]
    fn refusal(&self, request: &AuthRequest<'_>, is_authenticated: bool, what: &str) -> Refusal {
        if is_authenticated {
            return Refusal::Forbidden(format!("the API key or token does not allow {what}"));
        }
        if self.has_credentials() {
            return Refusal::Unauthenticated(format!(
                "{what} requires an API key or token: Authorization: Bearer, X-Api-Key, the parameter access_token, or the \
                 cookie fanline_token for reading"
            ));
        }
        let setting = match request.action {
            Action::Connect | Action::Subscribe(_) => {
                return Refusal::Forbidden(format!("{what} is not allowed (setting anonymous_subscribe)"));
            }
            Action::Publish => {
                "list the topic in anonymous_publish, or configure [[keys]], jwt_secret, jwt_public_key or jwks"
            }
            Action::Administer => "configure credentials, such as [[keys]] with admin = true",
            Action::Measure => "set anonymous_metrics, or configure [[keys]], jwt_secret, jwt_public_key or jwks",
        };
        let reason = request.check_locality(self.loopback_trust).err();
        let reason = reason.map_or_else(|| "this request was not".to_owned(), |reason| reason.to_string());
        Refusal::Forbidden(format!(
            "without credentials configured, {what} is allowed from loopback only, and {reason}; to allow it, {setting}"
        ))
    }
}

/// The filter in an error. That of a reserved topic is explained: `**` looks as if it covered it.
fn named(filter: &str) -> String {
    if TopicFilter::new(filter).is_ok_and(|filter| filter.is_reserved()) {
        return format!("{filter:?} (topics of users and presence need a pattern that begins with user: or presence:)");
    }
    format!("{filter:?}")
}
