//! The ledger under loom, as in [`model`](super::model).
//!
//! **Forbidden:** a count of events that is not exact.

use std::sync::Arc;

use loom::thread;

use super::model::check;
use crate::hub::ledger::{Ledger, LedgerKey, Tally};

#[test]
fn overwritten_ledger_counts_exactly_or_not_at_all() {
    check(3, || {
        let ledger = Arc::new(Ledger::new(2, LedgerKey::new()));
        for sequence in 1..=2 {
            ledger.record(sequence, 7);
        }
        let count = |ledger: &Ledger, from| {
            let mut tallies = [Tally::new(7, 2)];
            ledger.count(from, &mut tallies).then_some(tallies[0].count)
        };
        let reader = {
            let ledger = ledger.clone();
            thread::spawn(move || {
                assert!(matches!(count(&ledger, 0), None | Some(2)));
                assert!(matches!(count(&ledger, 1), None | Some(1)));
            })
        };
        for sequence in 3..=4 {
            ledger.record(sequence, 8);
        }
        reader.join().unwrap();
    });
}
