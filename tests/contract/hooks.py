"""Schemathesis hooks: serializes NDJSON, filters invalid cases, makes idempotency keys unique, and ends streams."""

import itertools
import json
import os
import re
import threading
import urllib.request

import schemathesis

URL = os.environ["FANLINE_URL"]
# Clients that stay connected. Identified by id, because schemathesis reuses names from responses.
RESIDENTS = os.environ["RESIDENTS"].split(",")


numbers = itertools.count()


@schemathesis.serializer("application/x-ndjson")
def ndjson(ctx, value):
    lines = value if isinstance(value, list) else [value]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def strings(value):
    if isinstance(value, str):
        # A list parameter.
        yield from value.split(",")
    elif isinstance(value, dict):
        for part in value.values():
            yield from strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from strings(part)


@schemathesis.hook
def filter_case(ctx, case):
    """Skips names of more than 255 bytes, since JSON Schema counts characters, and cluster queries, since there is one server."""
    if isinstance(case.query, dict) and case.query.get("scope") == "cluster":
        return False
    parts = [case.query, case.path_parameters, case.body]
    return all(len(text) > 255 or len(text.encode("utf-8", "replace")) <= 255 for part in parts for text in strings(part))


@schemathesis.hook
def before_call(ctx, case, kwargs):
    """Makes a valid idempotency key unique: generated ones are short, and would be used again for other events."""
    for name, key in (case.headers or {}).items():
        if name.lower() == "idempotency-key" and re.fullmatch("[!#-~]{1,255}", key):
            suffix = f".{next(numbers)}"
            case.headers[name] = key[: 255 - len(suffix)] + suffix


def end_streams():
    """Disconnects all streams but the residents', because a stream never ends by itself."""
    tick = threading.Event()
    while not tick.wait(0.02):
        try:
            with urllib.request.urlopen(f"{URL}/clients?limit=1000") as answer:
                clients = json.load(answer)["clients"]
            for client in clients:
                if client["client_id"] not in RESIDENTS:
                    end = urllib.request.Request(f"{URL}/clients/{client['client_id']}", method="DELETE")
                    urllib.request.urlopen(end).close()
        except OSError:
            # The client has already disconnected.
            pass


threading.Thread(target=end_streams, daemon=True).start()
