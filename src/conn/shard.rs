//! What the connections of one shard share. A shard is one thread with its own runtime and its own connections: whatever
//! is behind a lock here is taken by that thread only, but for a glance from outside now and then.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::control_events;
use super::wheel::{NEVER, Second, Wheel};
use crate::hub::{Hub, Opening, Start, Subscription, SubscriptionFilter, TooManyTopics, WakeGroup};
use crate::metrics::{Metrics, ShardCounts};
use crate::presence::{ClientKey, Clients};
use crate::wire::chunk::Chunk;
use crate::wire::sse;

/// How a server treats its streams.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// After how long without traffic a stream gets a sign of life, unless its client asks for another time.
    pub heartbeat: Duration,
    /// How long a client is told to wait before it comes back; each is told its own time, up to a fifth shorter or longer.
    pub retry: Duration,
    /// How long a client may take no bytes while some are pending.
    pub write_timeout: Duration,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(30),
            retry: Duration::from_secs(5),
            write_timeout: Duration::from_secs(30),
        }
    }
}

pub(crate) struct Shard {
    pub(crate) hub: Hub,
    pub(crate) options: StreamOptions,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) comment: Chunk,
    number: usize,
    group: Arc<WakeGroup>,
    wheel: Mutex<Wheel>,
    /// A clock that connections read without asking the system.
    now: AtomicU32,
    /// The heartbeat of this second: made for the first connection that wants one.
    heartbeat: Mutex<Option<(Second, Chunk)>>,
    is_draining: AtomicBool,
}

impl Shard {
    pub(crate) fn new(number: usize, hub: Hub, options: StreamOptions, metrics: Arc<Metrics>) -> Self {
        Self {
            hub,
            options,
            metrics,
            clients: Arc::default(),
            comment: sse::comment(),
            number,
            group: WakeGroup::dispatched(),
            wheel: Mutex::new(Wheel::new()),
            now: AtomicU32::new(NEVER + 1),
            heartbeat: Mutex::new(None),
            is_draining: AtomicBool::new(false),
        }
    }

    pub(crate) fn counts(&self) -> &ShardCounts {
        self.metrics.shard(self.number)
    }

    /// Reads the hub, woken on this shard's thread.
    ///
    /// # Errors
    /// When more topics than `max_silent` would have subscribers and no event.
    pub(crate) fn subscribe(
        &self,
        filter: SubscriptionFilter,
        start: Start,
        max_silent: usize,
    ) -> Result<(Subscription, Opening), TooManyTopics> {
        self.hub.subscribe_in(&self.group, filter, start, max_silent)
    }

    /// Wakes subscribers and calls deadlines, for ever. On the shard's thread.
    pub(crate) async fn run(&self) {
        tokio::join!(self.group.dispatch(), self.tick());
    }

    async fn tick(&self) {
        let began = Instant::now();
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            seconds.tick().await;
            let now = Second::try_from(began.elapsed().as_secs() + 1).unwrap_or(Second::MAX);
            self.now.store(now, Ordering::Relaxed);
            let due = lock(&self.wheel).advance(now);
            for client in due {
                if let Some(client) = self.clients.get(client) {
                    client.called_at(now);
                    client.wake();
                }
            }
        }
    }

    pub(crate) fn now(&self) -> Second {
        self.now.load(Ordering::Relaxed)
    }

    /// The second of this shard in which `end` comes.
    pub(crate) fn second_of(&self, end: SystemTime) -> Second {
        let left = end.duration_since(SystemTime::now()).unwrap_or_default();
        // Not before it has passed: this second began a while ago, and of the last one there may be a part.
        let left = Second::try_from(left.as_secs() + 2).unwrap_or(Second::MAX);
        self.now().saturating_add(left).min(Second::MAX / 2)
    }

    /// Seconds that a client may take no bytes.
    pub(super) fn write_timeout(&self) -> Second {
        Second::try_from(self.options.write_timeout.as_secs()).unwrap_or(Second::MAX / 2).max(1)
    }

    pub(super) fn schedule(&self, due: Second, client: ClientKey) {
        lock(&self.wheel).schedule(due, client);
    }

    pub(super) fn heartbeat(&self) -> Chunk {
        let now = self.now();
        let mut heartbeat = lock(&self.heartbeat);
        match &*heartbeat {
            Some((made, chunk)) if *made == now => chunk.clone(),
            _ => heartbeat.insert((now, control_events::heartbeat(self.metrics.streams()))).1.clone(),
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Tells every client that the server is going, and closes the streams one after the other over `window`. New
    /// streams are told at once. On the shard's thread.
    pub(crate) async fn drain(&self, window: Duration) {
        self.is_draining.store(true, Ordering::Relaxed);
        let clients = self.clients.all();
        for client in &clients {
            client.wake();
        }
        let began = Instant::now();
        // The last ones close a little before the window's end, so that they get there in time.
        let spread = window.mul_f64(0.9);
        let total = clients.len().max(1) as u32;
        for (place, client) in (1..).zip(clients) {
            tokio::time::sleep_until(began + spread * place / total).await;
            client.end();
        }
        loop {
            // Those that came meanwhile.
            let clients = self.clients.all();
            if clients.is_empty() {
                return;
            }
            clients.iter().for_each(|client| client.end());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
