//! An application on hyper that answers each request with a stream.

use std::convert::Infallible;
use std::net::SocketAddr;

use fanline::http::{StreamResponseOptions, StreamStats, stream_response, stream_stats};
use fanline::hub::Hub;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::{Client, Response, Stream, request};

/// It stops on drop.
pub struct Application {
    pub address: SocketAddr,
    pub hub: Hub,
    accepting: JoinHandle<()>,
}

impl Application {
    /// Answers each request with a stream of `hub`, with the options that `decide` returns.
    pub async fn start<D>(hub: Hub, decide: D) -> Self
    where
        D: Fn(&Request<Incoming>) -> StreamResponseOptions + Clone + Send + Sync + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (its_hub, accepting) = (hub.clone(), async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(socket, hub.clone(), decide.clone()));
            }
        });
        Self { address, hub: its_hub, accepting: tokio::spawn(accepting) }
    }

    pub fn stats(&self) -> StreamStats {
        stream_stats(&self.hub)
    }

    /// Sends a request on its own connection, and returns the response.
    pub async fn ask(&self, request: impl AsRef<[u8]>) -> Response {
        let mut client = Client::connect(self.address).await;
        client.send(request).await;
        client.response().await
    }

    pub async fn get(&self, target: &str) -> Response {
        self.ask(request("GET", target, &[], b"")).await
    }

    /// Opens a stream and reads its head.
    pub async fn subscribe(&self, target: &str) -> Stream {
        let mut client = Client::connect(self.address).await;
        client.send(request("GET", target, &[], b"")).await;
        client.into_stream().await
    }

    /// Opens a stream and reads its hello.
    pub async fn follow(&self, target: &str) -> Stream {
        let mut stream = self.subscribe(target).await;
        stream.hello().await;
        stream
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve<D>(socket: TcpStream, hub: Hub, decide: D)
where
    D: Fn(&Request<Incoming>) -> StreamResponseOptions,
{
    socket.set_nodelay(true).unwrap();
    let service = service_fn(|request| {
        let response = stream_response(&hub, &request, decide(&request));
        async { Ok::<_, Infallible>(response.await) }
    });
    // A stream that lags breaks its connection off.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
}
