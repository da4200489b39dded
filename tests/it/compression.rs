//! Streams for clients that accept gzip. The decoder of a [`Stream`] checks the trailer where the stream ends.

use fanline::auth::Patterns;
use fanline::hub::HubOptions;
use fanline::server::HttpOptions;

use crate::support::{Block, Client, Event, Http2, Server, Stream, event, request, run, until};

const GZIP: (&str, &str) = ("accept-encoding", "gzip");

async fn follow(server: &Server, target: &str, coding: &str) -> Stream {
    let mut stream = server.subscribe_with(target, &[("accept-encoding", coding)]).await;
    stream.hello().await;
    stream
}

fn is_compressed(stream: &Stream) -> bool {
    stream.head.header("content-encoding").is_some()
}

/// Publishes events that have much in common, as those of a topic have.
async fn publish(server: &Server, topic: &str, count: u64) {
    for n in 0..count {
        let payload = format!(r#"{{"type":"metric","name":"cpu_usage","value":{},"unit":"percent"}}"#, n * 7919 % 1000);
        server.hub.publish(event(topic, &payload)).await.unwrap();
    }
}

#[test]
fn stream_of_one_ring_is_compressed_if_its_client_prefers_gzip() {
    run(async {
        let server = Server::start();
        for (target, coding, expected) in [
            ("/stream", "gzip, deflate, br", true),
            ("/stream?topics=a", "gzip", true),
            ("/stream?topics=a,a", "*", true),
            ("/stream?topics=a&format=envelope", "gzip;q=0.5", true),
            ("/stream?topics=a", "gzip;q=0", false),
            ("/stream?topics=a", "gzip;q=0.5, identity", false),
            ("/stream?topics=a", "br", false),
            // Their events are merged, or selected from others.
            ("/stream?topics=a,b", "gzip", false),
            ("/stream?topics=a:*", "gzip", false),
            // The events of users are not compressed unless that is set.
            ("/stream?topics=user:anna", "gzip", false),
        ] {
            let stream = follow(&server, target, coding).await;
            assert_eq!(is_compressed(&stream), expected, "{target} {coding}");
            assert_eq!(stream.head.header("vary"), Some("accept-encoding"));
            assert_eq!(stream.head.header("cache-control"), Some("no-store, no-transform"));
        }
        assert!(!is_compressed(&server.follow("/stream?topics=a").await));
    });
}

#[test]
fn settings_exclude_streams_from_compression() {
    run(async {
        let with = |http: HttpOptions| Server::with(Server::hub_options(), |builder| builder.http(http));
        let server = with(HttpOptions { compression: false, ..HttpOptions::default() });
        assert!(!is_compressed(&follow(&server, "/stream", "gzip").await));
        let topics: Patterns = "secret:*, user:anna".parse().unwrap();
        let server = with(HttpOptions { uncompressed_topics: topics, ..HttpOptions::default() });
        for (target, expected) in [
            ("/stream?topics=secret:1", false),
            ("/stream?topics=public", true),
            ("/stream?topics=user:anna", false),
            ("/stream?topics=user:bob", true),
            // It has the events of all topics.
            ("/stream", false),
        ] {
            assert_eq!(is_compressed(&follow(&server, target, "gzip").await), expected, "{target}");
        }
    });
}

#[test]
fn compressed_readers_get_the_same_events_wherever_they_join() {
    run(async {
        let server = Server::start();
        let mut http2 = Http2::connect(server.address).await;
        for target in ["/stream?topics=t&history=90", "/stream?history=17", "/stream?format=envelope&history=3"] {
            publish(&server, "t", 30).await;
            let mut plain = server.follow(target).await;
            let mut streams = vec![follow(&server, target, "gzip").await];
            let mut over_http2 = http2.subscribe_with(target, &[GZIP]).await;
            over_http2.hello().await;
            streams.push(over_http2);
            let mut client = server.connect().await;
            client.send(format!("GET {target} HTTP/1.0\r\naccept-encoding: gzip\r\n\r\n")).await;
            let mut old = client.into_stream().await;
            old.hello().await;
            streams.push(old);
            publish(&server, "t", 200).await;
            server.publish_marker("t").await;
            let events = events_to_marker(&mut plain).await;
            assert!(events.len() > 200);
            for stream in &mut streams {
                assert!(is_compressed(stream));
                assert_eq!(events_to_marker(stream).await, events, "{target}");
            }
        }
    });
}

/// The next events up to the marker of a test.
async fn events_to_marker(stream: &mut Stream) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let event = stream.event().await;
        if event.event == "marker" || event.data.contains(r#""event":"marker""#) {
            return events;
        }
        events.push(event);
    }
}

#[test]
fn compressed_event_is_visible_before_the_next_is_published() {
    run(async {
        let server = Server::start();
        let mut streams = Vec::new();
        for n in 1..=300 {
            if n % 25 == 0 && streams.len() < 3 {
                streams.push(follow(&server, "/stream?topics=t", "gzip").await);
            }
            publish(&server, "t", 1).await;
            for stream in &mut streams {
                stream.data_at(n).await;
            }
        }
    });
}

#[test]
fn compressed_stream_ends_with_a_trailer() {
    run(async {
        let mut server = Server::start();
        let mut http2 = Http2::connect(server.address).await;
        let mut disconnected = server.subscribe_with("/stream?topics=t", &[GZIP]).await;
        let id = disconnected.hello().await["client_id"].as_str().unwrap().to_owned();
        publish(&server, "t", 100).await;
        server.ask(request("DELETE", &format!("/clients/{id}"), &[], b"")).await.ok();
        for n in 1..=100 {
            disconnected.data_at(n).await;
        }
        assert_eq!(disconnected.event().await.json()["message"], "disconnected");
        disconnected.end().await;

        let mut drained = follow(&server, "/stream?topics=t&history=70", "gzip").await;
        let mut over_http2 = http2.subscribe_with("/stream?topics=t&history=70", &[GZIP]).await;
        over_http2.hello().await;
        for stream in [&mut drained, &mut over_http2] {
            for n in 31..=100 {
                stream.data_at(n).await;
            }
        }
        server.stop();
        for mut stream in [drained, over_http2] {
            assert_eq!(stream.event().await.json()["message"], "server restarting");
            stream.end().await;
        }
    });
}

/// Its socket accepts parts of blocks. Events that leave the ring meanwhile are covered by a gap, and compressed events follow.
#[test]
fn slow_compressed_reader_gets_every_event_or_a_gap() {
    run(async {
        let options = HubOptions { history: 200, ..Server::hub_options() };
        let server = Server::with(options, |builder| builder.send_buffer(4096));
        let mut client = Client::connect_narrow(server.address).await;
        client.send(request("GET", "/stream?topics=t&on_lag=skip", &[GZIP], b"")).await;
        until(|| server.stats().streams == 1).await;
        let mut seed = 1_u64;
        let mut digits = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed.to_string()
        };
        for _ in 0..3000 {
            let payload = format!("\"{}\"", (0..20).map(|_| digits()).collect::<String>());
            server.hub.publish(event("t", &payload)).await.unwrap();
        }
        server.publish_marker("t").await;
        let mut stream = client.into_stream().await;
        stream.hello().await;
        let (mut seen, mut gaps) = (0, 0);
        loop {
            let Block::Event(event) = stream.block().await else { continue };
            let sequence = |id: &str| id["7-".len()..].parse::<u64>().unwrap();
            match &*event.event {
                "marker" => break,
                "gap" => {
                    gaps += 1;
                    seen = sequence(event.json()["to"].as_str().unwrap());
                }
                _ => {
                    seen += 1;
                    assert_eq!(sequence(event.id.as_deref().unwrap()), seen);
                }
            }
        }
        assert_eq!(seen, 3000);
        assert!(gaps > 0, "the reader was fast enough");
    });
}

#[test]
fn readers_of_similar_events_get_less_than_a_third_of_the_bytes() {
    run(async {
        let server = Server::start();
        let mut clients = Vec::new();
        for coding in ["identity", "gzip", "gzip"] {
            clients.push(follow(&server, "/stream?topics=t", coding).await);
        }
        publish(&server, "t", 640).await;
        for stream in &mut clients {
            for n in 1..=640 {
                stream.data_at(n).await;
            }
        }
        let list = server.get("/clients").await.ok();
        let list = list["clients"].as_array().unwrap();
        let of = |encoding: Option<&str>| {
            let clients = list.iter().filter(move |client| client["encoding"].as_str() == encoding);
            clients.map(|client| client["bytes_sent"].as_u64().unwrap()).collect::<Vec<_>>()
        };
        let ([plain], [first, second]) = (&of(None)[..], &of(Some("gzip"))[..]) else { panic!("{list:?}") };
        assert!(3 * first < *plain && 3 * second < *plain, "{first} and {second} bytes of {plain}");
    });
}
