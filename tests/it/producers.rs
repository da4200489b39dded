//! Producers of an application: their start, end, failure and health.

use std::io;
use std::time::Duration;

use fanline::Hub;
use fanline::hub::PublishError;
use fanline::server::{Builder, Producer, ProducerState, ServerHandle};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::support::{Server, event, run, until};

fn serve(configure: impl FnOnce(Builder) -> Builder) -> Server {
    Server::with(Server::hub_options(), configure)
}

/// A producer that sends its handle, and then runs for ever.
fn endless(name: &str) -> (Producer, oneshot::Receiver<ServerHandle>) {
    let (send, handle) = oneshot::channel();
    let producer = Producer::new(name, async |server| {
        let _ = send.send(server);
        std::future::pending().await
    });
    (producer, handle)
}

/// A producer that fails with this reason once its server is asked to let it fail.
fn failing<F>(name: &str, fail: F) -> (Producer, oneshot::Sender<()>)
where
    F: FnOnce() -> io::Result<()> + Send + 'static,
{
    let (go, gone) = oneshot::channel();
    let producer = Producer::new(name, async |_| {
        gone.await?;
        Ok(fail()?)
    });
    (producer, go)
}

/// The states of an application's producers, by name.
fn states(handle: &ServerHandle) -> Vec<(String, &'static str)> {
    handle.producers().into_iter().map(|(name, state)| (name, state.as_str())).collect()
}

#[test]
fn producer_publishes_until_the_drain_is_over() {
    run(async {
        let (next, mut numbers) = mpsc::unbounded_channel::<u64>();
        let (begin, drain) = oneshot::channel();
        let (running, ended) = oneshot::channel::<()>();
        let producer = Producer::new("numbers", async move |server| {
            let _running = running;
            let announce = async {
                server.draining().await;
                let _ = begin.send(());
                std::future::pending().await
            };
            let publish = async {
                while let Some(n) = numbers.recv().await {
                    server.hub().publish(event("t", &n.to_string())).await?;
                }
                Ok::<_, PublishError>(())
            };
            tokio::select! {
                () = announce => Ok(()),
                outcome = publish => Ok(outcome?),
            }
        });
        let mut server = serve(|builder| builder.shards(1).drain(Duration::from_secs(1)).producer(producer));
        let mut stream = server.follow("/stream").await;
        next.send(1).unwrap();
        assert_eq!(stream.data_at(1).await, "1");
        assert_eq!(server.get("/health").await.ok()["producers"]["numbers"], "running");
        server.stop();
        drain.await.expect("the producer sees the drain");
        assert_eq!(stream.event().await.json()["message"], "server restarting");
        next.send(2).unwrap();
        assert_eq!(stream.data_at(2).await, "2");
        stream.end().await;
        ended.await.expect_err("the task is dropped");
    });
}

#[test]
fn dropped_producer_is_stopped_before_the_hub_is_closed() {
    run(async {
        let (producer, handle) = endless("endless");
        let mut server = serve(|builder| builder.producer(producer));
        let handle = handle.await.unwrap();
        assert_eq!(states(&handle), [("endless".to_owned(), "running")]);
        server.stop();
        until(|| states(&handle)[0].1 == "stopped").await;
    });
}

#[test]
fn failed_producer_degrades_health_and_the_server_continues() {
    run(async {
        let (database, fail) = failing("database", || Err(io::Error::other("the replication slot is gone")));
        let (endless, handle) = endless("endless");
        let server = serve(|builder| builder.producer(database).producer(endless));
        let handle = handle.await.unwrap();
        let health = server.get("/health").await.ok();
        assert_eq!((&health["status"], &health["producer_failures"]), (&json!("healthy"), &Value::Null));
        fail.send(()).unwrap();
        until(|| states(&handle)[0].1 == "failed").await;
        let health = server.get("/health").await.ok();
        assert_eq!(health["status"], "degraded");
        assert_eq!(
            health["producers"],
            json!({"database": "failed", "endless": "running", "heartbeat_producer": "running"})
        );
        assert_eq!(health["producer_failures"], json!({"database": "the replication slot is gone"}));
        server.get("/health/ready").await.ok();
        let metrics = server.get("/metrics").await;
        let text = String::from_utf8(metrics.body.to_vec()).unwrap();
        for line in
            ["fanline_producer_failed{producer=\"database\"} 1\n", "fanline_producer_failed{producer=\"endless\"} 0\n"]
        {
            assert!(text.contains(line), "{text}");
        }
        let metrics = server.get("/metrics/json").await.ok();
        assert_eq!(metrics["producers"], json!({"database": "failed", "endless": "running"}));
        let mut stream = server.follow("/stream").await;
        server.publish("t", [1]).await;
        stream.data_at(1).await;
    });
}

#[test]
fn panic_of_a_producer_is_its_failure() {
    run(async {
        let (producer, fail) = failing("panicking", || panic!("on purpose"));
        let (endless, handle) = endless("endless");
        let server = serve(|builder| builder.producer(producer).producer(endless));
        let handle = handle.await.unwrap();
        fail.send(()).unwrap();
        until(|| states(&handle)[0].1 == "failed").await;
        assert_eq!(handle.producers()[0].1, ProducerState::Failed("panicked: on purpose".to_owned()));
        assert_eq!(server.get("/health").await.ok()["status"], "degraded");
    });
}

#[test]
fn producer_that_returns_is_stopped_and_health_stays() {
    run(async {
        let (short, end) = failing("short", || Ok(()));
        let (endless, handle) = endless("endless");
        let server = serve(|builder| builder.producer(short).producer(endless));
        let handle = handle.await.unwrap();
        end.send(()).unwrap();
        until(|| states(&handle)[0].1 == "stopped").await;
        let health = server.get("/health").await.ok();
        assert_eq!((&health["status"], &health["producers"]["short"]), (&json!("healthy"), &json!("stopped")));
    });
}

#[test]
fn error_of_a_producer_is_reported_with_its_sources() {
    run(async {
        let (producer, fail) = failing("numbers", || "x".parse::<u32>().map(drop).map_err(io::Error::other));
        let (endless, handle) = endless("endless");
        let _server = serve(|builder| builder.producer(producer).producer(endless));
        let handle = handle.await.unwrap();
        fail.send(()).unwrap();
        until(|| states(&handle)[0].1 == "failed").await;
        assert_eq!(handle.producers()[0].1.reason(), Some("invalid digit found in string"));
    });
}

#[test]
fn two_producers_of_one_name_are_refused() {
    for names in [&["clock", "log", "clock"][..], &["heartbeat_producer"]] {
        let mut builder = fanline::Server::builder(Hub::default()).listen(([127, 0, 0, 1], 0));
        for name in names {
            builder = builder.producer(Producer::new(*name, async |_| Ok(())));
        }
        let error = builder.bind().expect_err("the last name is taken");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&format!("{:?}", names.last().unwrap())), "{error}");
    }
}
