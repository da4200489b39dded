//! Compressed streams, as reqwest decodes them and another crate parses them.

use eventsource_stream::{Event, Eventsource};
use fanline::hub::HubOptions;
use futures_util::StreamExt;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use serde_json::Value;

use crate::support::{Server, run};

const EVENTS: u64 = 10_000;
const HISTORY: u64 = 1000;

/// A reader that resumes with its last id.
struct Reader {
    url: String,
    client: reqwest::Client,
    last_id: Option<String>,
    /// The number of the newest event.
    newest: u64,
    missed: u64,
    heartbeats: u64,
}

impl Reader {
    fn new(server: &Server) -> Self {
        let url = format!("http://{}/stream?heartbeat=1", server.address);
        Self { url, client: reqwest::Client::new(), last_id: None, newest: 0, missed: 0, heartbeats: 0 }
    }

    /// Connects, reads until `is_enough`, and disconnects wherever that is.
    async fn read(&mut self, mut published: impl AsyncFnMut(), is_enough: impl Fn(&Self) -> bool) {
        let request = self.client.get(&self.url);
        let request = match &self.last_id {
            Some(id) => request.header("last-event-id", id),
            None => request,
        };
        let response = request.send().await.unwrap().error_for_status().unwrap();
        // reqwest removes the header of a body that it decodes.
        assert_eq!(response.headers().get(CONTENT_ENCODING), None);
        let mut events = response.bytes_stream().eventsource();
        while !is_enough(self) {
            let event = events.next().await.expect("the stream goes on").unwrap();
            if event.event == "system" {
                published().await;
            }
            self.take(&event);
        }
    }

    fn take(&mut self, event: &Event) {
        if !event.id.is_empty() {
            self.last_id = Some(event.id.clone());
        }
        let data: Value = serde_json::from_str(&event.data).unwrap();
        match event.event.as_str() {
            "system" => {}
            "heartbeat" => self.heartbeats += 1,
            "gap" => {
                let missed = data["missed"].as_u64().unwrap();
                self.missed += missed;
                self.newest += missed;
            }
            _ => {
                self.newest += 1;
                assert_eq!((&event.id, &data["n"]), (&format!("7-{}", self.newest), &self.newest.into()));
            }
        }
    }
}

#[test]
fn reqwest_reads_ten_thousand_compressed_events() {
    run(async {
        let (history, firehose_history) = (HISTORY as usize, HISTORY as usize);
        let options = HubOptions { history, firehose_history, ..Server::hub_options() };
        let server = Server::with(options, |builder| builder);
        let probe =
            reqwest::Client::builder().no_gzip().build().unwrap().get(format!("http://{}/stream", server.address));
        let head = probe.header(ACCEPT_ENCODING, "gzip").send().await.unwrap();
        assert_eq!(head.headers()[CONTENT_ENCODING], "gzip");

        let mut reader = Reader::new(&server);
        let mut published = 0;
        let mut publish = async |count: u64| {
            let first = published + 1;
            published = (published + count).min(EVENTS);
            server.publish("t", first..=published).await;
            published
        };
        // Each connection joins where the one before was cut, and is cut in the middle of the events that follow.
        for round in 0..60 {
            let all = publish(round * 7 % 41).await;
            let enough = all + 1 + round * 13 % 97;
            reader.read(async || _ = publish(110).await, |reader| reader.newest >= enough).await;
        }
        assert_eq!(reader.missed, 0);
        // Too far behind to resume.
        let all = publish(HISTORY + 500).await;
        reader.read(async || {}, |reader| reader.newest >= all && reader.heartbeats > 0).await;
        assert!(reader.missed >= 500, "{}", reader.missed);
        let missed = reader.missed;
        while reader.newest < EVENTS {
            let all = publish(430).await;
            reader.read(async || {}, |reader| reader.newest >= all).await;
        }
        assert_eq!((reader.newest, reader.missed), (EVENTS, missed));
    });
}
