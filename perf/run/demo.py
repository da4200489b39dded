"""A thousand plain and a thousand compressed readers of the metrics that a server measures itself (`fanline serve --demo`)."""

import select
import socket
import time
import zlib
from urllib.parse import urlsplit

READERS = 1_000


class Reader:
    """One stream. Its bytes are counted from the response's head on."""

    def __init__(self, address, coding, version="1.1"):
        self.coding = coding
        self.received = 0
        # A body without chunks is kept, to be compared.
        self.body = b"" if version == "1.0" else None
        self.socket = socket.create_connection(address)
        head = f"GET /stream?topics=metric HTTP/{version}\r\nhost: demo\r\naccept-encoding: {coding}\r\n\r\n"
        self.socket.sendall(head.encode())
        self.socket.setblocking(False)

    def read(self):
        part = self.socket.recv(1 << 18)
        if self.body is None:
            self.received += len(part)
        else:
            self.body += part
        return bool(part)


def follow(server, seconds):
    """Connects pairs of readers, and reads until `seconds` have passed since the first."""
    address = (urlsplit(server.url).hostname, urlsplit(server.url).port)
    end, closed = time.monotonic() + seconds, 0
    samples = [Reader(address, coding, "1.0") for coding in ("identity", "gzip")]
    readers = [Reader(address, coding) for _ in range(READERS) for coding in ("identity", "gzip")]
    by_descriptor = {reader.socket.fileno(): reader for reader in samples + readers}
    poll = select.epoll()
    for descriptor in by_descriptor:
        poll.register(descriptor, select.EPOLLIN)
    while (left := end - time.monotonic()) > 0:
        for descriptor, _ in poll.poll(left):
            if not by_descriptor[descriptor].read():
                poll.unregister(descriptor)
                closed += 1
    plain, compressed = (sum(r.received for r in readers if r.coding == coding) for coding in ("identity", "gzip"))
    expected, encoded = (sample.body.split(b"\r\n\r\n", 1)[1] for sample in samples)
    expected, decoded = events(expected), events(zlib.decompressobj(wbits=31).decompress(encoded))
    # The second sample has connected later, and either may be a second ahead of the other.
    first = expected.index(decoded[0])
    is_same = all(one == other for one, other in zip(decoded, expected[first:]))
    return {
        "ok": is_same and not closed,
        "clients": len(readers),
        "closed": closed,
        "window_seconds": seconds,
        "window_events": len(decoded),
        "bytes_received": compressed,
        "plain_bytes_received": plain,
    }


def events(body):
    """The whole events of a stream, without its hello, which is another for each reader."""
    return body.split(b"\n\n")[1:-1]
