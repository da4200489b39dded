//! The hub through its public interface. `reference` is the oracle for single hubs; `model` explores interleavings with loom.
#![cfg_attr(fanline_loom, allow(dead_code, reason = "the models use few of the helpers"))]

#[cfg(not(fanline_loom))]
mod batches;
#[cfg(not(fanline_loom))]
mod ends;
#[cfg(not(fanline_loom))]
mod envelopes;
#[cfg(not(fanline_loom))]
mod gaps;
#[cfg(fanline_loom)]
mod lag_model;
#[cfg(not(fanline_loom))]
mod latest;
#[cfg(fanline_loom)]
mod latest_model;
#[cfg(fanline_loom)]
mod ledger_model;
#[cfg(fanline_loom)]
mod model;
#[cfg(fanline_loom)]
mod prefixes_model;
#[cfg(not(fanline_loom))]
mod reference;
#[cfg(not(fanline_loom))]
mod retention;
#[cfg(not(fanline_loom))]
mod rounds;
#[cfg(fanline_loom)]
mod rounds_model;
#[cfg(not(fanline_loom))]
mod subscribing;
#[cfg(not(fanline_loom))]
mod together;
#[cfg(not(fanline_loom))]
mod unawaited;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

use super::merge::Batch;
use super::*;
use crate::event::Payload;
use crate::position::Epoch;
use crate::topic::TopicFilter;

const EPOCH: Epoch = Epoch(1000);

fn hub(history: usize, firehose_history: usize) -> Hub {
    Hub::new(&HubOptions { epoch: EPOCH, history, firehose_history, ..HubOptions::default() })
}

fn at(sequence: u64) -> StreamPosition {
    StreamPosition::new(EPOCH, sequence)
}

/// The output of a future that is ready at once.
pub(super) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the future is not ready"),
    }
}

fn event(topic: &str) -> Event {
    Event::new(Topic::new(topic).unwrap(), Payload::text("x"))
}

fn publish(hub: &Hub, topic: &str) -> u64 {
    now(hub.publish(event(topic))).unwrap().sequence
}

fn publish_some(hub: &Hub, count: usize, topic: &str) {
    for _ in 0..count {
        publish(hub, topic);
    }
}

fn filters(filters: &[&str]) -> Vec<TopicFilter> {
    filters.iter().map(|filter| TopicFilter::new(filter).unwrap()).collect()
}

fn filter(texts: &[&str]) -> SubscriptionFilter {
    SubscriptionFilter::of(filters(texts))
}

fn poll_next(subscription: &mut Subscription, waker: &Waker) -> Poll<Option<Delivery>> {
    pin!(subscription).poll_next(&mut Context::from_waker(waker))
}

/// Reads all that is ready: the events' sequences, and the gaps.
fn drain(subscription: &mut Subscription) -> (Vec<u64>, Vec<Gap>) {
    let (mut sequences, mut gaps) = (Vec::new(), Vec::new());
    while let Poll::Ready(Some(delivery)) = poll_next(subscription, Waker::noop()) {
        match delivery {
            Delivery::Event(frame) => sequences.push(frame.sequence()),
            Delivery::Gap(gap) => gaps.push(gap),
        }
    }
    (sequences, gaps)
}

/// Subscribes and reads all that is ready.
fn read(hub: &Hub, filters: &[&str], start: Start) -> (Vec<u64>, Vec<Gap>, Opening) {
    let (mut subscription, opening) = hub.subscribe(filter(filters), start);
    let (sequences, gaps) = drain(&mut subscription);
    (sequences, gaps, opening)
}
