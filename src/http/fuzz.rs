use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::{Request, Uri};

use super::Options;
use super::framing;
use super::page::PageQuery;
use super::query::StreamQuery;
use crate::auth::KnownHeaders;
use crate::hub::Start;

/// Input: a query, and a `Last-Event-ID` on the next line.
pub(crate) fn query(data: &[u8]) {
    let (query, id) = data.split_at(data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len()));
    let Ok(uri) = Uri::try_from([b"/stream?", query].concat()) else { return };
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_static("test"));
    if let Ok(id) = HeaderValue::from_bytes(id.trim_ascii_start()) {
        headers.insert("last-event-id", id);
    }
    let mut request = Request::new(());
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    let (head, ()) = request.into_parts();
    if framing::check(&head, &KnownHeaders::of(&head.headers)).is_err() {
        return;
    }
    let text = head.uri.query().unwrap_or("");
    if let Ok(page) = PageQuery::parse(text, &["name", "tag", "topic"]) {
        assert!((1..=1000).contains(&page.limit));
    }
    let Ok(query) = StreamQuery::parse(text, &head.headers, &Options::default()) else { return };
    assert!(query.filters.len() <= 100 && query.tags.len() <= 32);
    assert!(query.heartbeat.is_none_or(|seconds| (1..=3600).contains(&seconds)));
    let filters = query.filters.iter().map(|filter| filter.as_str());
    let labels = query.name.as_deref().into_iter().chain(query.tags.iter().map(|tag| tag.as_str()));
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8().expect("checked UTF-8");
    for label in filters.chain(labels) {
        assert!(!label.is_empty() && label.len() <= 255 && !label.contains(char::is_control));
        assert!(!label.contains('\u{fffd}') || decoded.contains('\u{fffd}'), "invalid UTF-8 is not replaced");
    }
    let id = head.headers.get("last-event-id").is_some_and(|id| !id.is_empty());
    assert!(
        !id || matches!(query.start, Start::After(_) | Start::UnknownId | Start::Earliest),
        "the header overrides the query"
    );
}
