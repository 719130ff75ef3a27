"""A client that asks every millisecond, on time whether or not earlier questions are answered, and notes how long each
answer took: a pause of the service's event loop shows as questions that all wait for its end.

It asks the registry's own object, which is answered at any time. A process that only sends back what it gets is asked
in the same moments (``--control``): what its answers take is the machine's doing and not the service's.
"""

from __future__ import annotations

import argparse
import asyncio
import select
import socket
import time
from collections import deque
from typing import cast

import uvloop

from benchmarks.cluster.helper import Ending, now, ready, tell
from benchmarks.load.plan import question
from tars_protocol.frames import HEADER_BYTES

INTERVAL = 0.001
CONNECTS_WITHIN = 60.0


class Target:
    """A connection and the questions that wait on it."""

    def __init__(self, port: int) -> None:
        self.socket = _connect(port)
        self.asked: deque[float] = deque()
        self.trips: list[tuple[float, float]] = []
        """When it was asked, and how long the answer took."""
        self._partial = b""

    def ask(self, frame: bytes) -> None:
        """Send a question."""
        self.asked.append(now())
        self.socket.sendall(frame)

    def take(self) -> None:
        """Take the answers that are there."""
        data = self._partial + self.socket.recv(1 << 18)
        came = now()
        at, size = 0, len(data)
        while size - at >= HEADER_BYTES:
            end = at + int.from_bytes(data[at : at + HEADER_BYTES], "big")
            if end > size:
                break
            asked = self.asked.popleft()
            self.trips.append((asked, came - asked))
            at = end
        self._partial = data[at:]


def _connect(port: int) -> socket.socket:
    until = now() + CONNECTS_WITHIN
    while True:
        try:
            made = socket.create_connection(("127.0.0.1", port))
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return made
        except OSError:
            if now() > until:
                raise
            time.sleep(0.002)


def probe(port: int, control: int) -> None:
    """Ask until the end."""
    ending = Ending()
    frame = question("tars.tarsregistry.QueryObj", 1)
    echo = Target(control)
    ready()
    service = Target(port)
    # The port is there before the event loop is: what the very first question waits for is the process's start.
    service.ask(frame)
    while service.asked:
        service.take()
    service.trips.clear()
    targets = [service, echo]
    due = now()
    while not ending:
        wait = due - now()
        if wait <= 0:
            for target in targets:
                target.ask(frame)
            due = max(due + INTERVAL, now() - 0.1)
            continue
        for found in select.select([target.socket for target in targets], [], [], wait)[0]:
            targets[[target.socket for target in targets].index(found)].take()
    # What is still unanswered waited for at least so long.
    end = now()
    unanswered = [[(asked, end - asked) for asked in target.asked] for target in targets]
    tell({"service": targets[0].trips + unanswered[0], "control": targets[1].trips + unanswered[1]})


class Echo(asyncio.Protocol):
    """Sends back what it gets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


async def echo(port: int) -> None:
    """Send back, until the end."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", port)
    ending = Ending()
    ready()
    await loop.run_in_executor(None, ending.wait)
    server.close()
    tell(None)


def main() -> None:
    """Be the prober, or the process that sends back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, help="of the service; without it, be the process that sends back")
    parser.add_argument("--control", type=int, required=True, help="port of the process that sends back")
    options = parser.parse_args()
    if options.port is None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(echo(options.control))
    else:
        probe(options.port, options.control)


if __name__ == "__main__":
    main()
