//! The signal to stop.

use tokio::sync::watch;

/// The receiving end of the signal, which is due when it is true or its sender is gone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// A shutdown that is due when `signal` turns true.
    pub fn new(signal: watch::Receiver<bool>) -> Self {
        Self(signal)
    }

    /// Returns when it is due.
    pub async fn wait(&mut self) {
        // An error means that the sender is gone, and with it the server.
        let _ = self.0.wait_for(|stop| *stop).await;
    }

    /// Whether it is due.
    pub fn is_due(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn shutdown_is_due_when_sent_and_when_its_sender_is_gone() {
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
