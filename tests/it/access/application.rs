//! The access rules of an application: its own sessions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanline::auth::{Access, AuthRequest, Authorize, Grant, Refusal, Tag};
use fanline::server::PresenceOptions;
use serde_json::{Value, json};

use crate::support::{Server, assert_problem, request, run};

/// Sessions by their cookie. `authorize` waits, as for a database.
#[derive(Clone, Default)]
struct Sessions(Arc<Mutex<HashMap<String, Grant>>>);

impl Sessions {
    /// The session `s1` of anna, with read and write access to `room:*`.
    fn of_anna() -> Self {
        let sessions = Self::default();
        let tags = ["staff", "beta"].map(|tag| Tag::new(tag).unwrap());
        let grant = Grant::new().with_user("anna").with_tags(tags).with_subscribe("room:*".parse().unwrap());
        sessions.begin("s1", grant.with_publish("room:*".parse().unwrap()));
        sessions.begin("ops", Grant::new().with_admin(true).with_subscribe("presence:**".parse().unwrap()));
        sessions
    }

    fn begin(&self, cookie: &str, grant: Grant) {
        self.0.lock().unwrap().insert(cookie.into(), grant);
    }

    fn serve(&self) -> Server {
        let (access, topics) = (Access::new().accept(self.clone()), "room:*".parse().unwrap());
        let presence = PresenceOptions { topics, ..PresenceOptions::default() };
        Server::with(Server::hub_options(), |builder| builder.access(access).presence(presence))
    }
}

impl Authorize for Sessions {
    async fn authorize(&self, request: &AuthRequest<'_>) -> Result<Option<Grant>, Refusal> {
        let Some(cookie) = request.cookie("session") else { return Ok(None) };
        tokio::task::yield_now().await;
        if cookie == "outage" {
            let detail = "the database of sessions is down".into();
            return Err(Refusal::Unavailable { detail, retry_after: Duration::from_secs(7) });
        }
        if request.parts.headers.contains_key("x-suspicious") {
            return Err(Refusal::Forbidden(format!("{} is not allowed from there", request.parts.uri.path())));
        }
        let found = self.0.lock().unwrap().get(cookie).cloned();
        found.map(Some).ok_or_else(|| Refusal::InvalidCredentials("the session has ended: log in again".into()))
    }
}

const COOKIE: (&str, &str) = ("cookie", "theme=dark; session=s1");
const OPERATOR: (&str, &str) = ("cookie", "session=ops");

#[test]
fn user_and_tags_of_a_session_appear_in_clients_and_presence() {
    run(async {
        let server = Sessions::of_anna().serve();
        let mut presence = server.subscribe_with("/stream?topics=presence:room:1", &[OPERATOR]).await;
        presence.hello().await;
        let mut anna = server.subscribe_with("/stream?topics=room:1&tags=phone,beta", &[COOKIE]).await;
        anna.hello().await;
        assert_eq!(presence.event().await.json()["user"], "anna");
        let list = server.ask(request("GET", "/clients?user=anna&tag=staff", &[OPERATOR], b"")).await.ok();
        let client = &list["clients"][0];
        assert_eq!((&list["count"], &client["user"]), (&json!(1), &json!("anna")));
        assert_eq!(client["tags"], json!(["staff", "beta", "phone"]));
        assert_eq!(client["topics"], json!(["room:1", "user:anna"]));
        // The topic of the session's user; the first event was the join.
        server.publish("user:anna", [1]).await;
        anna.data_at(2).await;
    });
}

#[test]
fn session_decides_what_its_client_may_do() {
    run(async {
        let server = Sessions::of_anna().serve();
        let ask = async |method: &str, target: &str, headers: &[(&str, &str)]| {
            server.ask(request(method, target, headers, b"1")).await
        };
        let text = ("content-type", "text/plain");
        assert_eq!(ask("POST", "/publish/room:1", &[COOKIE, text]).await.ok()["id"], "7-1");
        assert_problem(&ask("POST", "/publish/other", &[COOKIE, text]).await, 403, &["other"]);
        let get = async |target: &str, headers: &[(&str, &str)]| server.ask(request("GET", target, headers, b"")).await;
        assert_problem(&get("/stream?topics=other", &[COOKIE]).await, 403, &["other"]);
        assert_problem(&get("/clients", &[COOKIE]).await, 403, &["admin"]);
        assert_problem(&get("/stream?topics=room:1", &[]).await, 401, &["room:1"]);
        let ended = get("/stream?topics=room:1", &[("cookie", "session=s2")]).await;
        assert_problem(&ended, 401, &["the session has ended: log in again"]);
        let suspicious = get("/stream?topics=room:1", &[COOKIE, ("x-suspicious", "1")]).await;
        assert_problem(&suspicious, 403, &["/stream is not allowed from there"]);
        let outage = get("/stream?topics=room:1", &[("cookie", "session=outage")]).await;
        assert_problem(&outage, 503, &["the database of sessions is down"]);
        assert_eq!(outage.head.header("retry-after"), Some("7"));
    });
}

/// Sends a message over a WebSocket, and returns the type of the answer, with its code if it is an error.
async fn answer(socket: &mut crate::support::WebSocket, message: Value, kinds: [&str; 2]) -> Value {
    socket.send_json(&message).await;
    loop {
        let mut answer = socket.message().await;
        match answer["type"].take() {
            kind if kind == "error" => return answer["code"].take(),
            kind if kinds.iter().any(|wanted| kind == *wanted) => return kind,
            _ => {}
        }
    }
}

#[test]
fn session_holds_for_the_messages_of_a_websocket_until_the_rules_change() {
    run(async {
        let sessions = Sessions::of_anna();
        let server = sessions.serve();
        let client = server.connect().await;
        let mut socket = crate::support::WebSocket::on(client, "/ws", &[COOKIE], b"").await;
        socket.hello().await;
        let kinds = ["subscribed", "published"];
        let subscribe = |topic: &str| json!({"type": "subscribe", "topics": [topic]});
        let publish = |topic: &str| json!({"type": "publish", "topic": topic, "data": 1});
        assert_eq!(answer(&mut socket, subscribe("room:1"), kinds).await, "subscribed");
        assert_eq!(answer(&mut socket, subscribe("other"), kinds).await, "forbidden");
        assert_eq!(answer(&mut socket, publish("room:1"), kinds).await, "published");
        assert_eq!(answer(&mut socket, publish("other"), kinds).await, "forbidden");
        // These rules do not renew grants: they end the connection.
        server.access.replace(Access::new().accept(sessions));
        assert_eq!(socket.close_frame().await.code, Some(1008));
    });
}
