//! What is local: a request from the server's own machine and user, which no proxy forwarded.
//!
//! While no credentials are configured, local requests may do everything. A local proxy opens connections on behalf of clients
//! elsewhere, and not every proxy adds headers. Therefore the process at the other end must belong to the server's own user,
//! which the kernel knows. Whatever is in doubt is not local.

use std::net::IpAddr;

use hyper::Uri;
use hyper::header::{HeaderName, ORIGIN};

use super::known::{Rare, is_of_proxy};
use super::request::{Action, AuthRequest};
use crate::peer::PeerAddress;

/// Which processes of this machine may do everything while no credentials are configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoopbackTrust {
    /// Those of the server's own user. Where the kernel does not tell users apart, none.
    #[default]
    SameUser,
    /// All that reach the server over loopback or a Unix socket, proxies without forwarding headers included.
    Any,
    /// None.
    None,
}

/// Why a request is not local.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotLocal {
    #[error("this server trusts no process of its machine (setting loopback_trust)")]
    NoTrust,
    #[error("the header {0} says that a proxy forwarded this request")]
    Forwarded(HeaderName),
    #[error("this request comes through a proxy (PROXY protocol)")]
    Proxied,
    #[error("this request comes from {0}")]
    Remote(IpAddr),
    #[error("this request names no host")]
    NoHost,
    #[error("the host {0:?} is not a name of this machine")]
    PublicHost(String),
    #[error("a page of another origin sent this request")]
    ForeignOrigin,
    #[error(
        "this request comes from a process of user {user}, not of the server's own user {own} (loopback_trust = \"any\" \
         trusts all users)"
    )]
    OtherUser { user: u32, own: u32 },
    #[error("the kernel does not say whose process sent this request (loopback_trust = \"any\" trusts all users)")]
    UnknownUser,
}

impl AuthRequest<'_> {
    /// Checks that the request is local. The kernel is asked last, and once for a connection.
    pub(super) fn check_locality(&self, trust: LoopbackTrust) -> Result<(), NotLocal> {
        if trust == LoopbackTrust::None {
            return Err(NotLocal::NoTrust);
        }
        if self.known.may_have(Rare::Forwarded)
            && let Some(name) = self.parts.headers.keys().find(|name| is_of_proxy(name.as_str()))
        {
            return Err(NotLocal::Forwarded(name.clone()));
        }
        if self.peer.is_proxied {
            return Err(NotLocal::Proxied);
        }
        match self.peer.address {
            PeerAddress::Ip(address) if !self.peer.is_on_this_machine() => {
                return Err(NotLocal::Remote(address.ip().to_canonical()));
            }
            _ => {}
        }
        match self.host {
            Some(host) if host.is_private() => {}
            Some(host) => return Err(NotLocal::PublicHost(host.name().to_owned())),
            None => return Err(NotLocal::NoHost),
        }
        if self.may_change_something() && self.has_foreign_origin() {
            return Err(NotLocal::ForeignOrigin);
        }
        if trust == LoopbackTrust::Any {
            return Ok(());
        }
        let own = self.peer.own_user();
        match self.peer.owner() {
            Some(user) if user == own => Ok(()),
            Some(user) => Err(NotLocal::OtherUser { user, own }),
            None => Err(NotLocal::UnknownUser),
        }
    }

    /// Whether the request publishes, or has a method that changes something. The handshake of a WebSocket that publishes
    /// later is a GET.
    fn may_change_something(&self) -> bool {
        matches!(self.action, Action::Publish) || !self.parts.method.is_safe()
    }

    fn has_foreign_origin(&self) -> bool {
        if !self.known.may_have(Rare::Origin) {
            return false;
        }
        let Some(origin) = self.parts.headers.get(ORIGIN) else { return false };
        let uri: Option<Uri> = origin.to_str().ok().and_then(|origin| origin.parse().ok());
        let host = uri.as_ref().and_then(Uri::host).map(|host| host.trim_matches(['[', ']']));
        !host.is_some_and(|host| {
            host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        })
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use hyper::{Method, Request};

    use super::*;
    use crate::peer::Peer;

    /// Headers that proxies add, besides those that begin with `x-forwarded-`.
    const PROXY_HEADERS: [&str; 13] = [
        "forwarded",
        "via",
        "x-real-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-original-forwarded-for",
        "x-envoy-external-address",
        "x-azure-clientip",
        "true-client-ip",
        "cf-connecting-ip",
        "fastly-client-ip",
        "fly-client-ip",
        "cdn-loop",
    ];

    fn locality(
        peer: &Peer,
        method: &Method,
        target: &str,
        pairs: &[(&str, &str)],
        trust: LoopbackTrust,
    ) -> Result<(), NotLocal> {
        let request = Request::builder().method(method).uri(target);
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        if pairs.iter().all(|(name, _)| *name != "host") {
            parts.headers.append("host", HeaderValue::from_static("localhost"));
        }
        for (name, value) in pairs {
            parts.headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        AuthRequest::new(Action::Administer, &parts, peer).check_locality(trust)
    }

    /// Whether a request is local if every process is trusted.
    fn is_local(remote: &str, method: &Method, target: &str, pairs: &[(&str, &str)]) -> bool {
        let peer = Peer::tcp(remote.parse().unwrap(), ([127, 0, 0, 1], 8000).into());
        locality(&peer, method, target, pairs, LoopbackTrust::Any).is_ok()
    }

    #[test]
    fn only_loopback_is_local() {
        for (remote, expected) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("10.0.0.1:1", false),
            ("[::ffff:10.0.0.1]:1", false),
            ("[2001:db8::1]:1", false),
        ] {
            assert_eq!(is_local(remote, &Method::POST, "/publish", &[]), expected, "{remote}");
        }
    }

    #[test]
    fn forwarded_requests_are_not_local() {
        let forwarded = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "X-Forwarded-Prefix", "forwarded"];
        for name in forwarded.into_iter().chain(PROXY_HEADERS) {
            assert!(!is_local("127.0.0.1:1", &Method::GET, "/clients", &[(name, "127.0.0.1")]), "{name}");
        }
    }

    #[test]
    fn a_public_host_is_not_local() {
        for (target, host, expected) in [
            ("/clients", "localhost:8000", true),
            ("/clients", "app.example", false),
            ("/clients", "", false),
            ("/clients", "a b", false),
            ("http://localhost/clients", "app.example", true),
            ("http://app.example/clients", "localhost", false),
        ] {
            let found = is_local("127.0.0.1:1", &Method::GET, target, &[("host", host)]);
            assert_eq!(found, expected, "{target} {host}");
        }
    }

    #[test]
    fn pages_of_other_origins_are_not_local() {
        for (origin, expected) in [
            ("http://localhost:3000", true),
            ("http://127.0.0.1:8000", true),
            ("http://[::1]:8000", true),
            ("https://evil.example", false),
            ("http://localhost.evil.example", false),
            ("null", false),
        ] {
            let origin = [("origin", origin)];
            assert_eq!(is_local("127.0.0.1:1", &Method::POST, "/publish", &origin), expected, "{origin:?}");
            // Reads are left to the same-origin policy of browsers.
            assert!(is_local("127.0.0.1:1", &Method::GET, "/clients", &origin));
        }
    }

    #[test]
    fn a_page_of_another_origin_is_not_local_if_its_websocket_may_publish() {
        let peer = Peer::tcp(([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 8000).into());
        for (origin, expected) in [("http://localhost:3000", true), ("https://evil.example", false)] {
            let handshake = Request::get("/ws").header("host", "localhost").header("origin", origin);
            let (parts, ()) = handshake.body(()).unwrap().into_parts();
            let is_local = |action| AuthRequest::new(action, &parts, &peer).check_locality(LoopbackTrust::Any).is_ok();
            assert_eq!((is_local(Action::Publish), is_local(Action::Connect)), (expected, true), "{origin}");
        }
    }

    #[test]
    fn only_processes_of_trusted_users_are_local() {
        let own = rustix::process::geteuid().as_raw();
        let user = own + 1;
        let no_connection = Peer::tcp(([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into());
        let other_user = Err(NotLocal::OtherUser { user, own });
        for (peer, trust, expected) in [
            (&Peer::unix(own), LoopbackTrust::SameUser, Ok(())),
            (&Peer::unix(own), LoopbackTrust::None, Err(NotLocal::NoTrust)),
            (&Peer::unix(user), LoopbackTrust::SameUser, other_user),
            (&Peer::unix(user), LoopbackTrust::Any, Ok(())),
            (&no_connection, LoopbackTrust::SameUser, Err(NotLocal::UnknownUser)),
        ] {
            assert_eq!(locality(peer, &Method::GET, "/clients", &[], trust), expected, "{peer} {trust:?}");
        }
    }
}
