//! The readiness of the sockets of streams.
//!
//! tokio needs 256 bytes for a socket that it watches, and each write reads some of them. A stream's task needs little of that:
//! it writes without asking, and waits for its socket only to learn that the client has gone, or that a full socket accepts
//! bytes again. The sockets of a shard's streams are therefore registered with one poll instance, which takes no memory for
//! each outside of the kernel, and which tokio watches as one file.
//!
//! **Contract.** A stream's task is woken after its socket became readable, and after it became writable if the task awaits that.
//! An event is reported once: a task reads until the socket would block, and awaits writability after each write that would.
//!
//! **Keys.** An event names its client by the key in the registry. It may come after the client has gone and another one has the
//! key: that one's task looks at its socket in vain. A closed socket leaves the poll instance by itself.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use tokio::io::unix::AsyncFd;

use super::Clients;
use crate::presence::ClientKey;
use crate::sync::{AtomicU8, Mutex, Ordering, lock};

/// The events that are read at once. Other tasks run in between.
const EVENTS: usize = 256;

/// Wakes the streams of one shard.
pub(crate) struct Poller(Mutex<Poll>);

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Mutex::new(Poll::new()?)))
    }

    /// Registers the socket of a client until it is closed.
    pub(super) fn register(&self, socket: &impl AsFd, client: ClientKey) -> io::Result<()> {
        let (socket, key) = (socket.as_fd().as_raw_fd(), Token(client as usize));
        lock(&self.0).registry().register(&mut SourceFd(&socket), key, Interest::READABLE | Interest::WRITABLE)
    }

    /// Wakes the tasks of `clients`. Runs on the shard's thread, and returns only an error.
    pub(crate) async fn run(&self, clients: &Clients) -> io::Result<()> {
        let poll = lock(&self.0).as_raw_fd();
        #[expect(
            deprecated,
            reason = "its replacement is unsafe, and asks for what holds: the file is open while `self` lives"
        )]
        let poll = AsyncFd::with_interest(poll, tokio::io::Interest::READABLE)?;
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let mut readiness = poll.readable().await?;
            match lock(&self.0).poll(&mut events, Some(Duration::ZERO)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            if events.is_empty() {
                readiness.clear_ready();
            }
            events.iter().for_each(|event| note(clients, event));
            tokio::task::yield_now().await;
        }
    }
}

/// Notes an event for the task of its client, and wakes the task if it waits for that.
fn note(clients: &Clients, event: &Event) {
    let Some(client) = clients.get(event.token().0 as ClientKey) else { return };
    let is_readable = event.is_readable() || event.is_read_closed() || event.is_error();
    if client.control.readiness.note(is_readable, event.is_writable() || event.is_write_closed()) {
        client.control.wake();
    }
}

/// The readiness of one socket, and what its task waits for. Poller and task run on the same thread, which is why nothing comes
/// between a write that would block and [`Readiness::await_writable`].
#[derive(Default)]
pub(super) struct Readiness(AtomicU8);

/// The socket became readable, and the task has not looked since.
const READABLE: u8 = 1;
/// The socket accepted no more bytes, and the task is woken when it does.
const AWAITS_WRITABLE: u8 = 2;

impl Readiness {
    /// Notes an event, and returns whether the task waits for it.
    fn note(&self, is_readable: bool, is_writable: bool) -> bool {
        let before = self.0.load(Ordering::Relaxed);
        let is_awaited = is_writable && before & AWAITS_WRITABLE != 0;
        let awaits = if is_awaited { 0 } else { before & AWAITS_WRITABLE };
        let readable = if is_readable { READABLE } else { before & READABLE };
        self.0.store(readable | awaits, Ordering::Relaxed);
        is_readable || is_awaited
    }

    /// Returns whether the socket became readable since the last call.
    pub(super) fn take_readable(&self) -> bool {
        let before = self.0.load(Ordering::Relaxed);
        if before & READABLE != 0 {
            self.0.store(before & !READABLE, Ordering::Relaxed);
        }
        before & READABLE != 0
    }

    /// Whether the socket became readable, and the task has not looked since.
    pub(super) fn is_readable(&self) -> bool {
        self.0.load(Ordering::Relaxed) & READABLE != 0
    }

    /// Has the task woken when the socket accepts bytes again.
    pub(super) fn await_writable(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) | AWAITS_WRITABLE, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_waits_for_writability_only_after_a_write_that_would_block() {
        let readiness = Readiness::default();
        assert!(!readiness.note(false, true), "a Unix socket is writable again after each read of its client");
        readiness.await_writable();
        assert!(readiness.note(false, true));
        assert!(!readiness.note(false, true), "once");
        assert!(!readiness.take_readable());
    }

    #[test]
    fn readable_socket_is_looked_at_once() {
        let readiness = Readiness::default();
        readiness.await_writable();
        assert!(readiness.note(true, false) && readiness.note(true, false));
        assert!(readiness.take_readable() && !readiness.take_readable());
        assert!(readiness.note(false, true), "the task still waits for it");
    }
}
