//! The yardstick for publishing: hyper, which reads the body of each request and gives a fixed response.
//!
//! It parses no event and publishes nothing. Its cost is that of the kernel and of hyper: what any server on hyper must do.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use clap::Parser;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::LocalSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As long as fanline's.
const RECEIPT: &str = r#"{"id":"1795416263323076909-1000000","published":1}"#;

/// A bare hyper server: the cost of the kernel and of hyper.
#[derive(Parser)]
struct Options {
    /// The address to listen on. Port 0 selects a free port.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind(Options::parse().listen).await?;
    eprintln!("listening on http://{}", listener.local_addr()?);
    LocalSet::new()
        .run_until(async {
            loop {
                let (socket, _) = listener.accept().await?;
                socket.set_nodelay(true)?;
                // A connection that fails is the load generator's to report.
                tokio::task::spawn_local(
                    http1::Builder::new().serve_connection(TokioIo::new(socket), service_fn(respond)),
                );
            }
        })
        .await
}

async fn respond(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_read = request.into_body().collect().await.is_ok();
    let mut response = Response::new(Full::new(Bytes::from_static(RECEIPT.as_bytes())));
    *response.status_mut() = if is_read { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
