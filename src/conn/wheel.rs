//! Deadlines of very many connections without a timer for each: a wheel of one slot a second.
//!
//! A deadline is a second and a client. It is a hint, not a promise: it may come late by a second, or come for a client
//! that has had traffic meanwhile, or for another client that got the same place. Whoever is called looks at the clock.

use crate::presence::ClientKey;

/// Seconds since the shard began, which was in the first.
pub(crate) type Second = u32;

/// No second at all.
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

    /// Has `client` called at `due`, or at the next second when that has passed.
    pub(crate) fn schedule(&mut self, due: Second, client: ClientKey) {
        let due = due.max(self.now + 1);
        self.slots[due as usize % SLOTS].push((due, client));
    }

    /// Moves on to `now`, and answers who is due.
    pub(crate) fn advance(&mut self, now: Second) -> Vec<ClientKey> {
        let mut called = Vec::new();
        while self.now < now {
            self.now += 1;
            let slot = &mut self.slots[self.now as usize % SLOTS];
            // Deadlines more than a turn away stay.
            slot.retain(|&(due, client)| {
                let is_due = due <= self.now;
                if is_due {
                    called.push(client);
                }
                !is_due
            });
            if slot.is_empty() {
                slot.shrink_to(64);
            }
        }
        called
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_called_in_its_second() {
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
    fn who_is_late_is_called_next() {
        let mut wheel = Wheel::new();
        wheel.advance(10);
        wheel.schedule(5, 1);
        assert_eq!(wheel.advance(11), [1]);
    }
}
