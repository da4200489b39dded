//! Who is connected: the clients of one shard, each with what operators want to know of it.

mod labels;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) use labels::Labels;
use slab::Slab;

use crate::auth::Grant;
use crate::metrics::{Count, Ending};

/// The name that the server gives a client: unique within a server's life, and most likely among servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClientId(u64);

impl ClientId {
    /// A number between 0 and 1 that is spread evenly over ids that follow each other (the golden ratio's multiples).
    pub(crate) fn spread(self) -> f64 {
        (self.0 as u32 as f64 * 0.618_033_988_749_894_9).fract()
    }
}

impl FromStr for ClientId {
    type Err = InvalidClientId;

    fn from_str(text: &str) -> Result<Self, InvalidClientId> {
        let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| is_hex);
        number.map(Self).ok_or(InvalidClientId)
    }
}

/// A text that is no client's name.
#[derive(Debug, thiserror::Error)]
#[error("a client id is 16 hexadecimal digits, as the first event of its stream says")]
pub(crate) struct InvalidClientId;

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Gives out ids.
pub(crate) struct ClientIds {
    server: u32,
    next: AtomicU32,
}

impl ClientIds {
    pub(crate) fn new() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { server: since_1970.as_micros() as u32, next: AtomicU32::new(0) }
    }

    pub(crate) fn next(&self) -> ClientId {
        ClientId(u64::from(self.server) << 32 | u64::from(self.next.fetch_add(1, Ordering::Relaxed)))
    }
}

/// Where a client connects from. Half the size of what the system gives, which has fields for what nobody is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    ip: Ipv6Addr,
    port: u16,
}

impl From<SocketAddr> for Remote {
    fn from(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Self { ip, port: address.port() }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.ip.to_canonical(), self.port).fmt(f)
    }
}

/// What a client says of itself, and what is known of its connection.
pub(crate) struct Identity {
    pub(crate) id: ClientId,
    pub(crate) labels: Labels,
    pub(crate) remote: Remote,
    /// Unix time in milliseconds.
    pub(crate) connected_at: u64,
    /// Under which grant, unless it is what anybody has. In memory of its own: most clients of most servers have none.
    pub(crate) standing: Option<Box<Standing>>,
}

/// The grant that a client was let in with.
pub(crate) struct Standing {
    pub(crate) grant: Grant,
    /// When it ends, in the shard's seconds.
    pub(crate) ends: Option<u32>,
}

/// How many seconds before its end a client is told of it.
pub(crate) const WARNING: u32 = 30;

/// A connected client. Its connection's task writes the counts.
pub(crate) struct Client {
    pub(crate) identity: Identity,
    pub(crate) events: Count,
    pub(crate) bytes: Count,
    /// How many events its cursors have passed, each counted from the first of its ring.
    pub(crate) passed: Count,
    task: OnceLock<Waker>,
    farewell: AtomicU8,
}

/// The server goes.
const DRAINING: u8 = 1;
/// An operator does not want this client.
const DISCONNECTED: u8 = 2;
/// It would not be let in any more.
const REVOKED: u8 = 4;
/// Its token ended.
const EXPIRED: u8 = 8;
/// Its token ends soon, and it is to be told.
const EXPIRES: u8 = 16;
/// It was told, or is being told.
const WARNED: u8 = 32;

impl Client {
    /// Says which task serves this client: the same for its whole life.
    pub(crate) fn served_by(&self, waker: &Waker) {
        self.task.get_or_init(|| waker.clone());
    }

    /// Has the server close the client's stream, once all that is published by now was written.
    pub(crate) fn end(&self) {
        self.call(DRAINING);
    }

    pub(crate) fn is_ending(&self) -> bool {
        let called = self.farewell.load(Ordering::Acquire);
        called & DRAINING != 0 && ending_of(called).is_none()
    }

    /// Has the server close the client's stream now.
    pub(crate) fn disconnect(&self) {
        self.call(DISCONNECTED);
    }

    /// Has the server close the client's stream now: under the rules of today it would not be opened.
    pub(crate) fn revoke(&self) {
        self.call(REVOKED);
    }

    /// Notes whether the client's grant ends, now or soon: when it enters, and when its shard calls it.
    pub(crate) fn called_at(&self, now: u32) {
        let Some(ends) = self.identity.standing.as_ref().and_then(|standing| standing.ends) else { return };
        if now >= ends {
            self.farewell.fetch_or(EXPIRED, Ordering::Release);
        } else if ends - now <= WARNING && self.farewell.fetch_or(WARNED, Ordering::Relaxed) & WARNED == 0 {
            self.farewell.fetch_or(EXPIRES, Ordering::Release);
        }
    }

    /// Whether the server wants something of the stream.
    pub(crate) fn is_called(&self) -> bool {
        self.farewell.load(Ordering::Acquire) & !WARNED != 0
    }

    /// Why the stream is to be closed now.
    pub(crate) fn ending(&self) -> Option<Ending> {
        ending_of(self.farewell.load(Ordering::Acquire))
    }

    /// Whether the client is to be told that its token ends; answers so once.
    pub(crate) fn takes_warning(&self) -> bool {
        self.farewell.fetch_and(!EXPIRES, Ordering::AcqRel) & EXPIRES != 0
    }

    fn call(&self, what: u8) {
        self.farewell.fetch_or(what, Ordering::Release);
        self.wake();
    }

    /// Has the client's task look at its state.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.task.get() {
            waker.wake_by_ref();
        }
    }
}

fn ending_of(called: u8) -> Option<Ending> {
    let endings = [(DISCONNECTED, Ending::Disconnected), (REVOKED, Ending::Revoked), (EXPIRED, Ending::TokenExpired)];
    endings.into_iter().find(|(bit, _)| called & bit != 0).map(|(_, ending)| ending)
}

/// A client's place in the register of its shard.
pub(crate) type ClientKey = u32;

/// The clients of one shard.
#[derive(Default)]
pub(crate) struct Clients(Mutex<Slab<Arc<Client>>>);

impl Clients {
    /// Enters a client; it is struck off when the registration is dropped.
    pub(crate) fn enter(self: &Arc<Self>, identity: Identity) -> Registration {
        let client = Arc::new(Client {
            identity,
            events: Count::default(),
            bytes: Count::default(),
            task: OnceLock::new(),
            passed: Count::default(),
            farewell: AtomicU8::new(0),
        });
        let key = self.lock().insert(client.clone());
        let key = ClientKey::try_from(key).expect("fewer than 2^32 clients");
        Registration { clients: self.clone(), key, client }
    }

    pub(crate) fn get(&self, key: ClientKey) -> Option<Arc<Client>> {
        self.lock().get(key as usize).cloned()
    }

    /// Those who are in `count` places of the register from `place` on, and the place behind them; none at its end. To be
    /// called again and again: nobody waits for the register longer than that takes.
    pub(crate) fn slice(&self, place: usize, count: usize) -> (Vec<Arc<Client>>, Option<usize>) {
        let clients = self.lock();
        let end = (place + count).min(clients.capacity());
        let found = (place..end).filter_map(|key| clients.get(key).cloned()).collect();
        (found, (end < clients.capacity()).then_some(end))
    }

    /// Everybody who is connected now.
    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        self.lock().iter().map(|(_, client)| client.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Arc<Client>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's entry.
pub(crate) struct Registration {
    clients: Arc<Clients>,
    pub(crate) key: ClientKey,
    pub(crate) client: Arc<Client>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let _client = self.clients.lock().remove(self.key as usize);
    }
}
