//! A client that does not read, and a ring that does not wait for it.

use std::time::{Duration, Instant};

use fanline::hub::HubOptions;
use fanline::server::StreamOptions;

use crate::support::{Block, Client, Event, Server, Stream, event, request, run, until};

const HISTORY: u64 = 32;

/// A server whose kernel holds little for each client, and whose rings hold little.
fn tiny() -> Server {
    let options = HubOptions { history: HISTORY as usize, firehose_history: HISTORY as usize, ..Server::hub_options() };
    Server::with(options, |builder| builder.send_buffer(4096))
}

async fn subscribe_without_reading(server: &Server, target: &str) -> Client {
    let mut client = Client::connect_narrow(server.address).await;
    client.send(request("GET", target, &[], b"")).await;
    until(|| server.stats().streams == 1).await;
    client
}

/// Publishes far more than kernel and ring can hold; answers the last sequence.
async fn flood(server: &Server, topic: &str) -> u64 {
    let payload = format!("\"{}\"", "x".repeat(4000));
    let first = server.hub.position().sequence;
    for _ in 0..HISTORY * 10 {
        server.hub.publish(event(topic, &payload)).await.unwrap();
    }
    first + HISTORY * 10
}

fn sequence(event: &Event) -> u64 {
    event.id.as_ref().unwrap()["7-".len()..].parse().unwrap()
}

#[test]
fn a_reader_that_lags_is_cut_off_and_comes_back_to_an_exact_gap() {
    run(async {
        for target in ["/stream?topics=t", "/stream", "/stream?topics=t&on_lag=close"] {
            let server = tiny();
            let client = subscribe_without_reading(&server, target).await;
            let last = flood(&server, "t").await;
            until(|| server.stats().streams == 0).await;
            assert_eq!(server.stats().cut_off_lagged, 1);
            // What was under way still arrives, in order, and then the end.
            let mut stream = client.into_stream().await;
            stream.hello().await;
            let mut seen = 0;
            while let Some(Block::Event(event)) = stream.try_block().await {
                seen += 1;
                assert_eq!(sequence(&event), seen, "nothing is left out before the end");
            }
            assert!(seen < last - HISTORY);
            let separator = if target.contains('?') { '&' } else { '?' };
            let mut again = server.follow(&format!("{target}{separator}last_event_id=7-{seen}")).await;
            let (_, gap) = again.gap().await;
            assert_eq!((&gap["reason"], &gap["missed"]), (&"evicted".into(), &(last - HISTORY - seen).into()));
            for n in last - HISTORY + 1..=last {
                again.data_at(n).await;
            }
        }
    });
}

#[test]
fn a_reader_that_skips_is_told_exactly_what_it_missed_and_goes_on() {
    run(async {
        for target in ["/stream?topics=t&on_lag=skip", "/stream?on_lag=skip"] {
            let server = tiny();
            let client = subscribe_without_reading(&server, target).await;
            let last = flood(&server, "t").await;
            assert_eq!(server.stats().streams, 1);
            let mut stream = client.into_stream().await;
            stream.hello().await;
            let (seen, gaps) = assert_whole(&mut stream, last).await;
            assert!(gaps >= 1, "{gaps}");
            assert_eq!(seen, last);
            assert_eq!(server.stats().gaps, gaps);
            assert_eq!(server.stats().cut_off_lagged, 0);
            server.publish_marker("t").await;
            stream.marker().await;
        }
    });
}

/// Reads up to the event `last`: every event comes, or is counted in a gap. Answers the last sequence and how many gaps
/// there were.
async fn assert_whole(stream: &mut Stream, last: u64) -> (u64, u64) {
    let (mut seen, mut gaps) = (0, 0);
    while seen < last {
        let event = stream.event().await;
        if event.event != "gap" {
            seen += 1;
            assert_eq!(sequence(&event), seen, "after {gaps} gaps");
            continue;
        }
        gaps += 1;
        let data = event.json();
        let missed = data["missed"].as_u64().expect("the count is known");
        assert!(missed > 0);
        assert_eq!(data["reason"], "lagged");
        assert_eq!(data["from"], format!("7-{seen}"));
        seen += missed;
        assert_eq!(data["to"], format!("7-{seen}"));
        assert_eq!(sequence(&event), seen, "the gap's id is where the stream goes on");
    }
    (seen, gaps)
}

#[test]
fn a_reader_that_lags_costs_the_others_nothing() {
    run(async {
        let server = tiny();
        let stuck = subscribe_without_reading(&server, "/stream?topics=t").await;
        let mut reader = server.follow("/stream?topics=t").await;
        for n in 1..=HISTORY * 10 {
            server.hub.publish(event("t", &format!("\"{}\"", "x".repeat(4000)))).await.unwrap();
            reader.data_at(n).await;
        }
        until(|| server.stats().cut_off_lagged == 1).await;
        drop(stuck);
    });
}

#[test]
fn a_reader_of_a_quiet_topic_does_not_lag_because_another_is_busy() {
    run(async {
        let server = tiny();
        let client = subscribe_without_reading(&server, "/stream?topics=quiet").await;
        let last = flood(&server, "busy").await;
        server.publish("quiet", [1]).await;
        let mut stream = client.into_stream().await;
        stream.hello().await;
        assert_eq!(stream.data_at(last + 1).await, "{\"n\":1}");
    });
}

/// Most events are read from the topic's ring. After each partial write the firehose's cursor has to follow although the
/// pattern delivered nothing: otherwise a ring of 1,000 overtakes a reader that is 120 events behind.
#[test]
fn a_reader_of_a_topic_and_a_pattern_that_keeps_up_never_lags() {
    const BEHIND: u64 = 120;
    run(async {
        for on_lag in ["close", "skip"] {
            let options = HubOptions { history: 2000, firehose_history: 1000, ..Server::hub_options() };
            let server = Server::with(options, |builder| builder.send_buffer(4096));
            let target = format!("/stream?topics=log,zz:*&on_lag={on_lag}");
            let mut stream = subscribe_without_reading(&server, &target).await.into_stream().await;
            stream.hello().await;
            let payload = format!("\"{}\"", "x".repeat(1000));
            let topic = |sequence: u64| if sequence.is_multiple_of(2000) { "zz:1" } else { "log" };
            for published in 1..=4000 {
                server.hub.publish(event(topic(published), &payload)).await.unwrap();
                if published > BEHIND {
                    stream.data_at(published - BEHIND).await;
                }
            }
            // The server may note a write after the client has it.
            let queued = async || server.get("/clients").await.ok()["clients"][0]["queue_size"].as_u64().unwrap();
            while !(1..=BEHIND).contains(&queued().await) {}
            assert_eq!((server.stats().gaps, server.stats().cut_off_lagged), (0, 0), "on_lag={on_lag}");
        }
    });
}

/// To the server nothing is pending: all that it wrote stands in the kernel, which knows that nobody takes it.
#[test]
fn a_reader_that_takes_nothing_is_stalled_also_when_the_kernel_holds_all_that_is_pending() {
    run(async {
        let write_timeout = Duration::from_secs(1);
        let server = Server::with(Server::hub_options(), |builder| {
            builder.streams(StreamOptions { write_timeout, ..StreamOptions::default() })
        });
        let client = subscribe_without_reading(&server, "/stream?topics=t").await;
        let mut reader = server.follow("/stream?topics=t").await;
        let began = Instant::now();
        // More than the client's kernel takes, and less than the server's holds.
        for n in 1..=5 {
            server.hub.publish(event("t", &format!("\"{}\"", "x".repeat(4000)))).await.unwrap();
            reader.data_at(n).await;
        }
        until(|| server.stats().streams == 1).await;
        assert!(began.elapsed() >= write_timeout, "cut off after {:?}", began.elapsed());
        let stats = server.stats();
        assert_eq!((stats.cut_off_stalled, stats.cut_off_lagged, stats.closed_by_peer), (1, 0, 0));
        assert_eq!(stats.delivered, 10, "all was written to both");
        // Who took everything may be silent for as long as it likes.
        server.publish("t", [6]).await;
        reader.data_at(6).await;
        drop(client);
    });
}
