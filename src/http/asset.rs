//! Documents that do not change while the server runs.
//!
//! **Contract.** Each has a tag, with which browsers ask before each use whether their copy is current, and a gzip form for clients
//! that accept it. The tag is a hash of the content, so that equal servers have equal tags; the two forms have different tags.

use std::hash::{DefaultHasher, Hasher};
use std::io::{Read, Write};
use std::sync::OnceLock;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue,
    IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};

use super::accept;

/// A document with its two forms.
#[derive(Debug)]
pub(super) struct Asset {
    content_type: &'static str,
    /// Its content security policy.
    policy: Option<&'static str>,
    /// The request headers that choose the form, or another document at the same path.
    vary: &'static str,
    hash: u64,
    is_gzip: bool,
    source: Bytes,
    /// The form that the source is not, made for the first client that needs it.
    other: OnceLock<Bytes>,
}

impl Asset {
    /// A document that is no page.
    pub(super) fn new(content_type: &'static str, source: impl Into<Bytes>) -> Self {
        let source = source.into();
        let mut hasher = DefaultHasher::new();
        hasher.write(&source);
        Self {
            content_type,
            // A worker of another site's page takes its policy from its script.
            policy: (content_type != SCRIPT).then_some(NOTHING),
            vary: "accept-encoding",
            hash: hasher.finish(),
            is_gzip: false,
            source,
            other: OnceLock::new(),
        }
    }

    /// A document whose source is compressed.
    #[cfg(feature = "cli")]
    pub(super) fn of_gzip(content_type: &'static str, source: Bytes) -> Self {
        Self { is_gzip: true, ..Self::new(content_type, source) }
    }

    /// A page with its content security policy.
    pub(super) fn page(policy: &'static str, source: impl Into<Bytes>) -> Self {
        Self { policy: Some(policy), ..Self::new("text/html; charset=utf-8", source) }
    }

    /// The same, if its path has another document for another `Accept`.
    pub(super) fn chosen_by_accept(self) -> Self {
        Self { vary: "accept, accept-encoding", ..self }
    }

    /// Returns the form that the client accepts, or 304 if it has that form.
    pub(super) fn response(&self, request: &HeaderMap) -> Response<Full<Bytes>> {
        let is_gzip = accept::prefers_gzip(request) && self.gzip().len() < self.plain().len();
        let tag = if is_gzip { format!("\"{:016x}-gzip\"", self.hash) } else { format!("\"{:016x}\"", self.hash) };
        let is_current = has_tag(request, tag.as_bytes());
        let body = if is_gzip { self.gzip() } else { self.plain() };
        let mut response = Response::new(Full::from(if is_current { Bytes::new() } else { body.clone() }));
        if is_current {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        if is_gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        headers.insert(ETAG, HeaderValue::from_str(&tag).expect("hexadecimal digits"));
        // A cached page of another version may not understand this server.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(VARY, HeaderValue::from_static(self.vary));
        confine(headers, self.policy);
        response
    }

    fn plain(&self) -> &Bytes {
        if self.is_gzip { self.other.get_or_init(|| gunzip(&self.source)) } else { &self.source }
    }

    fn gzip(&self) -> &Bytes {
        if self.is_gzip { &self.source } else { self.other.get_or_init(|| gzip(&self.source)) }
    }
}

/// The content type of scripts.
pub(super) const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The policy of a document that is no page: it loads nothing.
pub(super) const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";

/// Limits what a browser does with a document: it loads what `policy` allows, does not guess another content type, and
/// sends the address, whose query may have a token, to no other server.
pub(super) fn confine(headers: &mut HeaderMap, policy: Option<&'static str>) {
    headers.extend(policy.map(|policy| (CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy))));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

/// Whether `If-None-Match` names `current` (RFC 9110, section 13.1.2).
fn has_tag(request: &HeaderMap, current: &[u8]) -> bool {
    let mut tags = request.get_all(IF_NONE_MATCH).iter().flat_map(|tags| tags.as_bytes().split(|&byte| byte == b','));
    tags.any(|tag| {
        let tag = tag.trim_ascii();
        tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == current
    })
}

fn gzip(plain: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let written = encoder.write_all(plain).and_then(|()| encoder.finish());
    written.expect("writing to memory does not fail").into()
}

fn gunzip(gzip: &[u8]) -> Bytes {
    let mut plain = Vec::new();
    GzDecoder::new(gzip).read_to_end(&mut plain).expect("the binary contains whole documents");
    plain.into()
}
