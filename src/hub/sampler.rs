//! Samples the latency from publisher to socket.
//!
//! After the sampler was armed, the next publication notes the time. A connection compares one number to find out whether
//! it delivers the sampled event, and reads the clock only then: other events cost no clock.

// Not those of `sync`: nothing depends on the sample, and the loom models would have more steps to interleave.
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use crate::position::Sequence;

pub(crate) struct Sampler {
    is_armed: AtomicBool,
    /// The sampled event; 0 before the first.
    sequence: AtomicU64,
    sample: Mutex<Option<Sample>>,
}

/// When the sampled event was published.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    sequence: Sequence,
    pub(crate) published: Instant,
    /// The same moment as wall-clock time: clients that connected later read the event from the history.
    pub(crate) published_at: SystemTime,
}

impl Sampler {
    /// A sampler that samples the first event.
    pub(crate) fn new() -> Self {
        Self { is_armed: true.into(), sequence: 0.into(), sample: Mutex::default() }
    }

    /// Has the next publication sampled.
    pub(crate) fn arm(&self) {
        self.is_armed.store(true, Ordering::Relaxed);
    }

    /// Returns the present time if this publication is sampled.
    pub(crate) fn begin(&self) -> Option<(Instant, SystemTime)> {
        let is_taken = self.is_armed.load(Ordering::Relaxed) && self.is_armed.swap(false, Ordering::Relaxed);
        is_taken.then(|| (Instant::now(), SystemTime::now()))
    }

    /// Records the sequence of the sampled publication. For the sequencer, before readers may take it.
    pub(crate) fn note(&self, sequence: Sequence, (published, published_at): (Instant, SystemTime)) {
        *self.sample.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Sample { sequence, published, published_at });
        self.sequence.store(sequence, Ordering::Relaxed);
    }

    /// The sampled event. A reader that has got it sees this number, or a later one.
    pub(crate) fn sequence(&self) -> Sequence {
        self.sequence.load(Ordering::Relaxed)
    }

    /// The sample of `sequence`. `None` when another event has been sampled since.
    pub(crate) fn sample(&self, sequence: Sequence) -> Option<Sample> {
        self.sample.lock().unwrap_or_else(PoisonError::into_inner).filter(|sample| sample.sequence == sequence)
    }
}
