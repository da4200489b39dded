//! The fuzz target of saved histories.

use std::collections::BTreeSet;
use std::task::{Context, Poll, Waker};

use futures_util::StreamExt;

use super::snapshot::with_checksum;
use super::{Delivery, Hub, HubOptions, Start, SubscriptionFilter};

/// Input: a saved history without its last line, which has the checksum.
pub(crate) fn history(data: &[u8]) {
    let Ok(hub) = Hub::continued(&HubOptions::default(), &with_checksum(data)[..]) else { return };
    let (mut subscription, _) = hub.subscribe(SubscriptionFilter::everything(), Start::Earliest);
    let (mut read, mut last) = (0, 0);
    while let Poll::Ready(Some(delivery)) = subscription.poll_next_unpin(&mut Context::from_waker(Waker::noop())) {
        let Delivery::Event(frame) = delivery else { continue };
        assert!(frame.sequence() > last, "{} after {last}", frame.sequence());
        assert_eq!(frame.id(), hub.0.history.position(frame.sequence()));
        (read, last) = (read + 1, frame.sequence());
    }
    assert_eq!(read, hub.stats().restored, "what is restored can be read");
    let position = hub.position();
    let saved = events(&hub);
    let again = Hub::continued(&HubOptions::default(), saved.as_bytes()).expect("a saved history is valid");
    assert_eq!((again.position(), lines(&events(&again))), (position, lines(&saved)));
}

fn events(hub: &Hub) -> String {
    let mut saved = Vec::new();
    hub.save(&mut saved).expect("vectors grow");
    String::from_utf8(saved).expect("JSON is UTF-8")
}

/// The events of a saved history. The order of the topics is any.
fn lines(saved: &str) -> BTreeSet<&str> {
    saved.lines().filter(|line| line.starts_with("{\"event\"")).collect()
}
