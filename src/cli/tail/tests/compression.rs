//! Streams with `Content-Encoding: gzip`.

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::cli::tests::scripted::Peer;

/// Accepts one connection, which must accept gzip, and answers it with an open stream of gzip.
async fn accept(server: &ScriptedServer) -> Peer {
    let mut peer = server.accept().await;
    assert_eq!(peer.header("accept-encoding"), Some("gzip"));
    peer.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\n\r\n").await;
    peer
}

fn encoder() -> GzEncoder<Vec<u8>> {
    GzEncoder::new(Vec::new(), Compression::fast())
}

/// The next bytes of a member, after which `text` is complete.
fn flushed(encoder: &mut GzEncoder<Vec<u8>>, text: &str) -> Vec<u8> {
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.flush().unwrap();
    std::mem::take(encoder.get_mut())
}

#[tokio::test]
async fn compressed_event_is_printed_while_the_stream_is_open() {
    let server = ScriptedServer::start().await;
    let mut tail = tail(&server, &[]);
    let mut peer = accept(&server).await;
    let mut encoder = encoder();
    peer.send(flushed(&mut encoder, HELLO)).await;
    tail.notices.until("connected\n").await;
    for number in 0..3 {
        peer.send(flushed(&mut encoder, &format!("id: 7-{number}\ndata: {number}\n\n"))).await;
        tail.events.until(&format!("{number}\n")).await;
    }
}

#[tokio::test]
async fn format_sse_prints_the_decoded_stream() {
    let server = ScriptedServer::start().await;
    let mut tail = tail(&server, &["--format=sse", "--once"]);
    let mut peer = accept(&server).await;
    let mut encoder = encoder();
    encoder.write_all(b": hi\n\ndata: x\n\n").unwrap();
    peer.send(encoder.finish().unwrap()).await;
    drop(peer);
    tail.ended.await.unwrap().unwrap();
    assert_eq!(tail.events.text(), ": hi\n\ndata: x\n\n");
}

#[tokio::test(start_paused = true)]
async fn tail_resumes_after_a_stream_that_is_not_valid_gzip() {
    let server = ScriptedServer::start().await;
    let mut tail = tail(&server, &[]);
    let mut peer = accept(&server).await;
    let valid = flushed(&mut encoder(), "id: 7-1\ndata: x\n\n");
    // A block of the type that does not exist.
    peer.send([&valid[..], &[0x07]].concat()).await;
    let peer = accept(&server).await;
    assert_eq!(peer.header("last-event-id"), Some("7-1"));
    tail.events.until("x\n").await;
    tail.notices.until("the stream is not valid gzip").await;
}
