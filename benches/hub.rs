//! The cost of an event without sockets: to publish and encode it, to replay it, and to deliver it to many.
//!
//! ```text
//! cargo bench --bench hub
//! ```
//!
//! Everything is measured through the public API; encoding and the ring are private. `encode` publishes into rings so
//! short that nothing else depends on the payload; `replay` reads a full ring. Every future is ready when it is polled, so
//! that no runtime is measured.

use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanline::event::{Event, Payload};
use fanline::hub::{Delivery, Hub, HubOptions, Start, Subscription, SubscriptionFilter};
use fanline::topic::Topic;
use futures_util::StreamExt;

const SMALL: usize = 64;

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the future is not ready"),
    }
}

fn event(topic: &str, payload: &str) -> Event {
    Event::new(Topic::new(topic).unwrap(), Payload::text(payload))
}

/// Rings short enough for the cache, long enough for a burst.
fn short_hub() -> Hub {
    Hub::new(&HubOptions { history: 128, firehose_history: 128, ..HubOptions::default() })
}

/// Reads what is ready, and returns the number of events.
fn drain(subscription: &mut Subscription) -> usize {
    let mut cx = Context::from_waker(Waker::noop());
    let mut count = 0;
    while let Poll::Ready(Some(delivery)) = subscription.poll_next_unpin(&mut cx) {
        match delivery {
            Delivery::Event(frame) => count += black_box(frame.sse()).len().min(1),
            Delivery::Gap(gap) => panic!("a reader that keeps up has no gap: {gap:?}"),
        }
    }
    count
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    let line = "0123456789abcdef".repeat(4) + "\n";
    let payloads = [
        ("64 B", "x".repeat(64)),
        ("1 KiB", "x".repeat(1 << 10)),
        ("64 KiB", "x".repeat(64 << 10)),
        ("64 KiB of lines", line.repeat((64 << 10) / line.len())),
    ];
    for (name, payload) in payloads {
        let hub = Hub::new(&HubOptions { history: 16, firehose_history: 16, ..HubOptions::default() });
        let event = event("metric", &payload);
        group.throughput(Throughput::Bytes(payload.len() as u64));
        group.bench_function(name, |b| b.iter(|| now(hub.publish(event.clone()))));
    }
    group.finish();
}

fn replay(c: &mut Criterion) {
    let mut group = c.benchmark_group("replay");
    const EVENTS: usize = 10_000;
    let hub = Hub::new(&HubOptions { history: EVENTS, firehose_history: EVENTS, ..HubOptions::default() });
    for _ in 0..EVENTS {
        now(hub.publish(event("metric", &"x".repeat(SMALL)))).unwrap();
    }
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("a full ring", |b| {
        b.iter_batched_ref(
            || hub.subscribe(SubscriptionFilter::everything(), Start::Earliest).0,
            |subscription| assert_eq!(drain(subscription), EVENTS),
            BatchSize::SmallInput,
        );
    });
    group.throughput(Throughput::Elements(1));
    let (mut subscription, _) = hub.subscribe(SubscriptionFilter::everything(), Start::Live);
    group.bench_function("nothing at the head", |b| b.iter(|| drain(&mut subscription)));
    group.bench_function("subscribe and leave", |b| {
        b.iter(|| hub.subscribe(SubscriptionFilter::everything(), Start::Live))
    });
    group.finish();
}

fn publish(c: &mut Criterion) {
    let mut group = c.benchmark_group("publish");
    let payload = "x".repeat(SMALL);
    for topics in [1, 1000] {
        let events: Vec<_> = (0..topics).map(|number| event(&format!("topic:{number}"), &payload)).collect();
        let hub = Hub::default();
        let mut next = events.iter().cycle();
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("topics", topics), |b| {
            b.iter(|| now(hub.publish(next.next().unwrap().clone())));
        });
    }
    let hub = Hub::default();
    let batch = vec![event("metric", &payload); 64];
    group.throughput(Throughput::Elements(64));
    group.bench_function("64 together", |b| {
        b.iter_batched(|| batch.clone(), |batch| now(hub.publish_all(batch)), BatchSize::SmallInput);
    });
    group.finish();
}

fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("fan_out");
    let payload = "x".repeat(SMALL);
    for burst in [1, 64] {
        for subscribers in [1, 100, 1000] {
            let hub = short_hub();
            let topic = event("metric", &payload);
            let filter = || SubscriptionFilter::of(["metric".parse().unwrap()]);
            let mut subscriptions: Vec<_> = (0..subscribers).map(|_| hub.subscribe(filter(), Start::Live).0).collect();
            // Each has waited once, and is woken from then on.
            subscriptions.iter_mut().for_each(|subscription| assert_eq!(drain(subscription), 0));
            group.throughput(Throughput::Elements((burst * subscribers) as u64));
            group.bench_function(BenchmarkId::new(format!("bursts of {burst}"), subscribers), |b| {
                b.iter(|| {
                    now(hub.publish_all(vec![topic.clone(); burst])).unwrap();
                    for subscription in &mut subscriptions {
                        assert_eq!(drain(subscription), burst);
                    }
                });
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = encode, replay, publish, fan_out
}
criterion_main!(benches);
