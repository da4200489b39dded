"""Follows topics with websockets, and resumes: python follow_websocket.py 'ws://localhost:8000/ws?topics=log'"""

import json
import sys
import time

from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
from websockets.sync.client import connect


def follow(url):
    """Yields each message once, even if the connection is lost."""
    last, retry = "", 5.0
    while True:
        wait = 0.0
        try:
            # The library answers the server's pings, and notices with its own that a connection is lost.
            with connect(url, additional_headers={"Last-Event-ID": last} if last else {}, max_size=None) as socket:
                for text in socket:
                    message = json.loads(text)
                    if message["type"] in ("event", "gap", "system"):
                        last = message.get("id", last)
                    if message["type"] == "system":
                        retry = message["data"].get("retry", retry * 1000) / 1000
                    yield message
        except InvalidStatus as error:
            # The server is full or draining, or the client was too fast. Any other refusal is for good.
            status = error.response.status_code
            if status < 500 and status != 429:
                raise
            after = error.response.headers.get("Retry-After", "")
            wait = float(after) if after.isdigit() else 0.0
            print(error, file=sys.stderr)
        except (OSError, InvalidHandshake, WebSocketException) as error:
            print(f"connection lost: {error}", file=sys.stderr)
        time.sleep(max(retry, wait))


for message in follow(sys.argv[1]):
    if message["type"] == "event":
        payload = json.dumps(message.get("data", message.get("text")), ensure_ascii=False, separators=(",", ":"))
        print(message["id"], payload, flush=True)
    elif message["type"] in ("system", "gap"):
        print(f"{message['type']}: {message['data']}", file=sys.stderr, flush=True)
