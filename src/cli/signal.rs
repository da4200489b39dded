//! SIGINT and SIGTERM, for commands that end in order.

use std::io;
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// The exit code of a command that a second signal ended: what a shell reports for SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

/// Completes at the first SIGINT or SIGTERM. A second one ends the process at once.
///
/// The signals are awaited on a thread of their own, so that the second one also ends a command whose only other thread
/// is blocked in a write to a full pipe.
pub async fn interrupted() {
    let (first, received) = oneshot::channel();
    let listener = thread::Builder::new().name("signals".into()).spawn(move || listen(first));
    if listener.is_err() || received.await.is_err() {
        // Without a handler the signals keep their default action, which ends the process.
        std::future::pending().await
    }
}

fn listen(first: oneshot::Sender<()>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut signals = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
        any(&mut signals).await;
        if first.send(()).is_ok() {
            any(&mut signals).await;
        }
        std::process::exit(EXIT_INTERRUPTED)
    })
}

async fn any([one, other]: &mut [Signal; 2]) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
