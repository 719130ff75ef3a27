"""Background load: so many questions a second, on time whether or not the earlier ones are answered."""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections import deque
from typing import cast

import uvloop

from benchmarks.cluster.contents import object_id
from benchmarks.cluster.helper import Ending, now, ready, tell
from benchmarks.cluster.poller import active_hosts
from benchmarks.load.plan import question
from tars_protocol.frames import HEADER_BYTES

TICK = 0.001
CHECKED = 500
"""One answer of so many is decoded."""


class Connection(asyncio.Protocol):
    """One connection; answers come in the order of the questions."""

    def __init__(self, trips: list[float]) -> None:
        self._trips = trips
        self._partial = b""
        self.asked: deque[float] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        came = now()
        data = self._partial + data
        at, size = 0, len(data)
        while size - at >= HEADER_BYTES:
            end = at + int.from_bytes(data[at : at + HEADER_BYTES], "big")
            if end > size:
                break
            self._trips.append(came - self.asked.popleft())
            if len(self._trips) % CHECKED == 0:
                active_hosts(data[at:end])
            at = end
        self._partial = data[at:]


async def load(options: argparse.Namespace) -> None:
    """Ask until the end."""
    trips: list[float] = []
    loop = asyncio.get_running_loop()
    connections: list[Connection] = []
    for _ in range(options.connections):
        _, made = await loop.create_connection(lambda: Connection(trips), "127.0.0.1", options.port)
        connections.append(made)
    questions = [question(object_id(number), 1) for number in range(1, 1 + options.objects)]
    chance = random.Random(1)
    ending = Ending()
    ready()
    began, processor, asked = now(), time.process_time(), 0
    while not ending:
        due = int((now() - began) * options.rate)
        while asked < due:
            connection = connections[asked % len(connections)]
            connection.asked.append(now())
            connection.transport.write(chance.choice(questions))
            asked += 1
        await asyncio.sleep(TICK)
    seconds = now() - began
    processor = time.process_time() - processor
    await asyncio.sleep(0.5)
    tell(
        {
            "asked": asked,
            "answered": len(trips),
            "seconds": seconds,
            "cpu_seconds": processor,
            "trips": trips[:: max(1, len(trips) // 50_000)],
        }
    )


def main() -> None:
    """Ask random objects of the first so many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True, help="questions a second")
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--objects", type=int, required=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(load(parser.parse_args()))


if __name__ == "__main__":
    main()
