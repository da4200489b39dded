//! An HTTP authorization service that decides about each subscription.

use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use fanline::auth::{Access, Service, ServiceOptions};
use serde_json::{Value, json};

use super::stub::{Asked, Stub};
use super::{PUBLISHER, claims, guarded, serve, signed};
use crate::support::{Server, assert_problem, request, run};

/// Decides by the requested topics.
fn decide(asked: &Asked) -> (u16, String) {
    let question: Value = serde_json::from_str(&asked.body).unwrap();
    let status = match question["topics"][0].as_str().unwrap() {
        "no" => 403,
        "unauthenticated" => 401,
        "broken" => 500,
        "moved" => 302,
        "slow" => {
            thread::park_timeout(Duration::from_secs(3));
            200
        }
        _ => 200,
    };
    (status, "what it says is not looked at".to_owned())
}

fn asking(access: Access, stub: &Stub, options: ServiceOptions) -> Access {
    access.ask_for_each_subscription(Service::new(stub.url("/may?key=1").parse().unwrap(), options))
}

async fn status(server: &Server, target: &str, headers: &[(&str, &str)]) -> u16 {
    let mut client = server.connect().await;
    client.send(request("GET", target, headers, b"")).await;
    client.head().await.status
}

#[test]
fn service_responses_map_to_server_responses() {
    run(async {
        let stub = Stub::start(decide);
        let options = ServiceOptions { time_limit: Duration::from_millis(200), ..ServiceOptions::default() };
        let server = serve(asking(Access::new(), &stub, options));
        assert_eq!(status(&server, "/stream?topics=yes", &[]).await, 200);
        assert_problem(&server.get("/stream?topics=no,other").await, 403, &["no,other"]);
        assert_problem(&server.get("/stream?topics=unauthenticated").await, 401, &["credentials"]);
        for topic in ["broken", "moved", "slow"] {
            let began = Instant::now();
            let answer = server.get(&format!("/stream?topics={topic}")).await;
            assert_problem(&answer, 503, &["authorization service"]);
            assert!(answer.head.header("retry-after").is_some());
            assert!(began.elapsed() < Duration::from_secs(2), "{topic}: {:?}", began.elapsed());
        }
        // The service is asked about subscriptions only: the server refuses the credentials of other requests itself.
        assert_eq!(status(&server, "/stream?topics=yes&access_token=foo", &[]).await, 200);
        assert_problem(
            &server.get("/clients?access_token=foo").await,
            401,
            &["accepts no API keys and tokens", "[[keys]]"],
        );
        // Publishing does not ask the service.
        let count = stub.asked().len();
        assert_eq!(server.post("/publish/a", "application/json", "1").await.head.status, 200);
        assert_eq!(stub.asked().len(), count);
        drop(stub);
        // Its decision is cached, and covers only the topics in the request.
        assert_eq!(status(&server, "/stream?topics=yes", &[]).await, 200);
        assert_problem(&server.get("/stream?topics=yes,too").await, 503, &["authorization service"]);
    });
}

#[test]
fn service_request_describes_client_and_topics() {
    run(async {
        let stub = Stub::start(decide);
        let server = serve(asking(Access::new(), &stub, ServiceOptions::default()));
        let headers =
            [("cookie", "session=a7c3"), ("origin", "https://shop.example"), ("user-agent", "me"), ("x-other", "1")];
        assert_eq!(status(&server, "/stream?topics=a,b:*&access_token=s3cret", &headers).await, 200);
        let basic = [("authorization", "Basic dTpw")];
        assert_eq!(status(&server, "/stream", &basic).await, 200);
        // The proxy's own credentials, next to the client's.
        assert_eq!(status(&server, "/stream?access_token=s3cret", &basic).await, 200);
        // A token that cannot be forwarded in a header does not ask the service.
        assert_eq!(status(&server, "/stream?access_token=a%0Ab", &[]).await, 401);
        let asked = stub.asked();
        assert!(asked[0].head.starts_with("POST /may?key=1 HTTP/1.1\r\n"), "{}", asked[0].head);
        let body: Value = serde_json::from_str(&asked[0].body).unwrap();
        assert_eq!(body, json!({"action": "subscribe", "topics": ["a", "b:*"], "remote_addr": "127.0.0.1"}));
        for (name, value) in headers.iter().take(3) {
            assert_eq!(asked[0].header(name), Some(*value));
        }
        assert_eq!((asked[0].header("authorization"), asked[0].header("x-other")), (Some("Bearer s3cret"), None));
        assert_eq!(asked[0].header("content-type"), Some("application/json"));
        let body: Value = serde_json::from_str(&asked[1].body).unwrap();
        assert_eq!((&body["topics"], asked[1].header("authorization")), (&json!(["**"]), Some("Basic dTpw")));
        assert_eq!((asked[2].header("authorization"), asked.len()), (Some("Bearer s3cret"), 3));
    });
}

#[test]
fn grants_are_cached_for_the_same_request_until_they_expire() {
    run(async {
        let stub = Stub::start(decide);
        let server = serve(asking(Access::new(), &stub, ServiceOptions::default()));
        for _ in 0..3 {
            assert_eq!(status(&server, "/stream?topics=a", &[("cookie", "user=anna")]).await, 200);
        }
        assert_eq!(stub.asked().len(), 1);
        assert_eq!(status(&server, "/stream?topics=a", &[("cookie", "user=bert")]).await, 200);
        assert_eq!(status(&server, "/stream?topics=b", &[("cookie", "user=anna")]).await, 200);
        assert_eq!(status(&server, "/stream?topics=a", &[]).await, 200);
        assert_eq!(stub.asked().len(), 4);
        // Denials are not cached.
        for _ in 0..2 {
            assert_eq!(status(&server, "/stream?topics=no", &[]).await, 403);
        }
        assert_eq!(stub.asked().len(), 6);

        let options = ServiceOptions { cache: Duration::ZERO, ..ServiceOptions::default() };
        let server = serve(asking(Access::new(), &stub, options));
        for _ in 0..3 {
            assert_eq!(status(&server, "/stream?topics=a", &[]).await, 200);
        }
        assert_eq!(stub.asked().len(), 9);
    });
}

#[test]
fn concurrent_requests_to_the_service_are_limited() {
    run(async {
        // No request is answered before the third has arrived.
        let (arrived, third) = (Mutex::new(0), Condvar::new());
        let stub = Stub::start(move |asked| {
            let mut arrived = arrived.lock().unwrap();
            *arrived += 1;
            let due = (*arrived + 2) / 3 * 3;
            third.notify_all();
            drop(third.wait_timeout_while(arrived, Duration::from_secs(10), |arrived| *arrived < due).unwrap());
            decide(asked)
        });
        let options =
            ServiceOptions { concurrency: 3, time_limit: Duration::from_secs(20), ..ServiceOptions::default() };
        let server = serve(asking(Access::new(), &stub, options));
        let mut clients = Vec::new();
        for number in 0..30 {
            let mut client = server.connect().await;
            client.send(request("GET", &format!("/stream?topics=t{number}"), &[], b"")).await;
            clients.push(client);
        }
        for mut client in clients {
            assert_eq!(client.head().await.status, 200);
        }
        assert_eq!((stub.asked().len(), stub.peak_concurrency()), (30, 3));
    });
}

#[test]
fn service_supplements_keys_and_tokens() {
    run(async {
        let stub = Stub::start(decide);
        let server = serve(asking(guarded(), &stub, ServiceOptions::default()));
        let bearer = format!("Bearer {}", signed(&claims()));
        assert_eq!(status(&server, "/stream?topics=user:anna", &[("authorization", &bearer)]).await, 200);
        assert_eq!(stub.asked().len(), 1);
        assert_eq!(status(&server, "/stream?topics=user:bert", &[("authorization", &bearer)]).await, 403);
        assert_eq!(status(&server, "/stream?topics=user:anna", &[]).await, 401);
        assert_eq!(status(&server, "/stream?topics=orders:1", &[("x-api-key", PUBLISHER)]).await, 403);
        assert_eq!(stub.asked().len(), 1, "an unauthorized publish does not ask the service");
    });
}
