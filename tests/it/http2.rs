//! HTTP/2 with prior knowledge on the port of HTTP/1.1: the same responses and streams as over HTTP/1.1, streams of one
//! connection that do not delay each other, and bounds on what a connection can cost.

mod drain;
mod floods;
mod flow_control;
mod limits;
mod malformed;
mod memory;
mod preface;
mod raw;
mod requests;
mod streams;

use fanline::server::StreamOptions;

use crate::support::{Server, Stream};

/// A server with these options for its streams.
fn with_streams(streams: StreamOptions) -> Server {
    Server::with(Server::hub_options(), |builder| builder.streams(streams))
}

/// A client over HTTP/1.1 with an open stream of `bystander`, which must not notice what other connections do.
struct Bystander(Stream);

impl Bystander {
    async fn connect(server: &Server) -> Self {
        Self(server.follow("/stream?topics=bystander").await)
    }

    async fn assert_undisturbed(&mut self, server: &Server) {
        server.publish_marker("bystander").await;
        self.0.marker().await;
        server.get("/health/live").await.ok();
    }
}
