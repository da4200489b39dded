//! What turns a request into a grant.

use std::future::Future;
use std::pin::Pin;

use super::{AuthRequest, Grant, Refusal};

/// Decides what a request may do: the access rules of an application, such as its own sessions.
///
/// An [`Access`](super::Access) asks its authorizers in the order in which they were added. The first that returns a grant
/// decides. A request that none of them knows is anonymous.
///
/// The future may wait, for a database or another service. It runs on the shard's thread: a call that blocks delays the
/// streams of the shard and belongs into `tokio::task::spawn_blocking`.
///
/// # Examples
///
/// The sessions of an application, in a cookie:
///
/// ```
/// use std::collections::HashMap;
///
/// use fanline::auth::{Access, AuthRequest, Authorize, Grant, Refusal, Tag};
/// use fanline::{Hub, Server};
///
/// struct Sessions {
///     users: HashMap<String, String>,
/// }
///
/// impl Authorize for Sessions {
///     async fn authorize(&self, request: &AuthRequest<'_>) -> Result<Option<Grant>, Refusal> {
///         let Some(session) = request.cookie("session") else { return Ok(None) };
///         let Some(user) = self.users.get(session) else {
///             return Err(Refusal::InvalidCredentials("the session has ended: log in again".into()));
///         };
///         let grant = Grant::new().with_user(user).with_tags(["web".parse::<Tag>().expect("a valid tag")]);
///         Ok(Some(grant.with_subscribe("news, comment:**".parse().expect("valid patterns"))))
///     }
/// }
///
/// let users = HashMap::from([("a7c3".into(), "anna".into())]);
/// let server = Server::builder(Hub::default()).access(Access::new().accept(Sessions { users }));
/// ```
///
/// A middleware of the application may have found the user already, and left it in the extensions of the request:
///
/// ```
/// use fanline::auth::{Action, AuthRequest, Authorize, Grant, Peer, Refusal};
///
/// #[derive(Clone)]
/// struct CurrentUser(String);
///
/// struct FromExtensions;
///
/// impl Authorize for FromExtensions {
///     async fn authorize(&self, request: &AuthRequest<'_>) -> Result<Option<Grant>, Refusal> {
///         let user = request.parts.extensions.get::<CurrentUser>();
///         Ok(user.map(|CurrentUser(name)| Grant::new().with_user(name)))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let request = hyper::Request::get("/stream").extension(CurrentUser("anna".into())).body(())?;
/// let (parts, ()) = request.into_parts();
/// let peer = Peer::tcp("192.0.2.7:40000".parse()?, "192.0.2.1:443".parse()?);
/// let grant = FromExtensions.authorize(&AuthRequest::new(Action::Connect, &parts, &peer)).await?;
/// assert_eq!(grant.unwrap().user.as_deref(), Some("anna"));
/// # Ok(())
/// # }
/// ```
pub trait Authorize: Send + Sync + 'static {
    /// Returns the grant of the request, or `None` to leave the request to the next [`Authorize`].
    ///
    /// # Errors
    /// A [`Refusal`] becomes the response. The authorizers that follow are not asked.
    fn authorize(&self, request: &AuthRequest<'_>) -> impl Future<Output = Result<Option<Grant>, Refusal>> + Send;

    /// Returns what a grant of earlier rules allows now, or `None` if it is revoked. Called for each open stream of this
    /// authorizer's kind when [`AccessHandle::replace`](crate::server::AccessHandle::replace) changes the rules of a running
    /// server. By default, a change of the rules revokes all grants.
    fn renew(&self, grant: &Grant) -> Option<Grant> {
        let _ = grant;
        None
    }
}

/// The future of [`Authorizer::authorize`].
type Decision<'a> = Pin<Box<dyn Future<Output = Result<Option<Grant>, Refusal>> + Send + 'a>>;

/// An [`Authorize`] of any type.
pub(super) trait Authorizer: Send + Sync {
    fn authorize<'a>(&'a self, request: &'a AuthRequest<'_>) -> Decision<'a>;

    fn renew(&self, grant: &Grant) -> Option<Grant>;
}

impl<T: Authorize> Authorizer for T {
    fn authorize<'a>(&'a self, request: &'a AuthRequest<'_>) -> Decision<'a> {
        Box::pin(Authorize::authorize(self, request))
    }

    fn renew(&self, grant: &Grant) -> Option<Grant> {
        Authorize::renew(self, grant)
    }
}
