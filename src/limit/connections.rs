//! Open connections: in all, and of each address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::peer::Peer;
use super::{Place, Reason, Tally};

/// When whoever was refused may try again. Nobody knows when somebody goes; this is short enough to notice it, and long
/// enough that a crowd of those who wait is no load.
pub(super) const WAIT: Duration = Duration::from_secs(5);

pub(super) struct Connections {
    all: Arc<Tally>,
    set_by: &'static str,
    of_address: Option<Arc<Addresses>>,
    turned_away: Arc<Tally>,
    /// Whoever is turned away again and again leaves places to the others.
    turned_away_of_address: Arc<Addresses>,
}

/// How many each address has. The lock is taken when a connection comes or goes, and only where there is such a limit.
struct Addresses {
    max: usize,
    open: Mutex<HashMap<Peer, usize>>,
}

/// The right to be connected, as long as this lives.
pub(crate) struct ConnectionPermit {
    #[expect(dead_code, reason = "it is held, not looked at")]
    place: Place,
    /// In memory of its own: most servers have no such limit, and each connection holds this.
    #[expect(dead_code, reason = "it is held, not looked at")]
    of_address: Option<Box<AddressPermit>>,
}

struct AddressPermit {
    addresses: Arc<Addresses>,
    peer: Peer,
}

impl Connections {
    /// `max_per_address` of 0 is any number.
    pub(super) fn new(max: usize, set_by: &'static str, turned_away: usize, max_per_address: usize) -> Self {
        let addresses = |max| Arc::new(Addresses { max, open: Mutex::default() });
        Self {
            all: Arc::new(Tally::new(max)),
            set_by,
            of_address: (max_per_address > 0).then(|| addresses(max_per_address)),
            turned_away: Arc::new(Tally::new(turned_away)),
            turned_away_of_address: addresses((turned_away / 4).max(4)),
        }
    }

    pub(super) fn take(&self, peer: Peer) -> Result<ConnectionPermit, (Reason, String)> {
        let of_address = match &self.of_address {
            Some(addresses) => Some(Box::new(addresses.take(peer).ok_or_else(|| {
                let max = addresses.max;
                let detail = format!(
                    "{peer} has {max} connections, and the limit for one address is {max} (setting \
                     max_connections_per_address)"
                );
                (Reason::ConnectionsPerAddress, detail)
            })?)),
            None => None,
        };
        let place = self.all.take().ok_or_else(|| {
            let (max, set_by) = (self.all.max, self.set_by);
            let detail = format!("this server has {max} connections, and its limit is {max} ({set_by})");
            (Reason::Connections, detail)
        })?;
        Ok(ConnectionPermit { place, of_address })
    }

    pub(super) fn turn_away(&self, peer: Peer) -> Option<ConnectionPermit> {
        let of_address = self.turned_away_of_address.take(peer)?;
        let place = self.turned_away.take()?;
        Some(ConnectionPermit { place, of_address: Some(Box::new(of_address)) })
    }

    pub(super) fn is_full(&self) -> bool {
        self.all.is_full()
    }

    pub(super) fn max(&self) -> Option<usize> {
        Some(self.all.max).filter(|&max| max != usize::MAX)
    }

    pub(super) fn set_by(&self) -> &'static str {
        self.set_by
    }
}

impl Addresses {
    fn take(self: &Arc<Self>, peer: Peer) -> Option<AddressPermit> {
        let mut open = self.open();
        let count = open.entry(peer).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        drop(open);
        Some(AddressPermit { addresses: self.clone(), peer })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Peer, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.addresses.open().entry(self.peer) {
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

    fn peer(address: &str) -> Peer {
        address.parse::<IpAddr>().unwrap().into()
    }

    fn reason(outcome: Result<ConnectionPermit, (Reason, String)>) -> Option<Reason> {
        outcome.err().map(|(reason, _)| reason)
    }

    #[test]
    fn each_address_has_its_own_places_and_all_share_the_total() {
        let connections = Connections::new(3, "setting", 1, 2);
        let mut one: Vec<_> = ["::ffff:10.0.0.1", "10.0.0.1"].map(|a| connections.take(peer(a)).unwrap()).into();
        assert_eq!(reason(connections.take(peer("10.0.0.1"))), Some(Reason::ConnectionsPerAddress));
        let other = connections.take(peer("2001:db8::1")).unwrap();
        assert!(connections.is_full());
        assert_eq!(reason(connections.take(peer("2001:db8::2"))), Some(Reason::Connections));
        // What was refused for want of a place holds nothing of its address.
        one.pop();
        let again = connections.take(peer("2001:db8::3")).unwrap();
        assert_eq!(reason(connections.take(peer("2001:db8::4"))), Some(Reason::ConnectionsPerAddress));
        drop((one, other, again));
        let addresses = connections.of_address.as_ref().unwrap();
        assert!(addresses.open().is_empty(), "nothing is remembered of who has gone");
    }

    #[test]
    fn those_who_are_turned_away_are_few_of_each_address_and_take_no_place_of_the_others() {
        let connections = Connections::new(1, "setting", 24, 0);
        let turn_away = |last: u8| {
            let peer = peer(&format!("10.0.0.{last}"));
            std::iter::from_fn(|| connections.turn_away(peer)).collect::<Vec<_>>()
        };
        let turned_away: Vec<_> = (0..10).map(turn_away).collect();
        assert_eq!(turned_away.iter().map(Vec::len).collect::<Vec<_>>(), [6, 6, 6, 6, 0, 0, 0, 0, 0, 0]);
        assert!(connections.take(peer("10.0.0.1")).is_ok());
        drop(turned_away);
        assert!(connections.turned_away_of_address.open().is_empty());
        assert_eq!(turn_away(9).len(), 6);
    }
}
