//! The counts of compressed streams.

use crate::support::{Server, event, run};

const EVENTS: u64 = 130;

#[test]
fn deliveries_and_bytes_of_compressed_streams_are_counted() {
    run(async {
        let server = Server::start();
        let mut streams = vec![server.subscribe("/stream?topics=a").await];
        for _ in 0..2 {
            streams.push(server.subscribe_with("/stream?topics=a", &[("accept-encoding", "gzip")]).await);
        }
        for stream in &mut streams {
            stream.hello().await;
        }
        for n in 1..=EVENTS {
            let payload = format!(r#"{{"type":"metric","name":"cpu_usage","value":{n},"unit":"percent"}}"#);
            server.hub.publish(event("a", &payload)).await.unwrap();
        }
        for stream in &mut streams {
            for sequence in 1..=EVENTS {
                stream.data_at(sequence).await;
            }
        }
        // A delivery is counted after it is written.
        let json = loop {
            let json = server.get("/metrics/json").await.ok();
            if json["events"]["delivered"] == 3 * EVENTS {
                break json;
            }
        };
        let count = |name: &str| json["compression"][name].as_u64().unwrap();
        assert_eq!((count("streams"), count("shared") + count("stored")), (2, 2 * EVENTS), "{json}");
        assert!(count("shared") > 0 && count("plain_bytes") > count("bytes"), "{json}");
        // With those of the uncompressed stream.
        assert!(json["events"]["delivered_bytes"].as_u64().unwrap() > count("bytes"), "{json}");

        let text = String::from_utf8(server.get("/metrics").await.body.to_vec()).unwrap();
        for line in [
            "fanline_compressed_streams 2".to_owned(),
            format!("fanline_compressed_deliveries_total{{blocks=\"shared\"}} {}", count("shared")),
            format!("fanline_compressed_deliveries_total{{blocks=\"stored\"}} {}", count("stored")),
            format!("fanline_compressed_plain_bytes_total {}", count("plain_bytes")),
            format!("fanline_compressed_bytes_total {}", count("bytes")),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        drop(streams);
        while server.get("/metrics/json").await.ok()["compression"]["streams"] != 0 {}
    });
}
