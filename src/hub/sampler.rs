//! Which event is timed on its way to the sockets.
//!
//! Now and then, when somebody has armed the sampler, one publication notes the instant at which it was handed over.
//! Whoever delivers events compares one number to know whether that event is among them, and asks the clock only then:
//! an event that is not sampled costs no clock.

// Not those of `sync`: nothing depends on what is sampled, and each step would be one more for the models to interleave.
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use crate::position::Sequence;

pub(crate) struct Sampler {
    is_armed: AtomicBool,
    /// The event that was sampled last; 0 before the first.
    sequence: AtomicU64,
    sample: Mutex<Option<Sample>>,
}

/// When the sampled event was handed over to be published.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    sequence: Sequence,
    pub(crate) published: Instant,
    /// The same moment as others tell it: who came later gets the event out of the history.
    pub(crate) published_at: SystemTime,
}

impl Sampler {
    /// A sampler that takes the first event.
    pub(crate) fn new() -> Self {
        Self { is_armed: true.into(), sequence: 0.into(), sample: Mutex::default() }
    }

    /// Has the next publication sampled.
    pub(crate) fn arm(&self) {
        self.is_armed.store(true, Ordering::Relaxed);
    }

    /// The present, if this publication is the one to be sampled.
    pub(crate) fn begin(&self) -> Option<(Instant, SystemTime)> {
        let is_taken = self.is_armed.load(Ordering::Relaxed) && self.is_armed.swap(false, Ordering::Relaxed);
        is_taken.then(|| (Instant::now(), SystemTime::now()))
    }

    /// The publication got `sequence`. For the sequencer, before readers may take it.
    pub(crate) fn note(&self, sequence: Sequence, (published, published_at): (Instant, SystemTime)) {
        *self.sample.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Sample { sequence, published, published_at });
        self.sequence.store(sequence, Ordering::Relaxed);
    }

    /// The event that was sampled last. Whoever was given that event sees this number, or a later one.
    pub(crate) fn sequence(&self) -> Sequence {
        self.sequence.load(Ordering::Relaxed)
    }

    /// When `sequence` was handed over; none when another has been sampled since.
    pub(crate) fn sample(&self, sequence: Sequence) -> Option<Sample> {
        self.sample.lock().unwrap_or_else(PoisonError::into_inner).filter(|sample| sample.sequence == sequence)
    }
}
