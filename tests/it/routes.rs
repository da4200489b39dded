//! Routes: the index, the OpenAPI document, and requests that no route takes.
//! `scripts/contract` has schemathesis compare the document with the server.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Client, JSON, Server, assert_problem, request, run};

/// An example of the path, and its methods in the document.
fn example(path: &str, item: &Value) -> (String, BTreeSet<String>) {
    let methods = item.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
    (path.replace("{topic}", "t").replace("{client_id}", "0000000000000000"), methods)
}

async fn document(server: &Server) -> Value {
    let answer = server.get("/openapi.json").await;
    assert_eq!(answer.head.header("content-type"), Some("application/json"));
    answer.json()
}

#[test]
fn openapi_methods_match_the_routes() {
    run(async {
        let server = Server::start();
        let document = document(&server).await;
        assert_eq!(
            (&document["openapi"], &document["info"]["version"]),
            (&"3.1.0".into(), &env!("CARGO_PKG_VERSION").into())
        );
        for (path, item) in document["paths"].as_object().unwrap() {
            let (path, methods) = example(path, item);
            let answer = server.ask(request("PATCH", &path, &[], b"")).await;
            assert_eq!(answer.head.status, 405, "{path}");
            let allowed = answer.head.header("allow").unwrap().split(", ").filter(|method| *method != "HEAD");
            assert_eq!(allowed.map(str::to_owned).collect::<BTreeSet<_>>(), methods, "{path}");
        }
    });
}

#[test]
fn openapi_documents_protocol_errors_of_every_path() {
    run(async {
        let server = Server::start();
        let document = document(&server).await;
        for (path, item) in document["paths"].as_object().unwrap() {
            let (path, methods) = example(path, item);
            for method in methods {
                let responses = &item[method.to_lowercase()]["responses"];
                let no_utf8 = server.ask(request(&method, &format!("{path}?x=%ff"), &[], b"")).await;
                let coded = format!(
                    "{method} {path} HTTP/1.1\r\nhost: test\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
                );
                let coded = server.ask(coded.into_bytes()).await;
                assert_eq!((no_utf8.head.status, coded.head.status), (400, 501), "{method} {path}");
                assert!(
                    responses.get("400").is_some() && responses.get("501").is_some(),
                    "{method} {path}: {responses}"
                );
            }
        }
    });
}

#[test]
fn openapi_contains_every_endpoint_of_the_index() {
    run(async {
        let server = Server::start();
        let document = document(&server).await;
        for (name, path) in server.get("/").await.ok()["endpoints"].as_object().unwrap() {
            assert!(document["paths"].get(path.as_str().unwrap()).is_some(), "{name}: {path}");
        }
    });
}

/// The source of the router: a running server does not list its routes.
#[test]
fn openapi_contains_every_route() {
    run(async {
        let source = include_str!("../../src/http/route.rs");
        let arms = source.split_once("match path {").expect("the routes").1.split_once("_ =>").unwrap().0;
        let routes: BTreeSet<&str> = arms.split('"').skip(1).step_by(2).collect();
        assert!(routes.len() >= 14 && routes.contains("/openapi.json"), "{routes:?}");
        let document = document(&Server::start()).await;
        let paths = document["paths"].as_object().unwrap();
        let described: BTreeSet<&str> = paths.keys().map(String::as_str).filter(|path| !path.contains('{')).collect();
        assert_eq!(routes, described);
    });
}

#[test]
fn index_lists_version_features_and_endpoints() {
    run(async {
        let server = Server::start();
        let _stream = server.follow("/stream").await;
        server.publish("t", 1..=3).await;
        let mut index = server.get("/").await.ok();
        let version = index["version"].take();
        assert_eq!(version, env!("CARGO_PKG_VERSION"));
        let endpoints = index["endpoints"].take();
        let features = index["features"].take();
        assert!(features.as_array().is_some_and(|features| features.iter().all(|feature| feature.is_string())));
        assert_eq!(
            index,
            json!({
                "status": "running",
                "name": "fanline",
                "version": null,
                "clients": 1,
                "history_size": 3,
                "endpoints": null,
                "features": null,
            })
        );
        for (name, path) in endpoints.as_object().unwrap() {
            let status = server.ask(request("PUT", path.as_str().unwrap(), &[], b"")).await.head.status;
            assert_eq!(status, 405, "{name} exists");
        }
    });
}

#[test]
fn index_is_html_for_browsers() {
    run(async {
        let server = Server::start();
        let accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        let page = server.ask(request("GET", "/", &[("accept", accept)], b"")).await;
        assert_eq!((page.head.status, page.head.header("content-type")), (200, Some("text/html; charset=utf-8")));
        let text = std::str::from_utf8(&page.body).unwrap();
        assert!(text.starts_with("<!doctype html>") && text.contains(env!("CARGO_PKG_VERSION")), "{text}");
        let links = text.split("href=\"").skip(1).map(|link| link.split_once('"').unwrap().0);
        for link in links {
            assert!(!link.starts_with('/'), "{link} keeps a path prefix");
            let status = server.ask(request("PUT", &format!("/{link}"), &[], b"")).await.head.status;
            assert_eq!(status, 405, "{link} exists");
        }
        for accept in ["*/*", "application/json"] {
            server.ask(request("GET", "/", &[("accept", accept)], b"")).await.ok();
        }
    });
}

#[test]
fn unknown_path_gets_404_that_names_it() {
    run(async {
        let server = Server::start();
        for path in ["/nothing", "/publish/", "/streams", "/stream/", "/health/", "/health/x", "//"] {
            assert_problem(&server.get(path).await, 404, &[&format!("{path:?}"), "GET /"]);
            assert_problem(&server.post(path, JSON, "{}").await, 404, &[&format!("{path:?}")]);
        }
        let in_full = server.ask(request("OPTIONS", "*", &[], b"")).await;
        assert_problem(&in_full, 404, &["\"*\""]);
    });
}

#[test]
fn wrong_method_gets_405_with_the_allowed_ones() {
    run(async {
        let server = Server::start();
        for (path, allow) in [
            ("/stream", "GET"),
            ("/events", "GET"),
            ("/publish", "POST"),
            ("/publish/t", "POST"),
            ("/", "GET, HEAD"),
            ("/health", "GET, HEAD"),
            ("/health/live", "GET, HEAD"),
            ("/health/ready", "GET, HEAD"),
        ] {
            for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "FANCY"] {
                if allow.split(", ").any(|allowed| allowed == method) {
                    continue;
                }
                let response = server.ask(request(method, path, &[], b"")).await;
                assert_problem(&response, 405, &[allow]);
                assert_eq!(response.head.header("allow"), Some(allow), "{method} {path}");
            }
        }
    });
}

/// hyper responds before a handler runs, so the response is not a problem document.
#[test]
fn large_head_gets_431_and_closes_the_connection() {
    run(async {
        let server = Server::start();
        for length in [70_000, 1 << 20] {
            let mut client = server.connect().await;
            client.send(format!("GET / HTTP/1.1\r\nhost: test\r\nx: {}\r\n\r\n", "x".repeat(length))).await;
            assert_status_and_end(client, 431).await;
        }
        let mut client = server.connect().await;
        let fields: String = (0..200).map(|n| format!("x-{n}: x\r\n")).collect();
        client.send(format!("GET / HTTP/1.1\r\nhost: test\r\n{fields}\r\n")).await;
        assert_status_and_end(client, 431).await;
    });
}

#[test]
fn malformed_http_gets_400_and_closes_the_connection() {
    run(async {
        let server = Server::start();
        for nonsense in
            ["\x16\x03\x01\x02\x00\x01", "GET /\r\n\r\n", "GET / HTTP/1.1\r\nno field\r\n\r\n", "{}\r\n\r\n"]
        {
            let mut client = server.connect().await;
            client.send(nonsense).await;
            assert_status_and_end(client, 400).await;
        }
        let mut client = server.connect().await;
        let smuggled = "POST /publish HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n";
        client.send(smuggled).await;
        assert_status_and_end(client, 400).await;
    });
}

async fn assert_status_and_end(mut client: Client, status: u16) {
    let response = client.response().await;
    assert_eq!(response.head.status, status);
    assert_eq!(client.rest().await, "");
}

#[test]
fn browser_client_is_a_module_that_browsers_revalidate() {
    run(async {
        let server = Server::start();
        let client = server.ask(request("GET", "/fanline.js", &[], b"")).await;
        assert_eq!(
            (client.head.status, client.head.header("content-type")),
            (200, Some("text/javascript; charset=utf-8"))
        );
        assert_eq!(client.head.header("cache-control"), Some("no-cache"));
        assert_eq!(client.body, include_str!("../../src/http/fanline-js/fanline.js"));
        let tag = client.head.header("etag").unwrap();
        for (tags, status) in [
            (tag.to_owned(), 304),
            (format!("W/{tag}"), 304),
            (format!("\"other\", {tag}"), 304),
            ("\"other\"".to_owned(), 200),
            (tag.trim_matches('"').to_owned(), 200),
        ] {
            let answer = server.ask(request("GET", "/fanline.js", &[("if-none-match", &tags)], b"")).await;
            assert_eq!((answer.head.status, answer.head.header("etag")), (status, Some(tag)), "{tags}");
            assert_eq!(answer.body.is_empty(), status == 304);
        }
    });
}
