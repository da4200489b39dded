//! A stream delivers only granted events, and its gaps count no others.
//!
//! Random grants, subscriptions and events, over HTTP, with replay from a random position and rings so small that
//! events are evicted. A second implementation of topic matching decides what is visible.

use fanline::auth::{Claims, Permissions};
use fanline::hub::HubOptions;
use fanline::topic::TopicFilter;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{claims, guarded, signed};
use crate::support::{Block, EPOCH, Server, Stream, event, request, run};

/// Whether `filter` matches `topic` by the documented rules: `*` is one segment, `**` at the end is the rest.
fn matches_filter(filter: &str, topic: &str) -> bool {
    let segments = |text: &str| {
        let mut parts = Vec::new();
        let mut part = String::new();
        for c in text.chars() {
            if matches!(c, ':' | '.' | '/') {
                parts.push((std::mem::take(&mut part), c));
            } else {
                part.push(c);
            }
        }
        parts.push((part, ' '));
        parts
    };
    let (filter, topic) = (segments(filter), segments(topic));
    for (place, (wanted, separator)) in filter.iter().enumerate() {
        let Some((found, found_separator)) = topic.get(place) else { return false };
        if wanted == "**" {
            return true;
        }
        let fits = wanted == found || (wanted == "*" && !found.is_empty());
        if !fits || separator != found_separator {
            return false;
        }
    }
    filter.len() == topic.len()
}

const TOPICS: [&str; 12] = ["a", "b", "c", "a:a", "a:b", "b:a", "b:b", "c:c", "a:a.b", "a:b.c", "b:a.a", "c:a.a"];

fn filter() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(&TOPICS[..]).prop_map(str::to_owned),
        6 => select(&["*", "a:*", "b:*", "*:a", "*:b", "a:**", "b:**", "*:**", "c:*.a", "a:*.*", "*:*.a"][..])
            .prop_map(str::to_owned),
        1 => Just("**".to_owned()),
    ]
}

#[derive(Debug)]
struct Case {
    grants: Vec<String>,
    filters: Vec<String>,
    before: Vec<&'static str>,
    after: Vec<&'static str>,
    begin: Option<u64>,
    skips: bool,
}

impl Case {
    /// Whether the grant covers `topic`.
    fn grants(&self, topic: &str) -> bool {
        self.grants.iter().any(|granted| matches_filter(granted, topic))
    }

    /// Whether the subscription requests `topic`.
    fn requests(&self, topic: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| matches_filter(filter, topic))
    }

    /// Whether the grant covers each requested filter.
    fn is_granted(&self) -> bool {
        let granted: Vec<_> = self.grants.iter().map(|filter| TopicFilter::new(filter).unwrap()).collect();
        let requested = if self.filters.is_empty() { &["**".to_owned()][..] } else { &self.filters };
        let mut requested = requested.iter().map(|filter| TopicFilter::new(filter).unwrap());
        requested.all(|requested| granted.iter().any(|granted| granted.covers(&requested)))
    }
}

fn case() -> impl Strategy<Value = Case> {
    let topics = |longest| vec(select(&TOPICS[..]), 0..longest);
    let free = (vec(filter(), 1..4), vec(filter(), 0..4));
    // Mostly the requested filters are the granted ones, since a rejection tests little.
    let granted = vec(filter(), 1..4).prop_map(|filters| (filters.clone(), filters));
    let (grants, rest) =
        (prop_oneof![1 => free, 2 => granted], (topics(40), topics(40), any::<Option<u64>>(), any::<bool>()));
    (grants, rest).prop_map(|((grants, filters), (before, after, begin, skips))| {
        let begin = begin.map(|begin| begin % (before.len() as u64 + 1));
        Case { grants, filters, before, after, begin, skips }
    })
}

async fn check(case: Case) {
    let hub = HubOptions { history: 3, firehose_history: 5, ..Server::hub_options() };
    let mut server = Server::with(hub, |builder| builder.access(guarded()));
    let publish = |topics: &[&str]| topics.iter().map(|topic| event(topic, &format!("\"{topic}\""))).collect();
    server.hub.publish_all(publish(&case.before)).await.unwrap();
    let permissions = Permissions { subscribe: case.grants.clone(), publish: vec![], admin: false };
    let bearer = format!("Bearer {}", signed(&Claims { fanline: permissions, ..claims() }));
    let mut target = format!("/stream?on_lag={}", if case.skips { "skip" } else { "close" });
    if !case.filters.is_empty() {
        target += &format!("&topics={}", case.filters.join(","));
    }
    let last = case.begin.map(|begin| format!("{EPOCH}-{begin}"));
    let mut headers = vec![("authorization", bearer.as_str())];
    headers.extend(last.as_ref().map(|last| ("last-event-id", last.as_str())));
    let mut client = server.connect().await;
    client.send(request("GET", &target, &headers, b"")).await;

    let head = client.head().await;
    assert_eq!(head.status, if case.is_granted() { 200 } else { 403 }, "{case:?}");
    if !case.is_granted() {
        return;
    }
    for topic in TOPICS {
        assert!(!case.requests(topic) || case.grants(topic), "{topic} could be seen: {case:?}");
    }
    let mut stream = Stream::new(client, head);
    stream.hello().await;
    server.hub.publish_all(publish(&case.after)).await.unwrap();
    server.stop();
    check_events(&case, stream).await;
}

/// Checks each event and gap of a stream, and their number.
async fn check_events(case: &Case, mut stream: Stream) {
    let all: Vec<_> = case.before.iter().chain(&case.after).copied().collect();
    let begin = case.begin.unwrap_or(case.before.len() as u64);
    let (mut last, mut received, mut counted) = (begin, 0, Some(0));
    while let Some(block) = stream.try_block().await {
        let Block::Event(found) = block else { continue };
        match found.event.as_str() {
            "system" => {}
            "gap" => {
                let data = found.json();
                let place = |text: &str| text.rsplit('-').next().unwrap().parse::<u64>().unwrap();
                let from = data["from"].as_str().map_or(0, place);
                let to = place(data["to"].as_str().unwrap());
                // Each topic has its own ring, so some events of this range may still be delivered.
                let hidden = all[from as usize..to as usize].iter().filter(|topic| case.requests(topic)).count() as u64;
                match data["missed"].as_u64() {
                    Some(missed) => assert!(missed <= hidden, "{data} of {hidden}: {case:?}"),
                    None => assert!(data["missed"].is_null()),
                }
                counted = counted.zip(data["missed"].as_u64()).map(|(counted, missed)| counted + missed);
            }
            _ => {
                let number: u64 = found.id.as_deref().unwrap().rsplit('-').next().unwrap().parse().unwrap();
                let topic = all[number as usize - 1];
                assert_eq!(found.data, format!("\"{topic}\""));
                assert!(case.grants(topic) && case.requests(topic), "{topic} is not granted: {case:?}");
                assert!(number > last, "in order: {case:?}");
                last = number;
                received += 1;
            }
        }
    }
    let due = all[begin as usize..].iter().filter(|topic| case.requests(topic)).count();
    if let Some(counted) = counted {
        assert!(received + counted <= due as u64, "{received} and {counted} of {due}: {case:?}");
        // A stream that was cut off gets the rest when it resumes.
        assert!(!case.skips || received + counted == due as u64, "{received} and {counted} of {due}: {case:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn events_and_gap_counts_never_exceed_the_grant(case in case()) {
        run(check(case));
    }
}
