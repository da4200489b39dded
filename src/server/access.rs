//! The access rules of a running server.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::auth::{Access, Grant};
use crate::conn::{Clients, Request};
use crate::presence::each_client;

/// The rules of a server, which can be replaced while it runs. Cheap to clone.
///
/// ```
/// use fanline::auth::Access;
/// use fanline::{Hub, Server};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::builder(Hub::default()).listen(([127, 0, 0, 1], 0)).bind()?;
/// let access = server.access();
/// // Later, from any task: streams of other topics end.
/// access.replace(Access::new().anonymous_subscribe("news".parse()?));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct AccessHandle {
    pub(super) rules: Arc<ArcSwap<Access>>,
    pub(super) replaced: Arc<Notify>,
}

impl fmt::Debug for AccessHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AccessHandle").field(&self.rules.load()).finish()
    }
}

impl AccessHandle {
    /// Replaces the rules. Open streams that the new rules do not allow are closed, and the others are not affected. An
    /// authorization service is not called again for open streams.
    pub fn replace(&self, access: Access) {
        self.rules.store(Arc::new(access));
        self.replaced.notify_one();
    }

    /// Closes the open streams that the current rules do not allow.
    pub(super) async fn revoke_streams(&self, clients: &[Arc<Clients>]) {
        let rules = self.rules.load_full();
        let anonymous = Grant::anonymous(false);
        let mut revoked = 0;
        each_client(clients, |client| {
            let grant = client.identity.grant().unwrap_or(&anonymous);
            let filters = client.filters();
            // Without filters the client has no events, and only the grant matters.
            let holds = match filters.is_empty() {
                true => rules.renew(grant).is_some(),
                false => rules.still_holds(grant, &filters),
            };
            if !holds {
                client.control.raise(Request::Revoke);
                revoked += 1;
            }
            true
        })
        .await;
        tracing::info!(revoked, "the rules of access were replaced");
    }
}
