//! Each rule of the protocol, with the bytes cut at every place.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const LIMITS: MessageLimits = MessageLimits { max_bytes: 100_000, accepts_binary: true };
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CONTINUATION: u8 = 0;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FINAL: u8 = 0x80;

/// A masked frame with the first byte `first`.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![first];
    match payload.len() {
        length @ ..126 => frame.push(0x80 | length as u8),
        length @ ..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Reads `parts` one after the other, up to a violation.
fn read<'a>(limits: MessageLimits, parts: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Incoming>, Option<Violation>) {
    let (mut reader, mut all) = (Reader::new(limits), Vec::new());
    for mut input in parts {
        loop {
            match reader.read(&mut input) {
                Ok(Some(incoming)) => all.push(incoming),
                Ok(None) => break,
                Err(violation) => return (all, Some(violation)),
            }
        }
        assert!(input.is_empty());
    }
    (all, None)
}

/// Reads `bytes` whole, byte by byte, and cut at each place, with the same result.
fn read_all(bytes: &[u8]) -> (Vec<Incoming>, Option<Violation>) {
    let whole = read(LIMITS, [bytes]);
    assert_eq!(read(LIMITS, bytes.chunks(1)), whole, "byte by byte");
    for cut in 0..bytes.len().min(300) {
        assert_eq!(read(LIMITS, [&bytes[..cut], &bytes[cut..]]), whole, "cut at {cut}");
    }
    whole
}

fn messages(bytes: &[u8]) -> Vec<Incoming> {
    let (messages, violation) = read_all(bytes);
    assert_eq!(violation, None);
    messages
}

fn violation(bytes: &[u8]) -> Violation {
    read_all(bytes).1.expect("a violation")
}

fn text(text: &str) -> Incoming {
    Incoming::Text(text.to_owned())
}

#[test]
fn message_in_one_frame() {
    for length in [0, 1, 125, 126, 127, 128, 65_535, 65_536, 100_000] {
        let payload = "x".repeat(length);
        assert_eq!(messages(&frame(FINAL | TEXT, payload.as_bytes())), [text(&payload)], "{length}");
    }
    assert_eq!(messages(&frame(FINAL | BINARY, b"\0\xff")), [Incoming::Binary(b"\0\xff".to_vec())]);
}

#[test]
fn fragments_are_joined_and_control_frames_between_them_come_first() {
    let bytes = [
        frame(TEXT, b"a"),
        frame(FINAL | PING, b"one"),
        frame(CONTINUATION, b""),
        frame(FINAL | PONG, b"two"),
        frame(CONTINUATION, b"b"),
        frame(FINAL | CONTINUATION, b"c"),
        frame(FINAL | TEXT, b"d"),
    ];
    assert_eq!(messages(&bytes.concat()), [Incoming::Ping(b"one".to_vec()), Incoming::Pong, text("abc"), text("d")]);
}

#[test]
fn character_may_be_cut_between_frames() {
    let all = "κόσμε \u{1f980}\u{10ffff}".as_bytes();
    let mut bytes = frame(TEXT, b"");
    for byte in all {
        bytes.extend(frame(CONTINUATION, &[*byte]));
    }
    bytes.extend(frame(FINAL | CONTINUATION, b""));
    assert_eq!(messages(&bytes), [text("κόσμε \u{1f980}\u{10ffff}")]);
}

#[test]
fn text_that_is_not_utf8_fails_at_the_byte_that_shows_it() {
    for (invalid, place) in [
        (&b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"[..], 13),
        (b"a\xf4\x90\x80\x80", 3),
        (b"\xff", 1),
        (b"ab\xc3c", 4),
    ] {
        for (first, rest) in [(FINAL | TEXT, 0), (TEXT, 0), (TEXT, 1)] {
            let mut bytes = if rest == 0 { frame(first, invalid) } else { frame(first, &invalid[..rest]) };
            if rest > 0 {
                bytes.extend(frame(CONTINUATION, &invalid[rest..]));
            }
            assert_eq!(violation(&bytes), Violation::Utf8);
        }
        let bytes = frame(FINAL | TEXT, &[invalid, &[b'x'; 50]].concat());
        assert_eq!(read(LIMITS, [&bytes[..6 + place - 1]]).1, None, "{invalid:?}");
        assert_eq!(read(LIMITS, [&bytes[..6 + place]]).1, Some(Violation::Utf8), "{invalid:?}");
    }
    assert_eq!(violation(&frame(FINAL | TEXT, b"ends in \xe2\x82")), Violation::Utf8);
}

#[test]
fn reserved_bits_and_opcodes_are_refused() {
    for bits in 1..8 {
        assert_eq!(violation(&frame(FINAL | bits << 4 | TEXT, b"x")), Violation::ReservedBits);
        assert_eq!(violation(&frame(FINAL | bits << 4 | PING, b"")), Violation::ReservedBits);
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        assert_eq!(violation(&frame(FINAL | opcode, b"")), Violation::ReservedOpcode);
    }
}

#[test]
fn frame_without_a_mask_is_refused() {
    assert_eq!(violation(b"\x81\x01x"), Violation::Unmasked);
    assert_eq!(violation(b"\x89\x00"), Violation::Unmasked);
}

#[test]
fn control_frame_is_short_and_whole() {
    let longest = vec![b'p'; 125];
    assert_eq!(messages(&frame(FINAL | PING, &longest)), [Incoming::Ping(longest)]);
    for opcode in [CLOSE, PING, PONG] {
        assert_eq!(violation(&frame(FINAL | opcode, &[0; 126])), Violation::ControlFrame);
        assert_eq!(violation(&frame(opcode, b"")), Violation::ControlFrame);
    }
}

#[test]
fn continuation_needs_a_message_that_has_begun() {
    for first in [CONTINUATION, FINAL | CONTINUATION] {
        assert_eq!(violation(&frame(first, b"x")), Violation::Continuation);
        let after_a_message = [frame(FINAL | TEXT, b"x"), frame(first, b"x")];
        assert_eq!(read_all(&after_a_message.concat()), (vec![text("x")], Some(Violation::Continuation)));
    }
    for first in [TEXT, FINAL | TEXT, FINAL | BINARY] {
        assert_eq!(violation(&[frame(TEXT, b"x"), frame(first, b"x")].concat()), Violation::Continuation);
    }
}

#[test]
fn length_has_its_shortest_encoding() {
    let mask = [0; 4];
    for head in [&[0x81, 0xfe, 0, 125][..], &[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]] {
        assert_eq!(violation(&[head, &mask].concat()), Violation::LengthEncoding);
    }
}

#[test]
fn message_over_the_limit_is_refused_by_its_head() {
    let limits = MessageLimits { max_bytes: 10, accepts_binary: true };
    let read = |bytes: &[u8]| read(limits, [bytes]);
    assert_eq!(read(&frame(FINAL | TEXT, &[b'x'; 10])).1, None);
    assert_eq!(read(&frame(FINAL | TEXT, &[b'x'; 11])[..6]).1, Some(Violation::TooBig(10)));
    assert_eq!(read(b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0").1, Some(Violation::TooBig(10)));
    let fragments = [frame(TEXT, &[b'x'; 6]), frame(CONTINUATION, &[b'x'; 4]), frame(CONTINUATION, b"x")].concat();
    assert_eq!(read(&fragments[..fragments.len() - 1]).1, Some(Violation::TooBig(10)));
    let (messages, violation) = read(&[frame(TEXT, &[b'x'; 6]), frame(FINAL | CONTINUATION, &[b'x'; 4])].concat());
    assert_eq!((messages, violation), (vec![text("xxxxxxxxxx")], None));
}

#[test]
fn declared_length_takes_no_memory() {
    let limits = MessageLimits { max_bytes: 16 << 20, accepts_binary: false };
    let mut reader = Reader::new(limits);
    let bytes = frame(FINAL | TEXT, &vec![b'x'; 16 << 20]);
    assert_eq!(reader.read(&mut &bytes[..20]), Ok(None));
    assert!(reader.payload.capacity() < 100);
    assert!(matches!(reader.read(&mut &bytes[20..]), Ok(Some(Incoming::Text(text))) if text.len() == 16 << 20));
    assert_eq!((reader.payload.capacity(), reader.control.capacity()), (0, 0));
}

#[test]
fn binary_message_is_refused_by_its_head_where_it_is_not_supported() {
    let limits = MessageLimits { accepts_binary: false, ..LIMITS };
    let bytes = frame(FINAL | BINARY, &[0; 1000]);
    let (messages, violation) = read(limits, [&bytes[..8]]);
    assert_eq!((messages, violation), (vec![], Some(Violation::Binary)));
    assert_eq!(Violation::Binary.close_code(), 1003);
}

#[test]
fn close_frame_has_a_valid_code_and_reason() {
    let close = |payload: &[u8]| read_all(&frame(FINAL | CLOSE, payload));
    let closed = |payload: &[u8]| match close(payload) {
        (mut all, None) => all.pop(),
        (_, Some(violation)) => panic!("{violation:?}"),
    };
    assert_eq!(closed(b""), Some(Incoming::Close(None)));
    for code in [1000_u16, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        let payload = [&code.to_be_bytes()[..], "grüße".as_bytes()].concat();
        assert_eq!(closed(&payload), Some(Incoming::Close(Some(code))));
    }
    assert_eq!(close(b"\x03").1, Some(Violation::CloseFrame));
    for code in [0_u16, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65_535] {
        assert_eq!(close(&code.to_be_bytes()).1, Some(Violation::CloseFrame), "{code}");
    }
    assert_eq!(close(b"\x03\xe8\xce\xba\xff").1, Some(Violation::Utf8));
}

proptest! {
    /// Neither a byte nor a place where the bytes are cut changes what is read.
    #[test]
    fn cuts_make_no_difference(
        frames in vec((any::<u8>(), vec(any::<u8>(), 0..200)), 1..6),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        size in 1..50_usize,
    ) {
        let mut bytes: Vec<u8> = frames.iter().flat_map(|(first, payload)| frame(*first, payload)).collect();
        for (place, flip) in flips {
            let place = place.index(bytes.len());
            bytes[place] ^= flip;
        }
        prop_assert_eq!(read(LIMITS, [&bytes[..]]), read(LIMITS, bytes.chunks(size)));
    }

    #[test]
    fn texts_are_read_as_they_were_written(
        texts in vec(".{0,100}", 0..10),
        size in 1..100_usize,
    ) {
        let mut bytes = Vec::new();
        for text in &texts {
            let mut parts = text.as_bytes().chunks(size).peekable();
            let mut opcode = TEXT;
            while let Some(part) = parts.next() {
                let last = if parts.peek().is_none() { FINAL } else { 0 };
                bytes.extend(frame(last | opcode, part));
                opcode = CONTINUATION;
            }
            if text.is_empty() {
                bytes.extend(frame(FINAL | TEXT, b""));
            }
        }
        let expected = texts.into_iter().map(Incoming::Text).collect::<Vec<_>>();
        prop_assert_eq!(read(LIMITS, bytes.chunks(size)), (expected, None));
    }
}
