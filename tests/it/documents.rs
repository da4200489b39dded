//! Documents: their forms, the tags that browsers revalidate them by, and what browsers may do with them.

use std::io::Read;

use flate2::read::GzDecoder;

use crate::support::{Response, Server, request, run};

const PAGES: [&str; 3] = ["/", "/demo", "/docs"];
const FILES: [&str; 8] = [
    "/openapi.json",
    "/asyncapi.json",
    "/fanline.js",
    "/demo/console.js",
    "/demo/console.css",
    "/demo/uPlot.iife.min.js",
    "/docs/swagger-ui-bundle.js",
    "/docs/swagger-ui.css",
];

async fn get(server: &Server, path: &str, headers: &[(&str, &str)]) -> Response {
    let accept = if path == "/" { ("accept", "text/html") } else { ("accept", "*/*") };
    server.ask(request("GET", path, &[&[accept], headers].concat(), b"")).await
}

#[test]
fn documents_are_compressed_for_clients_that_accept_gzip() {
    run(async {
        let server = Server::start();
        for path in PAGES.into_iter().chain(FILES) {
            let plain = get(&server, path, &[]).await;
            let gzip = get(&server, path, &[("accept-encoding", "gzip, deflate, br")]).await;
            assert_eq!((plain.head.status, plain.head.header("content-encoding")), (200, None), "{path}");
            assert_eq!((gzip.head.status, gzip.head.header("content-encoding")), (200, Some("gzip")), "{path}");
            let vary = if path == "/" { "accept, accept-encoding" } else { "accept-encoding" };
            assert_eq!((plain.head.header("vary"), gzip.head.header("vary")), (Some(vary), Some(vary)), "{path}");
            let mut decoded = Vec::new();
            GzDecoder::new(&gzip.body[..]).read_to_end(&mut decoded).unwrap();
            assert!(decoded == plain.body && gzip.body.len() < plain.body.len(), "{path}");
        }
    });
}

#[test]
fn current_copy_gets_304() {
    run(async {
        let server = Server::start();
        for path in PAGES.into_iter().chain(FILES) {
            let mut tags = Vec::new();
            for coding in ["identity", "gzip"] {
                let coding = ("accept-encoding", coding);
                let first = get(&server, path, &[coding]).await;
                assert_eq!(first.head.header("cache-control"), Some("no-cache"), "{path}");
                let tag = first.head.header("etag").unwrap().to_owned();
                for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
                    let again = get(&server, path, &[coding, ("if-none-match", &known)]).await;
                    assert_eq!((again.head.status, again.body.len()), (304, 0), "{path}: {known}");
                    for name in ["etag", "vary", "cache-control"] {
                        assert_eq!(again.head.header(name), first.head.header(name), "{path}: {name}");
                    }
                }
                for other in ["\"other\"", tag.trim_matches('"')] {
                    let again = get(&server, path, &[coding, ("if-none-match", other)]).await;
                    assert_eq!((again.head.status, &again.body), (200, &first.body), "{path}: {other}");
                }
                tags.push(tag);
            }
            assert_ne!(tags[0], tags[1], "{path}: the two forms differ");
            let copy = get(&server, path, &[("if-none-match", &tags[1])]).await;
            assert_eq!(copy.head.status, 200, "{path}: the client has the other form");
        }
    });
}

#[test]
fn index_varies_by_accept() {
    run(async {
        let server = Server::start();
        let json = server.get("/").await;
        json.ok();
        assert_eq!((json.head.header("vary"), json.head.header("etag")), (Some("accept"), None));
        assert_eq!(server.get("/metrics").await.head.header("vary"), Some("accept"));
    });
}

#[test]
fn browsers_may_do_only_what_documents_need() {
    run(async {
        let server = Server::start();
        for path in PAGES.into_iter().chain(FILES) {
            let answer = get(&server, path, &[]).await;
            assert_eq!(answer.head.header("x-content-type-options"), Some("nosniff"), "{path}");
            assert_eq!(answer.head.header("referrer-policy"), Some("no-referrer"), "{path}");
            let policy = answer.head.header("content-security-policy");
            // The policy of a script would bind a worker that another site makes of it.
            let has_policy = policy.is_some_and(|policy| policy.contains("default-src 'none'"));
            assert_eq!(has_policy, !path.ends_with(".js"), "{path}: {policy:?}");
        }
        let json = server.get("/").await;
        assert_eq!(json.head.header("content-security-policy"), Some("default-src 'none'; frame-ancestors 'none'"));
        for path in ["/", "/health", "/clients", "/metrics", "/metrics/json", "/nothing"] {
            assert_eq!(server.get(path).await.head.header("x-content-type-options"), Some("nosniff"), "{path}");
        }
    });
}

#[test]
fn head_has_the_headers_of_get() {
    run(async {
        let server = Server::start();
        for path in FILES {
            let whole = get(&server, path, &[("accept-encoding", "gzip")]).await;
            let mut client = server.connect().await;
            client.send(request("HEAD", path, &[("accept-encoding", "gzip")], b"")).await;
            let head = client.head().await;
            for name in ["content-length", "content-type", "content-encoding", "etag", "vary"] {
                assert_eq!(head.header(name), whole.head.header(name), "{path}: {name}");
            }
        }
    });
}
