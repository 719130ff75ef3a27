"""Callers that mean no good, for as long as standard input is open: idle ones, slow ones that send a byte a second,
deaf ones that ask and never read, and those that send garbage. Whoever is cut comes back.

Says ``ready`` once all of them are connected, and at the end, as JSON, how many connections each kind has made and how
many of them the server ended.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import socket
import struct
import sys
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Final, cast

import uvloop

from benchmarks.load.plan import Plan

AT_ONCE: Final = 200
STEPS: Final = 100
"""In so many turns a second they act."""

GARBAGE_PAUSE: Final = 0.5
"""Seconds until one that sent garbage, and was cut, comes back."""

DEAF_QUESTIONS: Final = 64
DEAF_BUFFER: Final = 1 << 14


class Caller(asyncio.Protocol):
    """One connection of a kind."""

    def __init__(self, crowd: Crowd, kind: str) -> None:
        self._crowd = crowd
        self.kind = kind
        self._sent = 0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._crowd.made[self.kind] += 1
        sock = self.transport.get_extra_info("socket")
        # Reset at the end, so that no address stays taken for a minute.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._crowd.callers.add(self)
        if self.kind == "idle":
            # Who never says anything is not idle but cut soon: it asks once, as clients do between two rests.
            self.transport.write(self._crowd.question)

    def act(self) -> None:
        """What it does each second."""
        if self.transport is None or self.transport.is_closing():
            return
        if self.kind == "slow":
            question = self._crowd.question
            self.transport.write(question[self._sent % len(question) :][:1])
            self._sent += 1
        elif self.kind == "deaf":
            if not self.transport.get_write_buffer_size():
                self.transport.write(self._crowd.question * DEAF_QUESTIONS)
        elif self.kind == "garbage":
            self.transport.write(self._crowd.garbage())

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._crowd.lost(self)


class Crowd:
    """All of them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self.question = Plan.read(options.plan).questions[0].frame
        self.made: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.callers: set[Caller] = set()
        self._chance = random.Random(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending = False

    def garbage(self) -> bytes:
        """Some bytes that are no question."""
        noise = self._chance.randbytes(self._chance.choice((5, 64, 1000)))
        good = bytearray(self.question)
        good[self._chance.randrange(4, len(good))] ^= 0xFF
        framed = (len(noise) + 4).to_bytes(4, "big") + noise
        return self._chance.choice((noise, framed, bytes(good), b"GET / HTTP/1.1\r\n\r\n", b"\x7f\xff\xff\xff" + noise))

    def lost(self, caller: Caller) -> None:
        """The server ended one: it comes back."""
        self.callers.discard(caller)
        if self._ending:
            return
        self.ended[caller.kind] += 1
        self._start(self._connect(caller.kind, GARBAGE_PAUSE if caller.kind == "garbage" else 0.1))

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _connect(self, kind: str, pause: float = 0.0) -> None:
        await asyncio.sleep(pause)
        caller = Caller(self, kind)
        try:
            loop = asyncio.get_running_loop()
            if kind == "deaf":
                sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                sock.setblocking(False)
                # It must be set before the connection is made: what is on its way is then in the server.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, DEAF_BUFFER)
                await loop.sock_connect(sock, (self._options.host, self._options.port))
                transport, _ = await loop.create_connection(lambda: caller, sock=sock)
                # Not before: uvloop begins to read after connection_made, whatever was said there.
                transport.pause_reading()
            else:
                await loop.create_connection(lambda: caller, self._options.host, self._options.port)
        except OSError as error:
            self.failed[f"{kind}: {error.strerror or error}"] += 1
            if not self._ending:
                self._start(self._connect(kind, 1.0))
            return

    async def run(self) -> None:
        """Until standard input ends."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(sys.stdin.fileno(), ended.set)
        wanted = {kind: getattr(self._options, kind) for kind in ("idle", "slow", "deaf", "garbage")}
        kinds = [kind for kind, count in wanted.items() for _ in range(count)]
        self._chance.shuffle(kinds)
        acting = self._start(self._act())
        for start in range(0, len(kinds), AT_ONCE):
            await asyncio.gather(*(self._connect(kind) for kind in kinds[start : start + AT_ONCE]))
        print("ready", flush=True)
        await ended.wait()
        self._ending = True
        acting.cancel()
        print(json.dumps({"made": self.made, "ended": self.ended, "failed": self.failed}), flush=True)

    async def _act(self) -> None:
        """Each of them once a second, in so many turns that none takes long."""
        while True:
            everybody = list(self.callers)
            for step in range(STEPS):
                await asyncio.sleep(1 / STEPS)
                for caller in everybody[step::STEPS]:
                    caller.act()


def main() -> None:
    """Bother a server."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--plan", type=Path, required=True)
    for kind in ("idle", "slow", "deaf", "garbage"):
        parser.add_argument(f"--{kind}", type=int, default=0)
    options = parser.parse_args()
    # The good ones' generator, perhaps on the same processor, goes before.
    os.nice(10)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    async def run() -> None:
        await Crowd(options).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


if __name__ == "__main__":
    main()
