//! What must be clear of a request before anybody answers it.
//!
//! A terminator in front of the server reads the same bytes. Where the two could read them differently, a request can be
//! hidden from the one in what the other takes for a body; so such a request is refused, and its connection is closed.
//! hyper refuses most of it: lengths that differ, codings that do not end with `chunked`, white space before a colon, folded
//! lines; and closes the connection after a request that has both a length and a coding.

use hyper::header::{HOST, HeaderMap, TRANSFER_ENCODING};
use hyper::{Request, StatusCode, Version};
use percent_encoding::percent_decode_str;

use super::problem::Problem;

pub(super) fn check<B>(request: &Request<B>) -> Result<(), Problem> {
    check_coding(request.headers())?;
    // RFC 9112, section 3.2. Two names may mean two servers.
    let hosts = request.headers().get_all(HOST).iter().count();
    if request.version() == Version::HTTP_11 && hosts != 1 {
        let detail = format!("a request of HTTP/1.1 has one Host header, and this one has {hosts}");
        return Err(Problem::bad_request(detail).closing());
    }
    check_query(request.uri().query().unwrap_or(""))
}

/// Chunks of something else, such as `gzip, chunked`: nobody here would undo that coding (RFC 9112, section 6.1).
fn check_coding(headers: &HeaderMap) -> Result<(), Problem> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if is_chunked && codings.next().is_none() {
        return Ok(());
    }
    let detail = "the only Transfer-Encoding here is chunked, once and alone";
    Err(Problem::new(StatusCode::NOT_IMPLEMENTED, detail).closing())
}

/// Its parser puts U+FFFD for what is no UTF-8: a topic, say, that nobody asked for.
fn check_query(query: &str) -> Result<(), Problem> {
    match percent_decode_str(query).decode_utf8() {
        Ok(_) => Ok(()),
        Err(_) => Err(Problem::bad_request("the query is not UTF-8 when its %-escapes are decoded")),
    }
}
