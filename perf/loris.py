"""Holds COUNT connections at HOST:PORT that send the head of a request one byte at a time, one each INTERVAL seconds, and
opens a new one for each that is closed, at most PACE a second. Writes READY when nearly all are open for the first time. At
SIGTERM it opens no more, waits until the last is closed, and prints as JSON how many there were and how long they lasted."""

import errno
import json
import select
import signal
import socket
import sys
import time

address, count, interval, pace, ready = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), sys.argv[5]
host, port = address.rsplit(":", 1)
TICK = 0.005
# Those that are closed keep their ports for a minute: one address would run out of them.
SOURCES = [f"127.0.0.{last}" for last in range(2, 10)]
IP_BIND_ADDRESS_NO_PORT = 24

is_ended = False


def end(*_):
    global is_ended
    is_ended = True


signal.signal(signal.SIGTERM, end)
epoll = select.epoll()
slots = [[] for _ in range(round(interval / TICK))]
connections, opened, lifetimes, refused = {}, 0, [], 0


def connect():
    global opened
    connection = socket.socket()
    connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    connection.bind((SOURCES[opened % len(SOURCES)], 0))
    connection.setblocking(False)
    connection.connect_ex((host, int(port)))
    epoll.register(connection, select.EPOLLIN | select.EPOLLRDHUP)
    connections[connection.fileno()] = (connection, time.monotonic())
    slots[opened % len(slots)].append(connection)
    opened += 1
    drip(connection)


def drip(connection):
    try:
        # A method may be long.
        connection.send(b"G")
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN):
            raise


def read(fd):
    global refused
    connection, since = connections[fd]
    try:
        if connection.recv(4096):
            refused += 1
            return
    except BlockingIOError:
        return
    except OSError as error:
        if error.errno not in (errno.ECONNRESET, errno.EPIPE):
            raise
    lifetimes.append(time.monotonic() - since)
    epoll.unregister(fd)
    del connections[fd]
    connection.close()


tick, due = 0, time.monotonic()
began = due
while connections or not is_ended:
    # Evenly: a burst that is opened at once is closed at once, again and again.
    allowed = round((time.monotonic() - began) * pace) - opened
    for _ in range(min(allowed, count - len(connections)) if not is_ended else 0):
        connect()
    if len(connections) >= 0.99 * count and ready:
        open(ready, "w").close()
        ready = ""
    for fd, _ in epoll.poll(max(0, due - time.monotonic())):
        read(fd)
    if time.monotonic() < due:
        continue
    due += TICK
    tick += 1
    slots[tick % len(slots)] = [connection for connection in slots[tick % len(slots)] if connection.fileno() >= 0]
    for connection in slots[tick % len(slots)]:
        drip(connection)
lifetimes.sort()
print(json.dumps({
    "opened": opened,
    "closed": len(lifetimes),
    "answered": refused,
    "shortest_s": round(lifetimes[0], 3),
    "longest_s": round(lifetimes[-1], 3),
}))
