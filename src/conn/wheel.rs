//! Deadlines of many connections without a timer for each: a timer wheel with one slot a second.
//!
//! A deadline is a second and a client's key. It is a hint: it may be a second late, outdated by traffic, or belong to
//! another client that got the same key. A woken task checks the clock.

use crate::presence::ClientKey;

/// Seconds since the shard's start, which is in second 1.
pub(crate) type Second = u32;

/// Not a second.
pub(crate) const NEVER: Second = 0;

const SLOTS: usize = 512;

pub(crate) struct Wheel {
    slots: Vec<Vec<(Second, ClientKey)>>,
    now: Second,
}

impl Wheel {
    pub(crate) fn new() -> Self {
        Self { slots: vec![Vec::new(); SLOTS], now: 0 }
    }

    /// Schedules `client` for `due`, or for the next second when that has passed.
    pub(crate) fn schedule(&mut self, due: Second, client: ClientKey) {
        let due = due.max(self.now + 1);
        self.slots[due as usize % SLOTS].push((due, client));
    }

    /// Advances to `now`, and returns the clients that are due.
    pub(crate) fn advance(&mut self, now: Second) -> Vec<ClientKey> {
        let mut due_clients = Vec::new();
        while self.now < now {
            self.now += 1;
            let slot = &mut self.slots[self.now as usize % SLOTS];
            // Deadlines in a later turn of the wheel stay.
            slot.retain(|&(due, client)| {
                let is_due = due <= self.now;
                if is_due {
                    due_clients.push(client);
                }
                !is_due
            });
            if slot.is_empty() {
                slot.shrink_to(64);
            }
        }
        due_clients
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadline_is_due_in_its_second() {
        let mut wheel = Wheel::new();
        wheel.schedule(3, 30);
        wheel.schedule(1, 10);
        wheel.schedule(3, 31);
        wheel.schedule(3 + SLOTS as u32, 40);
        assert!(wheel.advance(0).is_empty());
        assert_eq!(wheel.advance(2), [10]);
        assert_eq!(wheel.advance(3), [30, 31]);
        assert!(wheel.advance(2 + SLOTS as u32).is_empty());
        assert_eq!(wheel.advance(3 + SLOTS as u32), [40]);
    }

    #[test]
    fn past_deadline_is_due_in_the_next_second() {
        let mut wheel = Wheel::new();
        wheel.advance(10);
        wheel.schedule(5, 1);
        assert_eq!(wheel.advance(11), [1]);
    }
}
