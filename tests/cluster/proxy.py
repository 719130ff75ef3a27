"""A TCP proxy for tests, which breaks, stalls and slows down what goes through it as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, Literal, Self

from tests.cluster.programs import free_ports

CHUNK: Final = 16 * 1024
QUEUE_LIMIT: Final = 256  # chunks on their way; 4 MiB for each direction of a connection
STEPS_PER_SECOND: Final = 50  # of a throttled link
HAPPENS_WITHIN: Final = 20.0
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)

Direction = Literal["up", "down"]


class Proxy:
    """Connections to it go on to one address, as an async context manager.

    It passes bytes and knows nothing of TLS. The kernel answers for a listener, so that a connection to a proxy
    that stalls is made and then silent; only after refuse() is none made. It is for asyncio's own event loop: uvloop
    does not allow a socket to be read and waited for to be writable at once.
    """

    def __init__(self, host: str, port: int) -> None:
        """Where connections go on to."""
        self.port = 0  # its own, on 127.0.0.1
        self.accepted = 0  # connections so far
        self.bytes_up = 0  # passed so far, to the target
        self.bytes_down = 0  # … and back
        self._target = (host, port)
        self._links: set[_Link] = set()
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._delay = 0.0
        self._rate: float | None = None
        self._free_at: dict[Direction, float] = {"up": 0.0, "down": 0.0}
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()
        await self.cut()

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._links)

    async def until(self, condition: Callable[[Proxy], bool], timeout: float = HAPPENS_WITHIN) -> None:
        """Wait until its numbers are so; TimeoutError."""
        async with asyncio.timeout(timeout):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    # ------------------------------------------------------------------------------ what it does

    async def cut(self) -> None:
        """Reset all open connections, on both sides. New ones are as good as before."""
        await asyncio.gather(*(link.reset() for link in list(self._links)))

    def stall(self) -> None:
        """Pass no byte in either direction, keep all connections open, tell nobody (a network that lost its way)."""
        self._flowing.clear()

    def resume(self) -> None:
        """Pass bytes again, first those that were held back; ends of connections too."""
        self._flowing.set()

    def delay(self, seconds: float) -> None:
        """Let each byte arrive so much later, in both directions; 0: as soon as can be."""
        self._delay = seconds

    def throttle(self, bytes_per_second: float | None) -> None:
        """Pass no more, for all connections together, in each direction; None: no limit."""
        self._rate = bytes_per_second
        self._free_at = {"up": 0.0, "down": 0.0}

    async def refuse(self) -> None:
        """Stop listening: new connections are refused. Open ones go on."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
            self._accepting = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def listen(self) -> None:
        """Listen again, on the same port."""
        if self._listener is not None:
            return
        if not self.port:
            [self.port] = free_ports(1)
        listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        listener.setblocking(False)
        self._listener = listener
        self._accepting = asyncio.create_task(self._accept(listener))

    # ------------------------------------------------------------------------------------ inside

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            near, _ = await loop.sock_accept(listener)
            link = _Link(self, near)
            self._links.add(link)
            self.accepted += 1
            self.tell()
            link.task = asyncio.create_task(link.run(self._target))

    def forget(self, link: _Link) -> None:
        """A connection has ended."""
        self._links.discard(link)
        self.tell()

    def tell(self) -> None:
        """A number has changed."""
        self._changed.set()

    async def flowing(self) -> None:
        """Wait out a stall."""
        await self._flowing.wait()

    def due(self) -> float:
        """When what is read now may go on."""
        return asyncio.get_running_loop().time() + self._delay

    async def portion(self, direction: Direction, wanted: int) -> int:
        """How many bytes may go now, once they may."""
        loop = asyncio.get_running_loop()
        while (rate := self._rate) is not None:
            size = max(1, min(wanted, int(rate / STEPS_PER_SECOND)))
            now = loop.time()
            if (free_at := self._free_at[direction]) <= now:
                self._free_at[direction] = max(free_at, now - 1 / STEPS_PER_SECOND) + size / rate
                return size
            await asyncio.sleep(min(free_at - now, 1 / STEPS_PER_SECOND))
        return wanted

    def count(self, direction: Direction, size: int) -> None:
        """So many bytes went on."""
        if direction == "up":
            self.bytes_up += size
        else:
            self.bytes_down += size
        self.tell()


class _Link:
    """One connection through the proxy: a socket on either side."""

    def __init__(self, proxy: Proxy, near: socket.socket) -> None:
        self.task: asyncio.Task[None] | None = None
        self._proxy = proxy
        self._near = near
        self._far = socket.socket()
        for side in (near, self._far):
            side.setblocking(False)
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def run(self, target: tuple[str, int]) -> None:
        """Pass bytes until both sides have ended, or one is lost, which the other side then sees as well."""
        try:
            await self._proxy.flowing()
            await asyncio.get_running_loop().sock_connect(self._far, target)
            async with asyncio.TaskGroup() as group:
                _Pump(self._proxy, "up", self._near, self._far).start(group)
                _Pump(self._proxy, "down", self._far, self._near).start(group)
        except* OSError:
            pass  # one side is lost
        else:
            self._close(reset=False)
        finally:
            self._close(reset=True)

    async def reset(self) -> None:
        """End it with a reset on both sides."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
        self._close(reset=True)

    def _close(self, *, reset: bool) -> None:
        """Close both sides; what is closed already stays as it was."""
        for side in (self._near, self._far):
            if reset and side.fileno() >= 0:
                with contextlib.suppress(OSError):
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            side.close()
        self._proxy.forget(self)


class _Pump:
    """One direction of a connection."""

    def __init__(self, proxy: Proxy, direction: Direction, source: socket.socket, sink: socket.socket) -> None:
        self._proxy = proxy
        self._direction = direction
        self._source = source
        self._sink = sink
        self._chunks: deque[tuple[float, bytes]] = deque()
        self._filled = asyncio.Event()
        self._taken = asyncio.Event()

    def start(self, group: asyncio.TaskGroup) -> None:
        group.create_task(self._read())
        group.create_task(self._write())

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                chunk = await loop.sock_recv(self._source, CHUNK)
            except OSError:
                await self._proxy.flowing()  # a loss, too, is news that a stall keeps back
                raise
            self._chunks.append((self._proxy.due(), chunk))
            self._filled.set()
            if not chunk:
                return
            while len(self._chunks) >= QUEUE_LIMIT:
                self._taken.clear()
                await self._taken.wait()

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._chunks:
                self._filled.clear()
                await self._filled.wait()
            due, chunk = self._chunks.popleft()
            self._taken.set()
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            rest = memoryview(chunk)
            while rest:
                size = await self._proxy.portion(self._direction, len(rest))
                await self._proxy.flowing()
                try:
                    sent = self._sink.send(rest[:size])
                except BlockingIOError:
                    await _writable(self._sink)
                    continue
                self._proxy.count(self._direction, sent)
                rest = rest[sent:]
            if not chunk:
                await self._proxy.flowing()
                self._sink.shutdown(socket.SHUT_WR)
                return


async def _writable(sink: socket.socket) -> None:
    """Wait until a socket takes bytes again."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(sink, tell)
    try:
        await ready
    finally:
        loop.remove_writer(sink)
