"""A server over loopback, and clients by hand."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

from tars_protocol.aio.server import Server, ServerLimits
from tars_protocol.connection import Connection
from tars_protocol.handlers import Caller, Lookup, unknown
from tars_protocol.packets import Response, decode_response
from tests.tars_protocol.shared import Kinds


class Watched(Connection):
    """A connection that tells how many bytes it has taken."""

    def __init__(self, caller: Caller, handle: Any, lookup: Lookup, **options: Any) -> None:
        super().__init__(caller, handle, lookup, **options)
        self.received = 0
        self.changed = asyncio.Event()

    def receive(self, data: bytes) -> bytes:
        try:
            return super().receive(data)
        finally:
            self.received += len(data)
            self.changed.set()

    async def has_taken(self, total: int) -> None:
        """Wait until so many bytes came in."""
        while self.received < total:
            self.changed.clear()
            await self.changed.wait()


class Served:
    """A running server, and its connections in the order in which they came."""

    def __init__(self, handle: Any, lookup: Lookup, limits: ServerLimits) -> None:
        self.handle = handle
        self.lookup = lookup
        self.options: dict[str, Any] = {
            "max_outstanding": limits.max_outstanding,
            "max_unsent_bytes": limits.max_unsent_bytes,
        }
        self.connections: list[Watched] = []
        self._connected = asyncio.Event()
        self.server = Server("test", self._connect, limits)

    def _connect(self, caller: Caller) -> Connection:
        self.connections.append(
            Watched(caller, self.handle, self.lookup, load=self.server.load, turns=self.server.turns, **self.options)
        )
        self._connected.set()
        return self.connections[-1]

    async def connection(self, index: int) -> Watched:
        """The connection that came as this one, once it is there."""
        while len(self.connections) <= index:
            self._connected.clear()
            await self._connected.wait()
        return self.connections[index]

    @property
    def refused(self) -> dict[str, int]:
        return dict(self.server.stats.refused)

    def pass_time(self, seconds: float) -> None:
        """Look at the deadlines as if this time had gone by since the last look."""
        self.server.check_peers(seconds)


@contextlib.asynccontextmanager
async def serving(
    handle: Callable[..., bytes | Awaitable[bytes]] | None = None,
    lookup: Lookup = unknown,
    *,
    host: str = "127.0.0.1",
    **limits: Any,
) -> AsyncIterator[Served]:
    served = Served(handle or Kinds().dispatcher.handle, lookup, ServerLimits(**limits))
    served.server.bind(host, 0)
    await served.server.start()
    try:
        yield served
    finally:
        await served.server.stop()
    assert served.server.open_connections == 0


class Peer:
    """A client by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def frame(self) -> bytes:
        """The next frame."""
        header = await self.reader.readexactly(4)
        return header + await self.reader.readexactly(int.from_bytes(header, "big") - 4)

    async def response(self) -> Response:
        return decode_response(await self.frame())

    async def rest(self) -> bytes:
        """All that comes until the server closes the connection."""
        data = b""
        try:
            while piece := await self.reader.read(1 << 16):
                data += piece
        except ConnectionError:
            pass
        return data

    def pause(self) -> None:
        """Read nothing from the socket."""
        cast(asyncio.ReadTransport, self.writer.transport).pause_reading()

    def resume(self) -> None:
        """Read again."""
        cast(asyncio.ReadTransport, self.writer.transport).resume_reading()

    def reset(self) -> None:
        """Be gone, so that it shows: with a reset instead of an orderly end."""
        end = self.writer.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def half_close(self) -> None:
        """Send no more, and read on."""
        self.writer.write_eof()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def connected(served: Served, host: str = "127.0.0.1") -> AsyncIterator[Peer]:
    peer = Peer(*await asyncio.open_connection(host, served.server.port))
    try:
        yield peer
    finally:
        await peer.close()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until this holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nothing tells of a buffer that fills
            await asyncio.sleep(0)
