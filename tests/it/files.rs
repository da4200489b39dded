//! Out of file descriptors: who is connected notices nothing, who is not waits.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{Crowd, News, PATIENCE, Server, cpu_time, limit_open_files, serve};

const PAUSES: &str = "accepting pauses";
const AGAIN: &str = "accepting again";

/// Reads until `count` more clients are greeted, and answers which.
fn greeted(crowd: &mut Crowd, count: usize) -> Vec<usize> {
    let mut greeted = Vec::new();
    let all = crowd.read(PATIENCE, |client, news| match news {
        News::Event(event) => {
            assert_eq!(event.name, "system", "client {client}");
            greeted.push(client);
            greeted.len() == count
        }
        News::End(end) => panic!("client {client}: {end:?}"),
    });
    assert!(all, "only {} of {count} were greeted", greeted.len());
    greeted
}

#[test]
fn out_of_file_descriptors_streams_go_on_accepting_pauses_and_waiting_clients_are_served_later() {
    let command = serve(&["--listen", "127.0.0.1:0", "--shards", "2", "--max-connections", "0"]);
    let server = Server::launch(limit_open_files(64, &command));
    let mut http = server.http();
    assert_eq!(http.get("/health/ready").status, 200);

    let mut crowd = Crowd::new();
    const CLIENTS: usize = 80;
    for _ in 0..CLIENTS {
        crowd.connect(server.address(), "");
    }
    let pause: Value = serde_json::from_str(&server.log.wait_for(PAUSES)).unwrap();
    // All connections but the one of these requests.
    let streams = pause["fields"]["connections"].as_u64().expect("it says how many") as usize - 1;
    assert!((20..64).contains(&streams), "{streams} clients fit");
    let mut inside = greeted(&mut crowd, streams);

    let ready = http.get("/health/ready");
    assert!(ready.status == 503 && ready.body.contains("no file descriptor is left"), "{ready:?}");
    assert_eq!(http.get("/health/live").status, 200);
    assert_eq!(http.get("/health").json()["status"], "degraded");

    // Those who are in receive, and nobody else gets anything.
    http.publish("t", "inside");
    let mut left = inside.len();
    let all = crowd.read(PATIENCE, |client, news| match news {
        News::Event(event) => {
            assert!(event.data == "inside" && inside.contains(&client), "client {client}: {event:?}");
            left -= 1;
            left == 0
        }
        News::End(end) => panic!("client {client}: {end:?}"),
    });
    assert!(all, "{left} clients did not receive");

    // The process sleeps, and says nothing more.
    let before = cpu_time(server.pid());
    assert!(!crowd.read(Duration::from_secs(2), |client, news| panic!("client {client}: {news:?}")));
    let used = cpu_time(server.pid()) - before;
    assert!(used <= Duration::from_millis(100), "{used:?} of processor time in 2 s");
    assert_eq!((server.log.count(PAUSES), server.log.count(AGAIN)), (1, 0));

    // Ten go, ten of those that wait come in, and the rest wait again: another episode, or several when the server looks
    // while it has closed some of the ten only.
    for client in inside.drain(..10) {
        crowd.leave(client);
    }
    inside.extend(greeted(&mut crowd, 10));
    server.log.wait_for_nth(2, PAUSES);
    assert!(!crowd.read(Duration::from_millis(500), |client, news| panic!("client {client}: {news:?}")));
    assert_eq!(http.get("/health/ready").status, 503);
    let pauses = server.log.count(PAUSES);
    assert!((2..=11).contains(&pauses), "{:?}", server.log.lines());
    assert_eq!(server.log.count(AGAIN), pauses - 1, "{:?}", server.log.lines());

    // When most go, everybody who waits is served, and the server is ready again.
    for client in inside.drain(..) {
        crowd.leave(client);
    }
    let waiting = crowd.open();
    inside = greeted(&mut crowd, waiting);
    assert_eq!(inside.len(), CLIENTS - 10 - streams);
    let deadline = Instant::now() + PATIENCE;
    while http.get("/health/ready").status != 200 {
        assert!(Instant::now() < deadline, "it is not ready again: {:?}", server.log.lines());
    }
    assert_eq!(http.get("/health").json()["status"], "healthy");
    http.publish("t", "to all");
    crowd.everybody_gets(PATIENCE, "an event", |event| event.data == "to all");
    server.log.wait_for_nth(server.log.count(PAUSES), AGAIN);
    assert_eq!(server.log.count(PAUSES), server.log.count(AGAIN), "{:?}", server.log.lines());
    eprintln!("{streams} of {CLIENTS} clients fit in 64 open files; {used:?} of processor time in 2 s of pause");
}
