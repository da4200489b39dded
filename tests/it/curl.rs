//! curl as a client.

use std::process::Stdio;

use tokio::io::{AsyncReadExt, BufReader};
use tokio::process::Command;

use crate::support::{Server, run};

#[test]
#[ignore = "needs curl; run scripts/test"]
fn curl_prints_hello_and_events_as_they_arrive() {
    run(async {
        let server = Server::start();
        for version in ["--http1.1", "--http1.0"] {
            let url = format!("http://{}/stream?topics=t", server.address);
            let mut curl = Command::new("curl")
                .args(["--silent", "--show-error", "--no-buffer", version, &url])
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .expect("curl is installed");
            let mut output = BufReader::new(curl.stdout.take().unwrap());
            let hello = block(&mut output).await;
            assert!(hello.contains("event: system\ndata: {\"message\":\"connected\""), "{hello}");
            let next = server.hub.position().sequence + 1;
            for n in next..next + 3 {
                server.publish("t", [n]).await;
                assert_eq!(block(&mut output).await, format!("id: 7-{n}\ndata: {{\"n\":{n}}}\n\n"));
            }
        }
    });
}

#[test]
#[ignore = "needs curl; run scripts/test"]
fn curl_uploads_lines_and_gets_the_invalid_one() {
    run(async {
        let server = Server::start();
        let url = format!("http://{}/publish", server.address);
        let lines = "{\"topic\":\"t\",\"data\":1}\n".repeat(50_000) + "nonsense\n" + &"x".repeat(4 << 20);
        let mut curl = Command::new("curl")
            .args(["--silent", "--show-error", "--header", "content-type: application/x-ndjson", "--data-binary", "@-"])
            .arg(&url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("curl is installed");
        let mut input = curl.stdin.take().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut input, lines.as_bytes()).await.unwrap();
        drop(input);
        let output = curl.wait_with_output().await.unwrap();
        let problem: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&problem["line"], &problem["published"]), (&50_001.into(), &50_000.into()));
    });
}

async fn block(output: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut block = Vec::new();
    while !block.ends_with(b"\n\n") {
        block.push(output.read_u8().await.expect("curl continues"));
    }
    String::from_utf8(block).unwrap()
}
