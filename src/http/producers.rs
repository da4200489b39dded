//! The states of the server's producers, which `GET /health` and the metrics show.

use std::sync::Arc;

use crate::sync::{Mutex, lock};

/// The heartbeats of streams, which always run.
pub(super) const HEARTBEAT: &str = "heartbeat_producer";

/// The state of a [`Producer`](crate::server::Producer).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProducerState {
    /// The task runs.
    Running,
    /// The task does not run: it has not started, has returned, or ended with the server.
    Stopped,
    /// The task returned an error or panicked. Holds the reason.
    Failed(String),
}

impl ProducerState {
    /// The name of the state, as `/health` shows it: `running`, `stopped` or `failed`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Failed(_) => "failed",
        }
    }

    /// Why the task failed.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Failed(reason) => Some(reason),
            _ => None,
        }
    }
}

/// A producer's name and state.
pub(crate) struct ProducerRecord {
    name: String,
    state: Mutex<ProducerState>,
}

impl ProducerRecord {
    /// The producer is running until the guard is dropped.
    pub(crate) fn running(&self) -> Running<'_> {
        *lock(&self.state) = ProducerState::Running;
        Running { record: self, end: ProducerState::Stopped }
    }
}

/// A producer that runs. Dropped, it has ended.
pub(crate) struct Running<'a> {
    record: &'a ProducerRecord,
    end: ProducerState,
}

impl Running<'_> {
    /// The producer has failed.
    pub(crate) fn failed(mut self, reason: String) {
        self.end = ProducerState::Failed(reason);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        *lock(&self.record.state) = self.end.clone();
    }
}

/// The producers of a server. Clones share the states.
#[derive(Clone)]
pub(crate) struct Producers(Arc<[ProducerRecord]>);

impl Producers {
    /// Producers with these names that do not run. Fails with a name that is taken.
    pub(crate) fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut records = Vec::<ProducerRecord>::new();
        for name in names {
            if name == HEARTBEAT || records.iter().any(|record| record.name == name) {
                return Err(name.to_owned());
            }
            records.push(ProducerRecord { name: name.to_owned(), state: Mutex::new(ProducerState::Stopped) });
        }
        Ok(Self(records.into()))
    }

    pub(crate) fn record(&self, number: usize) -> &ProducerRecord {
        &self.0[number]
    }

    /// The names and states.
    pub(crate) fn states(&self) -> Vec<(String, ProducerState)> {
        self.0.iter().map(|record| (record.name.clone(), lock(&record.state).clone())).collect()
    }
}
