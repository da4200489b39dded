//! What a stream's task begins with.

use std::time::Duration;

use crate::conn::Registration;
use crate::conn::control::OnLag;
use crate::conn::pacer::Interval;
use crate::hub::{Opening, Subscription};
use crate::limit::Permit;

/// An authorized stream of events, with its parameters.
pub(crate) struct StreamRequest<S = Subscription> {
    /// What it reads events from.
    pub(crate) source: S,
    pub(crate) opening: Opening,
    pub(crate) registration: Registration,
    pub(crate) on_lag: OnLag,
    /// Seconds without a write after which the client gets a keep-alive.
    pub(crate) heartbeat: u16,
    /// The least time between two writes of events.
    pub(crate) interval: Option<Interval>,
    /// The time after which the client reconnects, before it is spread.
    pub(crate) retry: Duration,
    /// Whether the keep-alive is a heartbeat event. Otherwise it is nothing that a client sees.
    pub(crate) takes_heartbeats: bool,
    /// The permit of a client that reads every event of the hub.
    pub(crate) firehose: Option<Permit>,
}

impl<S> StreamRequest<S> {
    /// The same with another source, which `change` makes of this one.
    pub(in crate::conn) fn map<T>(self, change: impl FnOnce(S) -> T) -> StreamRequest<T> {
        let Self { source, opening, registration, on_lag, heartbeat, interval, retry, takes_heartbeats, firehose } =
            self;
        let source = change(source);
        StreamRequest { source, opening, registration, on_lag, heartbeat, interval, retry, takes_heartbeats, firehose }
    }
}
