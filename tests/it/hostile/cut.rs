//! Requests that end at any byte: an event is published whole or not at all.

use super::Bystander;
use crate::support::{Server, request, run, until};

/// A request, and the positions in it at which events are complete.
struct Cut {
    request: Vec<u8>,
    /// The position at which an event is complete, and its data.
    complete: Vec<(usize, &'static str)>,
}

fn chunked(content_type: &str, target: &str, chunks: &[&str]) -> Vec<u8> {
    let head = format!(
        "POST {target} HTTP/1.1\r\nhost: test\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let body: String = chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
    [head, body, "0\r\n\r\n".into()].concat().into_bytes()
}

/// The position after `end` in the request.
fn position_after(request: &[u8], end: &str) -> usize {
    let at = request.windows(end.len()).position(|window| window == end.as_bytes()).expect("present");
    at + end.len()
}

fn requests() -> Vec<Cut> {
    let (one, two) = (r#"{"topic":"t","data":"one"}"#, r#"{"topic":"t","data":"two"}"#);
    let json = |body: &str| request("POST", "/publish", &[("content-type", "application/json")], body.as_bytes());
    let lines = [("content-type", "application/x-ndjson")];
    let whole = |request: Vec<u8>, data: &[&'static str]| Cut {
        complete: data.iter().map(|data| (request.len(), *data)).collect(),
        request,
    };
    let sized = request("POST", "/publish", &lines, format!("{one}\n{two}\n").as_bytes());
    let open = request("POST", "/publish", &lines, format!("{one}\n{two}").as_bytes());
    let in_chunks = chunked("application/x-ndjson", "/publish", &[&one[..9], &format!("{}\n", &one[9..]), two]);
    vec![
        whole(json(one), &["\"one\""]),
        whole(json(&format!("[{one},{two}]")), &["\"one\"", "\"two\""]),
        whole(request("POST", "/publish/t", &[("content-type", "text/plain")], b"12345"), &["12345"]),
        whole(request("POST", "/publish/t", &[("content-type", "application/json")], b"12345"), &["12345"]),
        whole(chunked("text/plain", "/publish/t", &["123", "45"]), &["12345"]),
        whole(chunked("application/json", "/publish", &[&one[..9], &one[9..]]), &["\"one\""]),
        Cut {
            complete: vec![(position_after(&sized, &format!("{one}\n")), "\"one\""), (sized.len(), "\"two\"")],
            request: sized,
        },
        Cut {
            complete: vec![(position_after(&open, &format!("{one}\n")), "\"one\""), (open.len(), "\"two\"")],
            request: open,
        },
        Cut {
            complete: vec![
                (position_after(&in_chunks, &format!("{}\n", &one[9..])), "\"one\""),
                (in_chunks.len(), "\"two\""),
            ],
            request: in_chunks,
        },
    ]
}

#[test]
fn publish_cut_at_any_byte_publishes_whole_events_or_none() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        for Cut { request, complete } in requests() {
            for length in 1..request.len() {
                let mut client = server.connect().await;
                client.send(&request[..length]).await;
                // The client half-closes and then closes: everything it sent is read.
                client.half_close().await;
                client.rest().await;
                let events: Vec<_> =
                    complete.iter().filter(|(end, _)| *end <= length).map(|(_, data)| ("message", *data)).collect();
                let what = String::from_utf8_lossy(&request[..length]).into_owned();
                bystander.assert_received(&server, &what, &events).await;
            }
            let mut client = server.connect().await;
            client.send(&request).await;
            client.response().await.ok();
            let events: Vec<_> = complete.iter().map(|(_, data)| ("message", *data)).collect();
            bystander.assert_received(&server, "the whole request", &events).await;
        }
        until(|| server.stats().connections == 1).await;
    });
}

/// The same with a client that closes at once: the server may or may not have read what it sent.
#[test]
fn upload_cut_at_any_byte_publishes_whole_events_in_order() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        for Cut { request, complete } in requests() {
            for length in 1..=request.len() {
                let mut seen = server.stats().accepted;
                let before = server.hub.stats().published;
                let mut client = server.connect().await;
                client.send(&request[..length]).await;
                drop(client);
                seen += 1;
                until(|| server.stats().accepted == seen && server.stats().connections == 1).await;
                let count = (server.hub.stats().published - before) as usize;
                assert!(count <= complete.iter().filter(|(end, _)| *end <= length).count());
                let events: Vec<_> = complete[..count].iter().map(|(_, data)| ("message", *data)).collect();
                bystander.assert_received(&server, "a part", &events).await;
            }
        }
    });
}

#[test]
fn subscription_cut_at_any_byte_releases_everything() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        let request = request("GET", "/stream?topics=a,b&client_name=n", &[("last-event-id", "7-0")], b"");
        let before = server.stats().accepted;
        for length in 1..=request.len() {
            let mut client = server.connect().await;
            client.send(&request[..length]).await;
            drop(client);
        }
        let all = before + request.len() as u64;
        until(|| server.stats().accepted == all && server.stats().connections == 1).await;
        assert_eq!(server.get("/clients").await.ok()["count"], 1);
        bystander.assert_undisturbed(&server, "parts of a subscription").await;
    });
}
