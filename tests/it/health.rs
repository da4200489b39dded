//! Health endpoints.

use std::time::Duration;

use fanline::server::Producer;
use serde_json::json;

use crate::support::{Server, assert_problem, run};

#[test]
fn health_reports_streams_producers_and_backbone() {
    run(async {
        let endless = Producer::new("clock", async |_| std::future::pending().await);
        let server = Server::with(Server::hub_options(), |builder| builder.producer(endless));
        let _stream = server.follow("/stream").await;
        server.publish("t", 1..=3).await;
        assert_eq!(
            server.get("/health").await.ok(),
            json!({
                "status": "healthy",
                "connected_clients": 1,
                "event_history_size": 3,
                "producers": {"clock": "running", "heartbeat_producer": "running"},
                "backbone": {"kind": "local", "status": "up"},
            })
        );
        assert_eq!(server.get("/health/live").await.ok(), json!({"status": "live"}));
        assert_eq!(server.get("/health/ready").await.ok(), json!({"status": "ready"}));
    });
}

#[test]
fn draining_server_is_live_but_not_ready() {
    run(async {
        let mut server = Server::with(Server::hub_options(), |builder| builder.shards(1).drain(Duration::from_secs(2)));
        let mut stream = server.follow("/stream").await;
        let mut kept = server.connect().await;
        kept.get("/health/ready").await.ok();
        server.publish("t", [1]).await;
        assert_eq!(stream.data_at(1).await, "{\"n\":1}");
        server.stop();
        let announcement = stream.event().await;
        assert_eq!((announcement.event.as_str(), announcement.id.as_deref()), ("system", Some("7-1")));
        assert_eq!(announcement.json(), json!({"message": "server restarting"}));
        assert_eq!(kept.rest().await, "", "an idle connection is closed");
        assert_eq!(server.get("/health").await.ok()["status"], "draining");
        server.get("/health/live").await.ok();
        let ready = server.get("/health/ready").await;
        assert_problem(&ready, 503, &["draining"]);
        assert!(ready.head.header("retry-after").is_some(), "{ready:?}");
        // Events published while a stream is still open reach it.
        server.post("/publish/t", "application/json", "2").await.ok();
        assert_eq!(stream.data_at(2).await, "2");
        stream.end().await;
    });
}
