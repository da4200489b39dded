//! One request and its response, in the version of HTTP of a connection.

use crate::{http, http2};

pub enum Exchange {
    Http1 { request: Vec<u8>, response: http::Response },
    Http2(http2::Response),
}

impl Exchange {
    pub fn over_http1(request: String) -> Self {
        Self::Http1 { request: request.into_bytes(), response: http::Response::default() }
    }

    pub fn over_http2(request: &str, has_unread: bool) -> Self {
        Self::Http2(http2::Response::new(request, has_unread))
    }

    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Http1 { response, .. } => response.status,
            Self::Http2(response) => response.status,
        }
    }

    /// The whole response has arrived.
    pub fn is_complete(&self) -> bool {
        match self {
            Self::Http1 { response, .. } => response.is_complete,
            Self::Http2(response) => response.is_complete,
        }
    }

    /// Parses bytes from the socket, and passes those of the body to `body`.
    ///
    /// # Errors
    /// When the bytes are not a response.
    pub fn feed(&mut self, bytes: &[u8], body: impl FnMut(&[u8])) -> Result<(), String> {
        match self {
            Self::Http1 { response, .. } => response.feed(bytes, body),
            Self::Http2(response) => response.feed(bytes, body),
        }
    }

    /// Takes the bytes to write to the socket.
    pub fn take_pending(&mut self) -> Vec<u8> {
        match self {
            Self::Http1 { request, .. } => std::mem::take(request),
            Self::Http2(response) => std::mem::take(&mut response.pending),
        }
    }

    /// Whether the response has ended although the connection may stay open; with the error, if the server has reset it.
    pub fn end(&self) -> Option<Result<(), String>> {
        match self {
            Self::Http1 { .. } => None,
            Self::Http2(response) => {
                let reset = response.reset.clone().map(Err);
                reset.or(response.is_complete.then_some(Ok(())))
            }
        }
    }
}
