//! A TCP proxy between a server and Redis that can hold back either direction, delay, disconnect, and redirect.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To Redis.
    Commands,
    /// From Redis.
    Replies,
}

pub struct Proxy {
    pub port: u16,
    control: Arc<Control>,
}

struct Control {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    target: u16,
    commands_held: bool,
    replies_held: bool,
    delay: Duration,
    is_closed: bool,
    /// Number of cuts so far. A connection from before the last cut is closed.
    cuts: u64,
    sockets: Vec<TcpStream>,
}

impl Proxy {
    /// Starts a proxy to a local port.
    pub fn to(target: u16) -> Result<Self, String> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        let port = listener.local_addr().map_err(|error| error.to_string())?.port();
        let state = State {
            target,
            commands_held: false,
            replies_held: false,
            delay: Duration::ZERO,
            is_closed: false,
            cuts: 0,
            sockets: Vec::new(),
        };
        let control = Arc::new(Control { state: Mutex::new(state), changed: Condvar::new() });
        let accepting = control.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.state.lock().unwrap().is_closed {
                    return;
                }
                accepting.connect(client);
            }
        });
        Ok(Self { port, control })
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.control.state.lock().unwrap());
        self.control.changed.notify_all();
    }

    /// Holds back the data of one direction, or releases it.
    pub fn hold(&self, direction: Direction, is_held: bool) {
        self.change(|state| match direction {
            Direction::Commands => state.commands_held = is_held,
            Direction::Replies => state.replies_held = is_held,
        });
    }

    /// Delays each read of data.
    pub fn slow_down(&self, delay: Duration) {
        self.change(|state| state.delay = delay);
    }

    /// Closes all connections. Data that is held back is lost.
    pub fn cut(&self) {
        self.change(|state| {
            state.cuts += 1;
            for socket in state.sockets.drain(..) {
                let _ = socket.shutdown(Shutdown::Both);
            }
        });
    }

    /// Directs new connections to another port.
    pub fn redirect_to(&self, target: u16) {
        self.change(|state| state.target = target);
    }

    /// Releases held data and removes the delay.
    pub fn heal(&self) {
        self.change(|state| {
            (state.commands_held, state.replies_held, state.delay) = (false, false, Duration::ZERO);
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.change(|state| state.is_closed = true);
        self.cut();
        // Unblocks the accepting thread.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Control {
    fn connect(self: &Arc<Self>, client: TcpStream) {
        let (target, cuts) = {
            let state = self.state.lock().unwrap();
            (SocketAddr::from(([127, 0, 0, 1], state.target)), state.cuts)
        };
        let Ok(server) = TcpStream::connect(target) else { return };
        let copies = || {
            Some((
                client.try_clone().ok()?,
                server.try_clone().ok()?,
                client.try_clone().ok()?,
                server.try_clone().ok()?,
            ))
        };
        let Some((one, two, client_out, server_out)) = copies() else { return };
        {
            let mut state = self.state.lock().unwrap();
            if state.cuts != cuts {
                return;
            }
            state.sockets.extend([one, two]);
        }
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        for (from, to, direction) in
            [(client, server_out, Direction::Commands), (server, client_out, Direction::Replies)]
        {
            let control = self.clone();
            thread::spawn(move || control.pump(from, to, direction, cuts));
        }
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, direction: Direction, cuts: u64) {
        let mut buffer = [0; 16 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let state = self.state.lock().unwrap();
            let is_held = |state: &mut State| {
                state.cuts == cuts
                    && match direction {
                        Direction::Commands => state.commands_held,
                        Direction::Replies => state.replies_held,
                    }
            };
            let state = self.changed.wait_while(state, is_held).unwrap();
            let (delay, is_cut) = (state.delay, state.cuts != cuts);
            drop(state);
            if is_cut {
                break;
            }
            if !delay.is_zero() {
                thread::sleep(delay);
            }
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}
