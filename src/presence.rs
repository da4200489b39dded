//! The registry of connected clients: one for each shard, with what operators see of each client.
//!
//! `members` announces which users and clients subscribe to a topic.
//!
//! The handle that ends or interrupts a stream belongs to `conn` and is opaque here.

mod labels;
mod members;

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) use labels::Labels;
#[cfg(feature = "redis")]
pub(crate) use members::Announcement;
pub use members::PresenceOptions;
pub(crate) use members::{Member, Members, Memberships};
use slab::Slab;

use crate::auth::Grant;
use crate::metrics::Count;
use crate::peer::PeerAddress;
use crate::sync::{Arc, AtomicU32, Mutex, Ordering, lock};
use crate::topic::TopicFilter;

/// A client's id: unique during a server's life, and most likely among servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClientId(u64);

impl ClientId {
    pub(crate) fn number(self) -> u64 {
        self.0
    }

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

/// Not a client id.
#[derive(Debug, thiserror::Error)]
#[error("a client id has 16 hexadecimal digits, as in the first event of its stream")]
pub(crate) struct InvalidClientId;

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Issues client ids.
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

/// The address that a client connects from, in half the size of a [`PeerAddress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remote {
    Ip { ip: Ipv6Addr, port: u16 },
    Unix { uid: u32 },
}

impl From<PeerAddress> for Remote {
    fn from(address: PeerAddress) -> Self {
        let (ip, port) = match address {
            PeerAddress::Ip(address) => (address.ip(), address.port()),
            PeerAddress::Unix { uid } => return Self::Unix { uid },
        };
        let ip = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Self::Ip { ip, port }
    }
}

impl From<Remote> for PeerAddress {
    fn from(remote: Remote) -> Self {
        match remote {
            Remote::Ip { ip, port } => Self::Ip(SocketAddr::new(ip.to_canonical(), port)),
            Remote::Unix { uid } => Self::Unix { uid },
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        PeerAddress::from(*self).fmt(f)
    }
}

/// The protocol of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http10,
    Http11,
    Http2,
}

impl Protocol {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// How a client gets its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Sse,
    WebSocket,
}

impl Transport {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Sse => "sse",
            Self::WebSocket => "websocket",
        }
    }
}

/// A client's own labels, and the facts of its connection.
pub(crate) struct Identity {
    pub(crate) id: ClientId,
    pub(crate) labels: Labels,
    pub(crate) remote: Remote,
    pub(crate) protocol: Protocol,
    pub(crate) transport: Transport,
    /// Whether its stream is compressed.
    pub(crate) is_compressed: bool,
    /// Unix time in milliseconds.
    pub(crate) connected_at: u64,
    /// Boxed: most clients of most servers have none.
    pub(crate) account: Option<Box<Account>>,
}

/// What only some clients have.
pub(crate) struct Account {
    /// The grant of the stream, unless it is the one of any anonymous client.
    grant: Option<Box<Grant>>,
    /// The topics of a client that changes them, in place of those of its labels.
    topics: Option<Mutex<ChangingTopics>>,
    /// Held for its drop. Boxed like those of [`ChangingTopics`]: most topics announce no members.
    _memberships: Option<Box<Memberships>>,
}

impl Account {
    /// The account of a client with this grant and these memberships, or that changes its topics. `None` if it needs none.
    pub(crate) fn new(grant: &Grant, memberships: Option<Memberships>, changes_topics: bool) -> Option<Box<Self>> {
        let grant = (!grant.is_anonymous()).then(|| Box::new(grant.clone()));
        let is_needed = grant.is_some() || memberships.is_some() || changes_topics;
        let topics = changes_topics.then(Mutex::default);
        is_needed.then(|| Box::new(Self { grant, topics, _memberships: memberships.map(Box::new) }))
    }
}

/// The topics of a client that changes them.
#[derive(Default)]
pub(crate) struct ChangingTopics {
    filters: Box<[TopicFilter]>,
    memberships: Option<Box<Memberships>>,
}

impl Identity {
    fn changing_topics(&self) -> Option<&Mutex<ChangingTopics>> {
        self.account.as_ref().and_then(|account| account.topics.as_ref())
    }

    fn member(&self) -> Member<'_> {
        Member { id: self.id, name: self.labels.name(), user: self.user() }
    }

    /// The grant of the stream, unless it is the one of any anonymous client.
    pub(crate) fn grant(&self) -> Option<&Grant> {
        self.account.as_ref().and_then(|account| account.grant.as_deref())
    }

    /// The user of the client's grant.
    pub(crate) fn user(&self) -> Option<&str> {
        self.grant().and_then(|grant| grant.user.as_deref())
    }
}

/// A connected client. Its stream's task writes the counts.
pub(crate) struct Client<C> {
    pub(crate) identity: Identity,
    pub(crate) key: ClientKey,
    pub(crate) events: Count,
    pub(crate) bytes: Count,
    /// The number of events that its cursors have passed, each counted from the first event of its ring.
    pub(crate) passed: Count,
    /// The handle that ends or interrupts the stream.
    pub(crate) control: C,
}

impl<C> Client<C> {
    /// The filters of its subscription. None means no event.
    pub(crate) fn filters(&self) -> Vec<TopicFilter> {
        if let Some(topics) = self.identity.changing_topics() {
            return lock(topics).filters.to_vec();
        }
        let filters: Vec<_> = self.identity.labels.topics().filter_map(|topic| TopicFilter::new(topic).ok()).collect();
        if filters.is_empty() { vec![TopicFilter::everything()] } else { filters }
    }

    /// The topics as the client spelled them. A client of everything need not have any.
    pub(crate) fn topics(&self) -> Vec<Cow<'_, str>> {
        match self.identity.changing_topics() {
            Some(topics) => lock(topics).filters.iter().map(|topic| topic.as_str().to_owned().into()).collect(),
            None => self.identity.labels.topics().map(Cow::from).collect(),
        }
    }

    /// Replaces the topics of a client that changes them. It joins those whose members are announced.
    pub(crate) fn set_topics(&self, filters: &[TopicFilter], members: Option<&Arc<Members>>) {
        let Some(topics) = self.identity.changing_topics() else { return };
        let member = self.identity.member();
        let ChangingTopics { filters: own, memberships } = &mut *lock(topics);
        *own = filters.into();
        match memberships {
            None => *memberships = members.and_then(|members| members.join(filters, &member)).map(Box::new),
            Some(memberships) => {
                memberships.leave(|topic| !filters.iter().any(|filter| filter.is_exactly(topic)));
                memberships.join(filters, &member);
            }
        }
    }
}

/// A client's key in the registry of its shard.
pub(crate) type ClientKey = u32;

/// The number of keys of a registry that are read under one lock, for about 10 µs.
const SLICE: usize = 256;

/// The registry of one shard's clients.
pub(crate) struct Clients<C>(Mutex<Slab<Arc<Client<C>>>>);

impl<C> Default for Clients<C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<C: Default> Clients<C> {
    /// Adds a client, until the registration is dropped.
    pub(crate) fn register(self: &Arc<Self>, identity: Identity) -> Registration<C> {
        let mut clients = lock(&self.0);
        let entry = clients.vacant_entry();
        let client = Arc::new(Client {
            identity,
            key: ClientKey::try_from(entry.key()).expect("fewer than 2^32 clients"),
            events: Count::default(),
            bytes: Count::default(),
            passed: Count::default(),
            control: C::default(),
        });
        entry.insert(client.clone());
        Registration { clients: self.clone(), client }
    }
}

impl<C> Clients<C> {
    pub(crate) fn get(&self, key: ClientKey) -> Option<Arc<Client<C>>> {
        lock(&self.0).get(key as usize).cloned()
    }

    /// Returns the clients in slices, each with a short lock of its own.
    pub(crate) fn slices(&self) -> impl Iterator<Item = Vec<Arc<Client<C>>>> {
        let mut next = Some(0);
        std::iter::from_fn(move || {
            let first = next?;
            let clients = lock(&self.0);
            let end = (first + SLICE).min(clients.capacity());
            next = (end < clients.capacity()).then_some(end);
            Some((first..end).filter_map(|key| clients.get(key).cloned()).collect())
        })
    }

    /// All clients that are connected now.
    pub(crate) fn all(&self) -> Vec<Arc<Client<C>>> {
        lock(&self.0).iter().map(|(_, client)| client.clone()).collect()
    }
}

/// Calls `visit` with each client of all registries until it returns false. Yields to other tasks after each slice, so that
/// a long list does not delay the streams of the shard.
pub(crate) async fn each_client<C>(registries: &[Arc<Clients<C>>], mut visit: impl FnMut(Arc<Client<C>>) -> bool) {
    for slice in registries.iter().flat_map(|clients| clients.slices()) {
        if !slice.into_iter().all(&mut visit) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// A client's entry in the registry, removed on drop.
pub(crate) struct Registration<C> {
    clients: Arc<Clients<C>>,
    pub(crate) client: Arc<Client<C>>,
}

impl<C> Drop for Registration<C> {
    fn drop(&mut self) {
        // Dropped outside of the lock.
        let _client = lock(&self.clients.0).remove(self.client.key as usize);
    }
}
