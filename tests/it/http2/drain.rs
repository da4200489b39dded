//! Shutdown of HTTP/2 connections: a GOAWAY, an announcement on each stream, and closes that are spread over the drain time.

use std::time::{Duration, Instant};

use fanline::hub::Hub;

use super::raw::{GOAWAY, HEADERS, RST_STREAM, Raw, get};
use crate::support::{Http2, Server, run, until};

fn draining(window: Duration) -> Server {
    Server::of(Hub::new(&Server::hub_options()), |builder| builder.drain(window))
}

#[test]
fn drain_announces_the_restart_and_ends_each_stream() {
    run(async {
        const WINDOW: Duration = Duration::from_secs(2);
        let mut server = draining(WINDOW);
        let mut http2 = Http2::connect(server.address).await;
        let mut streams = Vec::new();
        for _ in 0..20 {
            streams.push(http2.follow("/stream?topics=t").await);
        }
        let began = Instant::now();
        server.stop();
        for stream in &mut streams {
            assert_eq!(stream.event().await.json()["message"], "server restarting");
        }
        let mut ended = tokio::task::JoinSet::new();
        for stream in streams {
            ended.spawn(async move {
                stream.end().await;
                began.elapsed()
            });
        }
        let ended = ended.join_all().await;
        let (first, last) = (ended.iter().min().unwrap(), ended.iter().max().unwrap());
        assert!(*first < WINDOW / 2 && *last > WINDOW / 2 && *last < WINDOW + Duration::from_secs(2), "{ended:?}");
        assert_eq!(http2.closed().await, None, "the connection ends without an error");
        until(|| server.stats().connections == 0).await;
    });
}

#[test]
fn goaway_comes_at_the_begin_of_the_drain() {
    run(async {
        let mut server = draining(Duration::from_secs(1));
        let mut raw = Raw::connect(server.address, &[]).await;
        raw.send(get(1, "/stream?topics=t")).await;
        assert!(raw.frame(HEADERS).await.is_success());
        server.stop();
        let goaway = raw.frame(GOAWAY).await;
        assert_eq!(goaway.code(), 0);
        raw.goaway().await;
    });
}

/// A request that crossed the GOAWAY is answered or refused, so that the client knows what became of it.
#[test]
fn request_after_the_goaway_is_answered_or_refused() {
    run(async {
        let mut server = draining(Duration::from_secs(1));
        let mut raw = Raw::connect(server.address, &[]).await;
        raw.send(get(1, "/stream?topics=t")).await;
        raw.frame(HEADERS).await;
        server.stop();
        let mut last_stream = raw.frame(GOAWAY).await.payload.slice(..4);
        raw.send(get(3, "/health/live")).await;
        let mut is_answered = false;
        while let Some(frame) = raw.try_frame().await {
            is_answered |= frame.stream == 3 && matches!(frame.kind, HEADERS | RST_STREAM);
            if frame.kind == GOAWAY {
                last_stream = frame.payload.slice(..4);
            }
        }
        // A stream over the last one of the GOAWAY was not processed (RFC 9113, section 6.8).
        assert!(is_answered || last_stream[..] < [0, 0, 0, 3][..]);
    });
}

#[test]
fn idle_connection_ends_with_the_drain() {
    run(async {
        let mut server = draining(Duration::from_secs(30));
        let mut http2 = Http2::connect(server.address).await;
        http2.get("/health/live").await.ok();
        let began = Instant::now();
        server.stop();
        assert_eq!(http2.closed().await, None);
        assert!(began.elapsed() < Duration::from_secs(10));
    });
}

#[test]
fn request_in_flight_completes_during_the_drain() {
    run(async {
        let mut server = draining(Duration::from_secs(5));
        let mut http2 = Http2::connect(server.address).await;
        let mut stream = http2.follow("/stream?topics=t").await;
        let (response, mut body) =
            http2.send("POST", "/publish/t", &[("content-type", "text/plain")], false).await.unwrap();
        server.stop();
        assert_eq!(stream.event().await.json()["message"], "server restarting");
        body.send_data("x".into(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
    });
}

#[test]
fn connection_that_begins_during_the_drain_gets_a_response() {
    run(async {
        let mut server = draining(Duration::from_secs(6));
        let mut stream = server.follow("/stream?topics=t").await;
        server.stop();
        assert_eq!(stream.event().await.json()["message"], "server restarting");
        let mut http2 = Http2::connect(server.address).await;
        assert_eq!(http2.get("/health/ready").await.head.status, 503);
        assert_eq!(server.get("/health/ready").await.head.status, 503);
    });
}
