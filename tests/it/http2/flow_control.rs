//! Windows of streams and connections. A stream whose client does not read is treated as a blocked socket is over
//! HTTP/1.1, and costs the other streams of its connection nothing.

use std::time::Duration;

use fanline::hub::HubOptions;
use fanline::server::StreamOptions;
use h2::Reason;

use super::raw::{
    DATA, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, PING, RST_STREAM, Raw, frame, get, settings, window_update,
};
use super::{Bystander, with_streams};
use crate::support::{Block, Client, Event, Http2, MAX_WINDOW, Server, Stream, event, run, until};

const HISTORY: u64 = 100;

/// A server whose history is much smaller than what the tests publish, and whose write timeout no test reaches.
fn small_history() -> Server {
    let hub = HubOptions { history: HISTORY as usize, firehose_history: HISTORY as usize, ..Server::hub_options() };
    let streams = StreamOptions { write_timeout: Duration::from_secs(600), ..StreamOptions::default() };
    Server::with(hub, |builder| builder.streams(streams))
}

fn quick_write_timeout() -> Server {
    with_streams(StreamOptions { write_timeout: Duration::from_secs(1), ..StreamOptions::default() })
}

async fn publish_kilobytes(server: &Server, topic: &str, count: u64) {
    let payload = format!("\"{}\"", "x".repeat(1000));
    for _ in 0..count {
        server.hub.publish(event(topic, &payload)).await.unwrap();
    }
}

fn sequence(event: &Event) -> u64 {
    event.id.as_ref().unwrap()["7-".len()..].parse().unwrap()
}

/// Reads up to the event `last`. Every event must arrive or be counted in a gap. Returns the number of gaps.
async fn read_all(stream: &mut Stream, last: u64) -> u64 {
    let (mut seen, mut gaps) = (0, 0);
    while seen < last {
        let event = stream.event().await;
        if event.event == "gap" {
            gaps += 1;
            let missed = event.json()["missed"].as_u64().unwrap();
            assert_eq!(sequence(&event), seen + missed);
            seen += missed;
        } else {
            seen += 1;
            assert_eq!(sequence(&event), seen, "after {gaps} gaps");
        }
    }
    gaps
}

#[test]
fn stalled_stream_among_a_hundred_delays_no_other() {
    run(async {
        let server = small_history();
        let mut http2 = Http2::connect(server.address).await;
        let mut stalled = http2.subscribe("/stream?topics=t&on_lag=skip").await;
        let mut streams = Vec::new();
        for _ in 0..99 {
            streams.push(http2.follow("/stream?topics=t").await);
        }
        // More than fits in the window of the stalled stream and in the history.
        for number in 1..=5 * HISTORY {
            publish_kilobytes(&server, "t", 1).await;
            for stream in &mut streams {
                stream.data_at(number).await;
            }
        }
        stalled.hello().await;
        assert_eq!(read_all(&mut stalled, 5 * HISTORY).await, 1);
        server.publish_marker("t").await;
        stalled.marker().await;
    });
}

#[test]
fn exhausted_window_of_a_connection_delays_its_streams_and_loses_nothing() {
    run(async {
        let server = Server::start();
        let mut http2 = Http2::with(server.address, |builder| {
            builder.initial_connection_window_size(65_535).initial_window_size(MAX_WINDOW);
        })
        .await;
        let mut bystander = Bystander::connect(&server).await;
        let mut streams = [
            http2.subscribe("/stream?topics=t").await,
            http2.subscribe("/stream?topics=t").await,
            http2.subscribe("/stream?topics=t").await,
        ];
        publish_kilobytes(&server, "t", 300).await;
        bystander.assert_undisturbed(&server).await;
        // The client reads one stream after the other: what others hold of the window is released only later.
        let [first, second, third] = &mut streams;
        let all = async |stream: &mut Stream| {
            stream.hello().await;
            for sequence in 1..=300 {
                stream.data_at(sequence).await;
            }
        };
        tokio::join!(all(first), all(second), all(third));
    });
}

/// Opens a stream with an empty window, whose head arrives nevertheless.
async fn open_without_window(server: &Server) -> Raw {
    let mut raw = Raw::connect(server.address, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    raw.send(get(1, "/stream?topics=t")).await;
    assert!(raw.frame(HEADERS).await.is_success());
    raw
}

#[test]
fn window_updates_of_one_byte_are_used_exactly() {
    run(async {
        let server = Server::start();
        let mut raw = open_without_window(&server).await;
        let mut body = Vec::new();
        while !body.ends_with(b"\n\n") {
            raw.send(window_update(1, 1)).await;
            let data = raw.frame(DATA).await;
            assert_eq!((data.stream, data.payload.len()), (1, 1));
            body.extend_from_slice(&data.payload);
        }
        let hello = String::from_utf8(body).unwrap();
        assert!(hello.starts_with("retry: ") && hello.contains("\"message\":\"connected\""), "{hello}");
    });
}

#[test]
fn settings_change_the_windows_of_open_streams() {
    run(async {
        let server = Server::start();
        let mut raw = open_without_window(&server).await;
        raw.send(settings(&[(INITIAL_WINDOW_SIZE, 10)])).await;
        assert_eq!(raw.frame(DATA).await.payload.len(), 10);
        // A window of -5: nothing may be sent until updates have made it positive.
        raw.send(settings(&[(INITIAL_WINDOW_SIZE, 5)])).await;
        raw.send(window_update(1, 5)).await;
        raw.assert_alive().await;
        raw.send(window_update(1, 3)).await;
        assert_eq!(raw.frame(DATA).await.payload.len(), 3);
        raw.send(settings(&[(INITIAL_WINDOW_SIZE, 1 << 20)])).await;
        assert!(raw.frame(DATA).await.payload.ends_with(b"\n\n"));
        server.publish("t", [1]).await;
        assert!(raw.frame(DATA).await.payload.starts_with(b"id: 7-1\n"));
    });
}

#[test]
fn stream_that_accepts_nothing_is_reset_after_the_write_timeout() {
    run(async {
        let server = quick_write_timeout();
        let mut raw = open_without_window(&server).await;
        raw.send(get(3, "/stream?topics=t")).await;
        raw.send(window_update(3, 1 << 20)).await;
        let reset = raw.frame(RST_STREAM).await;
        assert_eq!(reset.stream, 1);
        until(|| server.stats().cut_off_stalled == 1).await;
        assert_eq!((server.stats().streams, server.stats().connections), (1, 1));
        server.publish("t", [1]).await;
        let data = loop {
            let data = raw.frame(DATA).await;
            if data.payload.starts_with(b"id: 7-1\n") {
                break data;
            }
        };
        assert_eq!(data.stream, 3);
    });
}

#[test]
fn response_that_is_not_read_is_reset_after_the_write_timeout() {
    run(async {
        let server = quick_write_timeout();
        let mut raw = Raw::connect(server.address, &[(INITIAL_WINDOW_SIZE, 0)]).await;
        raw.send(get(1, "/openapi.json")).await;
        assert_eq!(raw.frame(RST_STREAM).await.stream, 1);
        raw.send(get(3, "/health/live")).await;
        raw.send(window_update(3, 1000)).await;
        assert_eq!(raw.frame(DATA).await.stream, 3);
    });
}

#[test]
fn connection_whose_socket_is_not_read_ends_after_the_write_timeout() {
    run(async {
        let streams = StreamOptions { write_timeout: Duration::from_secs(1), ..StreamOptions::default() };
        let server = Server::with(Server::hub_options(), |builder| builder.streams(streams).send_buffer(4096));
        let mut bystander = Bystander::connect(&server).await;
        let window = [(INITIAL_WINDOW_SIZE, MAX_WINDOW)];
        let mut raw = Raw::on(Client::connect_narrow(server.address).await, &window).await;
        raw.send(window_update(0, MAX_WINDOW - 65_535)).await;
        for number in 0..10 {
            raw.send(get(2 * number + 1, "/stream?topics=t&on_lag=skip")).await;
        }
        until(|| server.stats().streams == 11).await;
        publish_kilobytes(&server, "t", 3000).await;
        until(|| server.stats().streams == 1 && server.stats().connections == 1).await;
        bystander.assert_undisturbed(&server).await;
    });
}

#[test]
fn client_that_reads_slowly_gets_everything() {
    run(async {
        let server = Server::start();
        let mut http2 = Http2::with_window(server.address, 1).await;
        let mut stream = http2.follow("/stream?topics=t").await;
        server.publish("t", 1..=20).await;
        for sequence in 1..=20 {
            stream.data_at(sequence).await;
        }
    });
}

#[test]
fn windows_that_overflow_are_errors() {
    run(async {
        let server = Server::start();
        let mut raw = Raw::connect(server.address, &[]).await;
        raw.send(get(1, "/stream?topics=t")).await;
        raw.send(window_update(1, MAX_WINDOW)).await;
        let reset = raw.frame(RST_STREAM).await;
        assert_eq!((reset.stream, reset.code()), (1, u32::from(Reason::FLOW_CONTROL_ERROR)));
        raw.send(window_update(0, MAX_WINDOW)).await;
        assert_eq!(raw.goaway().await, Some(Reason::FLOW_CONTROL_ERROR.into()));
        until(|| server.stats().connections == 0).await;
    });
}

/// The farewell cannot be written, so the stream ends without one when the drain ends.
#[test]
fn stalled_streams_do_not_delay_the_shutdown() {
    run(async {
        let hub = fanline::hub::Hub::new(&Server::hub_options());
        let mut server = Server::of(hub, |builder| builder.drain(Duration::from_millis(300)));
        let mut raw = open_without_window(&server).await;
        server.stop();
        raw.frame(GOAWAY).await;
        raw.goaway().await;
        until(|| server.stats().connections == 0).await;
    });
}

/// The pings that a client sends are answered while its streams are blocked.
#[test]
fn pings_are_answered_while_all_streams_are_blocked() {
    run(async {
        let server = Server::start();
        let mut raw = open_without_window(&server).await;
        publish_kilobytes(&server, "t", 10).await;
        for _ in 0..10 {
            raw.assert_alive().await;
        }
        raw.send(frame(PING, 0, 0, b"12345678")).await;
        assert_eq!(raw.frame(PING).await.payload, "12345678");
    });
}

#[test]
fn lag_of_a_blocked_stream_ends_it_before_the_write_timeout() {
    run(async {
        let server = small_history();
        let mut http2 = Http2::with_window(server.address, 20_000).await;
        let mut stream = http2.follow("/stream?topics=t").await;
        publish_kilobytes(&server, "t", 3 * HISTORY).await;
        until(|| server.stats().cut_off_lagged == 1).await;
        let mut read = 0;
        while let Some(Block::Event(event)) = stream.try_block().await {
            read += 1;
            assert_eq!(sequence(&event), read);
        }
        assert!(read < 3 * HISTORY);
        assert_eq!(stream.reset(), Some(Reason::CANCEL));
    });
}
