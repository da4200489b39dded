//! What the connections of one shard share: clock, deadlines, wake group, registry, counts.
//!
//! A shard is one thread with its own runtime and its own connections. The locks here are uncontended, except when an
//! operator lists clients.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Clients;
use super::control::Request;
use super::control_events::ControlEvent;
use super::drain::Drain;
use super::pacer::Pacer;
use super::streams::{ShardStream, Streams};
use super::wheel::{NEVER, Second, Wheel};
use crate::hub::{Hub, Shared, SleeperKey, WakeGroup};
use crate::metrics::{Metrics, ShardCounts};
use crate::presence::ClientKey;
use crate::sync::{Arc, AtomicU32, Mutex, Ordering, lock};
use crate::wire::chunk::Chunk;

/// Times that apply to each stream.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// The time without traffic after which a stream gets a keep-alive, unless its client requests another one. Default: 30 s.
    pub heartbeat: Duration,
    /// The `retry` time of clients, spread by up to a fifth in both directions. Default: 5 s.
    pub retry: Duration,
    /// The longest time for which a client may accept no bytes while some are pending. Default: 30 s.
    pub write_timeout: Duration,
    /// The longest time until the client of a WebSocket replies to a ping. It gets one when nothing was written for the heartbeat
    /// interval. Default: 20 s.
    pub pong_timeout: Duration,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(30),
            retry: Duration::from_secs(5),
            write_timeout: Duration::from_secs(30),
            pong_timeout: Duration::from_secs(20),
        }
    }
}

pub(crate) struct Shard {
    pub(crate) hub: Hub,
    pub(crate) options: StreamOptions,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) drain: Arc<Drain>,
    pub(super) number: usize,
    /// Wakes subscriptions on this shard's thread.
    pub(crate) group: Arc<WakeGroup>,
    /// The streams that are not tasks.
    streams: Streams,
    wheel: Mutex<Wheel>,
    /// The turns of the streams with an interval.
    pub(super) pacer: Pacer,
    /// What streams that write at the same moment share.
    pub(super) shared: Mutex<Shared>,
    /// The shard's clock. Reading it costs a load.
    now: AtomicU32,
    /// The heartbeat of this second, encoded for the first stream that sends it.
    heartbeat: Mutex<Option<(Second, Heartbeat)>>,
}

/// A heartbeat in the form of each transport.
#[derive(Clone)]
pub(super) struct Heartbeat {
    pub(super) event: Chunk,
    pub(super) message: Bytes,
}

impl Shard {
    pub(crate) fn new(
        number: usize,
        hub: Hub,
        options: StreamOptions,
        metrics: Arc<Metrics>,
        drain: Arc<Drain>,
    ) -> Self {
        Self {
            hub,
            options,
            metrics,
            clients: Arc::default(),
            drain,
            number,
            group: WakeGroup::dispatched(),
            streams: Streams::new(),
            wheel: Mutex::new(Wheel::new()),
            pacer: Pacer::new(),
            shared: Mutex::default(),
            now: AtomicU32::new(NEVER + 1),
            heartbeat: Mutex::new(None),
        }
    }

    pub(crate) fn counts(&self) -> &ShardCounts {
        self.metrics.shard(self.number)
    }

    /// Wakes subscriptions and the tasks whose deadline is due, and polls the streams that are not tasks. Runs on the shard's
    /// thread and does not return.
    pub(crate) async fn run(self: &Arc<Self>) {
        // A task of its own, so that an event polls nothing else. It is dropped with this future.
        let (mut streams, shard) = (JoinSet::new(), self.clone());
        streams.spawn(async move { shard.streams.run(&shard.group).await });
        let streams = async {
            let ended = streams.join_next().await;
            // Otherwise the runtime ends.
            if let Some(Err(error)) = ended
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        };
        tokio::join!(streams, self.tick(), self.pacer.run(|client| self.wake(client)));
    }

    /// Has a stream polled by [`Shard::run`]. Its subscription has this key in the group.
    pub(super) fn add_stream(&self, key: SleeperKey, stream: impl ShardStream + 'static) {
        self.streams.add(&self.group, key, stream);
    }

    async fn tick(&self) {
        let began = Instant::now();
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            seconds.tick().await;
            let now = Second::try_from(began.elapsed().as_secs() + 1).unwrap_or(Second::MAX);
            self.now.store(now, Ordering::Relaxed);
            lock(&self.shared).tick();
            let due = lock(&self.wheel).advance(now);
            due.into_iter().for_each(|client| self.wake(client));
        }
    }

    /// Wakes the task of a client, if that is connected.
    fn wake(&self, client: ClientKey) {
        if let Some(client) = self.clients.get(client) {
            client.control.wake();
        }
    }

    pub(crate) fn now(&self) -> Second {
        self.now.load(Ordering::Relaxed)
    }

    /// The first second of this shard's clock in which `end` has certainly passed.
    pub(super) fn second_of(&self, end: SystemTime) -> Second {
        let Ok(left) = end.duration_since(SystemTime::now()) else { return self.now() };
        // Two more, because the current second is partly over, and `left` may end with a fraction.
        let left = Second::try_from(left.as_secs() + 2).unwrap_or(Second::MAX);
        self.now().saturating_add(left).min(Second::MAX / 2)
    }

    /// The number of seconds after which a client that accepts no bytes is stalled.
    pub(super) fn write_timeout(&self) -> Second {
        seconds(self.options.write_timeout)
    }

    /// The number of seconds after which a client that does not reply to a ping is stalled.
    pub(super) fn pong_timeout(&self) -> Second {
        seconds(self.options.pong_timeout)
    }

    pub(super) fn schedule(&self, due: Second, client: ClientKey) {
        lock(&self.wheel).schedule(due, client);
    }

    pub(super) fn heartbeat(&self) -> Heartbeat {
        let now = self.now();
        let mut heartbeat = lock(&self.heartbeat);
        match &*heartbeat {
            Some((second, heartbeat)) if *second == now => heartbeat.clone(),
            _ => {
                let event = ControlEvent::Heartbeat { clients: self.metrics.streams() };
                let forms = Heartbeat { event: event.to_sse(), message: event.to_message() };
                heartbeat.insert((now, forms)).1.clone()
            }
        }
    }

    /// Closes the streams one after the other over `window`, once the [`Drain`] has begun. Runs on the shard's thread.
    pub(crate) async fn drain_streams(&self, window: Duration) {
        let clients = self.clients.all();
        for client in &clients {
            client.control.wake();
        }
        let began = Instant::now();
        // The last streams close early enough for their ends to be written within the window.
        let spread = window.mul_f64(0.9);
        let total = clients.len().max(1) as u32;
        for (place, client) in (1..).zip(clients) {
            tokio::time::sleep_until(began + spread * place / total).await;
            client.control.raise(Request::Drain);
        }
        loop {
            // Clients that connected during the drain.
            let clients = self.clients.all();
            if clients.is_empty() {
                return;
            }
            clients.iter().for_each(|client| client.control.raise(Request::Drain));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A time as seconds of the shard's clock, at least one.
fn seconds(time: Duration) -> Second {
    Second::try_from(time.as_secs()).unwrap_or(Second::MAX / 2).max(1)
}
