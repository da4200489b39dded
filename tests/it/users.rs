//! Users: their topics, which filters of reserved topics match, and the operators' view.

use std::time::Duration;

use fanline::auth::{Access, ApiKeys, Claims};
use fanline::server::PresenceOptions;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::access::{OPERATOR, PUBLISHER, claims, guarded, key, serve, signed, tokens};
use crate::support::{Server, Stream, assert_problem, request, run};

fn token(user: &str) -> String {
    signed(&Claims { sub: Some(user.into()), ..claims() })
}

async fn stream(server: &Server, user: &str, query: &str) -> Stream {
    let mut stream = server.subscribe(&format!("/stream?{query}&access_token={}", token(user))).await;
    stream.hello().await;
    stream
}

async fn publish(server: &Server, key: &str, topic: &str) -> crate::support::Response {
    let headers = [("x-api-key", key), ("content-type", "application/json")];
    server.ask(request("POST", &format!("/publish/{topic}"), &headers, b"1")).await
}

#[test]
fn users_topic_reaches_all_streams_of_the_user_and_no_others() {
    run(async {
        let sender = key("sender", PUBLISHER, "user:*", "", false);
        let reader = key("reader", OPERATOR, "", "**, user:*", false);
        let server = serve(Access::new().accept(ApiKeys::new([sender, reader])).accept(tokens()));
        let mut annas =
            [stream(&server, "anna", "topics=orders:1").await, stream(&server, "anna", "topics=orders:2").await];
        let mut bert = stream(&server, "bert", "topics=orders:1").await;
        let mut everything = server.follow(&format!("/stream?access_token={OPERATOR}")).await;
        let mut users = server.follow(&format!("/stream?topics=user:*&access_token={OPERATOR}")).await;
        assert_eq!(publish(&server, PUBLISHER, "user:anna").await.ok()["id"], "7-1");
        server.publish("orders:1", [2]).await;
        publish(&server, PUBLISHER, "user:bert").await.ok();
        publish(&server, PUBLISHER, "user:reader").await.ok();
        for anna in &mut annas {
            anna.data_at(1).await;
        }
        annas[0].data_at(2).await;
        bert.data_at(2).await;
        bert.data_at(3).await;
        // Its own topic besides everything.
        everything.data_at(2).await;
        everything.data_at(4).await;
        for sequence in [1, 3, 4] {
            users.data_at(sequence).await;
        }
    });
}

async fn socket(server: &Server, query: &str) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let url = format!("ws://{}/ws?{query}", server.address);
    tokio_tungstenite::client_async(url, stream).await.unwrap().0
}

/// The next message of this type.
async fn message(socket: &mut WebSocketStream<TcpStream>, of_type: &str) -> Value {
    loop {
        if let Message::Text(text) = socket.next().await.expect("the connection is open").unwrap() {
            let message: Value = serde_json::from_str(&text).unwrap();
            if message["type"] == of_type {
                return message;
            }
        }
    }
}

#[test]
fn users_topic_reaches_websockets_and_stays_when_it_is_unsubscribed() {
    run(async {
        let server = serve(guarded());
        let mut anna = socket(&server, &format!("access_token={}", token("anna"))).await;
        message(&mut anna, "system").await;
        server.publish("user:bert", [1]).await;
        server.publish("user:anna", [2]).await;
        assert_eq!(message(&mut anna, "event").await["id"], "7-2");
        anna.send(Message::text(r#"{"type":"unsubscribe","topics":["user:anna"]}"#)).await.unwrap();
        message(&mut anna, "unsubscribed").await;
        server.publish("user:anna", [3]).await;
        assert_eq!(message(&mut anna, "event").await["id"], "7-3");
        let list = server.ask(request("GET", "/clients?user=anna", &[("x-api-key", OPERATOR)], b"")).await.ok();
        let client = &list["clients"][0];
        assert_eq!((&client["transport"], &client["topics"]), (&json!("websocket"), &json!(["user:anna"])));
        server.ask(request("DELETE", "/clients?user=anna", &[("x-api-key", OPERATOR)], b"")).await.ok();
        assert_eq!(message(&mut anna, "system").await["data"]["message"], "disconnected");
    });
}

#[test]
fn websocket_joins_and_leaves_topics_with_its_messages() {
    run(async {
        let presence = PresenceOptions {
            topics: "orders:*".parse().unwrap(),
            grace: Duration::from_millis(10),
            ..PresenceOptions::default()
        };
        let access = guarded().anonymous_subscribe("presence:**".parse().unwrap());
        let server = Server::with(Server::hub_options(), |builder| builder.access(access).presence(presence));
        let mut reader = server.follow("/stream?topics=presence:orders:1").await;
        let mut anna = socket(&server, &format!("access_token={}", token("anna"))).await;
        for (kind, event) in [("subscribe", "join"), ("unsubscribe", "leave")] {
            let change = json!({"type": kind, "topics": ["orders:1"]}).to_string();
            anna.send(Message::text(change)).await.unwrap();
            let found = reader.event().await;
            assert_eq!((&*found.event, &found.json()["user"]), (event, &json!("anna")));
        }
    });
}

#[test]
fn user_who_resumes_gets_what_was_published_to_the_user_meanwhile() {
    run(async {
        let server = serve(guarded());
        server.publish("user:anna", 1..=2).await;
        server.publish("orders:1", 3..=3).await;
        server.publish("user:anna", 4..=4).await;
        let mut resumed = stream(&server, "anna", "topics=orders:1&last_event_id=7-1").await;
        for sequence in [2, 3, 4] {
            resumed.data_at(sequence).await;
        }
        let mut new = stream(&server, "anna", "topics=orders:2").await;
        server.publish("user:anna", [5]).await;
        new.data_at(5).await;
    });
}

#[test]
fn everything_has_no_events_of_users() {
    run(async {
        let server = Server::start();
        let mut live = server.follow("/stream").await;
        server.publish("user:anna", 1..=3).await;
        server.publish("presence:room", 4..=4).await;
        server.publish("a", 5..=5).await;
        live.data_at(5).await;
        for query in ["", "&topics=**", "&topics=*", "&topics=*:*,a", "&topics=**,a"] {
            let mut replay = server.follow(&format!("/stream?last_event_id=earliest{query}")).await;
            replay.data_at(5).await;
        }
        // A client may have the last event before its stream's task has noted that.
        let are_up_to_date =
            |clients: &Value| clients["clients"].as_array().unwrap().iter().all(|client| client["queue_size"] == 0);
        while !are_up_to_date(&server.get("/clients").await.ok()) {}
    });
}

#[test]
fn reserved_topics_need_a_grant_that_names_them() {
    run(async {
        let open = Server::start();
        let server = serve(guarded());
        for topic in ["user:anna", "user:*", "user:**", "presence:room", "presence:**", "a,user:anna"] {
            let target = format!("/stream?topics={topic}");
            let proxied = open.ask(request("GET", &target, &[("x-forwarded-for", "10.0.0.1")], b"")).await;
            assert_problem(&proxied, 403, &["anonymous_subscribe", "begins with user: or presence:"]);
            let refused = server.get(&format!("{target}&access_token={OPERATOR}")).await;
            assert_problem(&refused, 403, &["begins with user: or presence:"]);
        }
        assert_problem(&publish(&server, OPERATOR, "user:anna").await, 403, &["begins with user: or presence:"]);
        assert_eq!(publish(&server, OPERATOR, "orders:1").await.head.status, 200);
        // Processes of the server's own user may do everything.
        assert_eq!(open.post("/publish/user:anna", "text/plain", "x").await.head.status, 200);
        assert_eq!(open.subscribe("/stream?topics=user:anna,user:*").await.head.status, 200);
        let readable = "**, user:*".parse().unwrap();
        let named = serve(Access::new().anonymous_subscribe(readable));
        assert_eq!(named.subscribe("/stream?topics=user:anna").await.head.status, 200);
        assert_eq!(named.get("/stream?topics=presence:room").await.head.status, 403);
    });
}

#[test]
fn user_may_subscribe_to_the_own_topic_without_a_grant() {
    run(async {
        let server = serve(guarded());
        let mut bare = claims();
        bare.fanline.subscribe.clear();
        let token = signed(&bare);
        let mut own = server.follow(&format!("/stream?topics=user:anna&access_token={token}")).await;
        server.publish("user:anna", [1]).await;
        own.data_at(1).await;
        for topic in ["user:bert", "user:anna:inbox", "user:*"] {
            let refused = server.get(&format!("/stream?topics={topic}&access_token={token}")).await;
            assert_problem(&refused, 403, &[topic]);
        }
    });
}

#[test]
fn subject_with_a_colon_has_no_topic() {
    run(async {
        let server = serve(guarded());
        let mut odd = Claims { sub: Some("anna:inbox".into()), ..claims() };
        odd.fanline.subscribe = vec!["a".into()];
        let mut stream = server.follow(&format!("/stream?topics=a&access_token={}", signed(&odd))).await;
        server.publish("user:anna:inbox", [1]).await;
        server.publish("a", [2]).await;
        stream.data_at(2).await;
    });
}

#[test]
fn operators_list_and_disconnect_the_clients_of_a_user() {
    run(async {
        let server = serve(guarded());
        let mut annas =
            [stream(&server, "anna", "topics=orders:1").await, stream(&server, "anna", "topics=orders:2").await];
        let mut bert = stream(&server, "bert", "topics=orders:1").await;
        let ask = async |method: &str, query: &str| {
            server.ask(request(method, &format!("/clients{query}"), &[("x-api-key", OPERATOR)], b"")).await
        };
        let page = ask("GET", "?user=anna").await.ok();
        assert_eq!((&page["count"], &page["clients"][0]["user"]), (&json!(2), &json!("anna")));
        assert_eq!(page["clients"][0]["topics"], json!(["orders:1", "user:anna"]));
        assert_eq!(ask("GET", "?user=anna&scope=cluster").await.ok()["count"], 2);
        assert_eq!(ask("GET", "?user=ann").await.ok()["count"], 0);
        for query in ["", "?user=", "?user=anna&user=bert", "?users=anna", "?user=anna&tag=x"] {
            assert_problem(&ask("DELETE", query).await, 400, &["user"]);
        }
        let none = ask("DELETE", "?user=carl").await.ok();
        assert_eq!(none, json!({"user": "carl", "status": "disconnected", "count": 0}));
        assert_eq!(ask("DELETE", "?user=anna").await.ok()["count"], 2);
        for anna in &mut annas {
            assert_eq!(anna.event().await.json()["message"], "disconnected");
        }
        server.publish("orders:1", [1]).await;
        bert.data_at(1).await;
        assert_problem(&server.ask(request("DELETE", "/clients?user=bert", &[], b"")).await, 401, &["admin"]);
    });
}
