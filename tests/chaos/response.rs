//! An HTTP/1.1 response as it comes in: its head, then its body, chunked, of a known length, or up to the end.

/// What the bytes so far are.
#[derive(Debug, Default)]
pub struct Response {
    head: Vec<u8>,
    pub status: Option<u16>,
    /// Whether the request is to be sent again later.
    pub has_retry_after: bool,
    body: Body,
    /// Bytes of a chunk's size line.
    line: Vec<u8>,
    pub is_over: bool,
}

#[derive(Debug, Default)]
enum Body {
    #[default]
    Head,
    /// So many bytes are left of the body.
    Length(u64),
    /// All that comes.
    Rest,
    ChunkSize,
    /// So many bytes are left of the chunk.
    Chunk(u64),
    /// So many bytes are left of the line end behind a chunk.
    ChunkEnd(u8),
    Trailer,
}

impl Response {
    /// Takes bytes from the socket, and calls `body` with those of the body.
    ///
    /// # Errors
    /// What is not HTTP.
    pub fn feed(&mut self, mut bytes: &[u8], mut body: impl FnMut(&[u8])) -> Result<(), String> {
        while !bytes.is_empty() && !self.is_over {
            match self.body {
                Body::Head => {
                    let before = self.head.len();
                    self.head.extend_from_slice(bytes);
                    let from = before.saturating_sub(3);
                    let Some(end) = self.head[from..].windows(4).position(|four| four == b"\r\n\r\n") else {
                        return Ok(());
                    };
                    let end = from + end + 4;
                    bytes = &bytes[end - before..];
                    self.head.truncate(end);
                    self.read_head()?;
                }
                Body::Rest => {
                    body(bytes);
                    return Ok(());
                }
                Body::Length(left) => {
                    let (taken, rest) = bytes.split_at(bytes.len().min(left as usize));
                    body(taken);
                    bytes = rest;
                    self.body = Body::Length(left - taken.len() as u64);
                    self.is_over = left == taken.len() as u64;
                }
                Body::Chunk(left) => {
                    let (taken, rest) = bytes.split_at(bytes.len().min(left as usize));
                    body(taken);
                    bytes = rest;
                    let left = left - taken.len() as u64;
                    self.body = if left == 0 { Body::ChunkEnd(2) } else { Body::Chunk(left) };
                }
                Body::ChunkEnd(left) => {
                    let expected = if left == 2 { b'\r' } else { b'\n' };
                    if bytes[0] != expected {
                        return Err(format!("a chunk is followed by {:#04x}", bytes[0]));
                    }
                    bytes = &bytes[1..];
                    self.body = if left == 1 { Body::ChunkSize } else { Body::ChunkEnd(1) };
                }
                Body::ChunkSize | Body::Trailer => {
                    let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
                        self.line.extend_from_slice(bytes);
                        return Ok(());
                    };
                    self.line.extend_from_slice(&bytes[..end]);
                    bytes = &bytes[end + 1..];
                    let line = std::mem::take(&mut self.line);
                    let line = str::from_utf8(&line).map_err(|_| "a line between chunks is not text")?.trim_end();
                    if matches!(self.body, Body::Trailer) {
                        self.is_over = line.is_empty();
                        continue;
                    }
                    let size = line.split(';').next().unwrap_or("");
                    let size = u64::from_str_radix(size, 16).map_err(|_| format!("a chunk has the size {line:?}"))?;
                    self.body = if size == 0 { Body::Trailer } else { Body::Chunk(size) };
                }
            }
        }
        Ok(())
    }

    fn read_head(&mut self) -> Result<(), String> {
        let head = String::from_utf8_lossy(&self.head).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        self.status = Some(status.ok_or_else(|| format!("the response begins with {head:?}"))?);
        self.body = Body::Rest;
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            match (name.to_ascii_lowercase().as_str(), value.trim()) {
                ("transfer-encoding", value) if value.eq_ignore_ascii_case("chunked") => self.body = Body::ChunkSize,
                ("retry-after", _) => self.has_retry_after = true,
                ("content-length", value) => {
                    let length = value.parse().map_err(|_| format!("the body has the length {value:?}"))?;
                    self.body = Body::Length(length);
                    self.is_over = length == 0;
                }
                _ => {}
            }
        }
        self.head.clear();
        Ok(())
    }
}

#[test]
fn a_chunked_body_is_the_same_wherever_it_is_cut() {
    let response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0a;x\r\n0123456789\r\n0\r\n\r\n";
    for cut in 0..response.len() {
        let (mut decoder, mut body) = (Response::default(), Vec::new());
        for piece in [&response[..cut], &response[cut..]] {
            decoder.feed(piece, |bytes| body.extend_from_slice(bytes)).unwrap();
        }
        assert_eq!((decoder.status, &body[..], decoder.is_over), (Some(200), &b"abc0123456789"[..], true), "{cut}");
    }
}
