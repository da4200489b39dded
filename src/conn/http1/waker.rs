//! The waker that hyper gets for a connection: it holds back the wake-ups that poll the connection for nothing.
//!
//! hyper wakes a connection each time that a frame of a request's body is taken from it, so that it reads the next one. After
//! the last frame there is nothing to read. The task that takes it is mostly the connection's own, which would be polled once
//! more for each publication.
//!
//! **Contract.** Only the wake-up that [`take_frame`] itself causes is held back, on its thread, and only until it is known
//! whether the body has more. All others pass.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};

thread_local! {
    static HOLD: Cell<Hold> = const { Cell::new(Hold::Off) };
}

/// What this thread does with wake-ups of connections.
#[derive(Default)]
enum Hold {
    #[default]
    Off,
    /// Keeps the last one.
    On(Option<Arc<ConnectionTask>>),
}

/// The task of a connection.
struct ConnectionTask(Waker);

impl Wake for ConnectionTask {
    fn wake(self: Arc<Self>) {
        // At the end of a thread there is nothing to hold with.
        match HOLD.try_with(Cell::take) {
            Ok(Hold::On(_)) => HOLD.set(Hold::On(Some(self))),
            _ => self.0.wake_by_ref(),
        }
    }
}

/// The waker of a connection, made at its first poll.
#[derive(Default)]
pub(super) struct ConnectionWaker(Option<(Waker, Waker)>);

impl ConnectionWaker {
    /// Returns the waker for hyper of a connection that is polled with the waker `task`.
    pub(super) fn of(&mut self, task: &Waker) -> &Waker {
        if !self.0.as_ref().is_some_and(|(known, _)| known.will_wake(task)) {
            self.0 = None;
        }
        let made = self.0.get_or_insert_with(|| (task.clone(), Arc::new(ConnectionTask(task.clone())).into()));
        &made.1
    }
}

/// Polls `body` for its next frame. Taking the last one does not wake the connection.
pub(super) fn take_frame(
    body: &mut Incoming,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
    let holding = Holding::new();
    let frame = Pin::new(&mut *body).poll_frame(cx);
    if let Some(task) = holding.end()
        && !body.is_end_stream()
    {
        task.0.wake_by_ref();
    }
    frame
}

/// Holds wake-ups of connections back until it is dropped.
struct Holding;

impl Holding {
    fn new() -> Self {
        HOLD.set(Hold::On(None));
        Self
    }

    /// Returns the task that was to be woken.
    fn end(self) -> Option<Arc<ConnectionTask>> {
        match HOLD.take() {
            Hold::On(task) => task,
            Hold::Off => None,
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        HOLD.set(Hold::Off);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::{Future, poll_fn};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Responds with the bytes of the body.
    async fn echo(mut request: Request<Incoming>) -> Result<Response<String>, Infallible> {
        let mut all = String::new();
        while let Some(frame) = poll_fn(|cx| take_frame(request.body_mut(), cx)).await {
            all += std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap();
            if request.body().is_end_stream() {
                break;
            }
        }
        Ok(Response::new(all))
    }

    /// A connection, and the other end of its socket.
    fn connection() -> (impl Future<Output = hyper::Result<()>> + Unpin, DuplexStream) {
        let (client, server) = tokio::io::duplex(1 << 10);
        (http1::Builder::new().serve_connection(TokioIo::new(server), service_fn(echo)), client)
    }

    /// Polls the connection until it is not woken by its own poll. Returns what it has written, and the number of polls.
    fn run(connection: &mut (impl Future + Unpin), client: &mut DuplexStream) -> (String, usize) {
        let (task, mut waker, mut polls) = (Arc::new(Task::default()), ConnectionWaker::default(), 0);
        loop {
            let before = task.0.load(Ordering::Relaxed);
            let polled =
                Pin::new(&mut *connection).poll(&mut Context::from_waker(waker.of(&Waker::from(task.clone()))));
            assert!(polled.is_pending());
            polls += 1;
            if task.0.load(Ordering::Relaxed) == before {
                break;
            }
        }
        let mut written = [0; 1 << 10];
        let length = client.read(&mut written).now_or_never().map_or(0, Result::unwrap);
        (String::from_utf8(written[..length].to_vec()).unwrap(), polls)
    }

    fn send(client: &mut DuplexStream, text: &str) {
        client.write_all(text.as_bytes()).now_or_never().unwrap().unwrap();
    }

    #[test]
    fn a_whole_body_does_not_wake_its_connection() {
        let (mut connection, mut client) = connection();
        for _ in 0..3 {
            send(&mut client, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
            let (response, polls) = run(&mut connection, &mut client);
            assert!(response.ends_with("\r\n\r\nhello"), "{response}");
            assert_eq!(polls, 1);
        }
    }

    #[test]
    fn a_body_in_parts_wakes_its_connection_for_the_next_one() {
        let (mut connection, mut client) = connection();
        send(&mut client, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello");
        assert_eq!(run(&mut connection, &mut client), (String::new(), 2));
        send(&mut client, "world");
        assert!(run(&mut connection, &mut client).0.ends_with("\r\n\r\nhelloworld"));
        let chunked = "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n";
        send(&mut client, &format!("POST / HTTP/1.1\r\nhost: a\r\n{chunked}"));
        assert!(run(&mut connection, &mut client).0.ends_with("\r\n\r\nhelloworld"));
    }

    #[test]
    fn a_connection_is_woken_by_other_threads_while_a_frame_is_taken() {
        let (task, mut waker) = (Arc::new(Task::default()), ConnectionWaker::default());
        let waker = waker.of(&task.clone().into()).clone();
        let holding = Holding::new();
        let other = waker.clone();
        std::thread::spawn(move || other.wake()).join().unwrap();
        assert_eq!(task.0.load(Ordering::Relaxed), 1);
        waker.wake_by_ref();
        assert_eq!(task.0.load(Ordering::Relaxed), 1);
        holding.end().unwrap().0.wake_by_ref();
        waker.wake();
        assert_eq!(task.0.load(Ordering::Relaxed), 3);
    }
}
