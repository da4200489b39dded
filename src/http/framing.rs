//! Checks of a request's framing, against request smuggling.
//!
//! A proxy in front of the server reads the same bytes. Where the two could read them differently, one of them may take for a
//! request what the other takes for a body. Such a request is refused and its connection closed. hyper refuses most of them:
//! lengths that differ, codings that do not end with `chunked`, white space before a colon, folded lines. It closes the
//! connection after a request that has both a length and a coding.

use hyper::StatusCode;
use hyper::header::{HeaderMap, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;

use super::problem::Problem;
use crate::auth::{Host, KnownHeaders, Rare};

/// Returns the host of the request with this head and these headers, if its framing is not ambiguous.
pub(super) fn check<'a>(head: &'a Parts, known: &KnownHeaders<'a>) -> Result<Option<Host<'a>>, Problem> {
    if known.may_have(Rare::TransferEncoding) {
        check_coding(&head.headers)?;
    }
    let host =
        Host::of(head.version, &head.uri, known).map_err(|error| Problem::bad_request(error.to_string()).closing())?;
    head.uri.query().map_or(Ok(()), check_query)?;
    Ok(host)
}

/// Refuses every coding but `chunked`: the server decodes no other (RFC 9112, section 6.1).
fn check_coding(headers: &HeaderMap) -> Result<(), Problem> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if is_chunked && codings.next().is_none() {
        return Ok(());
    }
    let detail = "Transfer-Encoding must be chunked alone";
    Err(Problem::new(StatusCode::NOT_IMPLEMENTED, detail).closing())
}

/// Refuses a query that is not UTF-8: its parser would insert U+FFFD, and read another topic.
fn check_query(query: &str) -> Result<(), Problem> {
    match percent_decode_str(query).decode_utf8() {
        Ok(_) => Ok(()),
        Err(_) => Err(Problem::bad_request("the percent-decoded query must be UTF-8")),
    }
}
