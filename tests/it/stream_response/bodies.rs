//! Bodies without a connection: what they yield when they are polled late, by another task, or never.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use fanline::http::{StreamBody, StreamBodyError, StreamResponseOptions, stream_response, stream_stats};
use fanline::hub::{Hub, HubOptions};
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Body;

use crate::support::{Block, Server, Stream, event, run, until};

const HISTORY: u64 = 32;

fn tiny() -> Hub {
    let history = HISTORY as usize;
    Hub::new(&HubOptions { history, firehose_history: history, ..Server::hub_options() })
}

/// The body of a stream.
async fn body(hub: &Hub, target: &str) -> StreamBody {
    body_with(hub, target, StreamResponseOptions::default()).await
}

async fn body_with(hub: &Hub, target: &str, options: StreamResponseOptions) -> StreamBody {
    let request = Request::get(target).body(()).unwrap();
    let response = stream_response(hub, &request, options).await;
    assert_eq!(response.status(), 200);
    response.into_body()
}

/// The blocks of a stream, behind its hello.
pub async fn follow(hub: &Hub, target: &str) -> Stream {
    let mut stream = Stream::of_body(body(hub, target).await);
    stream.hello().await;
    stream
}

async fn publish(hub: &Hub, topic: &str, count: u64) {
    for n in 1..=count {
        hub.publish(event(topic, &format!("{{\"n\":{n}}}"))).await.unwrap();
    }
}

#[test]
fn a_body_that_is_polled_too_late_breaks_off() {
    run(async {
        let hub = tiny();
        let mut stream = follow(&hub, "/?topics=t").await;
        publish(&hub, "t", HISTORY * 10).await;
        assert_eq!(stream.try_block().await, None);
        assert_eq!(stream.error(), Some(StreamBodyError::Lagged));
        let stats = stream_stats(&hub);
        assert_eq!((stats.streams, stats.cut_off_lagged, stats.closed), (0, 1, 0));
    });
}

#[test]
fn a_skipping_body_that_is_polled_too_late_has_an_exact_gap() {
    run(async {
        let hub = tiny();
        let mut stream = follow(&hub, "/?topics=t&on_lag=skip").await;
        publish(&hub, "t", HISTORY * 10).await;
        let (id, gap) = stream.gap().await;
        assert_eq!((id.as_deref(), &gap["missed"]), (Some("7-288"), &(HISTORY * 9).into()));
        for sequence in HISTORY * 9 + 1..=HISTORY * 10 {
            stream.data_at(sequence).await;
        }
        assert_eq!(stream_stats(&hub).gaps, 1);
    });
}

#[test]
fn a_body_holds_no_more_than_one_chunk() {
    run(async {
        let hub = Hub::new(&Server::hub_options());
        let mut body = body(&hub, "/?topics=t").await;
        publish(&hub, "t", 3).await;
        let hello = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(hello.starts_with(b"retry: "));
        assert_eq!(stream_stats(&hub).delivered, 0, "events wait in the history");
        let events = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(stream_stats(&hub).delivered, 3);
        assert_eq!(stream_stats(&hub).delivered_bytes, (hello.len() + events.len()) as u64);
    });
}

#[test]
fn chunks_of_many_events_are_bounded() {
    run(async {
        let hub = Hub::new(&Server::hub_options());
        let mut body = body(&hub, "/?topics=t").await;
        let payload = format!("\"{}\"", "x".repeat(3000));
        for _ in 0..100 {
            hub.publish(event("t", &payload)).await.unwrap();
        }
        let mut bytes = 0;
        while bytes < 300_000 {
            let chunk = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(chunk.len() < 20 << 10, "{}", chunk.len());
            bytes += chunk.len();
        }
    });
}

#[test]
fn an_event_wakes_the_task_that_polled_last() {
    run(async {
        let hub = Hub::new(&Server::hub_options());
        let mut stream = follow(&hub, "/?topics=t").await;
        // Waits in a task that then passes the body on.
        stream = tokio::spawn(async move {
            let waited = poll_fn(|cx| {
                let mut next = std::pin::pin!(stream.block());
                Poll::Ready(next.as_mut().poll(cx).is_pending())
            });
            assert!(waited.await);
            stream
        })
        .await
        .unwrap();
        let reading = tokio::spawn(async move { stream.data_at(1).await });
        tokio::task::yield_now().await;
        publish(&hub, "t", 1).await;
        assert_eq!(reading.await.unwrap(), "{\"n\":1}");
    });
}

#[test]
fn a_quiet_stream_gets_keep_alives() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let hub = Hub::new(&Server::hub_options());
        let began = tokio::time::Instant::now();
        let mut stream = follow(&hub, "/?topics=t&heartbeat=2").await;
        for count in 1..=3 {
            assert_eq!(stream.block().await, Block::Comment);
            assert_eq!(began.elapsed().as_secs().div_ceil(2), count);
        }
        let options = StreamResponseOptions { heartbeat: Duration::from_secs(3), ..StreamResponseOptions::default() };
        let mut all = Stream::of_body(body_with(&hub, "/", options).await);
        all.hello().await;
        let heartbeat = all.event().await;
        assert_eq!((heartbeat.event.as_str(), &heartbeat.json()["clients"]), ("heartbeat", &2.into()));
    });
}

#[test]
fn a_keep_alive_is_not_late_after_a_slow_read() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let hub = Hub::new(&Server::hub_options());
        let mut stream = follow(&hub, "/?topics=t&heartbeat=2").await;
        publish(&hub, "t", 1).await;
        tokio::time::advance(Duration::from_secs(100)).await;
        stream.data_at(1).await;
        let began = tokio::time::Instant::now();
        assert_eq!(stream.block().await, Block::Comment);
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    });
}

#[test]
fn a_stream_ends_when_its_grant_expires() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let hub = Hub::new(&Server::hub_options());
        let mut options = StreamResponseOptions::default();
        options.grant.expires = Some(SystemTime::now() + Duration::from_secs(100));
        let mut stream = Stream::of_body(body_with(&hub, "/?heartbeat=3600", options).await);
        stream.hello().await;
        assert_eq!(stream.event().await.json()["message"], "token expires");
        assert_eq!(stream.event().await.json()["message"], "token expired");
        stream.end().await;
        assert_eq!(stream_stats(&hub).ended, 1);
    });
}

#[test]
fn a_dropped_body_leaves_nothing_behind() {
    run(async {
        let hub = Hub::new(&Server::hub_options());
        let streams = [follow(&hub, "/?topics=t").await, follow(&hub, "/").await];
        // One that was never polled.
        let body = body(&hub, "/?topics=t").await;
        assert_eq!(stream_stats(&hub).streams, 3);
        assert_eq!(hub.stats().topics, 1);
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        assert_eq!(tasks(), 1, "the streams of one runtime share a task");
        drop((streams, body));
        assert_eq!((stream_stats(&hub).streams, stream_stats(&hub).closed), (0, 3));
        until(|| tasks() == 0).await;
        until(|| hub.topics(None, 10, |_| true).0.iter().all(|topic| topic.subscribers == 0)).await;
    });
}

#[test]
fn streams_of_one_hub_on_several_runtimes_are_independent() {
    let hub = Hub::new(&Server::hub_options());
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (one, other) = (runtime(), runtime());
    let mut stream = one.block_on(follow(&hub, "/?topics=t"));
    let mut gone = other.block_on(follow(&hub, "/?topics=t"));
    other.block_on(async {
        publish(&hub, "t", 1).await;
        gone.data_at(1).await;
    });
    drop(gone);
    drop(other);
    one.block_on(async {
        stream.data_at(1).await;
        publish(&hub, "t", 1).await;
        stream.data_at(2).await;
    });
}

#[test]
fn counts_are_exact_on_a_runtime_with_several_threads() {
    const STREAMS: u64 = 16;
    const EVENTS: u64 = 2000;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let hub = Hub::new(&Server::hub_options());
        let mut readers = Vec::new();
        for _ in 0..STREAMS {
            let mut stream = follow(&hub, "/?topics=t").await;
            readers.push(tokio::spawn(async move {
                for sequence in 1..=EVENTS {
                    stream.data_at(sequence).await;
                }
                stream
            }));
        }
        publish(&hub, "t", EVENTS).await;
        let mut streams = Vec::new();
        for reader in readers {
            streams.push(reader.await.unwrap());
        }
        let stats = stream_stats(&hub);
        assert_eq!((stats.streams, stats.delivered), (STREAMS, STREAMS * EVENTS));
    });
}

#[test]
fn a_refused_request_has_a_body_of_known_length() {
    run(async {
        let hub = Hub::new(&Server::hub_options());
        let request = Request::get("/?topics=a*b").body(()).unwrap();
        let response = stream_response(&hub, &request, StreamResponseOptions::default()).await;
        assert_eq!(response.status(), 400);
        let mut body = response.into_body();
        let length = body.size_hint().exact().expect("the length is known");
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap().len() as u64, length);
        assert!(body.is_end_stream() && body.frame().await.is_none());
    });
}

#[test]
#[should_panic(expected = "timers are disabled")]
fn a_runtime_without_time_is_a_panic_of_the_caller() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(body(&Hub::new(&Server::hub_options()), "/"));
}
