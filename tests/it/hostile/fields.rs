//! Control characters, line ends, surrogates and unusual characters, in every field that a client can set.

use serde_json::{Value, json};

use super::{Bystander, escaped, percent};
use crate::support::{JSON, NDJSON, Server, TEXT, assert_problem, request, run};

/// A text, and whether topics and names may contain it. The raw text of an event may contain any.
struct Odd {
    text: &'static str,
    topic: bool,
    name: bool,
}

const fn odd(text: &'static str, topic: bool, name: bool) -> Odd {
    Odd { text, topic, name }
}

const ODD_TEXTS: &[Odd] = &[
    odd("x\ndata: forged", false, false),
    odd("x\rdata: forged", false, false),
    odd("x\r\ndata: forged", false, false),
    odd("x\n\nevent: system\ndata: forged\n\n", false, false),
    odd("x\r\revent: system\rdata: forged\r\r", false, false),
    odd("x\r\n\r\nid: 9-9\r\ndata: forged\r\n\r\n", false, false),
    odd("x\n0\r\n\r\n", false, false),
    odd("\n", false, false),
    odd("x\0y", false, false),
    odd("\0", false, false),
    odd("x\ty", false, false),
    odd("\x1b[2J\x1b[31mred", false, false),
    odd("x\x7fy", false, false),
    // NEXT LINE and CONTROL SEQUENCE INTRODUCER of C1: some terminals interpret them.
    odd("x\u{85}y", false, false),
    odd("x\u{9b}2Jy", false, false),
    odd("x y", false, true),
    odd("x\u{a0}y", false, true),
    odd("x,y", false, true),
    odd("x*y", false, true),
    // Line and paragraph separators: white space, but not a line end of event streams.
    odd("x\u{2028}data: forged", false, true),
    odd("x\u{2029}y", false, true),
    // A byte order mark is special only at the beginning of a stream.
    odd("\u{feff}x", true, true),
    odd("x\u{202e}y", true, true),
    odd("e\u{301}", true, true),
    odd("\u{301}", true, true),
    odd("\u{200d}\u{fe0f}", true, true),
    odd("\u{1f469}\u{200d}\u{1f680}", true, true),
    odd("\u{10ffff}\u{e0001}\u{fffe}", true, true),
    odd("\u{fffd}", true, true),
    odd("data:x", true, true),
    odd(":", true, true),
    odd("<script>\"'&", true, true),
    odd("../../etc/passwd", true, true),
    odd("{\"a\":1}", true, true),
];

/// The maximum number of bytes of `unit` in a topic or name, and one more.
fn longest(unit: &str) -> [String; 2] {
    let longest = unit.repeat(255 / unit.len());
    let longest = longest.clone() + &"x".repeat(255 - longest.len());
    [longest.clone(), longest + "x"]
}

/// The text that a subscriber's parser makes of raw text: its lines, joined by LF.
fn as_lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// Publishes one event in each way that has the field. Checks that all agree, and that a rejection names `field`.
async fn publish_everywhere(
    server: &Server,
    bystander: &mut Bystander,
    [topic, name, text]: [&str; 3],
    refused_for: Option<[&str; 2]>,
) {
    let object = format!(r#"{{"topic":{},"event":{},"text":{}}}"#, escaped(topic), escaped(name), escaped(text));
    let in_path = format!("/publish/{}?event={}", percent(topic), percent(name));
    let expected = [(name, &*as_lines(text))];
    for (target, content_type, body) in [
        ("/publish", JSON, object.clone()),
        ("/publish", JSON, format!("[{object}]")),
        ("/publish", NDJSON, format!("{object}\n")),
        (&in_path, TEXT, text.to_owned()),
    ] {
        let what = format!("{target} of {content_type} with {topic:?}, {name:?}, {text:?}");
        let response = server.post(target, content_type, body).await;
        match refused_for {
            Some([in_body, in_target]) => {
                let field = if target == "/publish" { in_body } else { in_target };
                let problem = assert_problem(&response, 400, &[field]);
                assert!(!problem["detail"].as_str().unwrap().contains(char::is_control), "{problem}");
                bystander.assert_undisturbed(server, &what).await;
            }
            None => {
                assert_eq!(response.ok()["published"], 1, "{what}");
                bystander.assert_received(server, &what, &expected).await;
            }
        }
    }
}

#[test]
fn topic_rules_are_the_same_for_every_input() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        let place = Some(["\"topic\"", "the topic in the path"]);
        for Odd { text, topic, .. } in ODD_TEXTS {
            publish_everywhere(&server, &mut bystander, [text, "e", "x"], place.filter(|_| !topic)).await;
        }
        for unit in ["x", "\u{fc}", "\u{1f680}"] {
            let [longest, longer] = longest(unit);
            publish_everywhere(&server, &mut bystander, [&longest, "e", "x"], None).await;
            publish_everywhere(&server, &mut bystander, [&longer, "e", "x"], place).await;
        }
    });
}

#[test]
fn event_name_rules_are_the_same_for_every_input() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        let place = Some(["\"event\"", "parameter event"]);
        for Odd { text, name, .. } in ODD_TEXTS {
            publish_everywhere(&server, &mut bystander, ["t", text, "x"], place.filter(|_| !name)).await;
        }
        for unit in ["x", "\u{fc}", "\u{1f680}"] {
            let [longest, longer] = longest(unit);
            publish_everywhere(&server, &mut bystander, ["t", &longest, "x"], None).await;
            publish_everywhere(&server, &mut bystander, ["t", &longer, "x"], place).await;
        }
    });
}

#[test]
fn raw_text_never_breaks_out_of_its_event() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        for Odd { text, .. } in ODD_TEXTS {
            publish_everywhere(&server, &mut bystander, ["t", "e", text], None).await;
        }
    });
}

/// In JSON an escape is text: the server does not change it, and no line ends with it.
#[test]
fn json_escapes_are_preserved_byte_for_byte() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        let strings = ODD_TEXTS.iter().map(|odd| escaped(odd.text));
        // Lone surrogates are valid by the grammar (RFC 8259, section 8.2).
        for string in strings.chain([r#""\ud800""#, r#""\udc00\ud800x""#].map(String::from)) {
            let object = format!(r#"{{"topic":"t","data":{string}}}"#);
            for (target, content_type, body) in [
                ("/publish", JSON, object.clone()),
                ("/publish", NDJSON, object.clone()),
                ("/publish/t", JSON, string.clone()),
            ] {
                server.post(target, content_type, body).await.ok();
                bystander.assert_received(&server, &string, &[("message", &string)]).await;
            }
        }
    });
}

#[test]
fn json_whitespace_makes_data_lines_but_not_events() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        let data = "[1,\n\n2,\r\r\n\r3]";
        server.post("/publish", JSON, format!(r#"{{"topic":"t","data":{data}}}"#)).await.ok();
        server.post("/publish/t", JSON, data).await.ok();
        let lines = as_lines(data);
        bystander.assert_received(&server, "two arrays", &[("message", &lines), ("message", &lines)]).await;
    });
}

#[test]
fn lone_surrogates_are_not_text() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        for half in [r"\ud800", r"\udc00", r"\ud800\ud800", r"\udc00\ud800", r"\ud800x", r"\ud800A", r"\uD834\u0020"] {
            for object in [
                format!(r#"{{"topic":"{half}","data":1}}"#),
                format!(r#"{{"topic":"t","event":"{half}","data":1}}"#),
                format!(r#"{{"topic":"t","text":"{half}"}}"#),
                format!(r#"{{"topic":"t","data":1,"{half}":2}}"#),
            ] {
                for (content_type, body) in [(JSON, object.clone()), (JSON, format!("[{object}]")), (NDJSON, object)] {
                    assert_problem(&server.post("/publish", content_type, &body).await, 400, &["line 1"]);
                    bystander.assert_undisturbed(&server, &body).await;
                }
            }
        }
    });
}

/// Invalid UTF-8: a continuation byte, an overlong `/`, a surrogate, a code point past the last one, and a truncated
/// character.
const INVALID_UTF8: &[&[u8]] = &[b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"];

#[test]
fn invalid_utf8_is_rejected_anywhere_in_a_body() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        for bytes in INVALID_UTF8 {
            let what = format!("{bytes:?}");
            for (before, behind) in [
                (r#"{"topic":"t"#, r#"","data":1}"#),
                (r#"{"topic":"t","event":"e"#, r#"","data":1}"#),
                (r#"{"topic":"t","text":"x"#, r#""}"#),
                (r#"{"topic":"t","data":"x"#, r#""}"#),
                (r#"{"topic":"t","data":{"a":["x"#, r#""]}}"#),
                (r#"{"topic":"t","data":1,"x"#, r#"":2}"#),
            ] {
                let body = [before.as_bytes(), bytes, behind.as_bytes()].concat();
                for content_type in [JSON, NDJSON] {
                    assert_problem(&server.post("/publish", content_type, &body).await, 400, &["line 1 column"]);
                }
            }
            let body = [b"x", *bytes, b"y"].concat();
            assert_problem(&server.post("/publish/t", TEXT, &body).await, 400, &["not valid UTF-8", "byte 1"]);
            assert_problem(&server.post("/publish/t", TEXT, &body[..body.len() - 1]).await, 400, &["not valid UTF-8"]);
            let quoted = [b"\"", &body[..], b"\""].concat();
            assert_problem(&server.post("/publish/t", JSON, quoted).await, 400, &["line 1 column"]);
            bystander.assert_undisturbed(&server, &what).await;
        }
    });
}

#[test]
fn invalid_utf8_is_rejected_in_path_and_query() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        for bytes in INVALID_UTF8 {
            let bytes = percent(bytes);
            let response = server.post(&format!("/publish/t{bytes}"), TEXT, "x").await;
            assert_problem(&response, 400, &["the topic in the path", "UTF-8"]);
            let response = server.post(&format!("/publish/t?event=e{bytes}"), TEXT, "x").await;
            assert_problem(&response, 400, &["query", "UTF-8"]);
            for key in ["topics", "topic", "tags", "client_name", "last_event_id", "history", "on_lag", &bytes] {
                let target = format!("/stream?{key}={bytes}&tags=x");
                assert_problem(&server.get(&target).await, 400, &["query", "UTF-8"]);
            }
            for target in ["/clients?name=", "/clients?tag=", "/topics?after="] {
                assert_problem(&server.get(&format!("{target}{bytes}")).await, 400, &["query", "UTF-8"]);
            }
            bystander.assert_undisturbed(&server, &bytes).await;
        }
        assert_eq!(server.stats().streams, 1);
    });
}

/// All client labels appear in `/clients` as JSON, and none in the stream.
#[test]
fn client_labels_are_rejected_or_kept_unchanged() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        for Odd { text, topic, name } in ODD_TEXTS {
            let is_label = *name && !text.contains(',');
            for (parameter, is_taken) in
                [("client_name", *name), ("tags", *name), ("topics", *topic || text.contains(','))]
            {
                let target = format!("/stream?{parameter}={}", percent(text));
                if !is_taken {
                    // A trailing line end is white space around a tag or topic, and is trimmed.
                    let is_blank = text.trim().is_empty() && parameter != "client_name";
                    if !is_blank {
                        let problem = assert_problem(&server.get(&target).await, 400, &["parameter", parameter]);
                        assert!(!problem["detail"].as_str().unwrap().contains(char::is_control), "{problem}");
                    }
                    continue;
                }
                let mut stream = server.follow(&target).await;
                let clients = server.get("/clients?limit=100").await.ok();
                let listed = clients["clients"].as_array().unwrap();
                let is_listed = |client: &Value| match parameter {
                    "client_name" => client["client_name"] == *text,
                    "tags" => client["tags"] == json!(text.split(',').collect::<Vec<_>>()),
                    _ => client["topics"] == json!(text.split(',').collect::<Vec<_>>()),
                };
                assert!(listed.iter().any(is_listed) || !is_label, "{target}: {clients}");
                if parameter != "topics" {
                    server.publish_marker("t").await;
                    stream.marker().await;
                    bystander.assert_received(&server, &target, &[("marker", "null")]).await;
                }
            }
        }
        bystander.assert_undisturbed(&server, "all of them").await;
    });
}

#[test]
fn client_labels_and_topics_are_limited_in_length() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        for unit in ["x", "\u{fc}", "\u{1f680}"] {
            let [longest, longer] = longest(unit).map(percent);
            for parameter in ["client_name", "tags", "topics"] {
                server.follow(&format!("/stream?{parameter}={longest}")).await;
                let response = server.get(&format!("/stream?{parameter}={longer}")).await;
                assert_problem(&response, 400, &["parameter", parameter, "256"]);
            }
            bystander.assert_undisturbed(&server, unit).await;
        }
    });
}

#[test]
fn unknown_last_event_id_is_not_echoed() {
    run(async {
        let server = Server::start();
        server.publish("t", 1..=3).await;
        let mut bystander = Bystander::connect(&server).await;
        let odd = ODD_TEXTS.iter().map(|odd| odd.text.to_owned());
        let ids = ["7", "7-", "-7", "7-01", "7-+1", "+7-1", "7-1-1", "7-1e1", "0x7-1", "7-\u{661}", "7 - 1"];
        let numbers = ["18446744073709551616-1", "7-18446744073709551616", "7-1e400", "-7-1"].map(String::from);
        let long = ["9".repeat(5000), format!("7-{}", "0".repeat(5000))];
        for id in odd.chain(ids.map(String::from)).chain(numbers).chain(long) {
            if id == "\n" {
                continue;
            }
            let mut stream = server.subscribe(&format!("/stream?last_event_id={}", percent(&id))).await;
            is_unknown(&mut stream, &id).await;
            // Headers cannot carry control characters.
            let is_header = id.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
            if is_header {
                let bytes = request("GET", "/stream", &[("last-event-id", &id)], b"");
                let mut client = server.connect().await;
                client.send(bytes).await;
                is_unknown(&mut client.into_stream().await, &id).await;
            }
            bystander.assert_undisturbed(&server, &id).await;
        }
        let mut client = server.connect().await;
        client.send(b"GET /stream HTTP/1.1\r\nhost: test\r\nlast-event-id: \xff\xfe\r\n\r\n").await;
        is_unknown(&mut client.into_stream().await, "bytes").await;
        for number in [u64::MAX, u64::MAX - 1, 1 << 63] {
            for epoch in [7, number] {
                let mut stream = server.subscribe(&format!("/stream?last_event_id={epoch}-{number}")).await;
                assert_eq!(stream.event().await.event, "system");
                let (_, gap) = stream.gap().await;
                assert_eq!(gap["reason"], if epoch == 7 { "unknown_id" } else { "epoch" });
            }
        }
        bystander.assert_undisturbed(&server, "large numbers").await;
    });
}

async fn is_unknown(stream: &mut crate::support::Stream, id: &str) {
    let hello = stream.event().await;
    assert_eq!(hello.event, "system", "{id:?}");
    let (_, gap) = stream.gap().await;
    assert_eq!(gap["reason"], "unknown_id", "{id:?}");
    assert_eq!(gap["from"], Value::Null, "{id:?}");
}

/// A control character in a header value makes the request invalid, and nothing of it is processed.
#[test]
fn control_characters_in_headers_are_rejected() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        for byte in (0..=0x1f).chain([0x7f]).filter(|byte| !b"\t\r\n".contains(byte)) {
            for name in ["last-event-id", "x-anything", "content-type", "authorization", "cookie"] {
                let head = format!("POST /publish/t HTTP/1.1\r\nhost: test\r\ncontent-length: 1\r\n{name}: text/plain");
                let mut client = server.connect().await;
                client.send([head.as_bytes(), &[byte], b"\r\n\r\nx"].concat()).await;
                assert_eq!(client.head().await.status, 400, "{byte:#x} in {name}");
                assert_eq!(client.rest().await, "");
            }
            bystander.assert_undisturbed(&server, &format!("{byte:#x}")).await;
        }
    });
}
