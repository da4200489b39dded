//! `fanline bench --http2`.

use serde_json::Value;

use super::gateway::Gateway;
use super::peer::{Fault, Framing, Peer};
use super::{bench, bench_peer_at, faults, problems};
use crate::process::Server;

const SHORT: [&str; 6] = ["--publishers", "1", "--rate", "200", "--duration", "0.5"];

/// A short run of ten subscribers over HTTP/2 against a peer with this fault, whose gateway allows this many `streams` on a
/// connection.
fn bench_http2(fault: Fault, streams: u32, args: &[&str]) -> (Gateway, Option<i32>, Value, String) {
    let peer = Peer::start(Framing::Plain, fault);
    let gateway = Gateway::start(peer.address, streams);
    let args = [&SHORT[..], &["--clients", "10"], args].concat();
    let (code, report, stderr) = bench_peer_at(gateway.address, peer.address, &args);
    (gateway, code, report, stderr)
}

#[test]
fn streams_of_fanline_are_whole_over_http2() {
    let server = Server::start(&[]);
    let args = ["--url", &server.url(), "--clients", "25", "--http2=10", "--stalled", "5", "--warmup", "0"];
    let (code, report, stderr) = bench(&[&args, &SHORT[..]].concat());
    assert_eq!((code, faults(&report), stderr.as_str()), (Some(0), vec![], ""), "{report}");
    assert_eq!(
        (&report["connected"], &report["stalled"], &report["deliveries"]),
        (&25.into(), &5.into(), &2500.into())
    );
}

#[test]
fn subscribers_share_http2_connections() {
    let (gateway, code, report, stderr) = bench_http2(Fault::None, 4, &["--http2=4"]);
    assert_eq!((code, faults(&report), stderr.as_str()), (Some(0), vec![], ""), "{report}");
    // One connection finds the address.
    assert_eq!((gateway.accepted(), &report["connected"]), (1 + 3, &10.into()));
    assert_eq!(report["deliveries"].as_u64().unwrap(), 10 * report["events_published"].as_u64().unwrap());
    assert_eq!((&report["options"]["http2_streams"], &report["stalled"]), (&4.into(), &0.into()));
    assert!(report["bytes_received"].as_u64().unwrap() > 100 * report["deliveries"].as_u64().unwrap());
}

#[test]
fn http2_without_a_number_has_a_hundred_streams_on_a_connection() {
    let (gateway, code, report, _) = bench_http2(Fault::None, 100, &["--http2"]);
    assert_eq!((code, gateway.accepted()), (Some(0), 1 + 1), "{report}");
}

#[test]
fn faults_of_http2_streams_are_counted() {
    for (fault, found) in [
        (Fault::Drop(3), [("lost", 1)]),
        (Fault::Repeat(3), [("duplicated", 1)]),
        (Fault::Swap(3), [("out_of_order", 1)]),
        (Fault::Close(3), [("closed", 1)]),
        (Fault::RefuseOthers("429 Too Many Requests"), [("refused", 9)]),
    ] {
        let (_, code, report, _) = bench_http2(fault, 100, &["--http2"]);
        assert_eq!((code, faults(&report)), (Some(1), found.to_vec()), "{report}");
    }
}

#[test]
fn refusal_over_http2_is_reported_as_over_http1() {
    let (_, _, report, _) = bench_http2(Fault::RefuseOthers("429 Too Many Requests"), 100, &["--http2"]);
    assert!(problems(&report).contains("a subscriber was refused: 429 Too Many Requests: come later!"), "{report}");
    let (_, code, _, stderr) = bench_http2(Fault::Page, 100, &["--http2"]);
    assert!(code == Some(1) && stderr.contains("no event stream but a 200 with content type text/html"), "{stderr}");
}

#[test]
fn stalled_stream_leaves_the_others_whole() {
    let long = ["--http2", "--stalled", "1", "--payload", "2000"];
    let (gateway, code, report, stderr) = bench_http2(Fault::None, 100, &long);
    assert_eq!((code, faults(&report), stderr.as_str()), (Some(0), vec![], ""), "{report}");
    assert_eq!((gateway.accepted(), &report["stalled"], &report["connected"]), (2, &1.into(), &10.into()));
}

#[test]
fn streams_over_the_servers_limit_are_named() {
    let (_, code, report, _) = bench_http2(Fault::None, 4, &["--http2"]);
    assert_eq!((code, &report["connected"]), (Some(1), &4.into()), "{report}");
    let text = "the server allows 4 streams on an HTTP/2 connection; give --http2=4";
    assert!(problems(&report).contains(text), "{report}");
}

#[test]
fn server_without_http2_is_named() {
    let peer = Peer::start(Framing::Chunks, Fault::None);
    let (code, _, stderr) = bench_peer_at(peer.address, peer.address, &["--http2", "--clients", "2"]);
    assert!(code == Some(1) && stderr.contains("does the server speak HTTP/2 with prior knowledge?"), "{stderr}");
}

#[test]
fn stalled_streams_require_http2() {
    let (code, _, stderr) = bench(&["--stalled", "1"]);
    assert!(code == Some(2) && stderr.contains("--http2"), "{stderr}");
}
