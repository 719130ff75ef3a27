"""A client that asks for one object again and again on a connection of its own, one question at a time.

What it sees of a change: the first answer that differs. Between two questions it waits for ``--pause``; the time from
one answer to the next, which it tells too, is what asking adds to a change's way at most.
"""

from __future__ import annotations

import argparse
import socket
import time
from itertools import pairwise

from benchmarks.cluster.helper import Ending, now, ready, tell
from benchmarks.load.plan import FUNCTION, question
from tars_protocol.bodies import FORMS
from tars_protocol.frames import HEADER_BYTES
from tars_protocol.packets import decode_response


class Asker:
    """A connection on which one question is asked at a time."""

    def __init__(self, port: int, object_id: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._question = question(object_id, 1)

    def ask(self) -> bytes:
        """The frame of the answer."""
        self._socket.sendall(self._question)
        data = self._socket.recv(1 << 16)
        while len(data) < HEADER_BYTES or len(data) < int.from_bytes(data[:HEADER_BYTES], "big"):
            more = self._socket.recv(1 << 16)
            if not more:
                raise SystemExit("the service closed the connection")
            data += more
        return data


def active_hosts(frame: bytes) -> list[str]:
    """The hosts of the active endpoints of an answer."""
    answer = decode_response(frame)
    ret, active, _ = FORMS[1].decode(FUNCTION.results, answer.body, 1_000_000)
    if answer.code or ret:
        raise SystemExit(f"not answered: {answer}")
    return [endpoint.host for endpoint in active]


def main() -> None:
    """Ask until the end; then tell every answer that differed from the one before."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--id", required=True)
    parser.add_argument("--pause", type=float, required=True, help="seconds between an answer and the next question")
    options = parser.parse_args()
    asker = Asker(options.port, options.id)
    last = asker.ask()
    changed: list[tuple[float, bytes]] = [(now(), last)]
    times: list[float] = []
    trips: list[float] = []
    ending = Ending()
    ready()
    while not ending:
        asked = now()
        frame = asker.ask()
        came = now()
        times.append(came)
        trips.append(came - asked)
        if frame != last:
            changed.append((came, frame))
            last = frame
        time.sleep(options.pause)
    tell(
        {
            "seen": [(came, active_hosts(frame)) for came, frame in changed],
            "trips": trips,
            "intervals": [after - before for before, after in pairwise(times)],
        }
    )


if __name__ == "__main__":
    main()
