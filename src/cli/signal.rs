//! SIGINT and SIGTERM, for commands that end in order.

use std::future::Future;
use std::io;
use std::sync::mpsc;
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// The exit code of a command that a second signal ended: what a shell reports for SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

/// Listens for signals from now on: the answer completes at the first SIGINT or SIGTERM, a second one ends the process at
/// once.
///
/// The signals are awaited on a thread of their own, so that the second one also ends a command whose only other thread
/// is blocked in a write to a full pipe.
pub fn interrupted() -> impl Future<Output = ()> + Send {
    let (listening, listens) = mpsc::channel();
    let (first, received) = oneshot::channel();
    let listener = thread::Builder::new().name("signals".into()).spawn(move || listen(listening, first));
    // An error, like the end of the thread later, means that the signals keep their default action: to end the process.
    let is_listening = listener.is_ok() && listens.recv().is_ok();
    async move {
        if !is_listening || received.await.is_err() {
            std::future::pending().await
        }
    }
}

fn listen(listening: mpsc::Sender<()>, first: oneshot::Sender<()>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut signals = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
        let _ = listening.send(());
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
