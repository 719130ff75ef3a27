"""The floor: the least that any Python service on uvloop must do to answer.

It cuts what it reads into frames, finds where the request id is, puts it into answer bytes that it was given whole, and
writes once a read. No look-up, no limits, no deadlines, no metrics, no logs: what the service costs above this is what
its features cost.

It is tuned as hard as the service: each way of writing here was chosen by measuring. A BufferedProtocol took 6 % more
at 16 x 1 and writelines instead of one piece 3 % more.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import socket
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from struct import Struct

import uvloop

from benchmarks.load.plan import ID_BYTES, Plan
from tars_protocol.frames import HEADER_BYTES
from tars_protocol.packets import layout_of, split_request

BACKLOG = 4096


@lru_cache(256)
def _run_of(head: bytes, width: int, length: int) -> tuple[Callable[[bytes], Iterator[tuple[bytes, ...]]], bytes]:
    """As in tars_protocol/runs.py, but nothing is said of what stands behind the id."""
    start = length.to_bytes(HEADER_BYTES, "big") + head
    return Struct(f"{len(start)}s{width}s{length - len(start) - width}x").iter_unpack, start


def floor(answer: bytes, id_at: int) -> Callable[[], asyncio.Protocol]:
    """What makes the protocol of a connection; ``id_at`` is where the answer has its request id, of 4 bytes.

    As the service it takes ids of any width.
    """
    length_at, join = Struct(">I").unpack_from, b"".join
    packet, tail = answer[4 : id_at - 1], answer[id_at + ID_BYTES :]
    heads = [b""] * 5
    for width, kind in ((0, 0x0C), (1, 0x00), (2, 0x01), (4, 0x02)):
        length = 4 + len(packet) + 1 + width + len(tail)
        heads[width] = length.to_bytes(4, "big") + packet + bytes((answer[id_at - 1] & 0xF0 | kind,))

    class Floor(asyncio.Protocol):
        """One connection."""

        __slots__ = ("layout", "partial", "piece", "write")

        def __init__(self) -> None:
            self.partial = b""
            self.layout = layout_of(b"", 0)
            self.piece = b""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.write = transport.write  # type: ignore[attr-defined]

        def data_received(self, data: bytes) -> None:
            if self.partial:
                data = self.partial + data
                self.partial = b""
            size = len(data)
            into, unpack, start, low, high = self.layout
            if size > into:
                # One read, one whole frame.
                length, head, request_id = unpack(data)
                if head == start and low < request_id < high and length == size:
                    self.write(heads[len(request_id)] + request_id + tail)
                    return
            out: list[bytes] = []
            at, last, usual_until = 0, size - HEADER_BYTES, size - into
            request_id, piece, last_length = b"", self.piece, 0
            while at <= last:
                if at < usual_until:
                    length, head, request_id = unpack(data, at)
                    usual = head == start and low < request_id < high and length > into
                else:
                    length, usual = length_at(data, at)[0], False
                stop = at + length
                if stop > size or length <= HEADER_BYTES:
                    break
                if not usual:
                    found = split_request(data, at, stop)
                    if found is None:
                        return
                    before, request_id, _ = found.groups()
                    self.layout = layout_of(before, len(request_id))
                    into, unpack, start, low, high = self.layout
                    usual_until = size - into
                    piece = self.piece = heads[len(request_id)]
                out += (piece, request_id, tail)
                at = stop
                if length == last_length and at + 4 * length <= size:
                    # Frames as long in a row.
                    apart, begin = _run_of(start, len(request_id), length)
                    if data.startswith(begin, at + 3 * length):
                        for head, request_id in apart(data[at : at + (size - at) // length * length]):
                            if head != begin or not low < request_id < high:
                                break
                            out += (piece, request_id, tail)
                            at += length
                last_length = length
            if at < size:
                self.partial = data[at:]
            self.write(join(out))

    return Floor


async def _serve(options: argparse.Namespace) -> None:
    plan = Plan.read(options.plan)
    loop = asyncio.get_running_loop()
    listening = socket.create_server((options.host, options.port), backlog=BACKLOG)
    server = await loop.create_server(floor(plan.answers[0], plan.id_in_answers), sock=listening, backlog=BACKLOG)
    gc.freeze()
    print(listening.getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
    server.close()


def main() -> None:
    """Serve the first answer of a plan, until standard input ends; says its port first."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
