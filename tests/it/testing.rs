//! `fanline::testing`: what the client receives, and what its errors show.

use std::convert::Infallible;
use std::future::{Pending, Ready, pending, ready};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use fanline::event::{EventName, Payload};
use fanline::http::{StreamBody, StreamResponseOptions, stream_response};
use fanline::hub::{Delivery, Hub, HubOptions, Start, SubscriptionFilter};
use fanline::testing::{TestClient, TestError};
use http_body_util::Full;
use hyper::{Request, Response};
use serde_json::{Value, json};
use tower_service::Service;

use crate::support::{JSON, Server, event, run};

fn client(server: &Server) -> TestClient {
    TestClient::new(server.address)
}

/// A client whose waits fail soon.
fn hasty(server: &Server) -> TestClient {
    client(server).timeout(Duration::from_secs(1))
}

fn named(topic: &str, name: &str, json: &str) -> fanline::event::Event {
    event(topic, json).named(EventName::new(name).unwrap())
}

#[test]
fn events_arrive_with_id_name_topic_and_data() {
    run(async {
        let server = Server::start();
        let mut plain = client(&server).subscribe("/stream?topics=a:*").await.unwrap();
        let mut envelope = client(&server).subscribe("/stream?topics=a:*&format=envelope").await.unwrap();
        assert_eq!(plain.head().headers["cache-control"], "no-store, no-transform");
        server.hub.publish(named("a:1", "created", r#"{"n": 1}"#)).await.unwrap();
        server.hub.publish(event("b", "0")).await.unwrap();
        server
            .hub
            .publish(fanline::event::Event::new("a:2".parse().unwrap(), Payload::text("two\nlines")))
            .await
            .unwrap();
        for (stream, topics) in [(&mut plain, [None, None]), (&mut envelope, [Some("a:1"), Some("a:2")])] {
            let first = stream.event().await.unwrap();
            assert_eq!((first.id(), first.name(), first.topic()), (Some("7-1"), "created", topics[0]));
            assert_eq!((first.data(), first.json::<Value>().unwrap()), (r#"{"n": 1}"#, json!({"n": 1})));
            assert_eq!(first.position().unwrap().sequence, 1);
            let second = stream.event().await.unwrap();
            assert_eq!((second.id(), second.name(), second.topic()), (Some("7-3"), "message", topics[1]));
            assert_eq!((second.data(), stream.last_id()), ("two\nlines", Some("7-3")));
        }
    });
}

#[test]
fn data_that_only_looks_like_an_envelope_is_data() {
    run(async {
        let server = Server::start();
        let mut stream = client(&server).subscribe("/stream").await.unwrap();
        let data = r#"{"type":"event","id":"7-2","topic":"t","event":"e","data":1}"#;
        server.hub.publish(event("a", data)).await.unwrap();
        let event = stream.event().await.unwrap();
        assert_eq!((event.data(), event.topic()), (data, None));
    });
}

#[test]
fn waits_skip_what_is_not_wanted() {
    run(async {
        let server = Server::start();
        let mut stream = client(&server).subscribe("/stream").await.unwrap();
        server.publish("a", 1..=3).await;
        server.hub.publish(named("a", "deleted", "4")).await.unwrap();
        server.publish("a", 5..=9).await;
        assert_eq!(stream.event_named("deleted").await.unwrap().data(), "4");
        let seventh = stream.event_where(|event| event.data().contains('7')).await.unwrap();
        assert_eq!(seventh.id(), Some("7-7"));
        assert_eq!(stream.next().await.unwrap().unwrap().id(), Some("7-8"));
    });
}

#[test]
fn resumed_stream_gets_the_events_or_the_gap_after_an_id() {
    run(async {
        let server = Server::with(HubOptions { history: 2, ..Server::hub_options() }, |builder| builder);
        server.publish("a", 1..=5).await;
        let mut stream = client(&server).resume("/stream?topics=a", "7-3").await.unwrap();
        assert_eq!(stream.event().await.unwrap().id(), Some("7-4"));
        let mut stream = client(&server).resume("/stream?topics=a", "7-1").await.unwrap();
        let gap = stream.gap().await.unwrap();
        assert_eq!(gap.json::<Value>().unwrap()["missed"], 2);
        assert_eq!(stream.event().await.unwrap().id(), Some("7-4"));
        let error = stream.gap().await.unwrap_err().to_string();
        assert_eq!(error, r#"an event came (7-5 message {"n":5}) instead of gap; before that came nothing"#);
    });
}

#[test]
fn timeout_shows_what_came_instead() {
    run(async {
        let server = Server::start();
        let mut stream = hasty(&server).subscribe("/stream?topics=a&format=envelope").await.unwrap();
        server.publish("a", 1..=2).await;
        let error = stream.event_named("created").await.unwrap_err();
        let TestError::Timeout { ref received, .. } = error else { panic!("{error}") };
        assert_eq!(received.len(), 3);
        let text = error.to_string();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some(r#"no event named "created" within 1s; instead came:"#));
        assert!(lines.next().unwrap().starts_with(r#"  7-0 system {"message":"connected","client_id":"#), "{text}");
        assert_eq!(lines.collect::<Vec<_>>(), [r#"  7-1 a message {"n":1}"#, r#"  7-2 a message {"n":2}"#]);
        assert_eq!(format!("{error:?}"), text, "`unwrap` shows the same");
        let error = stream.event().await.unwrap_err().to_string();
        assert_eq!(error, "no event within 1s; instead came nothing");
    });
}

#[test]
fn timeout_shows_the_last_events_and_the_beginning_of_their_data() {
    run(async {
        let server = Server::start();
        let mut stream = hasty(&server).subscribe("/stream?topics=a").await.unwrap();
        server.publish("a", 1..=30).await;
        server.hub.publish(event("a", &format!("\"{}\"", "ü".repeat(300)))).await.unwrap();
        let text = stream.event_named("x").await.unwrap_err().to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines.len(), lines[1], lines[2]), (22, "  (12 more)", r#"  7-12 message {"n":12}"#));
        assert_eq!(lines[21], format!("  7-31 message \"{}… (602 bytes)", "ü".repeat(149)));
    });
}

#[test]
fn gap_is_an_error_of_a_wait_for_an_event() {
    run(async {
        let server = Server::with(HubOptions { history: 2, ..Server::hub_options() }, |builder| builder);
        server.publish("a", 1..=5).await;
        let mut stream = client(&server).resume("/stream?topics=a", "7-1").await.unwrap();
        let error = stream.event().await.unwrap_err().to_string();
        let gap = r#"7-3 gap {"reason":"evicted","from":"7-1","to":"7-3","missed":2}"#;
        assert!(
            error.starts_with(&format!("a gap came ({gap}) instead of event; before that came:\n  7-1 system ")),
            "{error}"
        );
    });
}

#[test]
fn end_of_the_stream_is_an_error_of_a_wait_or_the_rest() {
    run(async {
        let mut server = Server::start();
        let mut stream = client(&server).subscribe("/stream?topics=a").await.unwrap();
        let mut other = client(&server).subscribe("/stream?topics=a").await.unwrap();
        server.publish("a", 1..=1).await;
        stream.event().await.unwrap();
        other.event().await.unwrap();
        server.stop();
        let error = stream.event().await.unwrap_err().to_string();
        let expected =
            "the stream ended instead of event; before that came:\n  7-1 system {\"message\":\"server restarting\"}";
        assert_eq!(error, expected);
        let rest: Vec<_> = other.rest().await.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(rest, ["7-1 system {\"message\":\"server restarting\"}"]);
    });
}

#[test]
fn refusals_and_other_responses_are_errors_of_the_subscription() {
    run(async {
        let server = Server::start();
        let error = client(&server).subscribe("/stream?topics=a*").await.unwrap_err();
        let TestError::Refused { ref response, .. } = error else { panic!("{error}") };
        assert_eq!(response.status(), 400);
        let text = error.to_string();
        assert!(text.starts_with("GET /stream?topics=a*: the response has status 400 Bad Request: "), "{text}");
        assert!(text.contains("'*' must be a whole segment"), "{text}");
        let text = client(&server).subscribe("/health").await.unwrap_err().to_string();
        let expected = "GET /health: the response has content type \"application/json\" instead of text/event-stream";
        assert_eq!(text, expected);
        let text = client(&server).header("bad name", "x").subscribe("/stream").await.unwrap_err().to_string();
        assert_eq!(text, "the request is invalid: invalid HTTP header name");
    });
}

#[test]
fn address_without_a_server_is_named() {
    run(async {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = TestClient::new(free).subscribe("/stream").await.unwrap_err().to_string();
        assert!(text.starts_with(&format!("GET /stream has no response: cannot connect to {free}: ")), "{text}");
    });
}

#[test]
fn other_requests_have_the_headers_of_the_client() {
    run(async {
        let server = Server::start();
        let mut stream = client(&server).subscribe("/stream?topics=a").await.unwrap();
        let publish = Request::post("/publish/a").body(r#"{"n":1}"#).unwrap();
        let response = client(&server).header("content-type", JSON).send(publish).await.unwrap();
        assert_eq!(response.status(), 200, "{response:?}");
        assert_eq!(stream.event().await.unwrap().data(), r#"{"n":1}"#);
        let health = Request::get("/nowhere").body("").unwrap();
        assert_eq!(client(&server).send(health).await.unwrap().status(), 404);
    });
}

/// A router of an application with one stream.
#[derive(Clone)]
struct Router;

impl Service<Request<Full<Bytes>>> for Router {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let user = request.headers().get("x-user").map_or("", |user| user.to_str().unwrap());
        let body = format!(":\n\nid: {}\nevent: hello\ndata: {user}\n\n", request.uri().path());
        ready(Ok(Response::builder().header("content-type", "text/event-stream").body(body.into()).unwrap()))
    }
}

#[test]
fn router_is_called_without_a_socket() {
    run(async {
        let client = TestClient::of_service(Router).header("x-user", "anna");
        let mut stream = client.subscribe("/events").await.unwrap();
        let hello = stream.event_named("hello").await.unwrap();
        assert_eq!((hello.id(), hello.data(), hello.position()), (Some("/events"), "anna", None));
        let error = stream.event().await.unwrap_err().to_string();
        assert_eq!(error, "the stream ended instead of event; before that came nothing");
    });
}

/// A router that leaves its streams to fanline.
#[derive(Clone)]
struct Streams(Hub);

impl Service<Request<Full<Bytes>>> for Streams {
    type Response = Response<StreamBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let hub = self.0.clone();
        Box::pin(async move { Ok(stream_response(&hub, &request, StreamResponseOptions::default()).await) })
    }
}

#[test]
fn streams_of_a_router_are_tested_without_a_server() {
    run(async {
        let hub = Hub::new(&HubOptions { history: 2, ..Server::hub_options() });
        let client = TestClient::of_service(Streams(hub.clone()));
        let mut stream = client.subscribe("/any?topics=a&format=envelope").await.unwrap();
        for n in 1..=4 {
            hub.publish(event("a", &n.to_string())).await.unwrap();
            assert_eq!(stream.event().await.unwrap().json::<u8>().unwrap(), n);
        }
        let mut resumed = client.resume("/any?topics=a", "7-2").await.unwrap();
        assert_eq!(resumed.event().await.unwrap().data(), "3");
        let mut resumed = client.resume("/any?topics=a", "7-1").await.unwrap();
        assert_eq!(resumed.gap().await.unwrap().json::<Value>().unwrap()["missed"], 1);
        let refused = client.subscribe("/any?topics=a*").await.unwrap_err();
        assert!(matches!(refused, TestError::Refused { ref response, .. } if response.status() == 400), "{refused}");
        hub.close();
        assert!(stream.event().await.unwrap_err().to_string().starts_with("the stream ended instead of event;"));
    });
}

#[test]
fn subscriptions_in_the_process_end_with_the_server() {
    run(async {
        let mut server = Server::start();
        let (mut subscription, _) = server.hub.subscribe(SubscriptionFilter::everything(), Start::Live);
        server.publish("a", 1..=1).await;
        server.stop();
        assert!(matches!(subscription.next().await, Some(Delivery::Event(_))));
        assert!(subscription.next().await.is_none());
    });
}

/// A router that never responds.
#[derive(Clone)]
struct Silent;

impl Service<Request<Full<Bytes>>> for Silent {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pending<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
        pending()
    }
}

#[test]
fn response_that_does_not_come_is_an_error() {
    run(async {
        let client = TestClient::of_service(Silent).timeout(Duration::from_millis(20));
        let text = client.subscribe("/events").await.unwrap_err().to_string();
        assert_eq!(text, "GET /events has no response: none within 20ms");
    });
}
