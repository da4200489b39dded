//! The permissions of a request or stream.

use std::sync::Arc;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::patterns::Patterns;
use super::tag::Tag;
use crate::topic::{Topic, TopicFilter};

/// The permissions of a request or stream. The default allows nothing.
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use fanline::auth::Grant;
///
/// let in_an_hour = SystemTime::now() + Duration::from_secs(3600);
/// let grant = Grant::new()
///     .with_user("anna")
///     .with_subscribe("news, comment:**".parse()?)
///     .with_publish("comment:*:typing".parse()?)
///     .with_expires(in_an_hour);
/// // The user's own topic is always allowed.
/// assert_eq!(grant.user_topic().unwrap().as_str(), "user:anna");
/// # Ok::<_, fanline::auth::InvalidPatterns>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Grant {
    /// Topics that it may subscribe to.
    pub subscribe: Patterns,
    /// Topics that it may publish to.
    pub publish: Patterns,
    /// Whether it may use the admin endpoints.
    pub admin: bool,
    /// The user, as `/clients`, presence and the log show it. The connections of a user receive the events of its
    /// [topic](Grant::user_topic).
    pub user: Option<Arc<str>>,
    /// Labels of the client, which `/clients` and the log show before those that the client has chosen itself.
    pub tags: Vec<Tag>,
    /// When the grant expires. Its streams end then.
    pub expires: Option<SystemTime>,
    pub(crate) credential: Credential,
}

/// What a grant is based on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Credential {
    /// An application's own [`Authorize`](super::Authorize).
    #[default]
    Foreign,
    /// No credentials.
    Anonymous { is_local: bool },
    /// An API key, by its digest.
    ApiKey([u8; 32]),
    /// A token, by the digest of the key that verified it.
    #[cfg_attr(not(feature = "auth"), allow(dead_code))]
    Token(Box<TokenCredential>),
}

/// What a grant that is based on a token depends on. Boxed: each publication has room for a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "auth"), allow(dead_code))]
pub(crate) struct TokenCredential {
    pub(super) key: [u8; 32],
    pub(super) audience: Vec<String>,
    pub(super) issuer: Option<String>,
}

impl Grant {
    /// A grant that allows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the topics that it may subscribe to.
    #[must_use]
    pub fn with_subscribe(self, patterns: Patterns) -> Self {
        Self { subscribe: patterns, ..self }
    }

    /// Sets the topics that it may publish to.
    #[must_use]
    pub fn with_publish(self, patterns: Patterns) -> Self {
        Self { publish: patterns, ..self }
    }

    /// Sets whether it may use the admin endpoints.
    #[must_use]
    pub fn with_admin(self, is_admin: bool) -> Self {
        Self { admin: is_admin, ..self }
    }

    /// Sets the user.
    #[must_use]
    pub fn with_user(self, user: impl AsRef<str>) -> Self {
        Self { user: Some(user.as_ref().into()), ..self }
    }

    /// Sets the labels of the client.
    #[must_use]
    pub fn with_tags(self, tags: impl IntoIterator<Item = Tag>) -> Self {
        Self { tags: tags.into_iter().collect(), ..self }
    }

    /// Sets when the grant expires.
    #[must_use]
    pub fn with_expires(self, end: SystemTime) -> Self {
        Self { expires: Some(end), ..self }
    }

    pub(crate) fn anonymous(is_local: bool) -> Self {
        Self { credential: Credential::Anonymous { is_local }, ..Self::default() }
    }

    /// Whether the grant is that of any anonymous client, without additions by an authorization service.
    pub(crate) fn is_anonymous(&self) -> bool {
        matches!(self.credential, Credential::Anonymous { is_local: false })
            && self.user.is_none()
            && self.expires.is_none()
    }

    /// Whether an application's own [`Authorize`](super::Authorize) gave the grant.
    pub(crate) fn is_of_application(&self) -> bool {
        self.credential == Credential::Foreign
    }

    /// The topic of the grant's user, see [`Topic::of_user`]. A user may always subscribe to it.
    pub fn user_topic(&self) -> Option<Topic> {
        self.user.as_deref().and_then(Topic::of_user)
    }

    /// Returns the first of `filters` that the grant does not allow to subscribe to. Without filters, that is `**`.
    pub(crate) fn first_missing<'a>(&self, filters: &'a [TopicFilter]) -> Option<&'a str> {
        let own = self.user_topic();
        let is_own =
            |filter: &TopicFilter| matches!((filter, &own), (TopicFilter::Exact(topic), Some(own)) if topic == own);
        if filters.is_empty() {
            return self.subscribe.first_missing(filters);
        }
        let is_missing = |filter: &&TopicFilter| !self.subscribe.covers(filter) && !is_own(filter);
        filters.iter().find(is_missing).map(TopicFilter::as_str)
    }

    /// The key of rate limits: an API key, the user of one key's tokens, or the user of an application. `None` without credentials.
    pub(crate) fn identity(&self) -> Option<[u8; 32]> {
        let user = self.user.as_deref();
        let digest = |key: &[u8]| Sha256::new().chain_update(key).chain_update(user.unwrap_or("")).finalize().into();
        match &self.credential {
            Credential::ApiKey(key) => Some(*key),
            Credential::Token(token) => Some(digest(&token.key)),
            Credential::Foreign => user.map(|_| digest(b"")),
            Credential::Anonymous { .. } => None,
        }
    }

    pub(crate) fn has_expired(&self) -> bool {
        self.expires.is_some_and(|end| end <= SystemTime::now())
    }
}
