//! All subscribers.

use std::io;
use std::net::SocketAddr;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use super::engine::Shared;
use super::http::Body;
use super::http2::{Connection, Received};
use super::publishers::Publishers;
use super::stream::{Checker, Context, Stream};
use super::subscriber::{End, Subscriber, connect};
use super::syntax::Syntax;
use super::topics::{self, Group};
use super::websocket;
use crate::cli::transport::Transport;

pub struct Subscribers {
    all: Vec<Subscriber>,
    pub groups: Vec<Group>,
    group_of_client: Vec<u32>,
    pub checker: Checker,
    /// Subscribers that wait for a response head.
    pub pending: usize,
    /// Streams whose response head arrived.
    pub opened: usize,
    /// Responses that were not an event stream.
    pub refused: usize,
    /// Streams that ended.
    pub closed: usize,
    pub bytes: u64,
    /// Streams that are not read.
    pub stalled: usize,
    /// The HTTP/2 connections that have not ended.
    connections: Vec<Option<Connection>>,
    server: SocketAddr,
}

impl Subscribers {
    pub fn new(shared: &Shared<'_>, server: SocketAddr, checker: Checker) -> Self {
        let (groups, group_of_client) = topics::subscribe(&shared.plan.args);
        Self {
            all: Vec::with_capacity(group_of_client.len()),
            groups,
            group_of_client,
            checker,
            pending: 0,
            opened: 0,
            refused: 0,
            closed: 0,
            bytes: 0,
            stalled: 0,
            connections: Vec::new(),
            server,
        }
    }

    /// Subscribers that were started.
    pub fn started(&self) -> usize {
        self.all.len()
    }

    /// Streams that are, or were, compressed.
    pub fn compressed(&self) -> usize {
        self.all.iter().filter(|subscriber| subscriber.stream.as_ref().is_some_and(Stream::is_compressed)).count()
    }

    pub fn open(&self) -> usize {
        self.opened - self.closed
    }

    /// Starts the next subscriber. Fails when the system has no socket or port left, for this one or any other.
    pub fn start(&mut self, shared: &mut Shared<'_>) -> io::Result<()> {
        if let Some(streams) = shared.plan.args.http2 {
            return self.start_http2(streams, shared);
        }
        let index = self.all.len();
        let connected = connect(self.server, shared.plan.source(index, self.server.ip()));
        self.all.push(Subscriber::new(self.group_of_client[index], shared.plan.args.transport));
        self.pending += 1;
        match connected {
            Ok(socket) => {
                epoll::add(&shared.epoll, &socket, EventData::new_u64(index as u64), EventFlags::OUT)?;
                self.all[index].socket = Some(socket);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.end(index, End::Closed(error.to_string()), shared);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Serves the subscriber, or the HTTP/2 connection, whose socket is ready.
    pub fn ready(&mut self, index: usize, shared: &mut Shared<'_>) -> io::Result<()> {
        if let Some(streams) = shared.plan.args.http2 {
            self.serve_connection(index, streams, shared);
            return Ok(());
        }
        let subscriber = &mut self.all[index];
        if !subscriber.is_requested {
            return self.request(index, shared);
        }
        let Some(socket) = &subscriber.socket else { return Ok(()) };
        let was_streaming = subscriber.stream.is_some();
        let group = &mut self.groups[subscriber.group as usize];
        let received = match rustix::io::read(socket, &mut shared.buffer[..]) {
            Ok(0) => Err(subscriber.end("the server closed the connection")),
            Ok(length) => {
                self.bytes += length as u64;
                let mut cx = Context { now: shared.now(), group, checker: &mut self.checker };
                subscriber.receive(&shared.buffer[..length], &mut cx)
            }
            Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(subscriber.end(&io::Error::from(error).to_string())),
        };
        if !was_streaming && let Some(stream) = &subscriber.stream {
            self.opened += 1;
            self.pending -= 1;
            note_uncompressed(stream, shared);
        }
        if let (Some(stream), Some(socket)) = (&mut subscriber.stream, &subscriber.socket)
            && let Some(ping) = stream.take_ping()
        {
            // A socket without room for so few bytes has failed, which the next read reports.
            let _ = rustix::io::write(socket, &websocket::pong(&ping));
        }
        if let Err(end) = received {
            self.end(index, end, shared);
        }
        Ok(())
    }

    /// Sends the request of a subscriber, once its socket is connected.
    fn request(&mut self, index: usize, shared: &mut Shared<'_>) -> io::Result<()> {
        let subscriber = &mut self.all[index];
        let Some(socket) = &subscriber.socket else { return Ok(()) };
        let request = shared.plan.subscribe_request(index, &self.groups[subscriber.group as usize].topics);
        let failure = match rustix::io::write(socket, request.as_bytes()) {
            Ok(length) if length == request.len() => {
                subscriber.is_requested = true;
                epoll::modify(&shared.epoll, socket, EventData::new_u64(index as u64), EventFlags::IN)?;
                return Ok(());
            }
            Ok(_) => "the socket of a new connection took only a part of the request".to_owned(),
            Err(Errno::AGAIN | Errno::NOTCONN) => return Ok(()),
            Err(error) => io::Error::from(error).to_string(),
        };
        self.end(index, End::Closed(failure), shared);
        Ok(())
    }

    /// Starts the next subscriber on an HTTP/2 connection of so many `streams`. The stalled streams come before the first.
    fn start_http2(&mut self, streams: usize, shared: &mut Shared<'_>) -> io::Result<()> {
        let (index, stalled) = (self.all.len(), shared.plan.args.stalled);
        if index == 0 {
            for place in 0..stalled {
                self.request_http2(place, streams, shared)?;
            }
        }
        self.all.push(Subscriber::new(self.group_of_client[index], Transport::Sse));
        self.pending += 1;
        self.request_http2(stalled + index, streams, shared)
    }

    /// Requests the stream with this place among all streams, on its connection.
    fn request_http2(&mut self, place: usize, streams: usize, shared: &mut Shared<'_>) -> io::Result<()> {
        let (number, stalled) = (place / streams, shared.plan.args.stalled);
        if number == self.connections.len() {
            let source = shared.plan.source(number, self.server.ip());
            self.connections.push(Some(Connection::open(self.server, source, &shared.epoll, number as u64)?));
        }
        let client = place.saturating_sub(stalled);
        let topics = &self.groups[self.group_of_client[client] as usize].topics;
        let request = shared.plan.subscribe_http2(client, topics).map_err(io::Error::other)?;
        match &mut self.connections[number] {
            Some(connection) => connection.request(request, place < stalled),
            None => self.received(place, Received::End(End::Closed("its connection has ended".into())), shared),
        }
        self.serve_connection(number, streams, shared);
        Ok(())
    }

    /// Names the server's limit of streams if subscribers wait because of it.
    pub fn note_limit(&self, shared: &mut Shared<'_>) {
        if let Some(limit) = self.connections.iter().flatten().find_map(Connection::exceeded_limit) {
            let text = "the server allows {limit} streams on an HTTP/2 connection; give --http2={limit}";
            shared.problems.note(text.replace("{limit}", &limit.to_string()));
        }
    }

    /// Takes what arrived on a connection.
    fn serve_connection(&mut self, number: usize, streams: usize, shared: &mut Shared<'_>) {
        let Some(mut connection) = self.connections[number].take() else { return };
        connection.wake();
        let end = loop {
            match connection.next() {
                Ok(Some((stream, received))) => self.received(number * streams + stream, received, shared),
                Ok(None) => break None,
                Err(why) => break Some(why),
            }
        };
        self.bytes += connection.take_bytes();
        let Some(mut why) = end else {
            self.connections[number] = Some(connection);
            return;
        };
        if self.opened == 0 {
            why += "; does the server speak HTTP/2 with prior knowledge?";
        }
        for stream in 0..connection.streams() {
            self.received(number * streams + stream, Received::End(End::Closed(why.clone())), shared);
        }
    }

    /// Takes what arrived for the stream with this place.
    fn received(&mut self, place: usize, received: Received, shared: &mut Shared<'_>) {
        let Some(index) = place.checked_sub(shared.plan.args.stalled) else {
            return self.received_by_stalled(&received, shared);
        };
        let subscriber = &mut self.all[index];
        let group = &mut self.groups[subscriber.group as usize];
        let ended = match (received, &mut subscriber.stream) {
            _ if subscriber.has_ended => return,
            (Received::Head { is_gzip }, _) => {
                let ledger = self.checker.ledger(group.topics.len());
                let stream = Stream::new(Body::unframed(), Syntax::EventStream, ledger);
                note_uncompressed(subscriber.stream.insert(stream.gunzip(is_gzip)), shared);
                self.opened += 1;
                self.pending -= 1;
                return;
            }
            (Received::Data(bytes), Some(stream)) => {
                let mut cx = Context { now: shared.now(), group, checker: &mut self.checker };
                stream.receive(&bytes, &mut cx).map_err(|why| End::Closed(why.into_owned()))
            }
            (Received::Data(_), None) => return,
            (Received::End(end), _) => Err(end),
        };
        if let Err(end) = ended {
            self.end(index, end, shared);
        }
    }

    fn received_by_stalled(&mut self, received: &Received, shared: &mut Shared<'_>) {
        match received {
            Received::Head { .. } => self.stalled += 1,
            Received::Data(_) => {}
            Received::End(End::Refused(why) | End::Closed(why)) => {
                self.stalled = self.stalled.saturating_sub(1);
                shared.problems.note(format!("a stalled stream ended: {why}"));
            }
        }
    }

    fn end(&mut self, index: usize, end: End, shared: &mut Shared<'_>) {
        let subscriber = &mut self.all[index];
        if std::mem::replace(&mut subscriber.has_ended, true) {
            return;
        }
        if subscriber.stream.is_some() {
            self.closed += 1;
        } else {
            self.pending -= 1;
        }
        shared.problems.note(match end {
            End::Refused(why) => {
                self.refused += 1;
                format!("a subscriber was refused: {why}")
            }
            End::Closed(why) if subscriber.stream.is_some() => format!("a stream ended: {why}"),
            End::Closed(why) => format!("a subscriber was not connected: {why}"),
        });
        subscriber.socket = None;
        let group = &mut self.groups[subscriber.group as usize];
        group.members = group.members.saturating_sub(1);
    }

    /// Whether each open stream received all published events. `issued` has the next number of each topic's publishers.
    pub fn has_all(&self, issued: &[u32]) -> bool {
        self.all.iter().filter(|subscriber| subscriber.is_streaming()).all(|subscriber| {
            let lanes = self.lanes(&self.groups[subscriber.group as usize].topics);
            let issued = lanes.map(|lane| issued[lane]);
            subscriber.stream.as_ref().is_none_or(|stream| stream.ledger.has_all(issued))
        })
    }

    /// Events that open streams did not receive, and closed ones not before their last event, without those that may
    /// not have been published.
    pub fn lost(&self, publishers: &Publishers) -> u64 {
        let of_subscriber = |subscriber: &Subscriber| {
            let Some(stream) = &subscriber.stream else { return 0 };
            let lanes: Vec<usize> = self.lanes(&self.groups[subscriber.group as usize].topics).collect();
            let issued: Vec<u32> = lanes.iter().map(|lane| publishers.issued[*lane]).collect();
            let expected = subscriber.is_streaming().then_some(&issued[..]);
            stream.ledger.missing(expected, |lane, number| publishers.is_uncertain(lanes[lane], number))
        };
        self.all.iter().map(of_subscriber).sum()
    }

    /// The lanes of a ledger for these topics, as indices into [`Publishers::issued`].
    fn lanes(&self, topics: &[u32]) -> impl Iterator<Item = usize> {
        let lanes = self.checker.lanes_per_place;
        topics.iter().flat_map(move |topic| (*topic as usize * lanes..).take(lanes))
    }
}

/// Names the difference if compression was requested and a stream has none.
fn note_uncompressed(stream: &Stream, shared: &mut Shared<'_>) {
    if shared.plan.args.compressed && !stream.is_compressed() {
        shared.problems.note("a stream is not compressed, although --compressed requests it".to_owned());
    }
}
