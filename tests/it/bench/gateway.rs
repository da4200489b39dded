//! A gateway from HTTP/2 with prior knowledge to a server of HTTP/1.1 whose streams end with the connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use h2::server::{self, SendResponse};
use hyper::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub struct Gateway {
    pub address: SocketAddr,
    /// Connections accepted so far.
    accepted: Arc<AtomicUsize>,
}

impl Gateway {
    /// Listens on a free port for the life of the test process. Each connection may have this many `streams`.
    pub fn start(upstream: SocketAddr, streams: u32) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let (address, accepted) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let count = accepted.clone();
        std::thread::spawn(move || {
            runtime.block_on(async {
                while let Ok((socket, _)) = listener.accept().await {
                    count.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(serve(socket, upstream, streams));
                }
            });
        });
        Self { address, accepted }
    }

    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

async fn serve(socket: TcpStream, upstream: SocketAddr, streams: u32) {
    let Ok(mut connection) = server::Builder::new().max_concurrent_streams(streams).handshake(socket).await else {
        return;
    };
    while let Some(Ok((request, response))) = connection.accept().await {
        let path = request.uri().path().to_owned();
        tokio::spawn(async move { relay(&path, response, upstream).await });
    }
}

/// Relays one response. Errors mean that one of the two sides has closed.
async fn relay(path: &str, mut response: SendResponse<Bytes>, upstream: SocketAddr) -> io::Result<()> {
    let mut socket = TcpStream::connect(upstream).await?;
    socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: upstream\r\n\r\n").as_bytes()).await?;
    let mut received = BytesMut::new();
    let end = loop {
        if socket.read_buf(&mut received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8(received.split_to(end).to_vec()).unwrap();
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let head = fields.fold(Response::builder().status(&head[9..12]), |head, (name, value)| head.header(name, value));
    let mut body = response.send_response(head.body(()).unwrap(), false).map_err(io::Error::other)?;
    loop {
        body.send_data(received.split().freeze(), false).map_err(io::Error::other)?;
        if socket.read_buf(&mut received).await? == 0 {
            return body.send_data(Bytes::new(), true).map_err(io::Error::other);
        }
    }
}
