//! The close of a connection, such that its last answer arrives (RFC 9112, section 9.6).
//!
//! A socket that is closed with bytes of its peer unread, or that gets some afterwards, resets the connection, and a reset
//! takes with it what the peer has not read yet: a client that is still sending its body would never see why it was
//! refused. So the server says that nothing more comes from it, and passes over what the peer sends until that has closed
//! too. Both times are bounded; they are nginx's (`lingering_timeout`, `lingering_time`).

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

/// How long the peer may send nothing.
const QUIET: Duration = Duration::from_secs(5);

/// How long it may send.
const LONGEST: Duration = Duration::from_secs(30);

/// How many reads are made before other connections get their turn.
const READS_PER_TURN: usize = 32;

/// Closes `socket` when its peer has, or has had its time, or `hurry` completes.
pub(super) async fn close(mut socket: TcpStream, hurry: impl Future<Output = ()>) {
    if poll_fn(|cx| Pin::new(&mut socket).poll_shutdown(cx)).await.is_err() {
        return;
    }
    let silence = async {
        while let Ok(Ok(())) = tokio::time::timeout(QUIET, socket.readable()).await {
            match pass_over(&socket) {
                Ok(0) => return,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    tokio::select! {
        () = silence => {}
        () = hurry => {}
        () = tokio::time::sleep(LONGEST) => {}
    }
}

/// Reads what there is, up to a turn's worth. The buffer stands on the stack: a connection that waits has none.
fn pass_over(socket: &TcpStream) -> io::Result<usize> {
    let mut scratch = [0; 16 << 10];
    for _ in 1..READS_PER_TURN {
        if socket.try_read(&mut scratch)? == 0 {
            return Ok(0);
        }
    }
    socket.try_read(&mut scratch)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::{Instant, sleep};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0, peer)
    }

    #[tokio::test]
    async fn a_peer_that_sends_on_gets_the_answer_and_not_a_reset() {
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
    async fn a_peer_that_is_silent_is_waited_for_a_short_time() {
        let (socket, _peer) = pair().await;
        let began = Instant::now();
        close(socket, pending()).await;
        assert!((QUIET..QUIET * 2).contains(&began.elapsed()), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_end_is_waited_for_a_longer_time() {
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
    async fn nobody_is_waited_for_in_a_hurry() {
        let (socket, mut peer) = pair().await;
        close(socket, async {}).await;
        assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
    }
}
