//! `GET /demo`: the live dashboard, one page that loads nothing.
//!
//! Style, charts (uPlot, under the MIT licence of `demo/uPlot.LICENSE`) and script are put together at compile time. The
//! page is an ordinary client of `GET /stream`: it knows nothing that another `EventSource` could not.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};

const PAGE: &str = concat!(
    include_str!("demo/head.html"),
    "<style>\n",
    include_str!("demo/uPlot.min.css"),
    include_str!("demo/page.css"),
    "</style>\n",
    include_str!("demo/body.html"),
    "<script>\n/*\n",
    include_str!("demo/uPlot.LICENSE"),
    "*/\n",
    include_str!("demo/uPlot.iife.min.js"),
    "</script>\n<script>\n",
    include_str!("demo/page.js"),
    "</script>\n</html>\n",
);

/// Whatever an event holds, the page can only talk to the server that it is from.
const POLICY: &str = "default-src 'none'; connect-src 'self'; img-src data:; style-src 'unsafe-inline'; \
                      script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn page() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(PAGE));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    // A page of another version of the server would read this one's events.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}
