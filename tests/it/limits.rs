//! Limits on connections, streams, requests and publish rates.

mod connections;
mod in_band;
mod permits;
mod program;
mod rates;
mod requests;
mod streams;

use fanline::server::{Builder, HttpOptions, Limits};

use crate::support::{Client, Head, Server, Stream, request};

/// A server of four shards with these limits.
fn limited(limits: Limits) -> Server {
    with(limits, |builder| builder)
}

fn with(limits: Limits, configure: impl FnOnce(Builder) -> Builder) -> Server {
    Server::with(Server::hub_options(), |builder| configure(builder.shards(4).limits(limits)))
}

fn accepting(http: HttpOptions) -> Server {
    Server::with(Server::hub_options(), |builder| builder.http(http))
}

/// The outcome of a request for a stream.
enum Outcome {
    Stream(Stream),
    Rejected(Head),
    /// Closed without a response.
    Closed,
}

async fn ask_on(mut client: Client, target: &str) -> Outcome {
    if client.try_send(request("GET", target, &[], b"")).await.is_err() {
        return Outcome::Closed;
    }
    match client.try_head().await {
        Some(head) if head.status == 200 => Outcome::Stream(Stream::new(client, head)),
        Some(head) => Outcome::Rejected(head),
        None => Outcome::Closed,
    }
}

async fn ask(server: &Server, target: &str) -> Outcome {
    ask_on(server.connect().await, target).await
}

/// Retries until a permit is free.
async fn admitted(server: &Server, target: &str) -> Stream {
    loop {
        if let Outcome::Stream(stream) = ask(server, target).await {
            return stream;
        }
        tokio::task::yield_now().await;
    }
}

/// Has `count` clients request `target` at the same time, and returns the admitted streams.
async fn rush(server: &Server, target: &str, count: usize) -> Vec<Stream> {
    rush_for(server, std::iter::repeat_n(target.to_owned(), count)).await
}

/// Has clients request their targets at the same time, and returns the admitted streams.
async fn rush_for(server: &Server, targets: impl Iterator<Item = String>) -> Vec<Stream> {
    let mut clients = tokio::task::JoinSet::new();
    for target in targets {
        let address = server.address;
        clients.spawn(async move { ask_on(Client::connect(address).await, &target).await });
    }
    let mut streams = Vec::new();
    for outcome in clients.join_all().await {
        match outcome {
            Outcome::Stream(stream) => streams.push(stream),
            Outcome::Rejected(head) => {
                assert_eq!(head.status, 503, "{head:?}");
                assert!(head.header("retry-after").is_some(), "{head:?}");
            }
            Outcome::Closed => {}
        }
    }
    streams
}
