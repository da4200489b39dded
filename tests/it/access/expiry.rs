//! A stream ends when its token expires.

use std::time::{Duration, Instant};

use fanline::auth::Claims;

use super::{OPERATOR, claims, guarded, now, serve, signed};
use crate::support::{Client, Server, assert_problem, request, run, until};

fn token_expiring_in(seconds: u64) -> String {
    format!("Bearer {}", signed(&Claims { exp: now() + seconds, ..claims() }))
}

#[test]
fn expiring_token_warns_then_ends_the_stream_even_on_anonymous_topics() {
    run(async {
        // Even on a topic that is open to anonymous clients.
        let server = serve(guarded().anonymous_subscribe("user:anna".parse().unwrap()));
        let bearer = token_expiring_in(2);
        let mut stream = server.subscribe_with("/stream?topics=user:anna", &[("authorization", &bearer)]).await;
        stream.hello().await;
        server.publish("user:anna", 1..=1).await;
        let mut names = Vec::new();
        let began = Instant::now();
        loop {
            let event = stream.event().await;
            if event.event != "system" {
                names.push(event.data);
                continue;
            }
            // No id: the client's last event id stays that of the last event.
            assert_eq!(event.id, None, "{event:?}");
            let data = event.json();
            if data["message"] == "token expires" {
                assert!(data["expires_in"].as_u64().unwrap() <= 3, "{data}");
                names.push("token expires".to_owned());
                continue;
            }
            assert_eq!(data, serde_json::json!({"message": "token expired"}));
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(6));
        names.sort();
        assert_eq!(names, ["token expires", "{\"n\":1}"]);
        stream.end().await;
        until(|| server.stats().streams == 0).await;
        let target = "/stream?topics=user:anna";
        assert_problem(
            &server.ask(request("GET", target, &[("authorization", &bearer)], b"")).await,
            401,
            &["expired"],
        );
        let metrics = server.ask(request("GET", "/metrics/json", &[("x-api-key", OPERATOR)], b"")).await.ok();
        assert_eq!(metrics["connections"]["ended"]["token_expired"], 1);
    });
}

#[test]
fn expiry_warning_comes_thirty_seconds_before() {
    run(async {
        let server = serve(guarded());
        let bearer = token_expiring_in(33);
        let mut stream = server.subscribe_with("/stream?topics=user:anna", &[("authorization", &bearer)]).await;
        stream.hello().await;
        let began = Instant::now();
        let data = stream.event().await.json();
        assert_eq!(data["message"], "token expires");
        let expires_in = data["expires_in"].as_u64().unwrap();
        assert!((28..=30).contains(&expires_in), "{data}");
        assert!(began.elapsed() >= Duration::from_secs(1), "the warning came after {:?}", began.elapsed());
    });
}

/// A stream begins after the responses before it were read, which the client can delay.
#[test]
fn token_that_expires_before_the_stream_begins_delivers_no_later_events() {
    run(async {
        let access = guarded();
        let server = Server::with(Server::hub_options(), |builder| builder.access(access).shards(1).send_buffer(4096));
        let (bearer, expired) = (token_expiring_in(2), now() + 5);
        let page = request("GET", "/", &[("accept", "text/html")], b"");
        let headers = [("authorization", bearer.as_str()), ("connection", "close")];
        let stream = request("GET", "/stream?topics=user:anna", &headers, b"");
        let mut clients = Vec::new();
        for count in 0..12 {
            let mut client = Client::connect_narrow(server.address).await;
            client.send([page.repeat(count), stream.clone()].concat()).await;
            clients.push(client);
        }
        until(|| now() > expired).await;
        server.publish("user:anna", [7]).await;
        let mut begun = 0;
        for client in clients {
            let text = client.rest().await;
            let text = String::from_utf8_lossy(&text).into_owned();
            assert!(!text.contains("{\"n\":7}"), "{text}");
            begun += usize::from(text.contains("text/event-stream"));
        }
        assert!(begun > 1, "some streams began before their token expired");
    });
}

#[test]
fn expired_token_ends_blocked_stream() {
    run(async {
        let server = serve(guarded());
        let bearer = token_expiring_in(2);
        let mut client = crate::support::Client::connect_narrow(server.address).await;
        client.send(request("GET", "/stream?topics=user:anna", &[("authorization", &bearer)], b"")).await;
        until(|| server.stats().streams == 1).await;
        let long = format!("\"{}\"", "x".repeat(60_000));
        for _ in 0..50 {
            server.hub.publish(crate::support::event("user:anna", &long)).await.unwrap();
        }
        until(|| server.stats().streams == 0).await;
        drop(client);
    });
}
