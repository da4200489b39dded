//! SIGINT and SIGTERM, for commands that shut down gracefully.

use std::future::Future;
use std::io;
use std::sync::mpsc;
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// The exit code after a second signal: the one that shells report for SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

/// Handles SIGINT and SIGTERM from now on. The future completes at the first signal; a second one ends the process.
///
/// A separate thread waits for the signals, because the second one must also end a command whose only other thread is
/// blocked in a write to a full pipe.
pub fn interrupted() -> impl Future<Output = ()> + Send {
    let (listening, listens) = mpsc::channel();
    let (first, received) = oneshot::channel();
    let listener = thread::Builder::new().name("signals".into()).spawn(move || listen(listening, first));
    // If the thread fails, the signals keep their default action, which ends the process.
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
