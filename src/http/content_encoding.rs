//! The content codings of request bodies (RFC 9110, section 8.4): gzip, or none.
//!
//! **Bounds.** A body is decoded as it is read, a few kilobytes at a time. The limits on bodies and lines apply to the
//! decoded bytes, so that a small body cannot become a large one.

use std::io;

use async_compression::tokio::bufread::GzipDecoder;
use bytes::Bytes;
use futures_util::TryStreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Either, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_ENCODING, HeaderMap};
use tokio_util::io::{ReaderStream, StreamReader};

use super::body::RequestBody;
use super::problem::Problem;
use crate::auth::{KnownHeaders, Rare};

/// How many bytes are decoded at a time.
const BLOCK: usize = 16 << 10;

/// A body without its content coding.
pub(super) type DecodedBody = Either<RequestBody, UnsyncBoxBody<Bytes, io::Error>>;

/// Returns the body of a request with these headers, decoded as it is read.
pub(super) fn decode(headers: &HeaderMap, known: &KnownHeaders<'_>, body: RequestBody) -> Result<DecodedBody, Problem> {
    let is_gzip = known.may_have(Rare::ContentEncoding) && is_gzip(headers)?;
    Ok(if is_gzip { Either::Right(gunzip(body)) } else { Either::Left(body) })
}

/// Whether the coding is gzip. Codings are compared without regard to case, and `x-gzip` is a synonym.
fn is_gzip(headers: &HeaderMap) -> Result<bool, Problem> {
    let mut is_gzip = false;
    for value in headers.get_all(CONTENT_ENCODING) {
        let is = |coding: &[u8]| value.as_bytes().eq_ignore_ascii_case(coding);
        if is(b"identity") {
            continue;
        }
        // A body that is compressed twice is a mistake.
        if is_gzip || !(is(b"gzip") || is(b"x-gzip")) {
            return Err(Problem::unsupported_coding("the Content-Encoding here is gzip, or none", "gzip"));
        }
        is_gzip = true;
    }
    Ok(is_gzip)
}

fn gunzip(body: RequestBody) -> UnsyncBoxBody<Bytes, io::Error> {
    let reader = StreamReader::new(body.into_data_stream().map_err(io::Error::other));
    let mut decoder = GzipDecoder::new(reader);
    // A file of several members, as `cat a.gz b.gz` makes it, is one body.
    decoder.multiple_members(true);
    let blocks = ReaderStream::with_capacity(decoder, BLOCK).map_ok(Frame::data);
    StreamBody::new(blocks.map_err(|error| io::Error::other(format!("gzip: {error}")))).boxed_unsync()
}
