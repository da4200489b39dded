//! Memory of streams over HTTP/2, measured in the process.

use super::raw::{HEADERS, INITIAL_WINDOW_SIZE, Raw, get, window_update};
use crate::process::{Server, resident_bytes};
use crate::support::{Http2, MAX_WINDOW, run};

/// Opens `connections` of a hundred streams each.
async fn open(server: &Server, connections: usize) -> Vec<(Http2, Vec<crate::support::Stream>)> {
    let mut opened = Vec::new();
    for number in 0..connections {
        let mut http2 = Http2::connect(server.address()).await;
        let mut streams = Vec::new();
        for stream in 0..100 {
            let name = number * 100 + stream;
            streams.push(http2.follow(&format!("/stream?topics=news,mail&client_name=client-{name}")).await);
        }
        opened.push((http2, streams));
    }
    opened
}

#[test]
fn stream_takes_at_most_four_kilobytes() {
    run(async {
        let server = Server::start(&[]);
        let warm = open(&server, 1).await;
        server.publish("news", "warm");
        let before = resident_bytes(server.pid());
        let mut opened = open(&server, 10).await;
        let connected = resident_bytes(server.pid());
        for round in 0..5 {
            server.publish("news", &format!("{round}"));
            for (_, streams) in &mut opened {
                for stream in streams {
                    assert_eq!(stream.event().await.data, format!("{round}"));
                }
            }
        }
        let after = resident_bytes(server.pid());
        let each = [connected, after].map(|bytes| bytes.saturating_sub(before) / 1000);
        eprintln!("{} bytes for each of 1,000 streams, {} after 5 events", each[0], each[1]);
        assert!(each.iter().all(|bytes| *bytes <= 4096), "{each:?}");
        drop(warm);
    });
}

/// Publishes events of 16 KB to a thousand streams that are not read, which hold what their buffers allow.
fn check_unread_streams(window: u32) {
    const STREAMS: u64 = 1000;
    const ROUNDS: usize = 200;
    run(async {
        let server = Server::start(&["--write-timeout", "10m", "--history", "64", "--firehose-history", "64"]);
        let mut reader = server.stream("topics=news");
        let payload = "x".repeat(16 << 10);
        server.publish("news", &payload);
        reader.next();
        let before = resident_bytes(server.pid());
        let mut unread = Vec::new();
        for _ in 0..STREAMS / 100 {
            let mut raw = Raw::connect(server.address(), &[(INITIAL_WINDOW_SIZE, window)]).await;
            raw.send(window_update(0, MAX_WINDOW - 65_535)).await;
            for number in 0..100 {
                raw.send(get(2 * number + 1, "/stream?topics=news&on_lag=skip")).await;
            }
            for _ in 0..100 {
                assert!(raw.frame(HEADERS).await.is_success());
            }
            unread.push(raw);
        }
        for _ in 0..ROUNDS {
            server.publish("news", &payload);
            reader.next();
        }
        let each = resident_bytes(server.pid()).saturating_sub(before) / STREAMS;
        eprintln!("{each} bytes for each of {STREAMS} unread streams with windows of {window} bytes");
        // The buffer of a stream, and what is left of an event that was begun.
        assert!(each <= 40 << 10, "{each} bytes for each stream");
        drop(unread);
    });
}

#[test]
fn streams_without_window_take_bounded_memory() {
    check_unread_streams(0);
}

#[test]
fn streams_whose_socket_is_not_read_take_bounded_memory() {
    check_unread_streams(MAX_WINDOW);
}
