//! A keep-alive connection that publishes one event at a time.

use std::io;
use std::io::Write as _;
use std::net::TcpStream;

use rustix::io::Errno;

use crate::options::Options;
use crate::wire::{Head, Position};

/// What every publish request has in common.
pub struct Template {
    head: Vec<u8>,
    topic: String,
    pad: String,
    body: Vec<u8>,
}

impl Template {
    pub fn new(options: &Options) -> Self {
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: ",
            options.publish_path, options.target
        );
        Self {
            head: head.into_bytes(),
            topic: serde_json::Value::from(options.topic.as_str()).to_string(),
            pad: "x".repeat(options.pad),
            body: Vec::new(),
        }
    }

    fn write(&mut self, request: &mut Vec<u8>, number: u64, due: u64) -> io::Result<()> {
        let Self { topic, pad, body, .. } = self;
        body.clear();
        write!(body, r#"{{"topic":{topic},"data":{{"due":{due},"n":{number},"pad":"{pad}"}}}}"#)?;
        self.frame(request)
    }

    /// An event that is none of the checked ones.
    fn write_filler(&mut self, request: &mut Vec<u8>, topic: &str, length: usize) -> io::Result<()> {
        let topic = serde_json::Value::from(topic);
        self.body.clear();
        write!(self.body, r#"{{"topic":{topic},"data":"{}"}}"#, "x".repeat(length))?;
        self.frame(request)
    }

    fn frame(&self, request: &mut Vec<u8>) -> io::Result<()> {
        request.clear();
        request.extend_from_slice(&self.head);
        write!(request, "{}\r\n\r\n", self.body.len())?;
        request.extend_from_slice(&self.body);
        Ok(())
    }
}

/// How a publish ended.
pub enum Answer {
    Published { number: u64, position: Position },
    Refused { status: u16, body: String },
}

pub struct Publisher {
    pub socket: TcpStream,
    request: Vec<u8>,
    sent: usize,
    response: Vec<u8>,
    number: u64,
}

impl Publisher {
    pub fn connect(options: &Options) -> io::Result<Self> {
        let socket = TcpStream::connect(options.target)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, request: Vec::new(), sent: 0, response: Vec::new(), number: 0 })
    }

    pub fn publish(&mut self, template: &mut Template, number: u64, due: u64) -> io::Result<()> {
        self.number = number;
        self.sent = 0;
        template.write(&mut self.request, number, due)?;
        self.flush()
    }

    pub fn publish_filler(&mut self, template: &mut Template, topic: &str, length: usize) -> io::Result<()> {
        self.sent = 0;
        template.write_filler(&mut self.request, topic, length)?;
        self.flush()
    }

    /// Sends what the socket did not take before.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.request.len() {
            match rustix::io::write(&self.socket, &self.request[self.sent..]) {
                Ok(length) => self.sent += length,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads what is there; gives the answer once it is whole.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<Answer>> {
        loop {
            match rustix::io::read(&self.socket, &mut *buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    self.response.extend_from_slice(&buffer[..length]);
                    if length < buffer.len() {
                        break;
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let Some(head) = Head::parse(&self.response) else { return Ok(None) };
        let Some(length) = head.content_length() else {
            return Err(io::Error::other("the answer to a publish has no content-length"));
        };
        let Some(body) = self.response.get(head.end..head.end + length) else { return Ok(None) };
        let answer = match position(body) {
            Some(position) if head.status == 200 => Answer::Published { number: self.number, position },
            _ => Answer::Refused { status: head.status, body: String::from_utf8_lossy(body).into_owned() },
        };
        let end = head.end + length;
        self.response.drain(..end);
        Ok(Some(answer))
    }
}

/// The `"id"` of an answer.
fn position(body: &[u8]) -> Option<Position> {
    let name = b"\"id\":";
    let value = body[memchr::memmem::find(body, name)? + name.len()..].trim_ascii_start().strip_prefix(b"\"")?;
    Position::parse(&value[..memchr::memchr(b'"', value)?])
}
