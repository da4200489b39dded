//! Closes a connection so that its last response arrives (RFC 9112, section 9.6).
//!
//! Closing a socket with unread bytes, or receiving bytes after the close, resets the connection. A reset discards what the
//! peer has not read yet: a client that is still sending its body would never see why it was refused. The server closes its
//! sending side first and discards what the peer sends until the peer closes too. Both times are bounded, as nginx's are
//! (`lingering_timeout`, `lingering_time`).

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::AsyncWrite;

use super::socket::Socket;

/// The longest time without bytes from the peer.
const QUIET: Duration = Duration::from_secs(5);

/// The longest time in all.
const LONGEST: Duration = Duration::from_secs(30);

/// The number of reads of one connection before other tasks run.
const READS_PER_TURN: usize = 32;

/// Closes `socket` when its peer does, when one of the times is over, or when `hurry` completes.
pub(super) async fn close(mut socket: Socket, hurry: impl Future<Output = ()>) {
    if poll_fn(|cx| Pin::new(&mut socket).poll_shutdown(cx)).await.is_err() {
        return;
    }
    let discarded = async {
        while let Ok(Ok(())) = tokio::time::timeout(QUIET, socket.readable()).await {
            match discard(&socket) {
                Ok(0) => return,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    tokio::select! {
        () = discarded => {}
        () = hurry => {}
        () = tokio::time::sleep(LONGEST) => {}
    }
}

/// Discards what the peer sent, with a limited number of reads. The buffer is on the stack, so that a waiting connection
/// has none.
fn discard(socket: &Socket) -> io::Result<usize> {
    let mut scratch = [0; 16 << 10];
    for _ in 1..READS_PER_TURN {
        if socket.try_read(&mut scratch)? == 0 {
            return Ok(0);
        }
    }
    socket.try_read(&mut scratch)
}

/// Discards the rest of a request's body over HTTP/2 until one of the times is over, or `hurry` completes. The request's stream is
/// reset then, if it has not ended.
pub(super) async fn discard_body(mut body: h2::RecvStream, hurry: impl Future<Output = ()>) {
    let discarded = async {
        while let Ok(Some(Ok(data))) = tokio::time::timeout(QUIET, body.data()).await {
            if body.flow_control().release_capacity(data.len()).is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = discarded => {}
        () = hurry => {}
        () = tokio::time::sleep(LONGEST) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::{Instant, sleep};

    use super::*;

    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Socket::Tcp(listener.accept().await.unwrap().0), peer)
    }

    #[tokio::test]
    async fn response_reaches_a_peer_that_is_still_sending() {
        let (socket, mut peer) = pair().await;
        let closed = tokio::spawn(async move {
            assert_eq!(socket.try_write(b"answer").unwrap(), 6);
            close(socket, pending()).await;
        });
        peer.write_all(&vec![b'x'; 8 << 20]).await.expect("all of it is taken");
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).await.expect("the connection is not reset");
        assert_eq!(answer, b"answer");
        assert!(!closed.is_finished(), "the peer has not closed");
        drop(peer);
        closed.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn silent_peer_is_closed_after_the_quiet_time() {
        let (socket, _peer) = pair().await;
        let began = Instant::now();
        close(socket, pending()).await;
        assert!((QUIET..QUIET * 2).contains(&began.elapsed()), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn sending_peer_is_closed_after_the_longest_time() {
        let (socket, mut peer) = pair().await;
        let began = Instant::now();
        let sender = tokio::spawn(async move {
            while peer.write_all(b"x").await.is_ok() {
                sleep(QUIET / 5).await;
            }
        });
        close(socket, pending()).await;
        assert!((LONGEST..LONGEST + QUIET).contains(&began.elapsed()), "{:?}", began.elapsed());
        sender.await.unwrap();
    }

    #[tokio::test]
    async fn completed_hurry_closes_at_once() {
        let (socket, mut peer) = pair().await;
        close(socket, async {}).await;
        assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
    }
}
