//! Authentication and authorization: API keys, tokens, key sets and authorization services.

mod application;
#[cfg(feature = "auth")]
mod command;
#[cfg(feature = "auth")]
mod credentials;
#[cfg(feature = "auth")]
mod expiry;
#[cfg(feature = "auth")]
mod grants;
#[cfg(feature = "auth")]
mod jwks;
mod local;
#[cfg(feature = "auth")]
mod reload;
#[cfg(feature = "auth")]
mod secrets;
#[cfg(feature = "auth")]
mod service;
#[cfg(feature = "auth")]
mod stub;
#[cfg(feature = "auth")]
mod table;
#[cfg(feature = "auth")]
mod tokens;

use fanline::auth::{Access, ApiKey, KeyDigest};

use crate::support::Server;
#[cfg(feature = "auth")]
pub use tokens::*;

pub const PUBLISHER: &str = "publisher-key-of-the-tests";
pub const OPERATOR: &str = "operator-key-of-the-tests";

pub fn key(name: &str, secret: &str, publish: &str, subscribe: &str, admin: bool) -> ApiKey {
    let (publish, subscribe) = (publish.parse().unwrap(), subscribe.parse().unwrap());
    ApiKey { name: name.into(), digest: KeyDigest::of(secret), publish, subscribe, admin }
}

pub fn serve(access: Access) -> Server {
    Server::with(Server::hub_options(), |builder| builder.access(access))
}
