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
            // Latest values are compressed for all that read them at one moment.
            ("/stream?topics=a&mode=latest&interval=1s", "gzip", true),
            ("/stream?topics=a,b&mode=latest&interval=1s", "gzip", true),
            ("/stream?mode=latest&interval=1s", "gzip", true),
            ("/stream?topics=a:*&mode=latest&interval=1s", "gzip", false),
            ("/stream?topics=a&mode=latest", "gzip", false),
            ("/stream?topics=user:anna&mode=latest&interval=1s", "gzip", false),
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
        for n in 1..=100 {
            disconnected.data_at(n).await;
        }
        server.ask(request("DELETE", &format!("/clients/{id}"), &[], b"")).await.ok();
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

/// What the demo measures on a machine with two cores: name, value, unit, tags. The changing values are written as `#`.
const MEASURED: &str = r#"
    cpu_usage # percent {}|cpu_usage # percent {"core":"0"}|cpu_usage # percent {"core":"1"}|load_average_1m # load {}
    load_average_5m # load {}|load_average_15m # load {}|memory_used # bytes {}|memory_total 25274793984 bytes {}
    memory_usage # percent {}|swap_used 0 bytes {}|swap_total 0 bytes {}|network_received # bytes/s {"interface":"eth0"}
    network_transmitted # bytes/s {"interface":"eth0"}|network_received # bytes/s {"interface":"lo"}
    network_transmitted # bytes/s {"interface":"lo"}|disk_usage # percent {"mount":"/"}|disk_read # bytes/s {"mount":"/"}
    disk_written # bytes/s {"mount":"/"}|process_cpu_usage # percent {}|process_memory # bytes {}
    connections # connections {}|streams # streams {}|events_per_second # events/s {}|deliveries_per_second # events/s {}
    delivered_bytes_per_second # bytes/s {}|subscribers_cut_off 0 subscribers {}|accept_pauses 0 pauses {}"#;

/// What the demo publishes in one second.
fn sample(second: u64) -> Vec<fanline::event::Event> {
    let metric = |(n, measured): (usize, &str)| {
        let [name, value, unit, tags] = measured.split(' ').collect::<Vec<_>>()[..] else { panic!("{measured}") };
        let random = (second + 1).wrapping_mul(n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let value = value.replace('#', &format!("{:.2}", (random % 1_000_000) as f64 / 100.0));
        event(
            "metric",
            &format!(
                r#"{{"type":"metric","name":"{name}","value":{value},"unit":"{unit}","timestamp":"2026-03-01T12:00:{second:02}.704Z","tags":{tags}}}"#
            ),
        )
    };
    MEASURED.trim().split(['|', '\n']).map(str::trim).enumerate().map(metric).collect()
}

/// A minute of the demo, with values that all change each second. Clients connect in each of its quarters.
#[test]
fn metrics_of_the_demo_take_less_than_a_fifth_of_the_bytes() {
    run(async {
        let server = Server::start();
        let mut streams = vec![follow(&server, "/stream?topics=metric", "identity").await];
        let mut published = 0;
        for second in 0..60 {
            if second % 15 == 0 {
                streams.push(follow(&server, "/stream?topics=metric", "gzip").await);
            }
            let events = sample(second);
            let last = published + events.len() as u64;
            server.hub.publish_all(events).await.unwrap();
            for stream in &mut streams {
                for sequence in published + 1..=last {
                    stream.data_at(sequence).await;
                }
            }
            published = last;
        }
        assert_eq!(published, 60 * 27);
        let list = server.get("/clients").await.ok();
        let list = list["clients"].as_array().unwrap();
        let bytes_per_event = |encoding: Option<&str>| {
            let clients = list.iter().filter(|client| client["encoding"].as_str() == encoding);
            let (bytes, events) = clients.fold((0, 0), |(bytes, events), client| {
                (bytes + client["bytes_sent"].as_u64().unwrap(), events + client["events_received"].as_u64().unwrap())
            });
            bytes as f64 / events as f64
        };
        let (plain, compressed) = (bytes_per_event(None), bytes_per_event(Some("gzip")));
        assert!(5.0 * compressed < plain, "{compressed} bytes for an event of {plain}");
    });
}
