"""Measures how long clients take to resume on the server that they read from, and on another server.

Usage: hops.py HOPS ADDRESS ADDRESS. Prints one JSON object. A hop is timed from connecting to the end of the hello.
"""

import asyncio
import json
import sys
import time

WORKERS = 8


async def publish(reader, writer, topic, text):
    body = text.encode()
    head = f"POST /publish/{topic} HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")).split(b":")[1])
    answer = json.loads(await reader.readexactly(length))
    return answer["id"]


async def block(reader):
    """Returns the fields of the next event. Lines with chunk sizes are not fields."""
    fields = {}
    while True:
        line = (await reader.readuntil(b"\n")).rstrip(b"\r\n").decode()
        if not line and "data" in fields:
            return fields
        name, colon, value = line.partition(": ")
        if colon:
            fields[name] = value


async def resume(address, topic, last_id):
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection(*address)
    writer.write(f"GET /stream?topics={topic} HTTP/1.1\r\nhost: x\r\nlast-event-id: {last_id}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    hello = await block(reader)
    return reader, writer, hello, time.perf_counter() - began


async def work(number, count, addresses, results):
    topic = f"t{number}"
    publishers = [await asyncio.open_connection(*address) for address in addresses]
    last = await publish(*publishers[0], topic, "first")
    stream = await resume(addresses[0], topic, last)
    at = 0
    for round in range(count):
        # Published on the server that the client reads, so that the other server is as far behind as possible.
        sent = await publish(*publishers[at], topic, str(round))
        event = await block(stream[0])
        while event.get("event") not in (None, "gap"):
            event = await block(stream[0])
        if event.get("id") != sent or event.get("event") == "gap":
            results["wrong"].append(f"after {last}: {event}, expected {sent}")
        stream[1].close()
        last = sent
        is_hop = round % 2 == 0
        at = 1 - at if is_hop else at
        stream = await resume(addresses[at], topic, last)
        if stream[2].get("id") != last or json.loads(stream[2]["data"])["position"] != last:
            results["wrong"].append(f"resumed at {last}: {stream[2]}")
        results["hop" if is_hop else "stay"].append(stream[3])
    stream[1].close()


def quantile(times, q):
    return sorted(times)[min(len(times) - 1, int(len(times) * q))] * 1000


async def main():
    hops = int(sys.argv[1])
    addresses = [(host, int(port)) for host, port in (address.rsplit(":", 1) for address in sys.argv[2:4])]
    results = {"hop": [], "stay": [], "wrong": []}
    each = -(-2 * hops // WORKERS)
    await asyncio.gather(*(work(number, each, addresses, results) for number in range(WORKERS)))
    print(json.dumps({
        "hops": len(results["hop"]),
        "wrong": len(results["wrong"]),
        "examples": results["wrong"][:5],
        "hop_ms": {name: round(quantile(results["hop"], q), 3) for name, q in (("p50", 0.5), ("p99", 0.99), ("max", 1))},
        "stay_ms": {name: round(quantile(results["stay"], q), 3) for name, q in (("p50", 0.5), ("p99", 0.99), ("max", 1))},
    }))


asyncio.run(main())
