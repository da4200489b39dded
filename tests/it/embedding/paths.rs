//! The prefix of the server's own paths, and endpoints that are disabled.

use std::io;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use fanline::Hub;
use fanline::server::{Endpoint, HttpOptions, Origins};
use serde_json::{Value, json};

use super::app;
use crate::support::{Http2, JSON, Response, Server, WebSocket, assert_problem, request, run};

/// A router that says which target it got.
fn teapot() -> Router {
    Router::new().fallback(async |request: Request| (StatusCode::IM_A_TEAPOT, request.uri().path().to_owned()))
}

async fn page(server: &Server, path: &str) -> Response {
    server.ask(request("GET", path, &[("accept", "text/html")], b"")).await
}

/// The relative addresses in a page.
fn links(page: &Response) -> Vec<String> {
    let text = std::str::from_utf8(&page.body).unwrap();
    let after = |name: &str| {
        let values = text.split(name).skip(1).map(|value| value.split_once('"').unwrap().0.to_owned());
        values.collect::<Vec<_>>()
    };
    [after("href=\""), after("src=\"")].concat()
}

#[test]
fn prefix_moves_every_path_of_the_server() {
    run(async {
        let server = Server::with(Server::hub_options(), |builder| builder.prefix("/api/live").fallback(teapot()));
        for path in ["/", "/stream", "/health", "/demo", "/api", "/api/lives", "/api/live/nothing"] {
            let response = server.get(path).await;
            assert_eq!((response.head.status, &response.body[..]), (418, path.as_bytes()), "{path}");
        }
        server.get("/api/live/health").await.ok();
        server.post("/api/live/publish/t", JSON, "{\"n\":1}").await.ok();
        let mut stream = server.follow("/api/live/stream?last_event_id=earliest").await;
        stream.data_at(1).await;
        Http2::connect(server.address).await.follow("/api/live/stream").await;
        let mut socket = WebSocket::connect(server.address, "/api/live/ws?topics=t").await;
        socket.hello().await;
        let id = server.get("/api/live/clients").await.ok()["clients"][0]["client_id"].clone();
        let target = format!("/api/live/clients/{}", id.as_str().unwrap());
        server.ask(request("DELETE", &target, &[], b"")).await.ok();
    });
}

#[test]
fn without_a_fallback_other_paths_get_404_that_names_the_index() {
    run(async {
        let server = Server::with(Server::hub_options(), |builder| builder.prefix("/live"));
        for path in ["/", "/stream", "/live/nothing"] {
            assert_problem(&server.get(path).await, 404, &[&format!("{path:?}"), "GET /live/ lists"]);
        }
        let server = Server::with(Server::hub_options(), |builder| builder.disable([Endpoint::Documents]));
        let response = server.get("/").await;
        assert_problem(&response, 404, &["no endpoint \"/\""]);
        assert!(!response.json()["detail"].as_str().unwrap().contains("lists"));
    });
}

#[test]
fn documents_and_their_links_follow_the_prefix() {
    run(async {
        let server = Server::with(Server::hub_options(), |builder| builder.prefix("/live"));
        let directory = server.get("/live").await;
        assert_eq!((directory.head.status, directory.head.header("location")), (308, Some("live/")));
        for path in ["/live/", "/live/demo", "/live/docs"] {
            let page = page(&server, path).await;
            assert_eq!(page.head.status, 200, "{path}");
            let links = links(&page);
            assert!(links.len() > 3, "{path}: {links:?}");
            for link in links.iter().filter(|link| !link.starts_with("http") && !link.starts_with('#')) {
                assert!(!link.starts_with('/'), "{path}: {link}");
                let link = link.trim_start_matches('.').trim_start_matches('/');
                let status = server.ask(request("PUT", &format!("/live/{link}"), &[], b"")).await.head.status;
                assert_eq!(status, 405, "{path}: {link}");
            }
        }
        let text = String::from_utf8(page(&server, "/live/").await.body.to_vec()).unwrap();
        assert!(text.contains("GET /live/stream") && !text.contains("{prefix}"), "{text}");
        for (_, path) in server.get("/live/").await.ok()["endpoints"].as_object().unwrap() {
            let status = server.ask(request("PUT", path.as_str().unwrap(), &[], b"")).await.head.status;
            assert_eq!(status, 405, "{path}");
        }
        let openapi = server.get("/live/openapi.json").await.json();
        assert_eq!(openapi["servers"], json!([{"url": "/live"}]));
        assert!(openapi["paths"].get("/stream").is_some());
        assert_eq!(server.get("/live/asyncapi.json").await.json()["channels"]["ws"]["address"], "/live/ws");
    });
}

#[test]
fn invalid_prefix_is_an_error_of_bind() {
    for (prefix, names) in [("live", "\"live\""), ("/live/", "\"/live/\""), ("/", "\"/\""), ("/a b", "\"/a b\"")] {
        let error =
            fanline::Server::builder(Hub::default()).listen(([127, 0, 0, 1], 0)).prefix(prefix).bind().err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(names) && error.to_string().contains("as in /live"), "{error}");
    }
}

const PATHS: [(Endpoint, &[&str]); 10] = [
    (Endpoint::Stream, &["/stream", "/events"]),
    (Endpoint::WebSocket, &["/ws"]),
    (Endpoint::Publish, &["/publish", "/publish/t"]),
    (Endpoint::Health, &["/health", "/health/live", "/health/ready"]),
    (Endpoint::Metrics, &["/metrics", "/metrics/json"]),
    (Endpoint::Clients, &["/clients", "/clients/0000000000000000"]),
    (Endpoint::Topics, &["/topics"]),
    (Endpoint::Documents, &["/", "/openapi.json", "/docs"]),
    (Endpoint::BrowserClient, &["/fanline.js"]),
    (Endpoint::Console, &["/demo", "/demo/console.js"]),
];

#[test]
fn disabled_endpoint_goes_to_the_fallback_and_the_others_stay() {
    run(async {
        for (disabled, paths) in PATHS {
            let server = Server::with(Server::hub_options(), |builder| builder.disable([disabled]).fallback(teapot()));
            for (endpoint, others) in PATHS {
                for path in others {
                    let expected = if endpoint == disabled { 418 } else { 405 };
                    let status = server.ask(request("PATCH", path, &[], b"")).await.head.status;
                    assert_eq!(status, expected, "{path} without {disabled:?}");
                }
            }
            let bare = Server::with(Server::hub_options(), |builder| builder.disable([disabled]));
            for path in paths {
                assert_eq!(
                    bare.ask(request("PATCH", path, &[], b"")).await.head.status,
                    404,
                    "{path} without a fallback"
                );
            }
        }
    });
}

#[test]
fn documents_name_only_what_is_served() {
    run(async {
        for (disabled, paths) in PATHS.into_iter().filter(|(endpoint, _)| *endpoint != Endpoint::Documents) {
            let server = Server::with(Server::hub_options(), |builder| builder.disable([disabled]));
            let index = server.get("/").await.ok();
            let named: Vec<&Value> = index["endpoints"].as_object().unwrap().values().collect();
            let page = page(&server, "/").await;
            let links = links(&page);
            let openapi = server.get("/openapi.json").await.json();
            for path in paths {
                assert!(!named.contains(&&Value::from(*path)), "{path} in the index");
                assert!(!links.contains(&path[1..].to_owned()), "{path} in the page: {links:?}");
                assert!(openapi["paths"].get(path).is_none(), "{path} in OpenAPI");
            }
            for link in links {
                let status = server.ask(request("PUT", &format!("/{link}"), &[], b"")).await.head.status;
                assert_eq!(status, 405, "{link} without {disabled:?}");
            }
        }
    });
}

#[test]
fn server_without_endpoints_is_the_applications() {
    run(async {
        let http = HttpOptions { origins: Origins::Any, ..HttpOptions::default() };
        let server = Server::with(Server::hub_options(), |builder| {
            builder.http(http).disable(Endpoint::ALL.iter().copied()).fallback(app().merge(teapot()))
        });
        assert_eq!(server.get("/hello").await.body, "hello");
        for path in PATHS.into_iter().flat_map(|(_, paths)| paths) {
            let response = server.ask(request("GET", path, &[("origin", "http://a.example")], b"")).await;
            assert_eq!(
                (response.head.status, response.head.header("access-control-allow-origin")),
                (418, None),
                "{path}"
            );
        }
    });
}
