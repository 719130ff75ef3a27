"""A bare watcher: what it takes at least to see a change. It notes when a line has come, and decodes it at the end."""

from __future__ import annotations

import argparse
import http.client
import json
import ssl
import threading
from typing import Any

from benchmarks.cluster.helper import Ending, now, ready, tell


def main() -> None:
    """Watch a path from a version on; afterwards tell when the events of one object came, and how its pods stood."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--name", required=True)
    options = parser.parse_args()
    connection = http.client.HTTPSConnection(
        "127.0.0.1", options.port, context=ssl.create_default_context(cafile=options.ca)
    )
    headers = {"Authorization": f"Bearer {options.token}", "Accept": "application/json"}
    connection.request("GET", f"{options.path}?limit=1", headers=headers)
    version = json.loads(connection.getresponse().read())["metadata"]["resourceVersion"]
    connection.request("GET", f"{options.path}?watch=1&timeoutSeconds=3600&resourceVersion={version}", headers=headers)
    response = connection.getresponse()
    lines: list[tuple[float, bytes]] = []

    def follow() -> None:
        pieces: list[bytes] = []
        while data := response.read1(1 << 20):
            came = now()
            pieces.append(data)
            if b"\n" in data:
                *whole, rest = b"".join(pieces).split(b"\n")
                pieces = [rest]
                lines.extend((came, line) for line in whole)

    threading.Thread(target=follow, daemon=True).start()
    ending = Ending()
    ready()
    ending.wait()
    seen = []
    for came, line in lines:
        event: dict[str, Any] = json.loads(line)
        if event["object"]["metadata"].get("name") == options.name:
            pods = event["object"]["status"]["pods"]
            seen.append((came, [pod["presentState"] == "Active" for pod in pods]))
    tell({"seen": seen, "events": len(lines)})


if __name__ == "__main__":
    main()
