//! The state that readers, publishers and the running phase share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::id::Id;
use crate::recording::{Answer, Contents, Millis};

/// The current address of a server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    pub address: Option<SocketAddr>,
    /// Number of starts and stops. It changes before a server is stopped: if a connection ends without a change of this
    /// number, a healthy server has closed it.
    pub generation: u64,
}

pub struct Shared {
    pub began: Instant,
    pub contents: Mutex<Contents>,
    pub servers: Mutex<Vec<Place>>,
    /// The Unix socket of each server, unless the program has none.
    pub sockets: Vec<PathBuf>,
    pub answers: Mutex<Vec<Answer>>,
    /// The largest observed sequence of each epoch.
    heads: Mutex<HashMap<u64, u64>>,
    /// Events in publish requests without an acknowledgement.
    unacknowledged: AtomicI64,
    /// Publish requests in progress.
    pub requests: AtomicU64,
    /// Events per second of all publishers together.
    pub rate: AtomicU64,
    pub is_publishing: AtomicBool,
    /// Readers read at full speed and do not disconnect.
    pub is_settling: AtomicBool,
    pub has_ended: AtomicBool,
    /// The last event of each topic, which every reader must reach.
    pub goals: Mutex<Option<Vec<(String, Id)>>>,
    /// Readers that have not reached their goals.
    pub behind: Mutex<Vec<usize>>,
}

impl Shared {
    pub fn new(servers: usize, sockets: Vec<PathBuf>) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            contents: Mutex::default(),
            servers: Mutex::new(vec![Place::default(); servers]),
            sockets,
            answers: Mutex::default(),
            heads: Mutex::default(),
            unacknowledged: AtomicI64::new(0),
            requests: AtomicU64::new(0),
            rate: AtomicU64::new(500),
            is_publishing: AtomicBool::new(false),
            is_settling: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            goals: Mutex::new(None),
            behind: Mutex::default(),
        })
    }

    pub fn now(&self) -> Millis {
        self.began.elapsed().as_millis() as Millis
    }

    pub fn place(&self, server: usize) -> Place {
        self.servers.lock().unwrap()[server]
    }

    /// Records a server's new address, or `None` before it is stopped.
    pub fn set_address(&self, server: usize, address: Option<SocketAddr>) {
        let mut servers = self.servers.lock().unwrap();
        servers[server].generation += 1;
        servers[server].address = address;
    }

    /// Records that an event with this id was observed.
    pub fn note_id(&self, id: Id) {
        let mut heads = self.heads.lock().unwrap();
        let head = heads.entry(id.epoch).or_insert(0);
        *head = (*head).max(id.sequence);
    }

    pub fn publish_started(&self, events: usize) {
        self.unacknowledged.fetch_add(events as i64, Ordering::SeqCst);
    }

    /// Call after [`Shared::note_id`] for the acknowledged ids.
    pub fn publish_acknowledged(&self, events: usize) {
        self.unacknowledged.fetch_sub(events as i64, Ordering::SeqCst);
    }

    /// Returns the number of sequences observed after `id`, if its epoch is known.
    pub fn events_seen_after(&self, id: Id) -> Option<u64> {
        let head = *self.heads.lock().unwrap().get(&id.epoch)?;
        Some(head.saturating_sub(id.sequence))
    }

    /// Returns an upper bound of the number of events after `id`: events that may be published count, observed or not.
    pub fn max_events_after(&self, id: Id) -> Option<u64> {
        // Read before the heads: an event that is acknowledged in between counts twice instead of not at all.
        let unacknowledged = self.unacknowledged.load(Ordering::SeqCst).max(0) as u64;
        Some(self.events_seen_after(id)? + unacknowledged)
    }
}
