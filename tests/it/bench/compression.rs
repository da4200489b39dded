//! `fanline bench --compressed`.

use serde_json::Value;

use super::peer::{Fault, Framing, Peer};
use super::{SHORT, bench_peer, faults, problems};

fn bench_compressed(framing: Framing, fault: Fault) -> (Option<i32>, Value, String) {
    bench_peer(&Peer::start(framing, fault), &[&["--compressed"], &SHORT[..]].concat())
}

#[test]
fn compressed_streams_are_decoded_and_counted() {
    let (code, report, stderr) = bench_compressed(Framing::Gzip, Fault::None);
    assert_eq!((code, faults(&report), stderr.as_str()), (Some(0), vec![], ""), "{report}");
    assert_eq!((&report["compressed"], &report["options"]["compressed"]), (&5.into(), &true.into()));
    // Each event has a payload of 100 bytes.
    assert!(report["bytes_decoded"].as_u64().unwrap() > 100 * report["deliveries"].as_u64().unwrap(), "{report}");
    assert_eq!(problems(&report), "[]");
}

#[test]
fn faults_of_compressed_streams_are_counted() {
    for (fault, found) in
        [(Fault::Drop(3), ("lost", 1)), (Fault::Repeat(3), ("duplicated", 1)), (Fault::Close(3), ("closed", 1))]
    {
        let (code, report, _) = bench_compressed(Framing::Gzip, fault);
        assert_eq!((code, faults(&report)), (Some(1), vec![found]), "{report}");
    }
}

#[test]
fn server_that_does_not_compress_is_named() {
    let (code, report, _) = bench_compressed(Framing::Chunks, Fault::None);
    assert_eq!((code, &report["compressed"], &report["bytes_decoded"]), (Some(0), &0.into(), &0.into()), "{report}");
    assert!(problems(&report).contains("a stream is not compressed, although --compressed requests it"), "{report}");
}
