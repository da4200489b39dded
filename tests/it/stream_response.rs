//! Streams as responses of an application that has its own listener.

mod application;
mod axum;
mod bodies;
mod interval;
mod random;
mod shutdown;

use std::collections::BTreeMap;

use application::Application;
use fanline::auth::Grant;
use fanline::http::StreamResponseOptions;
use fanline::hub::{Hub, HubOptions};
use serde_json::Value;

use crate::support::{self, Event, Server, Stream, assert_problem, event, request, run};

/// A hub with 20 events of two topics, of which the first 10 have left its history.
async fn hub_with_history() -> Hub {
    let hub = Hub::new(&HubOptions { history: 5, firehose_history: 10, ..Server::hub_options() });
    for n in 1..=10 {
        hub.publish(event("a", &format!("{{\"n\":{n}}}"))).await.unwrap();
        hub.publish(event("b", &format!("{{\"n\":{n}}}")).named("changed".parse().unwrap())).await.unwrap();
    }
    hub
}

#[test]
fn a_stream_is_the_same_as_that_of_a_server() {
    run(async {
        let hub = hub_with_history().await;
        let server = Server::of(hub.clone(), |builder| builder);
        let application = Application::start(hub.clone(), |_| StreamResponseOptions::default()).await;
        for target in [
            "/stream",
            "/stream?history=3",
            "/stream?last_event_id=7-13",
            "/stream?topics=a,b&last_event_id=7-1&format=envelope",
            "/stream?topics=a&last_event_id=earliest",
            "/stream?topics=*&last_event_id=6-99&client_name=x&tags=y",
            "/stream?topics=b&lastEventID=nonsense",
        ] {
            let (mut ours, mut theirs) = (application.subscribe(target).await, server.subscribe(target).await);
            let head = |stream: &Stream| {
                let ours = ["content-type", "cache-control", "x-accel-buffering"];
                ours.map(|name| stream.head.header(name).map(str::to_owned))
            };
            assert_eq!(head(&ours), head(&theirs));
            let (hello, other) = (ours.hello().await, theirs.hello().await);
            assert_eq!(comparable(&hello), comparable(&other), "{target}");
            // Published when the replay was read: what is evicted before that would be lag.
            let mut left = hello["replayed"].as_u64().unwrap();
            while left > 0 {
                let event = same(&mut ours, &mut theirs, target).await;
                left -= u64::from(event.event != "gap");
            }
            for topic in ["a", "b"] {
                hub.publish(event(topic, "0").named("marker".parse().unwrap())).await.unwrap();
            }
            while same(&mut ours, &mut theirs, target).await.event != "marker" {}
        }
    });
}

/// The next event, which must be the same for both.
async fn same(ours: &mut Stream, theirs: &mut Stream, target: &str) -> Event {
    let (event, other) = (ours.event().await, theirs.event().await);
    assert_eq!(event, other, "{target}");
    event
}

/// A hello without what differs between two streams.
fn comparable(hello: &Value) -> Value {
    let mut hello = hello.as_object().unwrap().clone();
    assert!(hello.remove("client_id").is_some() && hello.remove("retry").is_some());
    hello.into()
}

#[test]
fn a_refusal_is_the_same_as_that_of_a_server() {
    run(async {
        let hub = Hub::new(&Server::hub_options());
        let server = Server::of(hub.clone(), |builder| builder);
        let application = Application::start(hub, |_| StreamResponseOptions::default()).await;
        let topics = vec!["t"; 101].join(",");
        let too_many = format!("/stream?topics={topics}");
        for (target, headers, status) in [
            ("/stream?topics=a*b", &[][..], 400),
            (&*too_many, &[], 400),
            ("/stream?topics=*.*.*.*.*.*.*.*.*", &[], 400),
            ("/stream?heartbeat=0", &[], 400),
            ("/stream?format=xml", &[], 400),
            ("/stream?on_lag=wait", &[], 400),
            ("/stream?client_name=a%0Ab", &[], 400),
            ("/stream", &[("accept", "application/json")], 406),
        ] {
            let request = request("GET", target, headers, b"");
            let (ours, theirs) = (application.ask(&request).await, server.ask(&request).await);
            assert_problem(&ours, status, &[]);
            assert_eq!(ours.body, theirs.body, "{target}");
            let headers = |response: &support::Response| {
                let headers = response.head.headers.iter().filter(|(name, _)| name != "date" && name != "connection");
                headers.cloned().collect::<BTreeMap<_, _>>()
            };
            assert_eq!(headers(&ours), headers(&theirs), "{target}");
        }
        assert_eq!(application.stats().refused, 8);
        assert_eq!(application.stats().streams, 0);
    });
}

#[test]
fn a_handler_fixes_the_topics() {
    run(async {
        let hub = Hub::new(&Server::hub_options());
        let options = |_: &_| StreamResponseOptions::of(["room:17".parse().unwrap(), "user:anna".parse().unwrap()]);
        let application = Application::start(hub.clone(), options).await;
        let mut stream = application.follow("/rooms/17?topics=room:18,**").await;
        for topic in ["room:18", "room:17", "user:bob", "user:anna"] {
            hub.publish(event(topic, &format!("{topic:?}"))).await.unwrap();
        }
        assert_eq!(stream.data_at(2).await, "\"room:17\"");
        assert_eq!(stream.data_at(4).await, "\"user:anna\"");
    });
}

#[test]
fn a_grant_restricts_the_topics_of_the_request() {
    run(async {
        let hub = Hub::new(&Server::hub_options());
        let options = |_: &_| {
            let grant = Grant::new().with_user("anna").with_subscribe("room:*, news".parse().unwrap());
            StreamResponseOptions { grant, ..StreamResponseOptions::default() }
        };
        let application = Application::start(hub.clone(), options).await;
        for (target, missing) in [
            ("/stream", "everything"),
            ("/stream?topics=news,admin", "\"admin\""),
            ("/stream?topics=**", "\"**\""),
            ("/stream?topics=user:bob", "\"user:bob\""),
        ] {
            let detail = format!("subscribing to {missing} is not allowed here");
            assert_problem(&application.get(target).await, 403, &[&detail]);
        }
        let mut stream = application.follow("/stream?topics=news,room:17").await;
        for topic in ["admin", "room:17", "user:bob", "user:anna"] {
            hub.publish(event(topic, &format!("{topic:?}"))).await.unwrap();
        }
        assert_eq!(stream.data_at(2).await, "\"room:17\"");
        assert_eq!(stream.data_at(4).await, "\"user:anna\"", "a user gets its own topic");
    });
}

#[test]
fn reserved_topics_need_a_grant() {
    run(async {
        let hub = Hub::new(&Server::hub_options());
        let application = Application::start(hub, |_| StreamResponseOptions::default()).await;
        for target in ["/stream?topics=user:anna", "/stream?topics=presence:*"] {
            assert_problem(&application.get(target).await, 403, &["is not allowed here"]);
        }
    });
}

#[test]
fn a_limit_admits_exactly_as_many_streams() {
    run(async {
        let hub = Hub::new(&Server::hub_options());
        let options = |request: &hyper::Request<_>| {
            let mut options = StreamResponseOptions::default();
            match request.uri().path() {
                "/all" => options.max_streams = Some(2),
                "/firehose" => options.max_firehose = Some(1),
                _ => options.max_silent_topics = Some(1),
            }
            options
        };
        let application = Application::start(hub, options).await;
        let one = application.follow("/all?topics=a").await;
        let _two = application.follow("/firehose?topics=*").await;
        let refused = application.get("/all?topics=a").await;
        assert_problem(&refused, 503, &["the limit of 2 streams is reached"]);
        assert_eq!(refused.head.header("retry-after"), Some("5"));
        assert_problem(&application.get("/firehose").await, 503, &["the limit of 1 subscriptions to everything"]);
        assert_problem(&application.get("/silent?topics=b").await, 503, &["the limit of 1 topics with subscribers"]);
        // A permit is released with its stream.
        drop(one);
        support::until(|| application.stats().streams == 1).await;
        application.follow("/all?topics=a").await;
    });
}

#[test]
fn an_event_source_is_refused_in_band() {
    run(async {
        let hub = Hub::new(&Server::hub_options());
        let options = |_: &_| StreamResponseOptions { max_streams: Some(0), ..StreamResponseOptions::default() };
        let application = Application::start(hub, options).await;
        let headers = [("accept", "text/event-stream"), ("last-event-id", "7-3")];
        let response = application.ask(request("GET", "/stream", &headers, b"")).await;
        assert_eq!(response.head.status, 200);
        let body = String::from_utf8(response.body.to_vec()).unwrap();
        assert!(body.starts_with("id: 7-3\nretry: "), "{body}");
        assert!(body.contains("\"message\":\"unavailable\",\"reason\":\"connections\""), "{body}");
    });
}
