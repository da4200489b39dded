//! Limits on open connections: in total, and of each address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use super::{LimitKey, Permit, Reason, Semaphore};
use crate::sync::{Mutex, lock};

/// When a refused client may retry: soon enough to notice a free permit, and rarely enough that waiting clients are no load.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The open connections of a server, and their limits.
pub(crate) struct Connections {
    total: Arc<Semaphore>,
    set_by: &'static str,
    of_address: Option<Arc<Addresses>>,
    rejected: Arc<Semaphore>,
    /// Keeps one address from taking all permits for rejected connections.
    rejected_of_address: Arc<Addresses>,
}

/// Counts the connections of each address. The lock is taken when a connection opens or closes, and only if there is a
/// limit.
struct Addresses {
    max: usize,
    open: Mutex<HashMap<LimitKey, usize>>,
}

/// The right to be connected, released on drop. The default one counts for nothing.
#[derive(Default)]
pub(crate) struct ConnectionPermit {
    #[expect(dead_code, reason = "held for its drop")]
    total: Option<Permit>,
    /// Boxed, because most servers have no such limit, and each connection holds this field.
    of_address: Option<Box<AddressPermit>>,
}

impl ConnectionPermit {
    /// The permit of a stream that is limited in number only.
    pub(super) fn of(permit: Permit) -> Self {
        Self { total: Some(permit), of_address: None }
    }

    /// Counts for the address that `client` counts for.
    pub(crate) fn count_for(&mut self, client: Self) {
        self.of_address = client.of_address;
    }
}

struct AddressPermit {
    addresses: Arc<Addresses>,
    key: LimitKey,
}

impl Connections {
    /// At most `max` connections, and `rejected` connections over this limit that get an error response. `set_by` names the
    /// setting or the system limit that `max` follows from.
    pub(crate) fn new(
        max: Option<usize>,
        set_by: &'static str,
        rejected: usize,
        max_per_address: Option<usize>,
    ) -> Self {
        let addresses = |max| Arc::new(Addresses { max, open: Mutex::default() });
        Self {
            total: Semaphore::new(max.unwrap_or(usize::MAX)),
            set_by,
            of_address: max_per_address.map(addresses),
            rejected: Semaphore::new(rejected),
            rejected_of_address: addresses((rejected / 4).max(4)),
        }
    }

    /// Admits a connection or, unless it `counts` in total, a stream that needs no open file. Without a `key` it counts for no
    /// address.
    pub(super) fn admit(&self, key: Option<LimitKey>, counts: bool) -> Result<ConnectionPermit, (Reason, String)> {
        let of_address = match (&self.of_address, key) {
            (Some(addresses), Some(key)) => Some(Box::new(addresses.acquire(key).ok_or_else(|| {
                let max = addresses.max;
                let detail = format!(
                    "{key} has reached the limit of {max} connections for one address (setting \
                     max_connections_per_address)"
                );
                (Reason::ConnectionsPerAddress, detail)
            })?)),
            _ => None,
        };
        let total = if counts { Some(self.acquire()?) } else { None };
        Ok(ConnectionPermit { total, of_address })
    }

    fn acquire(&self) -> Result<Permit, (Reason, String)> {
        self.total.acquire().ok_or_else(|| {
            let (max, set_by) = (self.total.max, self.set_by);
            (Reason::Connections, format!("the server has reached its limit of {max} connections ({set_by})"))
        })
    }

    /// Returns a permit for a rejected connection, held until its error response is sent. These permits are few, and one
    /// address gets at most a quarter of them.
    pub(crate) fn admit_rejected(&self, key: impl Into<LimitKey>) -> Option<ConnectionPermit> {
        let of_address = self.rejected_of_address.acquire(key.into())?;
        let total = Some(self.rejected.acquire()?);
        Some(ConnectionPermit { total, of_address: Some(Box::new(of_address)) })
    }

    /// Whether the limit is reached.
    pub(crate) fn is_full(&self) -> bool {
        self.total.is_exhausted()
    }

    /// The limit on open connections, if any.
    pub(crate) fn max(&self) -> Option<usize> {
        Some(self.total.max).filter(|&max| max != usize::MAX)
    }

    /// The setting or system limit that [`Connections::max`] follows from.
    pub(crate) fn set_by(&self) -> &'static str {
        self.set_by
    }
}

impl Addresses {
    fn acquire(self: &Arc<Self>, key: LimitKey) -> Option<AddressPermit> {
        let mut open = lock(&self.open);
        let count = open.get(&key).copied().unwrap_or(0);
        if count >= self.max {
            return None;
        }
        open.insert(key, count + 1);
        drop(open);
        Some(AddressPermit { addresses: self.clone(), key })
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        lock(&self.open).is_empty()
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = lock(&self.addresses.open).entry(self.key) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn key(address: &str) -> Option<LimitKey> {
        Some(address.parse::<IpAddr>().unwrap().into())
    }

    fn reason(outcome: Result<ConnectionPermit, (Reason, String)>) -> Option<Reason> {
        outcome.err().map(|(reason, _)| reason)
    }

    #[test]
    fn each_address_has_its_own_limit_within_the_total() {
        let connections = Connections::new(Some(3), "setting", 1, Some(2));
        let mut one: Vec<_> = ["::ffff:10.0.0.1", "10.0.0.1"].map(|a| connections.admit(key(a), true).unwrap()).into();
        assert_eq!(reason(connections.admit(key("10.0.0.1"), true)), Some(Reason::ConnectionsPerAddress));
        let other = connections.admit(key("2001:db8::1"), true).unwrap();
        assert!(connections.is_full());
        assert_eq!(reason(connections.admit(key("2001:db8::2"), true)), Some(Reason::Connections));
        // A connection that the total refused does not count for its address.
        one.pop();
        let again = connections.admit(key("2001:db8::3"), true).unwrap();
        assert_eq!(reason(connections.admit(key("2001:db8::4"), true)), Some(Reason::ConnectionsPerAddress));
        drop((one, other, again));
        let addresses = connections.of_address.as_ref().unwrap();
        assert!(addresses.is_empty(), "closed connections leave no entry");
    }

    #[test]
    fn rejected_connections_have_limits_of_their_own() {
        let connections = Connections::new(Some(1), "setting", 24, None);
        let admit_rejected = |last: u8| {
            let address = IpAddr::from([10, 0, 0, last]);
            std::iter::from_fn(|| connections.admit_rejected(address)).collect::<Vec<_>>()
        };
        let rejected: Vec<_> = (0..10).map(admit_rejected).collect();
        assert_eq!(rejected.iter().map(Vec::len).collect::<Vec<_>>(), [6, 6, 6, 6, 0, 0, 0, 0, 0, 0]);
        assert!(connections.admit(key("10.0.0.1"), true).is_ok());
        drop(rejected);
        assert!(connections.rejected_of_address.is_empty());
        assert_eq!(admit_rejected(9).len(), 6);
    }
}
