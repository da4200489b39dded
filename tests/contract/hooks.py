"""Schemathesis hooks: serializes NDJSON, filters invalid cases, makes idempotency keys unique, and ends streams."""

import itertools
import json
import os
import re
import threading
import urllib.request
from http.client import HTTPException

import schemathesis
from schemathesis.core import NOT_SET

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
    """Skips what the schema cannot exclude: names of more than 255 bytes, since it counts characters, a start of the history in
    a stream of latest values, and no event where none is deleted. Skips cluster queries, since there is one server."""
    query = case.query if isinstance(case.query, dict) else {}
    if query.get("scope") == "cluster" or query.get("mode") == "latest" and "history" in query:
        return False
    if case.path == "/publish/{topic}" and case.body is NOT_SET and query.get("delete") not in (True, "true"):
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
        except (OSError, HTTPException):
            # The client has already disconnected.
            pass


threading.Thread(target=end_streams, daemon=True).start()
