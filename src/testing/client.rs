//! Requests of a test, to an address or to a service in the process.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;

use super::{BoxError, TestError, TestStream};

/// The default of [`TestClient::timeout`].
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

type Exchange = Pin<Box<dyn Future<Output = Result<Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError>> + Send>>;

/// A client of a running server, or of a service in the process. Cheap to clone.
#[derive(Clone)]
pub struct TestClient {
    send: Arc<dyn Fn(Request<Full<Bytes>>) -> Exchange + Send + Sync>,
    /// Where requests go.
    host: String,
    headers: Vec<(String, String)>,
    timeout: Duration,
}

impl TestClient {
    /// A client of the server at this TCP address, such as `127.0.0.1:8000` or one of
    /// [`Server::local_addresses`](crate::Server::local_addresses). Each request has a connection of its own.
    pub fn new(address: impl fmt::Display) -> Self {
        let host = address.to_string();
        let address = host.clone();
        Self::with(host, move |request| Box::pin(exchange(address.clone(), request)))
    }

    /// A client of a service in the process, such as an axum `Router`: requests go through no socket.
    pub fn of_service<S, B>(service: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Into<BoxError>, Future: Send>,
        S: Clone + Send + Sync + 'static,
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        Self::with("test".to_owned(), move |request| {
            let mut service = service.clone();
            Box::pin(async move {
                poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
                let response = service.call(request).await.map_err(Into::into)?;
                Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
            })
        })
    }

    fn with(host: String, send: impl Fn(Request<Full<Bytes>>) -> Exchange + Send + Sync + 'static) -> Self {
        Self { send: Arc::new(send), host, headers: Vec::new(), timeout: DEFAULT_TIMEOUT }
    }

    /// Adds a header to each request, such as `authorization`.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets how long each call waits at most, also those of the client's streams. The default is 5 s.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Opens the stream at `target`, a path with its query. What is published after this returns is received.
    ///
    /// # Errors
    /// When there is no response, or when it has another status than 200 or is not an event stream.
    pub async fn subscribe(&self, target: &str) -> Result<TestStream, TestError> {
        self.open(target, None).await
    }

    /// Opens the stream at `target` after the event with this id, as a client does that has lost its connection.
    ///
    /// # Errors
    /// As [`TestClient::subscribe`].
    pub async fn resume(&self, target: &str, last_id: &str) -> Result<TestStream, TestError> {
        self.open(target, Some(last_id)).await
    }

    /// Sends a request of another kind, and returns the response with its whole body, whatever its status.
    ///
    /// ```
    /// # use fanline::testing::{TestClient, TestError};
    /// # async fn test(client: TestClient) -> Result<(), TestError> {
    /// use hyper::Request;
    ///
    /// let comment = Request::post("/comments").header("content-type", "application/json").body(r#"{"text":"hello"}"#);
    /// let response = client.send(comment.unwrap()).await?;
    /// assert_eq!(response.status(), 201);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When there is no response.
    pub async fn send(&self, request: Request<impl Into<Bytes>>) -> Result<Response<Bytes>, TestError> {
        let request = self.complete(request.map(Into::into))?;
        let name = name(&request);
        let whole = async {
            let (head, body) = (self.send)(request).await?.into_parts();
            Ok::<_, BoxError>(Response::from_parts(head, body.collect().await?.to_bytes()))
        };
        self.within(name, whole).await
    }

    async fn open(&self, target: &str, last_id: Option<&str>) -> Result<TestStream, TestError> {
        let mut request = Request::get(target).header(ACCEPT, "text/event-stream");
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let request = self.complete(request.body(Bytes::new()).map_err(TestError::Request)?)?;
        let name = name(&request);
        let response = self.within(name.clone(), (self.send)(request)).await?;
        let (head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            let body = self.within(name.clone(), body.collect()).await?.to_bytes();
            return Err(TestError::Refused { request: name, response: Box::new(Response::from_parts(head, body)) });
        }
        let content_type = head.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        if !content_type.to_ascii_lowercase().starts_with(b"text/event-stream") {
            let content_type = String::from_utf8_lossy(content_type).into_owned();
            return Err(TestError::NotAStream { request: name, content_type });
        }
        Ok(TestStream::new(head, body, self.timeout))
    }

    /// Adds the client's headers. Those of the request take precedence.
    fn complete(&self, request: Request<Bytes>) -> Result<Request<Full<Bytes>>, TestError> {
        let (mut head, body) = request.into_parts();
        let host = [(HOST.to_string(), self.host.clone())];
        for (name, value) in self.headers.iter().chain(&host) {
            let extra = Request::builder().header(name, value).body(()).map_err(TestError::Request)?;
            for (name, value) in extra.headers() {
                head.headers.entry(name).or_insert_with(|| value.clone());
            }
        }
        Ok(Request::from_parts(head, Full::from(body)))
    }

    async fn within<T, E: Into<BoxError>>(
        &self,
        request: String,
        response: impl Future<Output = Result<T, E>>,
    ) -> Result<T, TestError> {
        let outcome = match timeout(self.timeout, response).await {
            Ok(outcome) => outcome.map_err(Into::into),
            Err(_) => Err(format!("none within {:?}", self.timeout).into()),
        };
        outcome.map_err(|error| TestError::NoResponse { request, error })
    }
}

impl fmt::Debug for TestClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestClient").field("host", &self.host).finish_non_exhaustive()
    }
}

fn name<B>(request: &Request<B>) -> String {
    format!("{} {}", request.method(), request.uri())
}

async fn exchange(
    address: String,
    request: Request<Full<Bytes>>,
) -> Result<Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError> {
    let cannot_connect = |error| format!("cannot connect to {address}: {error}");
    let socket = TcpStream::connect(&address).await.map_err(cannot_connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    // Ends when the response's body is dropped. An error reaches the response or its body.
    tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
}
