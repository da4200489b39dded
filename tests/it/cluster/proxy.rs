//! A TCP proxy between a server and its Redis that can hold back the bytes of either side.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// The treatment of the bytes of one direction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Passes,
    /// Bytes are read and held.
    IsHeld,
}

pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    target: SocketAddr,
    answers: Flow,
    sockets: Vec<TcpStream>,
}

impl Proxy {
    /// Listens on a free port and connects each client to `port`.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = State { target: ([127, 0, 0, 1], port).into(), answers: Flow::Passes, sockets: Vec::new() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let of_thread = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                of_thread.connect(client);
            }
        });
        Self { address, shared }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    /// Connects new clients to `port`.
    pub fn set_target(&self, port: u16) {
        self.shared.state.lock().unwrap().target.set_port(port);
    }

    /// Sets the treatment of the bytes from the target.
    pub fn answers(&self, flow: Flow) {
        self.shared.state.lock().unwrap().answers = flow;
        self.shared.changed.notify_all();
    }

    /// Cuts all connections. Held bytes are lost.
    pub fn cut(&self) {
        for socket in self.shared.state.lock().unwrap().sockets.drain(..) {
            // It may be closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn connect(self: &Arc<Self>, client: TcpStream) {
        let mut state = self.state.lock().unwrap();
        let Ok(server) = TcpStream::connect(state.target) else { return };
        let (to_client, to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        state.sockets.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
        drop(state);
        thread::spawn(move || copy(client, to_server, || {}));
        let shared = self.clone();
        thread::spawn(move || copy(server, to_client, || shared.wait_until_replies_pass()));
    }

    fn wait_until_replies_pass(&self) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |state| state.answers == Flow::IsHeld && !state.sockets.is_empty()));
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, before_writing: impl Fn()) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        before_writing();
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
