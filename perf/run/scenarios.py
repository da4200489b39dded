"""The scenarios with their variants, and the load generator's arguments for each."""

from dataclasses import dataclass

ALL = ("bare", "fanline", "durable", "axum", "nchan", "fastapi")


@dataclass
class Variant:
    """Each repetition measures `servers` one after the other with these arguments of `fanline bench`."""

    name: str
    load: list
    servers: tuple = ALL
    serve: tuple = ()
    warmup: float = 1
    duration: float = 3
    repetitions: int | None = None
    # Replaces `fanline bench`, unless None.
    tool: str = "bench"


def steady(clients, deliveries, servers, prefix=""):
    name = f"{prefix}{clients}" if deliveries == 100_000 else f"{clients}-slow"
    repetitions = None if deliveries == 100_000 else 1
    return Variant(name, ["--clients", str(clients), "--rate", f"{deliveries / clients:g}"], servers, warmup=0.7, duration=2,
                   repetitions=repetitions)


# Subscribers over WebSocket, beside those of Server-Sent Events with the same payloads. An envelope has the bytes of a message.
TRANSPORTS = ("fanline", "fanline-envelope", "fanline-ws", "axum", "axum-ws")
# Compressed streams beside plain ones of the same events.
COMPRESSED = ("fanline", "fanline-gzip", "nginx-gzip", "axum", "axum-gzip")
# An axum application as fanline's fallback, beside fanline without it and the application without streams.
EMBEDDED = ("fanline", "fallback", "response")
RUST_AND_C = ("bare", "fanline", "durable", "axum", "nchan")
# hyper without a hub is a yardstick, too.
PUBLISHED_TO = ("bare", "hyper", "fanline", "durable", "axum", "nchan")
TOPICS = ["--clients", "10000", "--topics", "10000", "--publishers", "16", "--rate", "10000"]

SCENARIOS = {
    "steady": [
        steady(100, 100_000, RUST_AND_C),
        steady(1_000, 100_000, RUST_AND_C),
        steady(10_000, 100_000, RUST_AND_C),
        # A rate that a Python server can handle, with the yardstick at the same rate.
        steady(100, 5_000, ("bare", "fanline", "fastapi")),
        steady(1_000, 5_000, ("bare", "fanline", "fastapi")),
    ],
    "saturated": [
        Variant("1000", ["--clients", "1000", "--publishers", "128", "--rate", "max"], RUST_AND_C),
    ],
    "one-event": [
        Variant("10000", ["--clients", "10000", "--publishers", "1", "--rate", "4"], RUST_AND_C),
    ],
    "topics": [
        # All but the last have one delivery per event, and differ in the number of topics and subscribers. The bare loop has no topics.
        Variant("one-topic-one-client", ["--clients", "1", "--publishers", "16", "--rate", "10000"], ("bare", "fanline", "axum")),
        Variant("10000-topics-all-busy", TOPICS, ("fanline", "axum")),
        Variant("10000-topics-one-busy", [*TOPICS, "--distribution", "one"], ("fanline", "axum")),
        Variant("100-topics-on-each-of-1000", ["--clients", "1000", "--topics", "100", "--topics-per-client", "100",
                                               "--rate", "100"], ("fanline", "axum")),
    ],
    "herd": [
        Variant("10000-x-500", ["--clients", "10000", "--prefill", "500", "--rate", "0", "--topic", "herd", "--sse-header",
                                "last-event-id: earliest", "--patience", "60s"], ("fanline",), tool="herd", duration=1),
    ],
    "publish": [
        # `load` is the number of connections.
        Variant("single", ["64"], PUBLISHED_TO, tool="wrk"),
        Variant("single-8", ["8"], PUBLISHED_TO, tool="wrk"),
        # The body is the event's data: at fanline's /publish/{topic}, and as always at durable's and nchan's.
        Variant("text", ["64"], PUBLISHED_TO, tool="wrk"),
        Variant("ndjson", ["64"], ("bare", "fanline"), tool="wrk"),
    ],
    "memory": [
        Variant("15000", ["--clients", "15000", "--rate", "1", "--sse-url",
                          "{url}/stream?topics=bench,other&client_name=client-{client}&tags=alpha,beta"], ("fanline",),
                tool="memory"),
        # Clients with a topic and nothing else.
        Variant("plain", ["--clients", "15000", "--rate", "1"], ("fanline", "durable"), tool="memory"),
    ],
    "shards": [
        steady(1_000, 100_000, ("fanline", "fanline-2")),
        steady(10_000, 100_000, ("fanline", "fanline-2")),
    ],
    "websocket": [
        steady(100, 100_000, TRANSPORTS),
        steady(1_000, 100_000, TRANSPORTS),
        steady(10_000, 100_000, TRANSPORTS),
        Variant("saturated", ["--clients", "1000", "--publishers", "128", "--rate", "max"], TRANSPORTS),
        Variant("memory", ["--clients", "10000", "--rate", "1"], TRANSPORTS, tool="memory"),
    ],
    "gzip": [
        # What compressing each connection costs is too much for more.
        Variant("1000", ["--clients", "1000", "--rate", "20", "--payload", "171"], COMPRESSED, warmup=4, duration=4,
                tool="memory"),
        Variant("1000-fast", ["--clients", "1000", "--rate", "100", "--payload", "171"], ("fanline", "fanline-gzip"), warmup=2),
        # Each ring has a compressor while it has compressed readers.
        Variant("publish", ["--clients", "1", "--publishers", "64", "--rate", "max"], ("fanline", "fanline-gzip")),
        # Plain and compressed readers of the same server.
        Variant("demo", [], ("fanline-gzip",), ("--demo",), duration=60, tool="demo", repetitions=1),
    ],
    "embedding": [
        steady(1_000, 100_000, EMBEDDED, "streams-"),
        steady(10_000, 100_000, EMBEDDED, "streams-"),
        Variant("memory", ["--clients", "10000", "--rate", "1"], EMBEDDED, tool="memory"),
        Variant("routes", [], ("plain", "fallback", "response"), tool="routes"),
        # Both loads at once. The application's routes get the time that the streams leave.
        Variant("both", ["--clients", "1000", "--rate", "20"], ("apart", "fallback", "response"), tool="both", duration=4),
    ],
    "idle": [
        # The window contains one heartbeat of each client.
        Variant("15000", ["--clients", "15000", "--rate", "0"], ("fanline",), ("--heartbeat", "30s"), warmup=5, duration=30,
                repetitions=1),
    ],
}
