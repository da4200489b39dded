#!/usr/bin/env python3
"""Readers of one stream of keyed values, as many and as fast as one core can hold: most of them discard what they receive in the
kernel, so that the server is what is measured.

usage: latest.py URL PID MODE CODING CLIENTS KEYS RATE INTERVAL SECONDS

MODE is events, latest, or none: no readers. CODING is plain or gzip. Prints a line of JSON. PROBES readers decode everything, for the
staleness. The others count bytes, and with gzip they follow the chunks. When the publisher has stopped, it publishes a last value
of each key, and all readers of latest values decode: each must have every last value, after all others of its key. With gzip they
begin to decode at a chunk, because the blocks of latest values refer to nothing before them.
"""

import json
import multiprocessing
import os
import random
import re
import select
import socket
import sys
import time
import urllib.request
import zlib
from urllib.parse import urlsplit

PROBES = 5
EACH = 0.01
WARM_UP = 3
STAMP = b"T" * 16
EVENT = re.compile(rb'"k":(\d+),"t":(\d+),"last":\d')
LAST = re.compile(rb'"k":(\d+),"t":\d+,"last":1')
OTHER = re.compile(rb'"k":(\d+),"t":\d+,"last":0')
LINE = '{"topic":"t","key":"%d","data":{"k":%d,"t":%s,"last":%d,"pad":"' + "x" * 40 + '"}}\n'


def now():
    """The time in microseconds, with as many digits as the stamp."""
    return 10**15 + time.monotonic_ns() // 1000


def connect(url):
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class Publisher:
    """Publishes lines in batches, each with the time of its batch."""

    def __init__(self, url):
        self.connection = connect(url)

    def publish(self, body):
        body = body.replace(STAMP, b"%d" % now())
        head = b"POST /publish HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\ncontent-length: %d\r\n\r\n"
        self.connection.sendall(head % len(body) + body)
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.rstrip().endswith(b"}"):
            more = self.connection.recv(1 << 16)
            assert more, "the server closed the publisher's connection"
            answer += more
        assert answer.startswith(b"HTTP/1.1 200"), answer


def publish(url, keys, rate, stop, stopped, end, published):
    """Publishes until stopped, and at the end a last value of each key."""
    publisher = Publisher(url)
    line = lambda key, last: LINE % (key, key, STAMP.decode(), last)
    count = int(rate * EACH)
    bodies = ["".join(line(random.randrange(keys), 0) for _ in range(count)).encode() for _ in range(64)]
    began, number = time.monotonic(), 0
    while not stop.is_set():
        publisher.publish(bodies[number % len(bodies)])
        number += 1
        published.value += count
        time.sleep(max(0, began + number * EACH - time.monotonic()))
    stopped.set()
    end.wait()
    publisher.publish("".join(line(key, 1) for key in range(keys)).encode())
    published.value += keys


class Reader:
    def __init__(self, url, path, coding):
        self.connection = connect(url)
        accepts = "accept-encoding: gzip\r\n" if coding == "gzip" else ""
        head = f"GET {path} HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n{accepts}\r\n"
        self.connection.sendall(head.encode())
        response = b""
        while b"\r\n\r\n" not in response:
            response += self.connection.recv(1)
        assert (b"content-encoding: gzip" in response) == (coding == "gzip"), response
        self.connection.setblocking(False)
        self.is_gzip, self.inflate, self.chunks = coding == "gzip", None, b""
        # Bytes of a chunk that are still to come.
        self.left = 0
        self.missing, self.rest, self.staleness = set(), b"", []

    is_last = False

    def discard(self, buffer):
        return self.connection.recv_into(buffer, len(buffer), socket.MSG_TRUNC)

    def follow(self, buffer):
        """Finds where chunks begin."""
        length = self.connection.recv_into(buffer)
        if length > self.left and not self.chunks:
            at = self.left
            while at < length:
                end = buffer.find(b"\r\n", at, length)
                if end < 0:
                    break
                at = end + 4 + int(buffer[at:end], 16)
            else:
                self.left = at - length
                return length
            self.chunks, self.left = bytes(buffer[at:length]), 0
        elif self.chunks:
            self.chunks += bytes(buffer[:length])
            end = self.chunks.find(b"\r\n")
            if end >= 0:
                self.left = end + 4 + int(self.chunks[:end], 16) - len(self.chunks)
                rest, self.chunks = self.chunks, b""
                if self.left < 0:
                    return self.follow_rest(rest[self.left:], length)
        else:
            self.left -= length
        return length

    def follow_rest(self, rest, length):
        """Finds where the chunks of a few bytes begin."""
        at = 0
        while at < len(rest):
            end = rest.find(b"\r\n", at)
            if end < 0:
                self.chunks, self.left = rest[at:], 0
                return length
            at = end + 4 + int(rest[at:end], 16)
        self.left = at - len(rest)
        return length

    def decoded(self, data):
        """The text of the whole chunks in what was received, from the next one that begins on."""
        skipped = min(self.left, len(data))
        self.left -= skipped
        self.chunks += data[skipped:]
        at, text = 0, []
        while (end := self.chunks.find(b"\r\n", at)) >= 0:
            length = int(self.chunks[at:end], 16)
            if end + 4 + length > len(self.chunks):
                break
            if self.inflate is None:
                # Within a member there is no header.
                is_begin = self.chunks[end + 2:end + 4] == b"\x1f\x8b"
                self.inflate = zlib.decompressobj(31 if is_begin else -15)
            text.append(self.inflate.decompress(self.chunks[end + 2:end + 2 + length]))
            at = end + 4 + length
        self.chunks = self.chunks[at:]
        return b"".join(text)

    def parse(self, keeps_staleness):
        data = self.connection.recv(1 << 20)
        assert data, "the server closed a stream"
        at = now()
        text, end = self.rest + (self.decoded(data) if self.is_gzip else data), 0
        if keeps_staleness:
            for match in EVENT.finditer(text):
                end = match.end()
                self.staleness.append(at - int(match[2]))
        else:
            # What follows the digit is there, so that the event matches now.
            end = text.rfind(b',"pad"')
            if self.is_last:
                self.note_last(text)
        self.rest = text[max(end, len(text) - 200):]

    def note_last(self, text):
        end = text.find(b'"last":1')
        if end >= 0 and text.find(b'"last":0', end) >= 0:
            raise SystemExit("a value follows the last one of a key")
        for key in OTHER.findall(text):
            assert key in self.missing, f"key {key} goes back"
        self.missing.difference_update(LAST.findall(text))


def cpu(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def delivered(url):
    with urllib.request.urlopen(url + "/metrics/json") as response:
        return json.load(response)["events"]["delivered"]


def main():
    url, pid, mode, coding, clients, keys, rate, interval, seconds = sys.argv[1:]
    clients, keys, rate, seconds = 0 if mode == "none" else int(clients), int(keys), float(rate), float(seconds)
    stop, stopped, end = (multiprocessing.Event() for _ in range(3))
    published = multiprocessing.Value("Q", 0)
    first = Publisher(url)
    for begin in range(0, keys, 1000):
        first.publish("".join(LINE % (key, key, STAMP.decode(), 0) for key in range(begin, min(begin + 1000, keys))).encode())
    query = f"&mode=latest&interval={interval}" if mode == "latest" else "&on_lag=skip"
    readers = [Reader(url, f"/stream?topics=t{query}", coding) for _ in range(clients)]
    poll, by_file, buffer = select.epoll(), {}, bytearray(1 << 22)
    for reader in readers:
        by_file[reader.connection.fileno()] = reader
        poll.register(reader.connection, select.EPOLLIN)
    probes, must_follow = set(readers[:PROBES]), (mode, coding) == ("latest", "gzip")

    def read_until(is_over, parses_all=False, keeps_staleness=False):
        while not is_over():
            for file, _ in poll.poll(0.05):
                reader = by_file[file]
                try:
                    if parses_all or reader in probes:
                        reader.parse(keeps_staleness)
                    elif not (reader.follow if must_follow else reader.discard)(buffer):
                        raise SystemExit("the server closed a stream")
                except BlockingIOError:
                    pass

    until = lambda end: lambda: time.monotonic() >= end
    read_until(until(time.monotonic() + 1))
    worker = multiprocessing.Process(target=publish, args=(url, keys, rate, stop, stopped, end, published))
    worker.start()
    read_until(until(time.monotonic() + WARM_UP))
    before = cpu(pid), published.value, delivered(url), time.monotonic(), os.times()
    read_until(until(time.monotonic() + seconds), keeps_staleness=True)
    after = cpu(pid), published.value, delivered(url), time.monotonic(), os.times()
    stop.set()
    # All other values are read before the last ones are decoded, which takes this process long enough.
    read_until(stopped.is_set)
    read_until(until(time.monotonic() + 1))
    for reader in readers:
        reader.missing, reader.rest, reader.is_last = {b"%d" % key for key in range(keys)}, b"", True
    end.set()
    if mode == "latest":
        deadline = time.monotonic() + 60
        is_whole = lambda: not any(reader.missing for reader in readers)
        read_until(lambda: is_whole() or time.monotonic() > deadline, parses_all=True)
    worker.join()
    elapsed = after[3] - before[3]
    staleness = sorted(value for reader in probes for value in reader.staleness)
    at = lambda part: staleness[int(len(staleness) * part)] / 1000 if staleness else None
    print(json.dumps({
        "mode": mode, "coding": coding, "clients": clients, "events_per_second": (after[1] - before[1]) / elapsed,
        "deliveries_per_second": (after[2] - before[2]) / elapsed, "server_cpu": (after[0] - before[0]) / elapsed,
        "reader_cpu": (after[4].user + after[4].system - before[4].user - before[4].system) / elapsed,
        "p50_ms": at(0.5), "p99_ms": at(0.99), "incomplete": sum(bool(reader.missing) for reader in readers) if mode == "latest" else None,
    }))


main()
