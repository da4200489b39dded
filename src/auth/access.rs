//! The one door that every request passes.

use std::fmt;
use std::sync::Arc;

use super::Authorize;
use super::grant::{Credential, Grant};
use super::patterns::Patterns;
use super::refusal::Refusal;
use super::request::{Action, AuthRequest};
use crate::topic::TopicFilter;

/// Who may do what on a server.
///
/// Without anything in it everybody may subscribe, and only the server's own machine may publish and see what is for
/// operators. Once it [accepts](Access::accept) credentials, they are needed for everything that is not opened by name.
#[derive(Clone, Default)]
pub struct Access {
    /// Those who know credentials; the first that has something to say decides.
    accepts: Vec<Arc<dyn Authorize>>,
    /// Those who must agree to each subscription besides.
    asks: Vec<Arc<dyn Authorize>>,
    anonymous_subscribe: Option<Patterns>,
    anonymous_publish: Patterns,
    anonymous_metrics: bool,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("accepts", &self.accepts.len())
            .field("asks", &self.asks.len())
            .field("anonymous_subscribe", &self.anonymous_subscribe)
            .field("anonymous_publish", &self.anonymous_publish)
            .field("anonymous_metrics", &self.anonymous_metrics)
            .finish()
    }
}

impl Access {
    /// The door of a server without credentials.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what `authorize` says of whoever it knows.
    #[must_use]
    pub fn accept(mut self, authorize: impl Authorize) -> Self {
        self.accepts.push(Arc::new(authorize));
        self
    }

    /// Asks `authorize` about each subscription that would be let in without it; unless it answers a grant that covers the
    /// subscription, that is refused.
    #[must_use]
    pub fn ask_for_each_subscription(mut self, authorize: impl Authorize) -> Self {
        self.asks.push(Arc::new(authorize));
        self
    }

    /// What whoever shows no credentials may subscribe to. Without this it is everything as long as no credentials are
    /// accepted, and nothing as soon as some are.
    #[must_use]
    pub fn anonymous_subscribe(self, patterns: Patterns) -> Self {
        Self { anonymous_subscribe: Some(patterns), ..self }
    }

    /// What whoever shows no credentials may publish to.
    #[must_use]
    pub fn anonymous_publish(self, patterns: Patterns) -> Self {
        Self { anonymous_publish: patterns, ..self }
    }

    /// Whether whoever shows no credentials may read metrics.
    #[must_use]
    pub fn anonymous_metrics(self, is_open: bool) -> Self {
        Self { anonymous_metrics: is_open, ..self }
    }

    /// Whether whoever shows no credentials may read metrics.
    pub(crate) fn has_open_metrics(&self) -> bool {
        self.anonymous_metrics
    }

    fn has_credentials(&self) -> bool {
        !self.accepts.is_empty()
    }

    /// Lets the request in with the grant that it is made under, or says why not.
    pub(crate) async fn admit(&self, request: &AuthRequest<'_>) -> Result<Grant, Refusal> {
        let known = self.identify(request).await?;
        if known.as_ref().is_some_and(Grant::has_expired) {
            return Err(Refusal::Unauthenticated("the token has expired (exp)".to_owned()));
        }
        let is_known = known.is_some();
        let mut grant = known.unwrap_or_else(|| self.anonymous(request.is_local()));
        let (is_covered, what) = match request.action {
            Action::Subscribe(filters) => match grant.subscribe.first_missing(filters) {
                None => (true, String::new()),
                Some("**") => (false, "subscribing to everything".to_owned()),
                Some(missing) => (false, format!("subscribing to {missing:?}")),
            },
            Action::Publish => (!grant.publish.is_empty(), "publishing".to_owned()),
            Action::Administer => (grant.admin, "this, which is for operators,".to_owned()),
            Action::Measure => (grant.admin || self.anonymous_metrics, "reading metrics".to_owned()),
        };
        if !is_covered {
            return Err(self.refusal(request, is_known, &what));
        }
        if let Action::Subscribe(filters) = request.action {
            for ask in &self.asks {
                let Some(answer) = ask.authorize(request).await? else {
                    return Err(Refusal::Forbidden("this subscription was not allowed".to_owned()));
                };
                if let Some(missing) = answer.subscribe.first_missing(filters) {
                    return Err(Refusal::Forbidden(format!("subscribing to {missing:?} was not allowed")));
                }
                grant.subject = grant.subject.or(answer.subject);
                grant.expires = [grant.expires, answer.expires].into_iter().flatten().min();
            }
        }
        Ok(grant)
    }

    /// Whether a stream of `filters` that was opened under `grant` may stay open under these rules.
    pub(crate) fn still_holds(&self, grant: &Grant, filters: &[TopicFilter]) -> bool {
        self.renew(grant).is_some_and(|renewed| renewed.subscribe.first_missing(filters).is_none())
    }

    /// What a grant that was given before is worth under these rules; none when it is worth nothing.
    pub(crate) fn renew(&self, grant: &Grant) -> Option<Grant> {
        match grant.credential {
            Credential::Nothing { is_local } => Some(self.anonymous(is_local)),
            _ => self.accepts.iter().find_map(|authorize| authorize.renew(grant)),
        }
    }

    async fn identify(&self, request: &AuthRequest<'_>) -> Result<Option<Grant>, Refusal> {
        for authorize in &self.accepts {
            if let Some(grant) = authorize.authorize(request).await? {
                return Ok(Some(grant));
            }
        }
        if self.has_credentials() && request.secret()?.is_some() {
            let detail = "the key or token is none that this server knows; it is not taken for a request without one";
            return Err(Refusal::Unauthenticated(detail.to_owned()));
        }
        Ok(None)
    }

    fn anonymous(&self, is_local: bool) -> Grant {
        let grant = Grant { subscribe: self.anonymous_patterns(), ..Grant::anonymous(is_local) };
        // With credentials, nearness is none: a proxy on this machine that says nothing of itself looks just like it.
        if !self.has_credentials() && is_local {
            return Grant { publish: Patterns::everything(), admin: true, ..grant };
        }
        Grant { publish: self.anonymous_publish.clone(), ..grant }
    }

    fn anonymous_patterns(&self) -> Patterns {
        match &self.anonymous_subscribe {
            Some(patterns) => patterns.clone(),
            None if self.has_credentials() => Patterns::default(),
            None => Patterns::everything(),
        }
    }

    fn refusal(&self, request: &AuthRequest<'_>, is_known: bool, what: &str) -> Refusal {
        if is_known {
            return Refusal::Forbidden(format!("the key or token does not allow {what}"));
        }
        if self.has_credentials() {
            return Refusal::Unauthenticated(format!(
                "{what} needs a key or token: Authorization: Bearer, X-Api-Key, the cookie fanline_token for reading, or \
                 the parameter access_token"
            ));
        }
        let setting = match request.action {
            Action::Subscribe(_) => "the setting anonymous_subscribe lists what everybody may subscribe to",
            Action::Publish => "the setting anonymous_publish lists the topics that everybody may publish to",
            Action::Administer => "settings for credentials, such as [[keys]] with admin = true, open it to others",
            Action::Measure => "the setting anonymous_metrics opens it to everybody",
        };
        if let Action::Subscribe(_) = request.action {
            return Refusal::Forbidden(format!("{what} is not open to everybody; {setting}"));
        }
        let because = match request.proxy_header() {
            Some(name) => format!("the header {name} says that a proxy asks for another"),
            None if let Some(host) = request.public_host() => {
                format!("its host is {host:?}, as a proxy or a page of elsewhere would have it")
            }
            None if request.remote.ip().to_canonical().is_loopback() => {
                "a page of elsewhere had a browser send this".to_owned()
            }
            None => "this request comes from elsewhere".to_owned(),
        };
        let others = match request.action {
            Action::Administer => "",
            _ => ", and [[keys]], jwt_secret, jwt_public_key or jwks open it to those who have a key or token",
        };
        Refusal::Forbidden(format!(
            "without credentials configured, {what} is for the server's own machine (127.0.0.1 or ::1) only, and {because}; \
             {setting}{others}"
        ))
    }
}
