"""The load generator: asks one question over and over, on many connections, and checks every answer.

It runs in a process of its own, so that what it costs is not counted as the service's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import cast

import uvloop

from tars_protocol.bodies import FORMS
from tars_protocol.frames import HEADER_BYTES
from tars_protocol.interfaces.query import QUERY, SERVANT
from tars_protocol.packets import RequestPacket, decode_response, encode_request

FUNCTION = QUERY["findObjectByIdInSameGroup"]


def question(object_id: str, request_id: int) -> bytes:
    """The frame that asks for an object."""
    body = FORMS[1].encode(FUNCTION.inputs, (object_id,))
    return encode_request(
        RequestPacket(
            iVersion=1,
            iRequestId=request_id,
            sServantName=SERVANT,
            sFuncName=FUNCTION.name,
            sBuffer=body,
            iTimeout=3000,
        )
    )


class Asker(asyncio.Protocol):
    """One connection that always has ``outstanding`` questions open. Each has an id of its own on the connection."""

    def __init__(self, run: Run, outstanding: int) -> None:
        self._run = run
        self._questions = [question(run.object_id, 1 + n) for n in range(outstanding)]
        self._partial = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._run.connected(self)

    def begin(self) -> None:
        """Ask the first questions."""
        self._transport.write(b"".join(self._questions))

    def data_received(self, data: bytes) -> None:
        data = self._partial + data
        at, size = 0, len(data)
        again = []
        while size - at >= HEADER_BYTES:
            end = at + int.from_bytes(data[at : at + HEADER_BYTES], "big")
            if end > size:
                break
            request_id = self._run.check(data[at:end])
            again.append(self._questions[request_id - 1])
            at = end
        self._partial = data[at:]
        if self._run.answered(len(again)):
            self._transport.write(b"".join(again))

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.lost(exc)


class Run:
    """The whole load: ``requests`` answers over ``connections``."""

    def __init__(self, object_id: str, requests: int, connections: int, expected_active: int) -> None:
        self.object_id = object_id
        self._left = requests
        self._unconnected = connections
        self._expected_active = expected_active
        self._askers: list[Asker] = []
        self._tails: dict[int, bytes] = {}
        self.seconds = 0.0
        self._began = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connected(self, asker: Asker) -> None:
        """One more connection; when all are there, the clock starts."""
        self._askers.append(asker)
        self._unconnected -= 1
        if not self._unconnected:
            self._began = time.perf_counter()
            for each in self._askers:
                each.begin()

    def check(self, frame: bytes) -> int:
        """The request id of an answer, which must be the right one: decoded the first time, compared after that."""
        # version, packet type, then the request id: 10 01 2c 30 xx
        request_id = frame[8]
        known = self._tails.get(request_id)
        if known is None:
            answer = decode_response(frame)
            ret, active, _ = FORMS[1].decode(FUNCTION.results, answer.body, 1_000_000)
            if (answer.code, ret, answer.request_id, len(active)) != (0, 0, request_id, self._expected_active):
                raise SystemExit(f"a wrong answer: {answer}")
            self._tails[request_id] = frame
        elif frame != known:
            raise SystemExit("an answer that differs from the first")
        return request_id

    def answered(self, count: int) -> bool:
        """So many answers came; False once there are enough."""
        self._left -= count
        if self._left <= 0 and not self.done.done():
            self.seconds = time.perf_counter() - self._began
            self.done.set_result(None)
        return self._left > 0

    def lost(self, error: Exception | None) -> None:
        """A connection is gone, which none should be before the end."""
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the service closed a connection"))


async def load(options: argparse.Namespace) -> dict[str, float]:
    """Put the load on; what it took here."""
    run = Run(options.id, options.requests, options.connections, options.endpoints)
    loop = asyncio.get_running_loop()
    for _ in range(options.connections):
        await loop.create_connection(lambda: Asker(run, options.outstanding), options.host, options.port)
    await run.done
    return {"seconds": run.seconds, "cpu_seconds": time.process_time()}


def main() -> None:
    """Print what it took as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--id", required=True)
    parser.add_argument("--endpoints", type=int, required=True, help="active endpoints that an answer must have")
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument(
        "--outstanding", type=int, required=True, help="questions open at once on a connection (to 127)"
    )
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(load(options))))


if __name__ == "__main__":
    main()
