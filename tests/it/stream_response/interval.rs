//! Streams with an interval, in the time of the test.

use std::time::Duration;

use fanline::http::StreamResponseOptions;
use fanline::hub::{Hub, HubOptions};
use tokio::time::{Instant, advance, sleep};

use super::application::Application;
use super::bodies::follow;
use crate::support::{Server, assert_problem, event, request, run, run_paused};

const INTERVAL: Duration = Duration::from_millis(400);

/// The least and the longest time between two turns.
fn turn() -> std::ops::RangeInclusive<Duration> {
    INTERVAL * 7 / 8..=INTERVAL * 9 / 8 + Duration::from_millis(2)
}

#[test]
fn events_within_an_interval_arrive_together_at_its_end() {
    run_paused(async {
        let hub = Hub::new(&Server::hub_options());
        let mut stream = follow(&hub, "/?topics=t&interval=400ms").await;
        for round in 0..5 {
            let began = Instant::now();
            for n in 0..3 {
                hub.publish(event("t", "{}")).await.unwrap();
                stream.data_at(round * 4 + n + 1).await;
                let waited = began.elapsed();
                match n {
                    0 => assert!(waited < Duration::from_millis(2), "after a quiet interval: {waited:?}"),
                    1 => assert!(turn().contains(&waited), "{waited:?}"),
                    _ => assert!((INTERVAL..INTERVAL * 3).contains(&waited), "{waited:?}"),
                }
            }
            hub.publish(event("t", "{}")).await.unwrap();
            stream.data_at(round * 4 + 4).await;
            sleep(INTERVAL * 2).await;
        }
    });
}

#[test]
fn events_before_the_turn_are_one_chunk() {
    run_paused(async {
        let hub = Hub::new(&Server::hub_options());
        let mut stream = follow(&hub, "/?topics=t&interval=400ms").await;
        hub.publish(event("t", "0")).await.unwrap();
        stream.data_at(1).await;
        let began = Instant::now();
        let feed = async {
            for n in 2..=50 {
                hub.publish(event("t", "0")).await.unwrap();
                advance(Duration::from_millis(7)).await;
                assert!(n < 50 || began.elapsed() < INTERVAL);
            }
        };
        let read = async {
            stream.data_at(2).await;
            assert!(turn().contains(&began.elapsed()), "{:?}", began.elapsed());
            let at = Instant::now();
            for sequence in 3..=50 {
                stream.data_at(sequence).await;
            }
            assert_eq!(Instant::now(), at);
        };
        tokio::join!(feed, read);
    });
}

#[test]
fn hub_that_is_closed_delivers_what_waits_for_the_turn() {
    run_paused(async {
        let hub = Hub::new(&Server::hub_options());
        let mut stream = follow(&hub, "/?topics=t&interval=60s").await;
        hub.publish(event("t", "0")).await.unwrap();
        stream.data_at(1).await;
        hub.publish(event("t", "0")).await.unwrap();
        let began = Instant::now();
        hub.close();
        assert_eq!(stream.event().await.json()["message"], "server restarting");
        stream.data_at(2).await;
        stream.end().await;
        assert!(began.elapsed() < Duration::from_secs(1));
    });
}

#[test]
fn stream_that_lags_while_it_waits_for_its_turn_gets_a_gap() {
    run_paused(async {
        let hub = Hub::new(&HubOptions { history: 4, firehose_history: 64, ..Server::hub_options() });
        let mut stream = follow(&hub, "/?topics=t&interval=10s&on_lag=skip").await;
        for _ in 1..=20 {
            hub.publish(event("t", "0")).await.unwrap();
        }
        stream.gap().await;
        for sequence in 17..=20 {
            stream.data_at(sequence).await;
        }
        for _ in 21..=40 {
            hub.publish(event("t", "0")).await.unwrap();
        }
        let began = Instant::now();
        let (id, gap) = stream.gap().await;
        assert_eq!((id.as_deref(), &gap["missed"]), (Some("7-36"), &16.into()));
        assert!(began.elapsed() > Duration::from_secs(8));
        stream.data_at(37).await;
    });
}

#[test]
fn interval_outside_the_bounds_is_refused() {
    run(async {
        let application =
            Application::start(Hub::new(&Server::hub_options()), |_| StreamResponseOptions::default()).await;
        for interval in ["9ms", "61s", "soon", ""] {
            let target = format!("/stream?interval={interval}");
            let response = application.ask(&request("GET", &target, &[], b"")).await;
            let problem = "parameter interval: expected a time from 10ms to 1m, such as 100ms or 1s";
            assert_problem(&response, 400, &[problem]);
        }
    });
}
