//! How streams end: with the hub, or drained before it.

use std::time::Duration;

use fanline::http::{StreamResponseOptions, drain_streams, stream_response, stream_stats};
use fanline::hub::Hub;
use hyper::Request;

use super::application::Application;
use super::bodies::follow;
use crate::support::{Server, Stream, assert_problem, event, request, run};

/// Reads the restart notice and what follows to the end of the stream, and returns the number of events.
async fn rest(mut stream: Stream) -> u64 {
    let notice = stream.event().await;
    assert_eq!(notice.json()["message"], "server restarting", "{notice:?}");
    let mut events = 0;
    while let Some(block) = stream.try_block().await {
        assert!(matches!(block, crate::support::Block::Event(_)), "{block:?}");
        events += 1;
    }
    assert_eq!(stream.error(), None);
    events
}

#[test]
fn a_closed_hub_ends_its_streams_after_their_events() {
    run(async {
        let hub = Hub::new(&Server::hub_options());
        let (waiting, behind) = (follow(&hub, "/?topics=t").await, follow(&hub, "/?topics=t").await);
        let waiting = tokio::spawn(rest(waiting));
        tokio::task::yield_now().await;
        hub.close();
        assert_eq!(waiting.await.unwrap(), 0);
        assert_eq!(rest(behind).await, 0);
        assert_eq!((stream_stats(&hub).streams, stream_stats(&hub).ended), (0, 2));
    });
}

#[test]
fn a_stream_that_is_behind_gets_its_events_before_the_end() {
    run(async {
        let hub = Hub::new(&Server::hub_options());
        let behind = follow(&hub, "/?topics=t").await;
        for n in 1..=100 {
            hub.publish(event("t", &n.to_string())).await.unwrap();
        }
        hub.close();
        assert_eq!(rest(behind).await, 100);
    });
}

#[test]
fn streams_are_drained_over_the_window_while_publishing_goes_on() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let hub = Hub::new(&Server::hub_options());
        let mut readers = Vec::new();
        for _ in 0..10 {
            let stream = follow(&hub, "/?topics=t").await;
            readers.push(tokio::spawn(async move {
                let events = rest(stream).await;
                (tokio::time::Instant::now(), events)
            }));
        }
        tokio::task::yield_now().await;
        let began = tokio::time::Instant::now();
        let publish = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            hub.publish(event("t", "1")).await.unwrap();
        };
        tokio::join!(drain_streams(&hub, Duration::from_secs(10)), publish);
        assert!(began.elapsed() <= Duration::from_secs(10));
        let mut ends = Vec::new();
        for reader in readers {
            let (end, events) = reader.await.unwrap();
            let after = (end - began).as_millis();
            assert_eq!(events, u64::from(after >= 5000), "{after} ms");
            ends.push(after);
        }
        ends.sort_unstable();
        assert!(ends.windows(2).all(|pair| (800..1000).contains(&(pair[1] - pair[0]))), "{ends:?}");
    });
}

#[test]
fn new_streams_are_refused_once_the_drain_has_begun() {
    run(async {
        let hub = Hub::new(&Server::hub_options());
        let application = Application::start(hub.clone(), |_| StreamResponseOptions::default()).await;
        drain_streams(&hub, Duration::ZERO).await;
        let refused = application.get("/stream").await;
        assert_problem(&refused, 503, &["the server is shutting down"]);
        let response = application.ask(request("GET", "/stream", &[("accept", "text/event-stream")], b"")).await;
        assert_eq!(response.head.status, 200, "an EventSource gives up after a 503");
        hub.publish(event("t", "1")).await.expect("the drain does not close the hub");
    });
}

#[test]
fn a_client_that_reads_nothing_does_not_hold_the_drain_up() {
    run(async {
        let hub = Hub::new(&Server::hub_options());
        let request = Request::get("/").body(()).unwrap();
        let _never_polled = stream_response(&hub, &request, StreamResponseOptions::default()).await;
        drain_streams(&hub, Duration::ZERO).await;
        assert_eq!(stream_stats(&hub).streams, 1);
    });
}
