//! Bodies of the application over HTTP/2.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::routing::{get, post};
use bytes::Bytes;
use fanline::server::StreamOptions;
use futures_util::{StreamExt, stream};
use h2::Reason;
use http_body_util::{BodyExt, StreamBody};
use hyper::HeaderMap;
use hyper::body::Frame;

use super::{Once, PART, app, download, failing, serve};
use crate::support::{Http2, Server, complete, data, run};

#[test]
fn bodies_are_streamed_in_both_directions_at_once() {
    run(async {
        let server = serve(app());
        let mut http2 = Http2::connect(server.address).await;
        let (response, mut upload) = http2.send("POST", "/echo", &[], false).await.unwrap();
        let mut body = response.await.unwrap().into_body();
        for part in ["one", "two", "three"] {
            upload.send_data(part.into(), false).unwrap();
            assert_eq!(data(&mut body).await.unwrap().unwrap(), part);
        }
        upload.send_data(Bytes::new(), true).unwrap();
        // h2 returns the frame that ends the stream.
        assert!(data(&mut body).await.is_none_or(|data| data.unwrap().is_empty()) && body.is_end_stream());
    });
}

#[test]
fn download_respects_the_window_and_delays_no_other_request() {
    const PARTS: u64 = 256;
    run(async {
        let (app, produced) = download(PARTS);
        let server = serve(app);
        let mut http2 = Http2::with_window(server.address, 1000).await;
        let response = http2.start("GET", "/large", &[], b"").await.await.unwrap();
        let mut body = response.into_body();
        let mut stream = http2.follow("/stream").await;
        for number in 1..=100 {
            server.publish("t", [number]).await;
            stream.data_at(number).await;
            assert_eq!(http2.get("/hello").await.body, "hello");
        }
        assert_eq!(produced.load(Ordering::Relaxed), 1, "one part waits");
        let mut length = 0;
        while let Some(data) = data(&mut body).await {
            let data = data.unwrap();
            assert!(data.iter().zip(length..).all(|(&byte, at)| byte == (at / PART) as u8));
            length += data.len();
        }
        assert_eq!(length, PARTS as usize * PART);
    });
}

#[test]
fn response_that_is_not_read_for_the_write_timeout_is_reset() {
    run(async {
        let (app, _) = download(256);
        let streams = StreamOptions { write_timeout: Duration::from_secs(1), ..StreamOptions::default() };
        let server = Server::with(Server::hub_options(), |builder| builder.streams(streams).fallback(app));
        let mut http2 = Http2::with_window(server.address, 1000).await;
        let mut body = http2.start("GET", "/large", &[], b"").await.await.unwrap().into_body();
        let reset = loop {
            match body.data().await.expect("the body does not end") {
                Ok(_) => {}
                Err(error) => break error.reason(),
            }
        };
        assert_eq!(reset, Some(Reason::CANCEL));
        assert_eq!(http2.get("/hello").await.body, "hello");
    });
}

#[test]
fn body_that_fails_resets_the_stream() {
    run(async {
        let app = app()
            .route("/broken", get(async || failing(|| Err(io::Error::other("on purpose")))))
            .route("/panicking", get(async || failing(|| panic!("on purpose"))));
        let server = serve(app);
        let mut http2 = Http2::connect(server.address).await;
        for path in ["/broken", "/panicking"] {
            let response = http2.start("GET", path, &[], b"").await;
            assert_eq!(complete(response).await.unwrap_err().reason(), Some(Reason::INTERNAL_ERROR), "{path}");
        }
        assert_eq!(http2.get("/hello").await.body, "hello");
    });
}

#[test]
fn reset_by_the_client_drops_the_body() {
    run(async {
        let (held, dropped) = tokio::sync::oneshot::channel::<()>();
        let held = Once::new(held);
        let quiet = async move || {
            let held = held.take();
            Body::from_stream(stream::once(async { Ok::<_, io::Error>("one") }).chain(stream::once(async move {
                let _held = held;
                std::future::pending().await
            })))
        };
        let server = serve(app().route("/quiet", get(quiet)));
        let mut http2 = Http2::connect(server.address).await;
        let mut body = http2.start("GET", "/quiet", &[], b"").await.await.unwrap().into_body();
        assert_eq!(data(&mut body).await.unwrap().unwrap(), "one");
        drop(body);
        assert!(dropped.await.is_err());
        assert_eq!(http2.get("/hello").await.body, "hello");
    });
}

#[test]
fn fields_of_http_1_1_are_left_out() {
    run(async {
        let fields =
            [("connection", "close"), ("keep-alive", "timeout=5"), ("transfer-encoding", "chunked"), ("x-kept", "yes")];
        let server = serve(
            Router::new()
                .route("/fields", get(async move || (fields, "body")))
                .route("/empty", get(async || StatusCode::NO_CONTENT)),
        );
        let mut http2 = Http2::connect(server.address).await;
        let response = http2.get("/fields").await;
        assert_eq!((response.head.status, &response.body[..]), (200, &b"body"[..]));
        assert_eq!(response.head.header("x-kept"), Some("yes"));
        for (name, _) in &fields[..3] {
            assert_eq!(response.head.header(name), None, "{name}");
        }
        let empty = http2.get("/empty").await;
        assert_eq!((empty.head.status, empty.head.header("content-length")), (204, None));
    });
}

#[test]
fn trailers_reach_the_application_and_its_client() {
    run(async {
        let echo = async |body: Body| {
            let collected = body.collect().await.unwrap();
            let trailers: HeaderMap = collected.trailers().cloned().unwrap_or_default();
            let frames = [Frame::data(collected.to_bytes()), Frame::trailers(trailers)].map(Ok::<_, io::Error>);
            Body::new(StreamBody::new(stream::iter(frames)))
        };
        let server = serve(Router::new().route("/trailers", post(echo)));
        let mut http2 = Http2::connect(server.address).await;
        let (response, mut upload) = http2.send("POST", "/trailers", &[], false).await.unwrap();
        upload.send_data("abc".into(), false).unwrap();
        upload.send_trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), "6".parse().unwrap())])).unwrap();
        let mut body = response.await.unwrap().into_body();
        assert_eq!(data(&mut body).await.unwrap().unwrap(), "abc");
        assert!(data(&mut body).await.is_none());
        assert_eq!(body.trailers().await.unwrap().unwrap()["x-sum"], "6");
    });
}
