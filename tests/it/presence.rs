//! Presence on one server: joins and leaves of topics.

use std::time::Duration;

use fanline::auth::{Access, Claims, Permissions};
use fanline::server::PresenceOptions;
use serde_json::Value;

use crate::access::{claims, signed, tokens};
use crate::support::{Event, Server, Stream, request, run};

fn serve(grace: Duration, max_members: usize) -> Server {
    let open = "**, presence:**".parse().unwrap();
    let access = Access::new().accept(tokens()).anonymous_subscribe(open).anonymous_metrics(true);
    let presence = PresenceOptions { topics: "room:*".parse().unwrap(), grace, max_members };
    Server::with(Server::hub_options(), |builder| builder.access(access).presence(presence))
}

async fn enter(server: &Server, user: &str, topics: &str) -> Stream {
    let fanline = Permissions { subscribe: vec!["room:*".into()], ..Permissions::default() };
    let token = signed(&Claims { sub: Some(user.into()), fanline, ..claims() });
    server.follow(&format!("/stream?topics={topics}&access_token={token}")).await
}

/// The name of the event, and its topic and user.
fn parts(event: &Event) -> (&str, Value, Value) {
    let mut data = event.json();
    (&event.event, data["topic"].take(), data["user"].take())
}

#[test]
fn member_joins_once_and_leaves_after_the_grace() {
    run(async {
        let server = serve(Duration::from_millis(300), 100);
        let mut reader = server.follow("/stream?topics=presence:room:1").await;
        let first = enter(&server, "anna", "room:1").await;
        assert_eq!(parts(&reader.event().await), ("join", "room:1".into(), "anna".into()));
        let second = enter(&server, "anna", "room:1,room:2").await;
        drop(first);
        // By a pattern, no client is a member.
        let _pattern = enter(&server, "carl", "room:*").await;
        let bert = enter(&server, "bert", "room:1").await;
        assert_eq!(parts(&reader.event().await), ("join", "room:1".into(), "bert".into()));
        drop(bert);
        assert_eq!(parts(&reader.event().await), ("leave", "room:1".into(), "bert".into()));
        drop(second);
        assert_eq!(parts(&reader.event().await), ("leave", "room:1".into(), "anna".into()));
        let again = enter(&server, "anna", "room:1").await;
        assert_eq!(parts(&reader.event().await), ("join", "room:1".into(), "anna".into()));
        drop(again);
    });
}

#[test]
fn client_without_a_user_is_announced_by_id_and_name() {
    run(async {
        let server = serve(Duration::from_millis(10), 100);
        let mut reader = server.follow("/stream?topics=presence:room:1").await;
        let mut guest = server.subscribe("/stream?topics=room:1&client_name=guest").await;
        let hello = guest.hello().await;
        let join = reader.event().await.json();
        assert_eq!((&join["client_id"], &join["client_name"]), (&hello["client_id"], &"guest".into()));
        assert_eq!(join["user"], Value::Null);
        drop(guest);
        let leave = reader.event().await;
        assert_eq!((&*leave.event, leave.json()), ("leave", join));
    });
}

#[test]
fn members_are_counted_and_limited() {
    run(async {
        let server = serve(Duration::from_secs(60), 2);
        let mut reader = server.follow("/stream?topics=presence:room:1,presence:room:2,presence:room:3").await;
        let _anna = enter(&server, "anna", "room:1,room:2,room:3").await;
        for topic in ["room:1", "room:2"] {
            assert_eq!(parts(&reader.event().await), ("join", topic.into(), "anna".into()));
        }
        let metrics = server.ask(request("GET", "/metrics/json", &[], b"")).await.ok();
        assert_eq!(metrics["presence"], serde_json::json!({"members": 2, "refused": 1}));
        let text = server.ask(request("GET", "/metrics/prometheus", &[], b"")).await;
        let text = String::from_utf8(text.body.to_vec()).unwrap();
        for line in ["fanline_presence_members 2", "fanline_presence_refused_total 1"] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    });
}
