//! Request smuggling: framing that a proxy and the server could interpret differently. A request that is hidden in a
//! body is never answered, and ambiguous framing closes the connection.

use super::Bystander;
use crate::support::{Server, run};

/// The state of the connection after the responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Closed,
    /// It accepts and answers another request.
    Open,
}
use Then::{Closed, Open};

/// The bytes sent on a connection, the statuses of the responses, and the texts that are published.
struct Case {
    what: &'static str,
    bytes: String,
    statuses: &'static [u16],
    then: Then,
    published: &'static [&'static str],
}

/// A publish with these header lines, each ending with `\r\n`.
fn publish(headers: &str, body: &str) -> String {
    format!("POST /publish/t HTTP/1.1\r\nhost: test\r\ncontent-type: text/plain\r\n{headers}\r\n{body}")
}

/// A request that must not be answered.
const HIDDEN: &str =
    "POST /publish/t HTTP/1.1\r\nhost: test\r\ncontent-type: text/plain\r\ncontent-length: 6\r\n\r\nhidden";

/// Bytes that are either a body of 5 bytes, or a chunked body that ends before [`HIDDEN`].
fn either_way() -> String {
    format!("0\r\n\r\n{HIDDEN}")
}

fn case(
    what: &'static str,
    bytes: String,
    statuses: &'static [u16],
    then: Then,
    published: &'static [&'static str],
) -> Case {
    Case { what, bytes, statuses, then, published }
}

async fn check(cases: Vec<Case>) {
    let server = Server::start();
    let mut bystander = Bystander::connect(&server).await;
    for Case { what, bytes, statuses, then, published } in cases {
        let mut client = server.connect().await;
        // The server may close the connection before everything is sent.
        let _ = client.try_send(&bytes).await;
        for status in statuses {
            assert_eq!(client.response().await.head.status, *status, "{what}: {bytes:?}");
        }
        match then {
            Open => {
                let answer = client.get("/nothing-else-was-asked").await;
                assert_eq!(answer.head.status, 404, "{what}");
                assert!(answer.json()["detail"].as_str().unwrap().contains("nothing-else"), "{what}: {answer:?}");
            }
            Closed => assert_eq!(client.rest().await, "", "{what}"),
        }
        let events: Vec<_> = published.iter().map(|text| ("message", *text)).collect();
        bystander.assert_received(&server, what, &events).await;
    }
}

#[test]
fn body_with_length_and_chunked_is_chunked_and_closes_the_connection() {
    run(async {
        let chunks = format!("1\r\nx\r\n0\r\n\r\n{HIDDEN}");
        check(vec![
            case(
                "length before coding",
                publish("content-length: 5\r\ntransfer-encoding: chunked\r\n", &chunks),
                &[200],
                Closed,
                &["x"],
            ),
            case(
                "coding before length",
                publish("transfer-encoding: chunked\r\ncontent-length: 5\r\n", &chunks),
                &[200],
                Closed,
                &["x"],
            ),
            case(
                "coding and an invalid length",
                publish("transfer-encoding: chunked\r\ncontent-length: x\r\n", &chunks),
                &[200],
                Closed,
                &["x"],
            ),
            case(
                "an empty chunked body that could be a body of five bytes",
                publish("content-length: 5\r\ntransfer-encoding: chunked\r\n", &either_way()),
                &[200],
                Closed,
                &[""],
            ),
        ])
        .await;
    });
}

#[test]
fn ambiguous_content_length_is_rejected() {
    run(async {
        let mut cases = vec![
            case("two equal lengths", publish("content-length: 1\r\ncontent-length: 1\r\n", "x"), &[200], Open, &["x"]),
            case(
                "two lengths",
                publish("content-length: 1\r\ncontent-length: 6\r\n", &format!("x{HIDDEN}")),
                &[400],
                Closed,
                &[],
            ),
            case(
                "equal lengths in two spellings",
                publish("content-length: 1\r\ncontent-length: 01\r\n", "x"),
                &[200],
                Open,
                &["x"],
            ),
        ];
        for length in [
            "+1",
            "-1",
            "1, 1",
            "1,2",
            "1 1",
            "0x1",
            "1.0",
            "1e0",
            "",
            "\"1\"",
            "\u{661}",
            "one",
            "1;",
            "18446744073709551616",
            "9999999999999999999999999999999999999999",
        ] {
            let bytes = publish(&format!("content-length: {length}\r\n"), &format!("x{HIDDEN}"));
            cases.push(case("an invalid length", bytes, &[400], Closed, &[]));
        }
        check(cases).await;
    });
}

#[test]
fn excessive_content_length_is_rejected_before_the_body() {
    run(async {
        check(
            // hyper reserves the last two.
            ["1048577", "9223372036854775807", "18446744073709551613", "18446744073709551614", "18446744073709551615"]
                .map(|length| {
                    let bytes = publish(&format!("content-length: {length}\r\n"), HIDDEN);
                    case("a huge body", bytes, &[413], Closed, &[])
                })
                .into(),
        )
        .await;
    });
}

#[test]
fn transfer_codings_other_than_chunked_are_rejected() {
    run(async {
        let codings: &[(&str, u16)] = &[
            ("transfer-encoding: xchunked\r\n", 400),
            ("transfer-encoding: chunked, identity\r\n", 400),
            ("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", 400),
            ("transfer-encoding: chunkedx\r\n", 400),
            ("transfer-encoding: \"chunked\"\r\n", 400),
            ("transfer-encoding: chunked;q=1\r\n", 400),
            ("transfer-encoding: \x0bchunked\r\n", 400),
            ("transfer-encoding:\r\n", 400),
            ("transfer-encoding: gzip\r\n", 400),
            ("transfer-encoding: identity\r\ncontent-length: 5\r\n", 400),
            ("transfer-encoding : chunked\r\n", 400),
            (" transfer-encoding: chunked\r\n", 400),
            ("x: y\r\n transfer-encoding: chunked\r\n", 400),
            ("transfer-encoding:\r\n chunked\r\n", 400),
            ("transfer-encoding: chunked\r\n , identity\r\n", 400),
            // Values that a proxy might ignore or accept as chunked.
            ("transfer-encoding: gzip, chunked\r\n", 501),
            ("transfer-encoding: identity, chunked\r\n", 501),
            ("transfer-encoding: xchunked, chunked\r\n", 501),
            ("transfer-encoding: chunked, chunked\r\n", 501),
            ("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", 501),
            ("transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n", 501),
            ("transfer-encoding: , chunked\r\n", 501),
        ];
        let cases = codings.iter().map(|(headers, status)| {
            let statuses: &'static [u16] = if *status == 400 { &[400] } else { &[501] };
            case("a coding", publish(headers, &either_way()), statuses, Closed, &[])
        });
        check(cases.collect()).await;
    });
}

#[test]
fn chunked_coding_ignores_case_and_whitespace() {
    run(async {
        let cases =
            ["transfer-encoding: chunked\r\n", "TRANSFER-ENCODING:CHUNKED\r\n", "Transfer-Encoding: \tChunked \t\r\n"]
                .map(|headers| case("chunked", publish(headers, "1\r\nx\r\n0\r\n\r\n"), &[200], Open, &["x"]));
        check(cases.into()).await;
    });
}

#[test]
fn malformed_chunk_closes_the_connection_and_publishes_nothing() {
    run(async {
        let chunked = |body: &str| publish("transfer-encoding: chunked\r\n", body);
        let cases = [
            "x\r\n",
            "\r\nx\r\n0\r\n\r\n",
            "-1\r\nx\r\n0\r\n\r\n",
            "+1\r\nx\r\n0\r\n\r\n",
            "0x1\r\nx\r\n0\r\n\r\n",
            "1\nx\n0\n\n",
            "1\r\nx\n0\r\n\r\n",
            "1\r\nxy0\r\n\r\n",
            "1\r\nxy\r\n0\r\n\r\n",
            "1\rx\r\n0\r\n\r\n",
            "1;a\nb\r\nx\r\n0\r\n\r\n",
            "10000000000000000\r\nx\r\n0\r\n\r\n",
            "ffffffffffffffff1\r\nx\r\n0\r\n\r\n",
            "1 2\r\nx\r\n0\r\n\r\n",
            "1\0\r\nx\r\n0\r\n\r\n",
        ]
        .map(|body| case("a chunk", chunked(&format!("{body}{HIDDEN}")), &[400], Closed, &[]));
        check(cases.into()).await;
        // Over the body limit, before the body arrives.
        let huge = ["7fffffffffffffff", "ffffffffffffffff", "fffffffffffffff0", "100001"].map(|length| {
            let bytes = chunked(&format!("{length}\r\n{}", "x".repeat((1 << 20) + 1)));
            case("a huge chunk", bytes, &[413], Closed, &[])
        });
        check(huge.into()).await;
    });
}

#[test]
fn chunk_extensions_are_ignored_and_trailers_end_the_connection() {
    run(async {
        let chunked = |body: String| publish("transfer-encoding: chunked\r\n", &body);
        check(vec![
            case("extensions", chunked("1;a=b;c=\"d\"\r\nx\r\n0;e\r\n\r\n".into()), &[200], Open, &["x"]),
            case("zeros", chunked("0001\r\nx\r\n000\r\n\r\n".into()), &[200], Open, &["x"]),
            case(
                "trailers with names of headers",
                chunked(format!(
                    "1\r\nx\r\n0\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\nauthorization: Bearer x\r\n\r\n",
                    HIDDEN.len()
                )),
                &[200],
                Closed,
                &["x"],
            ),
            case(
                "a long extension",
                chunked(format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(100_000))),
                &[400],
                Closed,
                &[],
            ),
            case(
                "endless trailers",
                chunked(format!("1\r\nx\r\n0\r\n{}", "a: b\r\n".repeat(100_000))),
                &[400],
                Closed,
                &[],
            ),
        ])
        .await;
    });
}

#[test]
fn http_1_0_requests_cannot_be_chunked() {
    run(async {
        let old = |bytes: String| bytes.replacen("HTTP/1.1", "HTTP/1.0", 1);
        check(vec![
            case("chunked", old(publish("transfer-encoding: chunked\r\n", &either_way())), &[400], Closed, &[]),
            case(
                "sized and chunked",
                old(publish("content-length: 5\r\ntransfer-encoding: chunked\r\n", &either_way())),
                &[400],
                Closed,
                &[],
            ),
            case("sized", old(publish("content-length: 1\r\n", "x")), &[200], Closed, &["x"]),
            case("no length", old(publish("", HIDDEN)), &[200], Closed, &[""]),
        ])
        .await;
    });
}

#[test]
fn request_without_length_has_no_body() {
    run(async {
        let bytes = publish("", HIDDEN);
        // The bytes are the next request (RFC 9112, section 6.3).
        check(vec![case("no length", bytes, &[200, 200], Open, &["", "hidden"])]).await;
    });
}

#[test]
fn malformed_head_is_rejected() {
    run(async {
        let cases = [
            "GET /health/live HTTP/1.1\r\nhost : test\r\n\r\n",
            "GET /health/live HTTP/1.1\r\nhost: test\r\nno colon\r\n\r\n",
            "GET /health/live HTTP/1.1\r\nhost: test\r\n: no name\r\n\r\n",
            "GET /health/live HTTP/1.1\r\nhost: test\r\nna me: x\r\n\r\n",
            "GET /health/live HTTP/1.1\r\nhost: test\r\nname\u{fc}: x\r\n\r\n",
            "GET /health/live HTTP/1.1\r\nhost: test\r\nx: y\r\n z\r\n\r\n",
            "GET /health/live HTTP/1.1\r\n host: test\r\n\r\n",
            "GET /health/live HTTP/1.1\rhost: test\r\r",
            "GET /health/live HTTP/1.1\r\nhost: test\rx: y\r\n\r\n",
            "GET /health/live HTTP/1.2\r\nhost: test\r\n\r\n",
            "GET /health/live HTTP/2.0\r\nhost: test\r\n\r\n",
            "GET /health/live HTTP/0.9\r\nhost: test\r\n\r\n",
            "GET /health/live http/1.1\r\nhost: test\r\n\r\n",
            "GET /health/live\r\nhost: test\r\n\r\n",
            "GET /health/live x HTTP/1.1\r\nhost: test\r\n\r\n",
            "GET /health\u{0}/live HTTP/1.1\r\nhost: test\r\n\r\n",
            "GET /health/live?a\u{1b}[2J HTTP/1.1\r\nhost: test\r\n\r\n",
            "GE\u{0}T /health/live HTTP/1.1\r\nhost: test\r\n\r\n",
            "G(T /health/live HTTP/1.1\r\nhost: test\r\n\r\n",
            "\0GET /health/live HTTP/1.1\r\nhost: test\r\n\r\n",
            "GET health/live HTTP/1.1\r\nhost: test\r\n\r\n",
            "GET http:///health/live HTTP/1.1\r\nhost: test\r\n\r\n",
            "GET http://[::1/health/live HTTP/1.1\r\nhost: test\r\n\r\n",
        ]
        .map(|bytes| case("a head", format!("{bytes}{HIDDEN}"), &[400], Closed, &[]));
        check(cases.into()).await;
        // A whole preface is another protocol.
        let preface = format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r{HIDDEN}");
        check(vec![case("the preface of HTTP/2 but for its last byte", preface, &[400], Closed, &[])]).await;
    });
}

#[test]
fn bare_lf_and_leading_empty_lines_are_accepted() {
    run(async {
        check(vec![
            case("bare LF", "GET /health/live HTTP/1.1\nhost: test\n\n".into(), &[200], Open, &[]),
            case("empty lines", "\r\n\r\n\nGET /health/live HTTP/1.1\r\nhost: test\r\n\r\n".into(), &[200], Open, &[]),
        ])
        .await;
    });
}

#[test]
fn unusual_targets_are_routed_by_their_path() {
    run(async {
        let get = |target: &str| format!("GET {target} HTTP/1.1\r\nhost: test\r\n\r\n");
        check(vec![
            case("absolute form", get("http://elsewhere.test/health/live"), &[200], Open, &[]),
            case("absolute form without a path", get("http://elsewhere.test"), &[200], Open, &[]),
            case("another scheme", get("ftp://elsewhere.test/health/live"), &[200], Open, &[]),
            case("authority form", get("elsewhere.test:80"), &[404], Open, &[]),
            case("two slashes", get("//elsewhere.test/health/live"), &[404], Open, &[]),
            case("dots", get("/x/../health/live"), &[404], Open, &[]),
            case("escaped", get("/%68ealth/live"), &[404], Open, &[]),
            case("a tunnel", "CONNECT elsewhere.test:80 HTTP/1.1\r\nhost: test\r\n\r\n".into(), &[404], Open, &[]),
        ])
        .await;
    });
}

#[test]
fn body_of_a_rejected_request_is_not_read_as_a_request() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        let chunks = format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len());
        for (line, status) in [
            ("POST /publish", 415),
            ("POST /publish/a,b", 400),
            ("POST /publish/t?event=%0a", 400),
            ("POST /nothing", 404),
            ("PUT /publish", 405),
            ("GET /stream", 400),
            ("DELETE /clients/x", 400),
            ("OPTIONS /publish", 405),
        ] {
            let head = format!("{line} HTTP/1.1\r\nhost: test\r\ncontent-type: text/plain\r\n");
            for body in [
                format!("content-length: {}\r\n\r\n{HIDDEN}", HIDDEN.len()),
                format!("transfer-encoding: chunked\r\n\r\n{chunks}"),
            ] {
                let mut client = server.connect().await;
                client.send(format!("{head}{body}")).await;
                assert_eq!(client.response().await.head.status, status, "{line}");
                // If the connection is still open, the bytes are the next request.
                let _ = client.try_send("GET /health/live HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await;
                let rest = client.rest().await;
                let answers = rest.windows(9).filter(|window| window == b"HTTP/1.1 ").count();
                assert!(rest.is_empty() || (answers == 1 && rest.starts_with(b"HTTP/1.1 200")), "{line}: {rest:?}");
                bystander.assert_undisturbed(&server, line).await;
            }
        }
    });
}

/// RFC 9112, section 3.2.
#[test]
fn http_1_1_requests_need_exactly_one_host() {
    run(async {
        check(vec![
            case("none", "GET /health/live HTTP/1.1\r\n\r\n".into(), &[400], Closed, &[]),
            case("two", "GET /health/live HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".into(), &[400], Closed, &[]),
            case(
                "twice the same",
                "GET /health/live HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n".into(),
                &[400],
                Closed,
                &[],
            ),
            case("none in HTTP/1.0", "GET /health/live HTTP/1.0\r\n\r\n".into(), &[200], Closed, &[]),
        ])
        .await;
    });
}

#[test]
fn a_host_that_proxies_could_read_differently_is_rejected() {
    run(async {
        let cases =
            ["a b", "a/b@c", "a, b", "a,b", "user@a", "a:b", "a:80:80", "a:65536", "[::1", "[127.0.0.1]", "\u{fc}"]
                .map(|host| {
                    let bytes = format!("GET /health/live HTTP/1.1\r\nhost: {host}\r\n\r\n{HIDDEN}");
                    case("a host", bytes, &[400], Closed, &[])
                });
        check(cases.into()).await;
        let target = |target: &str| format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n{HIDDEN}");
        check(vec![case("user information", target("http://u:p@localhost/health/live"), &[400], Closed, &[])]).await;
    });
}

/// RFC 9112, section 3.2.2. A proxy may go by the target, and pass the header on.
#[test]
fn a_target_with_a_public_host_is_not_local() {
    run(async {
        let publish = |target: &str, host: &str| {
            format!("POST {target} HTTP/1.1\r\nhost: {host}\r\ncontent-type: text/plain\r\ncontent-length: 1\r\n\r\nx")
        };
        check(vec![
            case("a local target", publish("http://localhost/publish/t", "localhost"), &[200], Open, &["x"]),
            case(
                "a local target, another header",
                publish("http://[::1]/publish/t", "evil.example"),
                &[200],
                Open,
                &["x"],
            ),
            case("a public target", publish("http://evil.example/publish/t", "localhost"), &[403], Open, &[]),
            case("a public header", publish("/publish/t", "evil.example"), &[403], Open, &[]),
            case("an empty header", publish("/publish/t", ""), &[403], Open, &[]),
        ])
        .await;
    });
}

#[test]
fn unknown_upgrades_are_ignored() {
    run(async {
        let upgrade = |to: &str| {
            format!(
                "GET /health/live HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: {to}\r\n\
                 http2-settings: AAMAAABkAAQAAP__\r\n\r\n"
            )
        };
        check(vec![
            case("h2c", upgrade("h2c"), &[200], Open, &[]),
            case("something", upgrade("x/1"), &[200], Open, &[]),
        ])
        .await;
    });
}
