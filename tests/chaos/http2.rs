//! A minimal HTTP/2 client (RFC 9113): an incremental parser of one response, and what it has to write meanwhile.

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\x04\x00";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// The stream whose response is not read, and the stream of the client.
const UNREAD: u32 = 1;
const STREAM: u32 = 3;

/// The response to the client's request.
#[derive(Debug, Default)]
pub struct Response {
    pub status: Option<u16>,
    pub is_complete: bool,
    /// Why the server has reset the stream.
    pub reset: Option<String>,
    /// What must be written: acknowledgements, and the windows of what was read.
    pub pending: Vec<u8>,
    incomplete: Vec<u8>,
}

impl Response {
    /// Begins a connection with a request, given as the text of an HTTP/1.1 request without a body. With `has_unread`, the
    /// connection has a second stream that the client never reads, which must not delay the other.
    pub fn new(request: &str, has_unread: bool) -> Self {
        let mut pending = PREFACE.to_vec();
        // SETTINGS_HEADER_TABLE_SIZE = 0: no header refers to an earlier one.
        frame(&mut pending, SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]);
        if has_unread {
            let everything = "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
            frame(&mut pending, HEADERS, END_STREAM | END_HEADERS, UNREAD, &header_block(everything));
        }
        frame(&mut pending, HEADERS, END_STREAM | END_HEADERS, STREAM, &header_block(request));
        Self { pending, ..Self::default() }
    }

    /// Parses bytes from the socket, and passes those of the body to `body`.
    ///
    /// # Errors
    /// When the bytes are not the HTTP/2 of a response.
    pub fn feed(&mut self, bytes: &[u8], mut body: impl FnMut(&[u8])) -> Result<(), String> {
        self.incomplete.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.incomplete);
        let mut rest = &bytes[..];
        while let Some((head, after)) = rest.split_first_chunk::<9>().filter(|_| !self.is_complete) {
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let Some((payload, after)) = after.split_at_checked(length) else { break };
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            self.receive(head[3], head[4], stream, payload, &mut body)?;
            rest = after;
        }
        self.incomplete = rest.to_vec();
        Ok(())
    }

    fn receive(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
        body: &mut impl FnMut(&[u8]),
    ) -> Result<(), String> {
        match (kind, stream) {
            (SETTINGS, 0) if flags & ACK == 0 => frame(&mut self.pending, SETTINGS, ACK, 0, &[]),
            (PING, 0) if flags & ACK == 0 => frame(&mut self.pending, PING, ACK, 0, payload),
            (HEADERS, STREAM) if flags & PADDED == 0 && self.status.is_none() => self.status = Some(status(payload)?),
            (DATA, STREAM) if flags & PADDED == 0 => {
                body(payload);
                self.widen(0, payload.len());
                self.widen(STREAM, payload.len());
            }
            // Its own window is exhausted at some time, but not that of the connection.
            (DATA, UNREAD) => self.widen(0, payload.len()),
            (RST_STREAM, STREAM) => self.reset = Some(format!("the stream is reset with code {payload:?}")),
            (HEADERS | DATA | CONTINUATION, STREAM) => return Err(format!("unexpected frame {kind}, flags {flags}")),
            // GOAWAY is followed by the end of the stream.
            _ => {}
        }
        self.is_complete = stream == STREAM && matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0;
        Ok(())
    }

    /// Lets the server send as many more bytes.
    fn widen(&mut self, stream: u32, bytes: usize) {
        if bytes > 0 {
            frame(&mut self.pending, WINDOW_UPDATE, 0, stream, &(bytes as u32).to_be_bytes());
        }
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Encodes a request as literal fields without indexing (RFC 7541, section 6.2.2).
fn header_block(request: &str) -> Vec<u8> {
    let mut lines = request.lines();
    let path = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a request line");
    let fields = lines.filter_map(|line| line.split_once(": "));
    let fields = fields.map(|(name, value)| match name.to_ascii_lowercase() {
        name if name == "host" => (":authority".to_owned(), value),
        name => (name, value),
    });
    let pseudo = [(":method", "GET"), (":scheme", "http"), (":path", path)];
    let mut all: Vec<_> = pseudo.map(|(name, value)| (name.to_owned(), value)).into_iter().chain(fields).collect();
    all.sort_by_key(|(name, _)| !name.starts_with(':'));
    let mut block = Vec::new();
    for (name, value) in all {
        block.push(0);
        text(&mut block, &name);
        text(&mut block, value);
    }
    block
}

/// Encodes a string (RFC 7541, section 5.2), its length with a prefix of 7 bits.
fn text(block: &mut Vec<u8>, text: &str) {
    let mut left = text.len();
    if left < 127 {
        block.push(left as u8);
    } else {
        block.push(127);
        left -= 127;
        while left >= 128 {
            block.push(left as u8 | 128);
            left >>= 7;
        }
        block.push(left as u8);
    }
    block.extend_from_slice(text.as_bytes());
}

/// Reads the first field of a response's head, which is its status.
fn status(block: &[u8]) -> Result<u16, String> {
    let unreadable = || format!("the head of the response begins with {:02x?}", &block[..block.len().min(8)]);
    // Updates of the table's size come first.
    let field = &block[block.iter().take_while(|&&byte| byte & 0xe0 == 0x20).count()..];
    match *field {
        [indexed @ 0x88..=0x8e, ..] => Ok([200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)]),
        // `:status` with a literal value.
        [0x08 | 0x18 | 0x48, length, ref value @ ..] => {
            let value = value.get(..usize::from(length & 127)).ok_or_else(unreadable)?;
            let digits = if length & 128 == 0 { value.to_vec() } else { huffman_digits(value) };
            str::from_utf8(&digits).ok().and_then(|digits| digits.parse().ok()).ok_or_else(unreadable)
        }
        _ => Err(unreadable()),
    }
}

/// Decodes digits in the Huffman code of RFC 7541, appendix B: 0 to 2 have 5 bits, 3 to 9 have 6.
fn huffman_digits(bytes: &[u8]) -> Vec<u8> {
    // With more of the padding, which is ones.
    let bits = bytes.iter().chain(&[0xff]).fold(0u64, |bits, &byte| bits << 8 | u64::from(byte));
    let (mut left, mut digits) = (bytes.len() * 8 + 8, Vec::new());
    while left >= 6 {
        let six = (bits >> (left - 6) & 63) as u8;
        let (digit, length) = if six >> 1 <= 2 { (six >> 1, 5) } else { (six.wrapping_sub(0x19) + 3, 6) };
        if digit > 9 {
            break;
        }
        digits.push(b'0' + digit);
        left -= length;
    }
    digits
}

#[test]
fn status_is_decoded_in_any_encoding() {
    let blocks: [(u16, &[u8]); 5] = [
        (200, &[0x88]),
        (404, &[0x8d]),
        (429, &[0x20, 0x48, 0x83, 0x68, 0x4f, 0xff]),
        (401, &[0x08, 0x82, 0x68, 0x01]),
        (503, &[0x48, 0x03, b'5', b'0', b'3']),
    ];
    for (expected, block) in blocks {
        assert_eq!(status(block), Ok(expected), "{block:02x?}");
    }
}

#[test]
fn response_is_parsed_at_any_split() {
    let mut response = Vec::new();
    frame(&mut response, SETTINGS, 0, 0, &[]);
    // 503, with the Huffman code.
    frame(&mut response, HEADERS, END_HEADERS, STREAM, &[0x20, 0x48, 0x83, 0x6c, 0x0c, 0xff]);
    frame(&mut response, DATA, 0, UNREAD, b"other");
    frame(&mut response, DATA, 0, STREAM, b"abc");
    frame(&mut response, DATA, END_STREAM, STREAM, b"de");
    for cut in 0..response.len() {
        let (mut parsed, mut body) = (Response::default(), Vec::new());
        for piece in [&response[..cut], &response[cut..]] {
            parsed.feed(piece, |bytes| body.extend_from_slice(bytes)).unwrap();
        }
        assert_eq!((parsed.status, &body[..], parsed.is_complete), (Some(503), &b"abcde"[..], true), "{cut}");
    }
}
