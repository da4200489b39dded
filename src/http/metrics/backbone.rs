//! The counts of the backbone.

use serde_json::{Value, json};

use super::text::Page;
use crate::backbone::{State, Status};

/// Name, help and value of each count.
fn counts(status: &Status) -> [(&'static str, &'static str, u64); 9] {
    let counts = &status.counts;
    [
        ("batches", "Batches that this server published on the backbone", counts.batches.get()),
        ("published", "Events that this server published on the backbone", counts.published.get()),
        ("received", "Events that came from the backbone", counts.received.get()),
        ("losses", "Times that the connection to the backbone was lost", counts.losses.get()),
        ("breaks", "Times that the order of the backbone could not be continued", counts.breaks.get()),
        ("pages", "Pages of events that had left the rings, given to streams", counts.pages.get()),
        ("pages_fetched", "Reads of the backbone for such pages", counts.pages_fetched.get()),
        ("epochs", "Epochs begun by this server, because the backbone may have lost events", counts.epochs.get()),
        ("lookups", "Positions of clients that this server did not have yet", counts.lookups.get()),
    ]
}

pub(super) fn add(page: &mut Page, status: &Status) {
    page.gauge("fanline_backbone_up", "Whether the backbone can be used", u64::from(status.state() == State::Up));
    if let Some(replicas) = status.confirming_replicas() {
        let help = "Replicas that confirmed the last publication";
        page.gauge("fanline_backbone_replicas", help, u64::from(replicas));
    }
    for (name, help, count) in counts(status) {
        page.counter(&format!("fanline_backbone_{name}"), help, count);
    }
}

pub(super) fn to_json(status: &Status) -> Value {
    let mut all = json!({"kind": status.kind(), "status": status.state().as_str()});
    for (name, _, count) in counts(status) {
        all[name] = count.into();
    }
    all["replicas"] = status.confirming_replicas().into();
    all
}
