//! The socket as hyper sees it: it records whether everything is flushed, and replaces lengths that hyper cannot represent.
//!
//! hyper reserves the two largest 64-bit numbers, and answers a `Content-Length` of that size with a 431, as if the head were
//! too large. The next smaller length stands for them: there is no room for such a body either, and the handler says so.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use memchr::memmem::{self, Finder};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Exchange;
use crate::conn::socket::Socket;
use crate::sync::{Arc, Ordering};

/// What the two reserved lengths, 18446744073709551614 and 18446744073709551615, begin with.
static RESERVED: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"1844674407370955161"));

/// A socket that shares the [`Exchange`] of its connection.
pub(super) struct Watched {
    pub(super) socket: Socket,
    pub(super) exchange: Arc<Exchange>,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buf);
        if self.exchange.awaits_head() {
            match read {
                Poll::Ready(_) => replace_reserved_length(&mut buf.filled_mut()[before..]),
                Poll::Pending => self.exchange.wait_for_head(),
            }
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.exchange.is_unflushed.store(true, Ordering::Relaxed);
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        self.exchange.is_unflushed.store(flushed.is_pending(), Ordering::Relaxed);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.exchange.is_unflushed.store(true, Ordering::Relaxed);
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }
}

/// Replaces a reserved `Content-Length` in the head of a request. One that arrives in two parts stays, and gets hyper's 431.
fn replace_reserved_length(head: &mut [u8]) {
    // A GET is short and has no body: it may keep hyper's error.
    if head.starts_with(b"GET ") {
        return;
    }
    let Some(at) = RESERVED.find(head) else { return };
    let (before, length) = head.split_at_mut(at);
    let has_body = ["\n\r\n", "\n\n"].iter().any(|end| memmem::find(before, end.as_bytes()).is_some());
    let line = before.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
    let Some((name, zeros)) = line.split_at_checked("content-length:".len()) else { return };
    let is_length = name.eq_ignore_ascii_case(b"content-length:") && zeros.iter().all(|byte| b" \t0".contains(byte));
    let is_end = length.get(20).is_some_and(|byte| b" \t\r\n".contains(byte));
    match length.get_mut(19) {
        Some(last) if !has_body && is_length && is_end && b"45".contains(last) => *last = b'3',
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reserved_lengths_are_replaced() {
        let replaced = |text: &str| {
            let mut head = text.as_bytes().to_vec();
            replace_reserved_length(&mut head);
            String::from_utf8(head).unwrap()
        };
        for text in [
            "POST / HTTP/1.1\r\ncontent-length: 18446744073709551615\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length:\t0018446744073709551614 \r\n\r\n",
        ] {
            assert_eq!(replaced(text), text.replace("51615", "51613").replace("51614", "51613"));
        }
        for text in [
            "POST / HTTP/1.1\r\ncontent-length: 18446744073709551613\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 18446744073709551616\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 184467440737095516150\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 118446744073709551615\r\n\r\n",
            "POST / HTTP/1.1\r\nx-content-length: 18446744073709551615\r\n\r\n",
            "POST / HTTP/1.1\r\nx: 18446744073709551615\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 44\r\n\r\ncontent-length: 18446744073709551615\r\n\r\n",
            "18446744073709551615",
            "GET / HTTP/1.1\r\ncontent-length: 18446744073709551615\r\n\r\n",
            "content-length: 1844674407370955161",
        ] {
            assert_eq!(replaced(text), text);
        }
    }
}
