//! One hub with two listeners: fanline's own, and hyper's with the streams of `stream_response`. For the load generator, which
//! shows what a stream costs on either.

#![expect(clippy::print_stdout, reason = "the output of the program")]

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::SocketAddr;

use clap::Parser;
use fanline::http::{StreamResponseOptions, stream_response};
use fanline::{Hub, Server};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// One hub, served by fanline's listener and by hyper's.
#[derive(Parser)]
struct Options {
    /// The address of fanline's listener, with one shard.
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// The address of hyper's listener, on the main thread.
    #[arg(long, default_value = "127.0.0.1:9001")]
    responses: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let options = Options::parse();
    let hub = Hub::default();
    let server = Server::builder(hub.clone()).listen(options.listen).shards(1).bind()?;
    let listener = TcpListener::bind(options.responses).await?;
    println!("fanline: {}, responses: {}", server.local_addresses()[0], listener.local_addr()?);
    tokio::select! {
        result = server.run(pending()) => result,
        result = accept(listener, hub) => result,
    }
}

async fn accept(listener: TcpListener, hub: Hub) -> io::Result<()> {
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(serve(socket, hub.clone()));
    }
}

/// Answers each request of a connection with a stream.
async fn serve(socket: TcpStream, hub: Hub) {
    let service = service_fn(|request| {
        let response = stream_response(&hub, &request, StreamResponseOptions::default());
        async { Ok::<_, Infallible>(response.await) }
    });
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await {
        eprintln!("a connection ended: {error}");
    }
}
