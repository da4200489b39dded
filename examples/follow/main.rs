//! Follows a stream with hyper and an event stream parser, and resumes it:
//! `cargo run --example follow -- '127.0.0.1:8000' '/stream?topics=log'`

use std::time::Duration;

use eventsource_stream::Eventsource;
use futures_util::StreamExt;
use http_body_util::{BodyDataStream, Empty};
use hyper::body::Bytes;
use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

type Error = Box<dyn std::error::Error>;

/// Where to resume after a lost connection, and when.
struct Resume {
    last: Option<String>,
    retry: Duration,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(path)) = (arguments.next(), arguments.next()) else {
        return Err("usage: follow HOST:PORT PATH".into());
    };
    let mut resume = Resume { last: None, retry: Duration::from_secs(5) };
    loop {
        if let Err(error) = follow(&address, &path, &mut resume).await {
            eprintln!("connection lost: {error}");
        }
        tokio::time::sleep(resume.retry).await;
    }
}

async fn follow(address: &str, path: &str, resume: &mut Resume) -> Result<(), Error> {
    let socket = TokioIo::new(TcpStream::connect(address).await?);
    let (mut sender, connection) = http1::handshake(socket).await?;
    tokio::spawn(connection);
    let mut request = Request::get(path).header(header::HOST, address).header(header::ACCEPT, "text/event-stream");
    if let Some(last) = &resume.last {
        request = request.header("last-event-id", last);
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    if !response.status().is_success() {
        return Err(format!("the server answers {}", response.status()).into());
    }
    let mut events = BodyDataStream::new(response.into_body()).eventsource();
    while let Some(event) = events.next().await {
        let event = event?;
        resume.retry = event.retry.unwrap_or(resume.retry);
        match event.event.as_str() {
            "system" | "gap" => eprintln!("{}: {}", event.event, event.data),
            "heartbeat" => {}
            _ => show(&event.id, &event.data),
        }
        if !event.id.is_empty() {
            resume.last = Some(event.id);
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the output of the program")]
fn show(id: &str, data: &str) {
    println!("{id} {data}");
}
