//! Events as bytes: what goes over the wire, and how it is framed there. Nothing here knows about connections.

pub(crate) mod chunk;
pub(crate) mod envelope;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod gzip;
pub mod lines;
pub mod publication;
pub(crate) mod sse;
pub(crate) mod websocket;

/// The encodings of a published event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    /// Server-Sent Events whose data is the payload.
    #[default]
    Plain,
    /// Server-Sent Events whose data is an [envelope] with id, topic, name and payload.
    Envelope,
    /// A WebSocket message that is the envelope.
    Message,
}
