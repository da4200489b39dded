//! What readers, publishers and the phase share while it lasts.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::id::Id;
use crate::log::{Answer, Contents, Millis};

/// Where a server is now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    pub address: Option<SocketAddr>,
    /// Counts starts and stops. It changes before a server is stopped, so that a connection that ends although this is
    /// the same was ended by a healthy server.
    pub generation: u64,
}

pub struct Shared {
    pub began: Instant,
    pub contents: Mutex<Contents>,
    pub servers: Mutex<Vec<Place>>,
    pub answers: Mutex<Vec<Answer>>,
    /// The largest sequence of each epoch that was seen.
    heads: Mutex<HashMap<u64, u64>>,
    /// Events whose publication began, and that were not acknowledged.
    unacknowledged: AtomicI64,
    /// Requests of publishers that are not answered.
    pub requests: AtomicU64,
    /// Events a second, over all publishers.
    pub rate: AtomicU64,
    pub is_publishing: AtomicBool,
    /// Readers read as fast as they can, and cut nothing.
    pub is_calm: AtomicBool,
    pub is_over: AtomicBool,
    /// The last event of each topic, which every reader has to reach.
    pub goals: Mutex<Option<Vec<(String, Id)>>>,
    /// Readers that have not reached it.
    pub behind: Mutex<Vec<usize>>,
}

impl Shared {
    pub fn new(servers: usize) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            contents: Mutex::default(),
            servers: Mutex::new(vec![Place::default(); servers]),
            answers: Mutex::default(),
            heads: Mutex::default(),
            unacknowledged: AtomicI64::new(0),
            requests: AtomicU64::new(0),
            rate: AtomicU64::new(500),
            is_publishing: AtomicBool::new(false),
            is_calm: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
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

    /// Notes that a server is elsewhere, or about to be stopped.
    pub fn moved(&self, server: usize, address: Option<SocketAddr>) {
        let mut servers = self.servers.lock().unwrap();
        servers[server].generation += 1;
        servers[server].address = address;
    }

    /// Notes that an event with this id was seen.
    pub fn saw(&self, id: Id) {
        let mut heads = self.heads.lock().unwrap();
        let head = heads.entry(id.epoch).or_insert(0);
        *head = (*head).max(id.sequence);
    }

    pub fn begins_to_publish(&self, events: usize) {
        self.unacknowledged.fetch_add(events as i64, Ordering::SeqCst);
    }

    /// Publishers were told that events are published, and [`Shared::saw`] their ids.
    pub fn has_published(&self, events: usize) {
        self.unacknowledged.fetch_sub(events as i64, Ordering::SeqCst);
    }

    /// How many events were seen after `id`.
    pub fn seen_after(&self, id: Id) -> Option<u64> {
        let head = *self.heads.lock().unwrap().get(&id.epoch)?;
        Some(head.saturating_sub(id.sequence))
    }

    /// How many events there can be after `id` at most: what may be published, and was not seen, counts.
    pub fn at_most_after(&self, id: Id) -> Option<u64> {
        // Before the heads: what is acknowledged in between is counted twice, not missed.
        let unacknowledged = self.unacknowledged.load(Ordering::SeqCst).max(0) as u64;
        Some(self.seen_after(id)? + unacknowledged)
    }
}
