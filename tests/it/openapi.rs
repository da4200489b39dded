//! The document that describes the server, and the server. `scripts/contract` has schemathesis compare the two in full.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{Server, request, run};

/// An example of the path, and the methods that the document has for it.
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
fn the_document_has_the_methods_that_each_path_has() {
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
fn the_document_has_what_any_path_says_of_a_request_that_is_none() {
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
fn every_endpoint_that_the_index_names_is_in_the_document() {
    run(async {
        let server = Server::start();
        let document = document(&server).await;
        for (name, path) in server.get("/").await.ok()["endpoints"].as_object().unwrap() {
            assert!(document["paths"].get(path.as_str().unwrap()).is_some(), "{name}: {path}");
        }
    });
}

/// The router's own words: nothing lists the routes of a running server.
#[test]
fn every_route_is_in_the_document() {
    run(async {
        let source = include_str!("../../src/http.rs");
        let route = source.split_once("match path {").expect("the router").1.split_once("\n        };").unwrap().0;
        let arms = route.lines().filter_map(|line| line.split_once("=>").map(|(arm, _)| arm));
        let routes: BTreeSet<&str> = arms
            .flat_map(|arm| arm.split('"').skip(1).step_by(2))
            .filter(|path| !path.ends_with('/') || *path == "/")
            .collect();
        assert!(routes.len() >= 14 && routes.contains("/openapi.json"), "{routes:?}");
        let document = document(&Server::start()).await;
        let paths = document["paths"].as_object().unwrap();
        let described: BTreeSet<&str> = paths.keys().map(String::as_str).filter(|path| !path.contains('{')).collect();
        assert_eq!(routes, described);
    });
}
