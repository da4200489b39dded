//! Frames that break the protocol (RFC 9113) end their stream or their connection, with the error of the specification.

use std::time::Duration;

use super::Bystander;
use super::raw::{
    COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, HEADERS,
    PING, PROTOCOL_ERROR, PUSH_PROMISE, RST_STREAM, Raw, SETTINGS, STREAM_CLOSED, WINDOW_UPDATE, block, fields, frame,
    get, settings, window_update,
};
use crate::support::{Server, run, until};

/// The library reports some sizes and fields with a less specific code.
const SIZE: [u32; 2] = [FRAME_SIZE_ERROR, PROTOCOL_ERROR];
const FIELD: [u32; 2] = [PROTOCOL_ERROR, COMPRESSION_ERROR];

fn head(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields))
}

#[test]
fn malformed_request_ends_its_stream_only() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        let get = |others: &[(&'static str, &'static str)]| fields("GET", "/health/live", others);
        for fields in [
            get(&[("connection", "close")]),
            get(&[("transfer-encoding", "chunked")]),
            get(&[("upgrade", "h2c")]),
            get(&[(":path", "/")]),
            get(&[("x", "1"), (":method", "GET")]),
            get(&[(":status", "200")]),
            get(&[("content-length", "5")]),
            get(&[("content-length", "x")]),
            vec![(":method", "GET"), (":scheme", "http"), (":authority", "test")],
            vec![(":method", "GET"), (":scheme", "http"), (":authority", "test"), (":path", "")],
            vec![(":scheme", "http"), (":authority", "test"), (":path", "/")],
        ] {
            let mut raw = Raw::connect(server.address, &[]).await;
            raw.send(head(1, &fields)).await;
            loop {
                let frame = raw.try_frame().await.unwrap_or_else(|| panic!("closed by {fields:?}"));
                match frame.kind {
                    RST_STREAM => break assert_eq!((frame.stream, frame.code()), (1, PROTOCOL_ERROR), "{fields:?}"),
                    // An error response is as good.
                    HEADERS => break assert!(!frame.is_success(), "{fields:?}"),
                    _ => {}
                }
            }
            raw.send(super::raw::get(3, "/health/live")).await;
            let response = loop {
                let frame = raw.frame(HEADERS).await;
                if frame.stream == 3 {
                    break frame;
                }
            };
            assert!(response.is_success(), "after {fields:?}");
        }
        bystander.assert_undisturbed(&server).await;
    });
}

/// Bytes that break the protocol, with the errors that may answer them.
fn violations() -> [(&'static str, Vec<u8>, &'static [u32]); 26] {
    let health = block(&fields("GET", "/health/live", &[]));
    let with_field = |name, value| head(1, &fields("GET", "/", &[(name, value)]));
    [
        ("a stream of the server", get(2, "/health/live"), &[PROTOCOL_ERROR]),
        (
            "a stream number that decreases",
            [get(5, "/health/live"), get(3, "/health/live")].concat(),
            &[PROTOCOL_ERROR, STREAM_CLOSED],
        ),
        ("DATA on an idle stream", frame(DATA, 0, 1, b"x"), &[PROTOCOL_ERROR]),
        ("DATA on the connection", frame(DATA, 0, 0, b"x"), &[PROTOCOL_ERROR]),
        ("HEADERS on the connection", frame(HEADERS, END_HEADERS, 0, &health), &[PROTOCOL_ERROR]),
        ("RST_STREAM on an idle stream", frame(RST_STREAM, 0, 1, &[0; 4]), &[PROTOCOL_ERROR]),
        ("a frame over the maximum size", frame(DATA, 0, 1, &vec![0; 20_000]), &SIZE),
        ("a PING of seven bytes", frame(PING, 0, 0, &[0; 7]), &SIZE),
        ("a PING on a stream", frame(PING, 0, 1, &[0; 8]), &[PROTOCOL_ERROR]),
        ("SETTINGS of five bytes", frame(SETTINGS, 0, 0, &[0; 5]), &SIZE),
        ("SETTINGS on a stream", frame(SETTINGS, 0, 1, &[]), &[PROTOCOL_ERROR]),
        ("a window over the maximum", settings(&[(4, 1 << 31)]), &[FLOW_CONTROL_ERROR, PROTOCOL_ERROR]),
        ("a frame size under the minimum", settings(&[(5, 100)]), &[PROTOCOL_ERROR]),
        ("WINDOW_UPDATE by nothing", window_update(0, 0), &[PROTOCOL_ERROR]),
        ("WINDOW_UPDATE of three bytes", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), &SIZE),
        ("WINDOW_UPDATE on an idle stream", window_update(1, 1), &[PROTOCOL_ERROR]),
        ("a push of the client", frame(PUSH_PROMISE, END_HEADERS, 1, &[0; 8]), &[PROTOCOL_ERROR]),
        ("CONTINUATION without HEADERS", frame(CONTINUATION, END_HEADERS, 1, &health), &[PROTOCOL_ERROR]),
        (
            "a frame within a head",
            [frame(HEADERS, 0, 1, &health), frame(PING, 0, 0, &[0; 8])].concat(),
            &[PROTOCOL_ERROR],
        ),
        ("a name in upper case", with_field("X-Upper", "1"), &FIELD),
        ("a name with a space", with_field("a b", "1"), &FIELD),
        ("a value with a line feed", with_field("x", "a\nb"), &FIELD),
        ("a method with a space", head(1, &fields("G T", "/", &[])), &FIELD),
        ("an invalid index", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff, 0xff, 0x7f]), &FIELD),
        ("invalid padding", frame(DATA, 8, 1, &[200]), &[PROTOCOL_ERROR]),
        ("HTTP/1.1", b"GET / HTTP/1.1\r\nhost: test\r\n\r\n".to_vec(), &SIZE),
    ]
}

#[test]
fn protocol_error_ends_its_connection() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        for (name, bytes, codes) in violations() {
            let mut raw = Raw::connect(server.address, &[]).await;
            raw.send(bytes).await;
            let goaway = tokio::time::timeout(Duration::from_secs(10), raw.goaway()).await;
            let code = goaway.ok().flatten().unwrap_or_else(|| panic!("{name}: no GOAWAY"));
            assert!(codes.contains(&code), "{name}: error {code}");
            drop(raw);
            until(|| server.stats().connections == 1).await;
        }
        bystander.assert_undisturbed(&server).await;
    });
}

#[test]
fn unknown_frames_and_settings_are_ignored() {
    run(async {
        let server = Server::start();
        let mut raw = Raw::connect(server.address, &[(0xfafa, 7)]).await;
        raw.send(frame(0xfa, 0xff, 0, &[1, 2, 3])).await;
        raw.send(frame(0xfa, 0xff, 1, &[])).await;
        raw.send(get(1, "/health/live")).await;
        assert!(raw.frame(HEADERS).await.is_success());
        raw.assert_alive().await;
    });
}

#[test]
fn body_whose_length_differs_from_its_head_is_not_published() {
    run(async {
        let server = Server::start();
        for (length, body) in [("1", "xy"), ("3", "xy")] {
            let mut raw = Raw::connect(server.address, &[]).await;
            let own = [("content-type", "text/plain"), ("content-length", length)];
            raw.send(frame(HEADERS, END_HEADERS, 1, &block(&fields("POST", "/publish/t", &own)))).await;
            raw.send(frame(DATA, END_STREAM, 1, body.as_bytes())).await;
            assert_eq!(raw.frame(RST_STREAM).await.code(), PROTOCOL_ERROR);
            raw.assert_alive().await;
        }
        assert_eq!(server.hub.position().sequence, 0);
    });
}
