use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use hyper::Request;
use hyper::http::response::Parts;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::Stream;
use super::client::{Head, Response};

/// The largest window.
pub const MAX_WINDOW: u32 = (1 << 31) - 1;

/// An HTTP/2 connection with prior knowledge. Requests have the authority `test`, unless their target is a URL.
pub struct Http2 {
    sender: SendRequest<Bytes>,
    driver: JoinHandle<Result<(), h2::Error>>,
}

impl Http2 {
    /// Connects with the largest window for the connection, so that only the windows of streams matter.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::with(address, |_| {}).await
    }

    /// Connects with a stream window of this size.
    pub async fn with_window(address: SocketAddr, window: u32) -> Self {
        Self::with(address, |builder| _ = builder.initial_window_size(window)).await
    }

    pub async fn with(address: SocketAddr, configure: impl FnOnce(&mut Builder)) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let mut builder = Builder::new();
        // Streams that are not read hold many small frames.
        builder.enable_push(false).initial_connection_window_size(MAX_WINDOW).data_frame_budget(usize::MAX);
        configure(&mut builder);
        let (sender, connection): (_, Connection<_, Bytes>) = builder.handshake(socket).await.unwrap();
        Self { sender, driver: tokio::spawn(connection) }
    }

    /// Sends the head of a request, whose body follows unless it `is_end`.
    pub async fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        is_end: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let url = if target.starts_with('/') { format!("http://test{target}") } else { target.to_owned() };
        let request = Request::builder().method(method).uri(url);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        // The futures of several requests may be waited for together.
        self.sender = self.sender.clone().ready().await?;
        self.sender.send_request(request.body(()).unwrap(), is_end)
    }

    /// Sends a request and its body.
    pub async fn start(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> ResponseFuture {
        let (response, mut stream) = self.send(method, target, headers, body.is_empty()).await.unwrap();
        if !body.is_empty() {
            stream.send_data(Bytes::copy_from_slice(body), true).unwrap();
        }
        response
    }

    /// Sends a request, and returns the complete response.
    pub async fn ask(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let response = self.start(method, target, headers, body).await;
        complete(response).await.unwrap()
    }

    pub async fn get(&mut self, target: &str) -> Response {
        self.ask("GET", target, &[], b"").await
    }

    pub async fn post(&mut self, target: &str, content_type: &str, body: impl AsRef<[u8]>) -> Response {
        self.ask("POST", target, &[("content-type", content_type)], body.as_ref()).await
    }

    /// Opens a stream and reads its head.
    pub async fn subscribe(&mut self, target: &str) -> Stream {
        self.subscribe_with(target, &[]).await
    }

    pub async fn subscribe_with(&mut self, target: &str, headers: &[(&str, &str)]) -> Stream {
        let response = self.start("GET", target, headers, b"").await;
        let (head, body) = response.await.unwrap().into_parts();
        let head = head_of(&head);
        assert_eq!(head.status, 200, "{head:?}");
        Stream::over_http2(head, body)
    }

    /// Opens a stream and reads its hello.
    pub async fn follow(&mut self, target: &str) -> Stream {
        let mut stream = self.subscribe(target).await;
        stream.hello().await;
        stream
    }

    /// Closes the connection without a GOAWAY.
    pub fn abort(self) {
        self.driver.abort();
    }

    /// Waits until the server closes the connection, and returns the reason of its GOAWAY.
    pub async fn closed(self) -> Option<Reason> {
        let Self { sender, driver } = self;
        let outcome = driver.await.unwrap();
        drop(sender);
        outcome.err().and_then(|error| error.reason())
    }
}

/// Reads a whole response. The error is that of a stream or connection that was reset.
pub async fn complete(response: ResponseFuture) -> Result<Response, h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    let mut content = Vec::new();
    while let Some(data) = data(&mut body).await {
        content.extend_from_slice(&data?);
    }
    Ok(Response { head: head_of(&head), body: content.into() })
}

/// The next data of a body, whose part of the window is released.
pub async fn data(body: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    let data = body.data().await;
    if let Some(Ok(data)) = &data {
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    data
}

fn head_of(parts: &Parts) -> Head {
    let field = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
        (name.as_str().to_owned(), value.to_str().unwrap().to_owned())
    };
    Head {
        version: "HTTP/2".to_owned(),
        status: parts.status.as_u16(),
        // HTTP/2 has none; that of HTTP/1.1 lets both be checked alike.
        reason: parts.status.canonical_reason().unwrap_or_default().to_owned(),
        headers: parts.headers.iter().map(field).collect(),
    }
}
