//! Messages of clients: topics that change, publishing, errors and limits.

use fanline::auth::{Access, ApiKeys};
use fanline::server::{HttpOptions, Limits, Rate};
use serde_json::{Value, json};

use crate::access::{OPERATOR, PUBLISHER, key, serve};
use crate::support::websocket::text;
use crate::support::{EPOCH, Server, WebSocket, run};

fn at(sequence: u64) -> String {
    format!("{EPOCH}-{sequence}")
}

impl WebSocket {
    /// Sends a message with a `ref`, and returns its answer, without the type and the `ref`.
    async fn ask(&mut self, mut message: Value, kind: &str) -> Value {
        message["ref"] = json!("asked");
        self.send_json(&message).await;
        let mut answer = self.of_type(kind).await;
        let fields = answer.as_object_mut().unwrap();
        assert_eq!(fields.remove("ref"), Some(json!("asked")));
        fields.remove("type");
        answer
    }

    /// Publishes to a topic of this connection. Returns the event and the answer, which come in either order.
    async fn publish_to_itself(&mut self, publication: Value) -> (Value, Value) {
        self.send_json(&publication).await;
        let (first, second) = (self.message().await, self.message().await);
        if first["type"] == "published" { (second, first) } else { (first, second) }
    }

    /// Sends a message that is refused with this code, and returns the text of the error.
    async fn refused(&mut self, message: Value, code: &str) -> String {
        let error = self.ask(message.clone(), "error").await;
        assert_eq!(error["code"], code, "{message}: {error}");
        error["message"].as_str().unwrap().to_owned()
    }
}

fn subscribe(topics: &[&str]) -> Value {
    json!({"type": "subscribe", "topics": topics})
}

#[test]
fn subscription_sets_the_interval_of_its_connection() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws?interval=1s").await;
        let interval = async || server.get("/clients").await.ok()["clients"][0]["interval_ms"].take();
        assert_eq!(interval().await, 1000);
        let mut message = subscribe(&["a"]);
        socket.ask(message.clone(), "subscribed").await;
        assert_eq!(interval().await, 1000);
        message["interval"] = "20ms".into();
        socket.ask(message.clone(), "subscribed").await;
        assert_eq!(interval().await, 20);
        server.publish("a", 1..=50).await;
        for sequence in 1..=50 {
            socket.data_at(sequence).await;
        }
        message["interval"] = "2m".into();
        let error = socket.refused(message, "malformed").await;
        assert_eq!(error, "\"interval\": expected a time from 10ms to 1m, such as 100ms or 1s");
        assert_eq!(interval().await, 20);
    });
}

#[test]
fn topics_are_added_and_removed() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws").await;
        server.publish("a", [1]).await;
        assert_eq!(
            socket.ask(subscribe(&["a", "b.*"]), "subscribed").await,
            json!({"topics": ["a", "b.*"], "id": at(1)})
        );
        server.publish("a", [2]).await;
        server.publish("c", [3]).await;
        server.publish("b.1", [4]).await;
        socket.data_at(2).await;
        socket.data_at(4).await;
        let unsubscribe = json!({"type": "unsubscribe", "topics": ["a", "never"]});
        assert_eq!(socket.ask(unsubscribe, "unsubscribed").await, json!({"topics": ["a", "never"]}));
        server.publish("a", [5]).await;
        server.publish("b.1", [6]).await;
        socket.data_at(6).await;
    });
}

#[test]
fn added_topics_are_replayed_from_their_own_position() {
    run(async {
        let server = Server::start();
        server.publish("a", [1, 2]).await;
        server.publish("b", [3, 4, 5]).await;
        let mut socket = server.websocket(&format!("/ws?topics=a&last_event_id={}", at(0))).await;
        socket.data_at(1).await;
        socket.data_at(2).await;
        let resumed = json!({"type": "subscribe", "topics": ["b"], "last_event_id": at(3)});
        assert_eq!(socket.ask(resumed, "subscribed").await["id"], at(3));
        socket.data_at(4).await;
        socket.data_at(5).await;
        let newest = json!({"type": "subscribe", "topics": ["**"], "history": 1});
        socket.ask(newest, "subscribed").await;
        server.publish("c", [6]).await;
        socket.data_at(6).await;
        let unknown = json!({"type": "subscribe", "topics": ["d"], "last_event_id": "?"});
        socket.ask(json!({"type": "unsubscribe", "topics": ["**"]}), "unsubscribed").await;
        server.publish("d", [7]).await;
        assert_eq!(socket.ask(unknown, "subscribed").await["id"], "0-0");
        let gap = socket.of_type("gap").await;
        assert_eq!((&gap["data"]["reason"], &gap["data"]["topics"]), (&json!("unknown_id"), &json!(["d"])));
        socket.data_at(7).await;
    });
}

#[test]
fn client_list_shows_the_topics_of_now() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws?topics=a").await;
        let mut topics = Vec::new();
        socket.ask(subscribe(&["b:*"]), "subscribed").await;
        topics.push(server.get("/clients?topic=b:*").await.ok()["clients"][0]["topics"].take());
        socket.ask(json!({"type": "unsubscribe", "topics": ["a", "b:*"]}), "unsubscribed").await;
        topics.push(server.get("/clients").await.ok()["clients"][0]["topics"].take());
        assert_eq!(topics, [json!(["a", "b:*"]), json!([])]);
    });
}

#[test]
fn published_event_has_the_position_of_the_answer() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws").await;
        let event = json!({"type": "publish", "topic": "t", "event": "paid", "data": {"a": 1.50}});
        assert_eq!(socket.ask(event, "published").await, json!({"id": at(1)}));
        socket.ask(subscribe(&["t"]), "subscribed").await;
        let line = json!({"type": "publish", "topic": "t", "text": "line 1\nline 2"});
        let (event, published) = socket.publish_to_itself(line).await;
        assert_eq!(published, json!({"type": "published", "id": at(2)}));
        assert_eq!((&event["id"], &event["text"]), (&json!(at(2)), &json!("line 1\nline 2")));
    });
}

#[test]
fn refused_message_leaves_the_connection_as_it_is() {
    run(async {
        let options = HttpOptions { max_topics: 3, max_patterns: 1, max_event_bytes: 20, ..HttpOptions::default() };
        let server = Server::with(Server::hub_options(), |builder| builder.http(options));
        let mut socket = server.websocket("/ws?topics=t").await;
        socket.refused(json!({"type": "shout"}), "unknown_type").await;
        socket.refused(json!({"type": "ping", "topics": []}), "malformed").await;
        socket.refused(subscribe(&[]), "malformed").await;
        socket.refused(subscribe(&["a b"]), "invalid_topic").await;
        socket.refused(subscribe(&["a", "b", "c"]), "too_many_topics").await;
        socket.refused(subscribe(&["a.*", "b.*"]), "too_many_topics").await;
        socket.refused(json!({"type": "publish", "topic": "t", "data": "x".repeat(19)}), "too_large").await;
        socket.refused(json!({"type": "publish", "topic": "t*", "data": 1}), "invalid_topic").await;
        socket.send(text("[]")).await;
        assert_eq!(socket.of_type("error").await["code"], "malformed");
        server.publish("a", [1]).await;
        server.publish("t", [2]).await;
        socket.data_at(2).await;
        let metrics = String::from_utf8(server.get("/metrics/prometheus").await.body.to_vec()).unwrap();
        assert!(metrics.contains("fanline_websocket_errors_total{code=\"too_many_topics\"} 2"), "{metrics}");
    });
}

#[test]
fn messages_above_the_rate_are_refused_for_a_while() {
    run(async {
        let limits = Limits { websocket_message_rate: Rate::new(1, 3), ..Limits::default() };
        let server = Server::with(Server::hub_options(), |builder| builder.limits(limits));
        let (mut socket, mut other) = (server.websocket("/ws").await, server.websocket("/ws").await);
        for _ in 0..3 {
            socket.assert_alive().await;
        }
        let error = socket.ask(json!({"type": "ping"}), "error").await;
        assert_eq!(error["code"], "rate_limited");
        assert!(error["retry"].as_u64().is_some_and(|retry| (1..=1000).contains(&retry)), "{error}");
        other.assert_alive().await;
    });
}

#[test]
fn grant_decides_on_each_subscription_and_publish() {
    run(async {
        let shop = key("shop", PUBLISHER, "orders:1", "orders:*", false);
        let ops = key("ops", OPERATOR, "**", "**", true);
        let server = serve(Access::new().accept(ApiKeys::new([shop, ops])));
        let mut socket = server.websocket(&format!("/ws?access_token={PUBLISHER}")).await;
        socket.ask(subscribe(&["orders:1", "orders:2"]), "subscribed").await;
        let refused = socket.refused(subscribe(&["orders:3", "news"]), "forbidden").await;
        assert!(refused.contains("news"), "{refused}");
        socket.refused(subscribe(&["**"]), "forbidden").await;
        let publication = |topic: &str| json!({"type": "publish", "topic": topic, "data": 1});
        socket.refused(publication("orders:2"), "forbidden").await;
        let (event, published) = socket.publish_to_itself(publication("orders:1")).await;
        assert_eq!((&event["id"], &published["id"]), (&json!(at(1)), &json!(at(1))));
        let mut operator = server.websocket(&format!("/ws?access_token={OPERATOR}")).await;
        operator.ask(publication("orders:3"), "published").await;
        operator.ask(publication("orders:2"), "published").await;
        // The refused message has not subscribed to its first topic.
        assert_eq!(socket.of_type("event").await["id"], at(3));
    });
}
