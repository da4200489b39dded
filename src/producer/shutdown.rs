//! The signal to stop.

use tokio::sync::watch;

/// The listening end of the signal: stop when it is true, or when nobody can send it any more.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// Listens to `signal`.
    pub fn new(signal: watch::Receiver<bool>) -> Self {
        Self(signal)
    }

    /// Returns when it is time to stop.
    pub async fn wait(&mut self) {
        // An error means that the sender is gone, and the server with it.
        let _ = self.0.wait_for(|stop| *stop).await;
    }

    /// Whether it is time to stop.
    pub fn is_due(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_due_when_it_is_sent_and_when_nobody_can_send_it() {
        let (send, receive) = watch::channel(false);
        let mut shutdown = Shutdown::new(receive);
        assert!(!shutdown.is_due());
        send.send(true).unwrap();
        assert!(shutdown.is_due());
        shutdown.wait().await;

        let (send, receive) = watch::channel(false);
        let mut shutdown = Shutdown::new(receive);
        drop(send);
        assert!(shutdown.is_due());
        shutdown.wait().await;
    }
}
