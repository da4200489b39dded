//! One subscriber on a raw socket, which reads, disconnects and reconnects at random.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionbio;
use rustix::net::addr::SocketAddrArg;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};

use crate::decoder::Decoder;
use crate::exchange::Exchange;
use crate::id::Id;
use crate::message::{gap_line, system_line, text_in_envelope};
use crate::parser::{Block, Dispatch};
use crate::plan::{Plan, Speed, Subscription};
use crate::random::Random;
use crate::recording::{End, Line, Millis, Refusal, Start, Transport};
use crate::shared::Shared;

/// The most bytes per read.
const READ: usize = 32 << 10;

pub struct Client {
    random: Random,
    subscription: Subscription,
    pub lines: Vec<(Millis, Line)>,
    connection: Option<Connection>,
    connect_at: Instant,
    /// The last event ID by the rules of `EventSource`.
    last_id: String,
    /// The last position that it received.
    pub current: Option<Id>,
    server: usize,
    is_new: bool,
}

struct Connection {
    /// A TCP or Unix socket.
    pub socket: File,
    exchange: Exchange,
    decoder: Decoder,
    server: usize,
    generation: u64,
    /// The client disconnects after this many more bytes, or at this instant.
    cut_after: Option<usize>,
    cut_at: Option<Instant>,
    /// Nothing is read before this instant.
    read_at: Instant,
    /// A trailing reader reads until it is close enough to the head.
    is_catching_up: bool,
    /// Whether events are envelopes, or else plain.
    takes_envelopes: bool,
}

impl Client {
    pub fn new(mut random: Random, plan: &Plan) -> Self {
        let subscription = Subscription::new(&mut random, plan, None);
        Self {
            random,
            subscription,
            lines: Vec::new(),
            connection: None,
            connect_at: Instant::now(),
            last_id: String::new(),
            current: None,
            server: 0,
            is_new: true,
        }
    }

    /// A client that subscribes to everything on one server, reads fast and never disconnects.
    pub fn witness(random: Random, plan: &Plan, server: usize) -> Self {
        let mut client = Self::new(random, plan);
        (client.subscription, client.server) = (Subscription::witness(), server);
        client
    }

    pub fn filters(&self) -> &[String] {
        &self.subscription.filters
    }

    /// Returns the socket if the client wants to read now.
    pub fn readable_socket(&mut self, now: Instant, shared: &Shared) -> Option<&File> {
        let connection = self.connection.as_mut()?;
        if shared.is_settling.load(Ordering::Relaxed) {
            return Some(&connection.socket);
        }
        if now < connection.read_at {
            return None;
        }
        if let (Speed::Trailing { low, high }, Some(current)) = (self.subscription.speed, self.current) {
            let behind = shared.events_seen_after(current).unwrap_or(0);
            connection.is_catching_up = behind > if connection.is_catching_up { low } else { high };
            if !connection.is_catching_up {
                return None;
            }
        }
        Some(&connection.socket)
    }

    /// Connects or disconnects when it is time to.
    pub fn tick(&mut self, now: Instant, shared: &Shared, plan: &Plan) {
        let is_settling = shared.is_settling.load(Ordering::Relaxed);
        match &self.connection {
            // A receive window of a few bytes takes too long to reach the head.
            Some(_) if is_settling && self.subscription.speed.receive_buffer().is_some() => {
                self.subscription.speed = Speed::Fast;
                self.disconnect(shared, plan, End::Cut);
            }
            Some(connection) if !is_settling && connection.cut_at.is_some_and(|at| now >= at) => {
                self.disconnect(shared, plan, End::Cut);
            }
            None if now >= self.connect_at => self.connect(shared, plan, is_settling),
            _ => {}
        }
    }

    fn log(&mut self, shared: &Shared, line: Line) {
        self.lines.push((shared.now(), line));
    }

    /// Opens a socket to a server that is up. Returns it with the server's generation, and whether it is a Unix socket.
    fn open_socket(&mut self, shared: &Shared, plan: &Plan, is_settling: bool) -> Option<(File, u64, bool)> {
        let count = shared.servers.lock().unwrap().len() as u64;
        if plan.always_hops && !self.subscription.is_witness {
            self.server = (self.server + 1) % count as usize;
        } else if !self.subscription.is_witness && (self.is_new || !self.random.one_in(3)) {
            self.server = self.random.of(0..count) as usize;
        }
        let place = shared.place(self.server);
        if place.address.is_none() && (is_settling || !self.subscription.is_witness) {
            self.server = self.random.of(0..count) as usize;
        }
        let (address, buffer) = (place.address?, self.subscription.speed.receive_buffer());
        let path = shared.sockets.get(self.server).filter(|_| self.random.one_in(4));
        let socket = match path {
            Some(path) => open(AddressFamily::UNIX, &SocketAddrUnix::new(path).ok()?, buffer),
            None => open(AddressFamily::INET, &address, buffer),
        };
        Some((socket.ok()?, place.generation, path.is_some()))
    }

    fn connect(&mut self, shared: &Shared, plan: &Plan, is_settling: bool) {
        let Some((socket, generation, is_unix)) = self.open_socket(shared, plan, is_settling) else {
            self.connect_at = Instant::now() + Duration::from_millis(20);
            return;
        };
        if std::mem::take(&mut self.is_new) {
            let Subscription { filters, start, closes_on_lag, is_latest, speed, .. } = self.subscription.clone();
            self.log(shared, Line::Begin { filters, start, closes_on_lag, is_latest, speed: speed.name() });
        }
        let sent = match &self.subscription.start {
            _ if !self.last_id.is_empty() => Some(self.last_id.clone()),
            Start::UnknownId(id) => Some(id.clone()),
            _ => None,
        };
        // A subscription may change the transport and the format when it reconnects.
        let is_websocket = plan.has_websocket && self.random.one_in(3);
        let takes_envelopes = !is_websocket && self.random.one_in(3);
        let accepts_gzip = !is_websocket && self.random.one_in(2);
        let (exchange, decoder) = if is_websocket {
            let (handshake, subscribe) = self.subscription.handshake(sent.as_deref(), self.random.one_in(2));
            (Exchange::over_http1(handshake), Decoder::websocket(subscribe, sent.clone().unwrap_or_default()))
        } else {
            let as_query = self.random.one_in(4);
            let request = self.subscription.request(sent.as_deref(), as_query, takes_envelopes, accepts_gzip);
            let is_http2 = plan.has_http2 && self.random.one_in(3);
            let exchange = match is_http2 {
                true => Exchange::over_http2(&request, self.random.one_in(2)),
                false => Exchange::over_http1(request),
            };
            (exchange, Decoder::event_stream())
        };
        let is_http2 = matches!(exchange, Exchange::Http2(_));
        let transport = Transport { is_http2, is_websocket, is_unix, accepts_gzip };
        self.log(shared, Line::Connect { server: self.server, sent, transport });
        let now = Instant::now();
        let mut connection = Connection {
            socket,
            exchange,
            decoder,
            server: self.server,
            generation,
            cut_after: None,
            cut_at: None,
            read_at: now,
            is_catching_up: false,
            takes_envelopes,
        };
        if !is_settling && !self.subscription.is_witness {
            let cut = plan.cut(&mut self.random);
            (connection.cut_after, connection.cut_at) = (cut.0, cut.1.map(|after| now + after));
        }
        self.connection = Some(connection);
        self.write(shared, plan);
    }

    /// Writes what the exchange has to send.
    fn write(&mut self, shared: &Shared, plan: &Plan) {
        let Some(connection) = &mut self.connection else { return };
        let pending = [connection.exchange.take_pending(), connection.decoder.take_pending()].concat();
        if let Err(error) = connection.socket.write_all(&pending) {
            if connection.decoder.is_closed() {
                return self.closed(shared, plan);
            }
            self.disconnect(shared, plan, End::Broken(error.to_string()));
        }
    }

    /// Reads available bytes.
    pub fn read(&mut self, shared: &Shared, plan: &Plan, buffer: &mut [u8]) {
        let Some(connection) = &mut self.connection else { return };
        let is_settling = shared.is_settling.load(Ordering::Relaxed);
        let (size, pause) =
            if is_settling { (READ, Duration::ZERO) } else { self.subscription.speed.turn(&mut self.random) };
        let size = size.min(buffer.len());
        let limit = if is_settling { size } else { connection.cut_after.map_or(size, |left| left.min(size)) };
        let outcome = connection.socket.read(&mut buffer[..limit]);
        connection.read_at = Instant::now() + pause;
        match outcome {
            Ok(0) => self.closed(shared, plan),
            Ok(length) => {
                let is_cut = !is_settling && connection.cut_after == Some(length);
                if !self.receive(shared, &buffer[..length], is_cut) {
                    return self.disconnect(shared, plan, End::Cut);
                }
                match self.connection.as_ref().and_then(|connection| connection.exchange.end()) {
                    None => self.write(shared, plan),
                    Some(Ok(())) => self.closed(shared, plan),
                    Some(Err(reset)) => self.disconnect(shared, plan, End::Broken(reset)),
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => self.disconnect(shared, plan, End::Broken(error.to_string())),
        }
    }

    /// The server has ended the stream.
    fn closed(&mut self, shared: &Shared, plan: &Plan) {
        let Some(connection) = &self.connection else { return };
        let is_same = shared.place(connection.server).generation == connection.generation;
        let status = connection.exchange.status();
        let behind = self.current.filter(|_| is_same && status == Some(connection.decoder.status()));
        let behind = behind.and_then(|current| shared.max_events_after(current));
        self.disconnect(shared, plan, End::Closed { behind });
    }

    /// Parses bytes of the response. Returns false if the client disconnects now: after bytes that end at its cut, unless the
    /// response ends there too, and after a response that is not a stream.
    fn receive(&mut self, shared: &Shared, bytes: &[u8], is_cut: bool) -> bool {
        let Some(Connection { exchange, decoder, cut_after, .. }) = &mut self.connection else { return true };
        let (mut dispatched, mut decoded) = (Vec::new(), Ok(()));
        let fed = exchange.feed(bytes, |bytes| decoded = decoder.feed(bytes, |one| dispatched.push(one)));
        let fed = fed.and(decoded);
        let (is_complete, status) = (exchange.is_complete() || decoder.is_closed(), exchange.status());
        let expected = decoder.status();
        // What follows a complete response ends it with `End::Closed`.
        *cut_after = cut_after.filter(|_| !is_complete).map(|left| left.saturating_sub(bytes.len()));
        if let Some(status) = status.filter(|&status| status != expected) {
            self.log(shared, Line::Refused { why: Refusal::Status(status) });
            return false;
        }
        for one in dispatched {
            self.handle(one, shared);
        }
        if let Err(error) = fed {
            self.log(shared, Line::Malformed(error));
            return false;
        }
        if self.was_refused() {
            return false;
        }
        is_complete || !is_cut
    }

    fn was_refused(&self) -> bool {
        matches!(self.lines.last(), Some((_, Line::Refused { .. })))
    }

    fn disconnect(&mut self, shared: &Shared, plan: &Plan, end: End) {
        let was_refused = self.was_refused();
        let is_cut = end == End::Cut;
        self.log(shared, Line::End(end));
        self.connection = None;
        let is_settling = shared.is_settling.load(Ordering::Relaxed);
        let pause = if was_refused { 100..400 } else { plan.pause.clone() };
        let pause = Duration::from_millis(self.random.of(pause));
        // A client that lost its connection resumes with its id. One that disconnected may start a new subscription.
        self.connect_at = Instant::now() + if is_settling { Duration::from_millis(20) } else { pause };
        if is_cut && !is_settling && !self.subscription.is_witness && self.random.one_in(plan.one_restart_in) {
            self.subscription = Subscription::new(&mut self.random, plan, self.current);
            (self.last_id, self.current, self.is_new) = (String::new(), None, true);
        }
    }

    fn handle(&mut self, dispatch: Dispatch, shared: &Shared) {
        let block = match dispatch {
            Dispatch::Id(id) => {
                self.last_id = id;
                return;
            }
            Dispatch::Event(block) => block,
        };
        self.last_id.clone_from(&block.last_id);
        let id = if block.has_id { Id::parse(&block.last_id) } else { None };
        if block.has_id && id.is_none() && block.last_id != self.sent_id() {
            self.log(shared, Line::Malformed(format!("invalid id {:?}", block.last_id)));
        }
        let line = match block.name.as_str() {
            "system" => system_line(&block, id, self.sent_id()),
            "gap" => gap_line(&block, id, self.current.and_then(|current| shared.max_events_after(current))),
            "heartbeat" => return,
            "snapshot" => match id {
                Some(id) => Line::Snapshot { id },
                None => Line::Malformed(format!("a snapshot without an id: {block:?}")),
            },
            topic => match id {
                Some(id) => {
                    shared.note_id(id);
                    match self.payload(&block) {
                        Some(text) => Line::Event { id, content: shared.contents.lock().unwrap().number(topic, &text) },
                        None => Line::Malformed(format!("an envelope that is not its event's: {block:?}")),
                    }
                }
                None => Line::Malformed(format!("event without an id: {block:?}")),
            },
        };
        if let Some(id) = id.filter(|id| !id.is_zero() && !matches!(line, Line::Refused { .. })) {
            self.current = Some(id);
        }
        self.log(shared, line);
    }

    /// The id that the client sent with its last request.
    fn sent_id(&self) -> &str {
        let sent = self.lines.iter().rev().find_map(|(_, line)| match line {
            Line::Connect { sent, .. } => Some(sent),
            _ => None,
        });
        sent.and_then(Option::as_deref).unwrap_or_default()
    }

    /// Returns the payload of an event in the format of the connection. `None` if it is malformed.
    fn payload(&self, block: &Block) -> Option<String> {
        match &self.connection {
            Some(connection) if connection.takes_envelopes => text_in_envelope(block),
            _ => Some(block.data.clone()),
        }
    }
}

/// Connects a socket. The receive buffer is set before connecting, because it limits the TCP window.
fn open(family: AddressFamily, address: &impl SocketAddrArg, receive_buffer: Option<usize>) -> std::io::Result<File> {
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if let Some(bytes) = receive_buffer {
        sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
    }
    connect(&socket, address)?;
    ioctl_fionbio(&socket, true)?;
    Ok(File::from(socket))
}
