"""Starts a server with clients and events, validates its /openapi.json, and runs schemathesis to find responses that the
document does not describe. The environment variable FANLINE is the path of the program."""

import json
import os
import pathlib
import re
import subprocess
import sys
import urllib.request

here = pathlib.Path(__file__).parent
command = [os.environ["FANLINE"], "serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--demo"]
# A client that stands still for a while may use a connection at the moment when the server closes it as idle.
command += ["--head-timeout", "5m"]
# The limits of topics and patterns are not in the schema: they depend on settings, and span two parameters.
command += ["--max-topics", "1000", "--max-patterns", "1000", "--max-wildcards", "128"]
server = subprocess.Popen(command, env={}, stderr=subprocess.PIPE, text=True)
try:
    url = next(found[1] for line in server.stderr if (found := re.search(r'listening on (http://[^" ]+)', line)))
    log = open(pathlib.Path(sys.prefix) / "fanline.log", "w")
    # An unread pipe fills up and blocks the server.
    copy = subprocess.Popen(["cat"], stdin=server.stderr, stdout=log)
    residents = [urllib.request.urlopen(f"{url}/stream?client_name=resident&tags=a,b&topics=t{n},metric") for n in range(3)]
    ids = []
    for resident in residents:
        hello = next(line for line in resident if line.startswith(b"data: "))
        ids.append(json.loads(hello[6:])["client_id"])
    bin = pathlib.Path(sys.prefix) / "bin"
    with urllib.request.urlopen(f"{url}/openapi.json") as answer:
        document = pathlib.Path(sys.prefix) / "openapi.json"
        document.write_bytes(answer.read())
    subprocess.run([bin / "openapi-spec-validator", document], check=True)
    arguments = ["--config-file", here / "schemathesis.toml", "run", f"{url}/openapi.json", *sys.argv[1:]]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(here), "FANLINE_URL": url, "RESIDENTS": ",".join(ids)}
    sys.exit(subprocess.run([bin / "st", *arguments], env=environment, cwd=sys.prefix).returncode)
finally:
    server.kill()
