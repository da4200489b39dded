use std::net::SocketAddr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use fanline::event::{self, EventName, Payload};
use fanline::hub::{Hub, HubOptions};
use fanline::position::Epoch;
use fanline::server::{AccessHandle, Builder, ListenAddress};
use fanline::topic::Topic;
use fanline::{ServerStats, Stats};
use tokio::sync::oneshot;

use super::{Client, Response, Stream};

/// The epoch of all servers, so that ids are `7-1`, `7-2` and so on.
pub const EPOCH: u64 = 7;

/// A server on its own thread. It stops on drop.
pub struct Server {
    pub address: SocketAddr,
    /// The TCP addresses that it listens on.
    pub addresses: Vec<SocketAddr>,
    /// Those of its admin listeners.
    pub admin: Vec<SocketAddr>,
    pub hub: Hub,
    pub access: AccessHandle,
    stats: Stats,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Server {
    pub fn start() -> Self {
        Self::with(Self::hub_options(), |builder| builder)
    }

    pub fn hub_options() -> HubOptions {
        HubOptions { epoch: Epoch(EPOCH), ..HubOptions::default() }
    }

    pub fn with(hub: HubOptions, configure: impl FnOnce(Builder) -> Builder) -> Self {
        Self::of(Hub::new(&hub), configure)
    }

    /// Starts a server of an existing hub.
    pub fn of(hub: Hub, configure: impl FnOnce(Builder) -> Builder) -> Self {
        watch_for_panics();
        let builder = fanline::Server::builder(hub.clone()).listen(([127, 0, 0, 1], 0)).shards(2).drain(Duration::ZERO);
        let server = configure(builder).bind().unwrap();
        let tcp = |addresses: Vec<ListenAddress>| addresses.iter().filter_map(ListenAddress::tcp).collect::<Vec<_>>();
        let (addresses, admin) = (tcp(server.local_addresses()), tcp(server.admin_addresses()));
        let stats = server.stats();
        let access = server.access();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(server.run(async { drop(stopped.await) }))
        });
        Self { address: addresses[0], addresses, admin, hub, access, stats, stop: Some(stop), thread: Some(thread) }
    }

    pub fn stats(&self) -> ServerStats {
        self.stats.read()
    }

    /// Starts to drain the server.
    pub fn stop(&mut self) {
        let _ = self.stop.take().expect("a server is stopped once").send(());
    }

    pub async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Sends a request on its own connection, and returns the response.
    pub async fn ask(&self, request: impl AsRef<[u8]>) -> Response {
        let mut client = self.connect().await;
        client.send(request).await;
        client.response().await
    }

    pub async fn get(&self, target: &str) -> Response {
        self.connect().await.get(target).await
    }

    pub async fn post(&self, target: &str, content_type: &str, body: impl AsRef<[u8]>) -> Response {
        self.ask(super::request("POST", target, &[("content-type", content_type)], body.as_ref())).await
    }

    /// Opens a stream and reads its head.
    pub async fn subscribe(&self, target: &str) -> Stream {
        self.subscribe_with(target, &[]).await
    }

    pub async fn subscribe_with(&self, target: &str, headers: &[(&str, &str)]) -> Stream {
        let mut client = self.connect().await;
        client.send(super::request("GET", target, headers, b"")).await;
        client.into_stream().await
    }

    /// Opens a stream and reads its hello.
    pub async fn follow(&self, target: &str) -> Stream {
        let mut stream = self.subscribe(target).await;
        stream.hello().await;
        stream
    }

    /// Publishes `{"n":…}` to `topic` for each number of `range`, without HTTP.
    pub async fn publish(&self, topic: &str, range: impl IntoIterator<Item = u64>) {
        let events = range.into_iter().map(|n| event(topic, &format!("{{\"n\":{n}}}"))).collect();
        self.hub.publish_all(events).await.unwrap();
    }

    /// Publishes an event named `marker`: a stream that receives it has received all earlier events.
    pub async fn publish_marker(&self, topic: &str) {
        let name = EventName::new("marker").unwrap();
        self.hub.publish(event(topic, "null").named(name)).await.unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let outcome = self.thread.take().expect("joined once").join();
        if !std::thread::panicking() {
            outcome.expect("the server does not panic").expect("the server exits without an error");
            assert!(!HAS_PANICKED.load(Ordering::Relaxed), "a task of the server has panicked");
        }
    }
}

pub fn event(topic: &str, json: &str) -> event::Event {
    event::Event::new(Topic::new(topic).unwrap(), Payload::json_unchecked(json))
}

static HAS_PANICKED: AtomicBool = AtomicBool::new(false);

/// A runtime catches panics of its tasks, so a hook records them.
fn watch_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let is_meant = panic.payload_as_str().is_some_and(|message| message.contains("on purpose"));
            if !is_meant && std::thread::current().name().is_some_and(|name| name.starts_with("fanline-")) {
                HAS_PANICKED.store(true, Ordering::Relaxed);
            }
            report(panic);
        }));
    });
}
