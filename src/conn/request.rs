//! What a client asked for, and was granted.

use crate::hub::{Opening, Subscription};
use crate::limit::Permit;
use crate::presence::Registration;

/// What a client asked for, and was granted.
pub(crate) struct StreamRequest {
    pub(crate) subscription: Subscription,
    pub(crate) opening: Opening,
    pub(crate) registration: Registration,
    pub(crate) on_lag: OnLag,
    /// Seconds without traffic after which the client gets a sign of life.
    pub(crate) heartbeat: u16,
    /// Whether that is an event, or else a comment.
    pub(crate) takes_heartbeats: bool,
    /// For those who look at every event.
    pub(crate) firehose: Option<Permit>,
}

/// What happens to a client that lagged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OnLag {
    /// It is cut off, and may come back with its last id.
    #[default]
    Close,
    /// It is told of the gap, and goes on with the oldest retained event.
    Skip,
}
