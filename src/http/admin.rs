//! Who may ask for what only operators should see.

use std::net::SocketAddr;

use hyper::StatusCode;
use hyper::header::{FORWARDED, HeaderMap, HeaderName};

use super::problem::Problem;

/// What a proxy says of whom it speaks for.
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Lets only this machine in: a peer on the loopback interface that does not speak for another. Every endpoint of
/// operators passes here.
pub(super) fn admit(remote: SocketAddr, headers: &HeaderMap) -> Result<(), Problem> {
    if !remote.ip().to_canonical().is_loopback() {
        let detail = "this is for operators: it is answered on the server's own machine only (127.0.0.1 or ::1)";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    match [FORWARDED, X_FORWARDED_FOR].into_iter().find(|name| headers.contains_key(name)) {
        Some(name) => Err(Problem::new(
            StatusCode::FORBIDDEN,
            format!(
                "this is for operators on the server's own machine, and the header {name} says that a proxy asks for another"
            ),
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_let_in_and_only_for_itself() {
        let none = HeaderMap::new();
        for (remote, expected) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("10.0.0.1:1", false),
            ("[::ffff:10.0.0.1]:1", false),
            ("[2001:db8::1]:1", false),
        ] {
            assert_eq!(admit(remote.parse().unwrap(), &none).is_ok(), expected, "{remote}");
        }
        for name in ["forwarded", "x-forwarded-for"] {
            let headers = [(name.parse().unwrap(), "127.0.0.1".parse().unwrap())].into_iter().collect();
            assert!(admit("127.0.0.1:1".parse().unwrap(), &headers).is_err(), "{name}");
        }
    }
}
