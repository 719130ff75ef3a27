"""The asyncio shell of a server: sockets in, :class:`tars_protocol.connection.Connection` in the middle, sockets out.

It adds what only a socket has: listening, deadlines, and peers that do not read. Everything that a peer may use up has
a limit in :class:`ServerLimits`, and everything that is refused is counted by reason.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

from jce.wire import DEFAULT_MAX_VALUES
from tars_protocol.aio.listen import BACKLOG, bind
from tars_protocol.connection import Caller, Connection
from tars_protocol.errors import FrameError
from tars_protocol.frames import DEFAULT_MAX_FRAME_BYTES, MIN_FRAME_BYTES
from tars_protocol.settings import setting

log = logging.getLogger(__name__)

_SWEEP_SECONDS = 1.0
"""How often deadlines are looked at. They are good to a second, and no connection needs a timer of its own."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What one peer, and all of them, may use up."""

    max_frame_bytes: int = setting(
        DEFAULT_MAX_FRAME_BYTES,
        "Longest frame taken; a longer one closes the connection. Callers send their old endpoint lists along: "
        "500 endpoints are about 20 kB.",
        unit="bytes",
        minimum=MIN_FRAME_BYTES,
    )
    max_values: int = setting(
        DEFAULT_MAX_VALUES,
        "Values (fields, elements, keys) in one frame, of which a list, map, struct or run of bytes counts for three; "
        "with more it is answered -1. 500 endpoints of 14 fields are 8,500, and each value costs as much to read as an "
        "honest one.",
        minimum=1,
    )
    max_connections: int = setting(
        10_000,
        "Connections open at once on a port; one more is closed at once. Each takes a file descriptor.",
        minimum=1,
    )
    frame_timeout: float = setting(
        10.0,
        "From a frame's first byte to its last. Clients write a frame at once; a slower peer is broken or hostile.",
        unit="seconds",
        minimum=1,
    )
    idle_timeout: float = setting(
        900.0,
        "Without a byte from the peer. Clients ask every 60 s over one connection; shorter than 600 s would make them "
        "connect anew.",
        unit="seconds",
        minimum=1,
    )
    write_timeout: float = setting(
        30.0,
        "For a peer that does not read its answers; until then no more of its questions are taken.",
        unit="seconds",
        minimum=1,
    )
    max_unsent_bytes: int = setting(
        1 << 18,
        "Answers waiting to be sent on one connection before no more questions are taken from it.",
        unit="bytes",
        minimum=1,
    )
    max_buffered_bytes: int = setting(
        64 << 20,
        "Incomplete frames, and questions and answers that wait for peers to read, of all connections of a port "
        "together; over it the connections that hold the most are cut. An honest client's frame is complete at once.",
        unit="bytes",
        minimum=1,
    )


@dataclass(slots=True)
class ServerStats:
    """Connections of one listener: ``accepted`` in all, ``refused`` and cut ones by reason."""

    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)


class Server:
    """Listens on one address and drives a :class:`Connection` for each peer.

    ``connect`` makes the connection for a caller. ``name`` stands in logs. First ``bind``, which finds out whether the
    address can be had and which port it is, then ``start``, which lets callers in.
    """

    def __init__(self, name: str, connect: Callable[[Caller], Connection], limits: ServerLimits | None = None) -> None:
        self.name = name
        self.limits = limits or ServerLimits()
        self.stats = ServerStats()
        self._connect = connect
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._peers: set[_Peer] = set()
        self._empty = asyncio.Event()
        self._sweeper: asyncio.Task[None] | None = None
        self.port = 0
        """The port listened on, once bound."""
        self._partial = 0
        """Bytes of incomplete frames on all connections."""

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return len(self._peers)

    def bind(self, host: str, port: int) -> None:
        """Take a host ("" for all addresses, IPv4 and IPv6) and port (0 for any). Raises ListenError."""
        self._sockets = bind(host, port)
        self.port = self._sockets[0].getsockname()[1]

    def unbind(self) -> None:
        """Give the address back, where the server is not to be started after all."""
        for bound in self._sockets:
            bound.close()

    async def start(self) -> None:
        """Let callers in."""
        loop = asyncio.get_running_loop()
        for bound in self._sockets:
            self._servers.append(await loop.create_server(lambda: _Peer(self), sock=bound, backlog=BACKLOG))
        self._sweeper = loop.create_task(self._sweep(), name=f"{self.name} deadlines")

    async def stop(self, grace: float = 1.0) -> None:
        """Stop listening, then close every connection once what was answered is sent, at most ``grace`` seconds."""
        for server in self._servers:
            server.close()
        self.unbind()
        if self._sweeper:
            self._sweeper.cancel()
        for peer in list(self._peers):
            peer.close()
        if self._peers:
            self._empty.clear()
            try:
                await asyncio.wait_for(self._empty.wait(), grace)
            except TimeoutError:
                for peer in list(self._peers):
                    peer.abort()
                await self._empty.wait()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self.check_peers(_SWEEP_SECONDS)

    def check_peers(self, passed: float) -> None:
        """Cut what is too slow, or holds too much; ``passed`` seconds have gone by since the last look."""
        for peer in list(self._peers):
            peer.check_deadlines(passed)
        self._cut_largest()

    def _cut_largest(self) -> None:
        sizes = {peer: size for peer in self._peers if (size := peer.buffered)}
        total = sum(sizes.values())
        for peer, size in sorted(sizes.items(), key=lambda item: item[1], reverse=True):
            if total <= self.limits.max_buffered_bytes:
                return
            total -= size
            peer.cut("buffers_full")

    # What peers call:

    def partial_changed(self, by: int) -> None:
        """There are so many bytes more of incomplete frames than before."""
        self._partial += by
        if by > 0 and self._partial > self.limits.max_buffered_bytes:
            self._cut_largest()

    def opened(self, peer: _Peer) -> bool:
        """A connection came in; False where there is no place for it."""
        self.stats.accepted += 1
        if len(self._peers) >= self.limits.max_connections:
            self.stats.refused["too_many_connections"] += 1
            return False
        self._peers.add(peer)
        return True

    def closed(self, peer: _Peer) -> None:
        """A connection is gone."""
        self._peers.discard(peer)
        if not self._peers:
            self._empty.set()


class _Peer(asyncio.Protocol):
    """One connection's socket."""

    __slots__ = (
        "_blocked",
        "_completed",
        "_ending",
        "_idle",
        "_partial",
        "_server",
        "_stalled",
        "_tasks",
        "_unread",
        "_unsent",
        "connection",
        "transport",
    )

    connection: Connection
    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self._server = server
        self._idle = 0.0
        """Seconds without a byte."""
        self._stalled = 0.0
        """Seconds since the frame began that is not complete; ``_completed`` tells that it is still the same one."""
        self._completed = 0
        self._blocked: float | None = None
        """Seconds since the peer stopped reading; None while it reads."""
        self._unsent = 0
        self._unread = 0.0
        """Seconds in which ``_unsent`` bytes did not become fewer."""
        self._ending: float | None = None
        """Seconds since the connection was closed from here, while answers are still to be sent; None before."""
        self._partial = 0
        """Bytes of an incomplete frame, as told to the server."""
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an assert: uvloop's transports have the methods but not the base class.
        self.transport = cast(asyncio.Transport, transport)
        caller = _caller(self.transport)
        if not self._server.opened(self):
            log.warning("%s: closed %s at once: max_connections reached", self._server.name, caller)
            self.transport.abort()
            return
        try:
            self.connection = self._server._connect(caller)
        except Exception:
            # Nothing may be left open that has no connection: the look at the deadlines goes over all.
            log.exception("%s: closing %s after a bug", self._server.name, caller)
            self._server.stats.refused["bug"] += 1
            self._server.closed(self)
            self.transport.abort()
            return
        self.transport.set_write_buffer_limits(high=self._server.limits.max_unsent_bytes)
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            # A peer whose machine died never says so.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        self._idle = 0.0
        self._answer(data)

    def _answer(self, data: bytes) -> None:
        """Answer what came in and what is held of earlier reads, as far as the peer takes the answers."""
        connection = self.connection
        while True:
            try:
                out = connection.receive(data)
            except Exception:
                log.exception("%s: closing %s after a bug", self._server.name, connection.caller)
                self.cut("bug")
                return
            if out:
                self.transport.write(out)
            if connection.pending:
                self._start_pending()
            if connection.error is not None:
                self._end(connection.error)
                return
            waiting = connection.waiting
            if waiting != self._partial:
                change, self._partial = waiting - self._partial, waiting
                self._server.partial_changed(change)
            if not connection.held or self._blocked is not None or self.transport.is_closing():
                return
            data = b""

    def _end(self, error: FrameError) -> None:
        log.warning("%s: closing %s: %s", self._server.name, self.connection.caller, error, extra=_once_a_peer(self))
        self._server.stats.refused[error.reason] += 1
        self.close()

    def _start_pending(self) -> None:
        loop = asyncio.get_running_loop()
        pending, self.connection.pending = self.connection.pending, []
        for answer in pending:
            task = loop.create_task(self._send_when_ready(answer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send_when_ready(self, answer: Awaitable[bytes]) -> None:
        data = await answer
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def pause_writing(self) -> None:
        """The peer does not read: take no more questions until it does."""
        self._blocked = 0.0
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._blocked = None
        if self.transport.is_closing():
            return
        self.transport.resume_reading()
        if self.connection.held:
            self._answer(b"")  # and perhaps block again

    def connection_lost(self, exc: Exception | None) -> None:
        for task in self._tasks:
            task.cancel()
        self._server.partial_changed(-self._partial)
        self._partial = 0
        self._server.closed(self)

    @property
    def buffered(self) -> int:
        """Bytes that are held for this peer: of an incomplete frame, and of what waits until it reads."""
        unsent = self.transport.get_write_buffer_size()
        return self._partial + unsent + (self.connection.held_bytes if unsent else 0)

    def check_deadlines(self, passed: float) -> None:
        """Cut the connection where a deadline has passed; ``passed`` seconds have gone by since the last look."""
        limits = self._server.limits
        unsent = self.transport.get_write_buffer_size()
        self._unread = self._unread + passed if unsent and unsent >= self._unsent else 0.0
        self._unsent = unsent
        if self._blocked is not None:
            self._blocked += passed
        if self._ending is not None:
            self._ending += passed
        if max(self._unread, self._blocked or 0.0, self._ending or 0.0) > limits.write_timeout:
            self.cut("write_timeout")
            return
        if self._blocked is not None:
            return
        self._idle += passed
        completed = self.connection.completed
        if self.connection.waiting and completed == self._completed:
            self._stalled += passed
        else:
            self._stalled, self._completed = 0.0, completed
        if self._stalled > limits.frame_timeout:
            self.cut("frame_timeout")
        elif self._idle > limits.idle_timeout:
            self.cut("idle_timeout")

    def close(self) -> None:
        """Close once everything is sent."""
        self._ending = 0.0
        self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        self.transport.abort()

    def cut(self, reason: str) -> None:
        """Close at once, and count why."""
        self._server.stats.refused[reason] += 1
        log.info("%s: cut %s: %s", self._server.name, self.connection.caller, reason, extra=_once_a_peer(self))
        self.transport.abort()


def _once_a_peer(peer: _Peer) -> dict[str, str]:
    """Marks a log record so that a handler may keep it to one for each peer address and a while."""
    return {"limit_key": peer.connection.caller.peer}


def _caller(transport: asyncio.Transport) -> Caller:
    peer = transport.get_extra_info("peername") or ("", 0)
    local = transport.get_extra_info("sockname") or ("", 0)
    return Caller(plain_address(peer[0]), peer[1], plain_address(local[0]), local[1])


def plain_address(text: str) -> str:
    """An IP address without scope, an IPv4 one that came in through IPv6 as IPv4."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text
    return str(getattr(address, "ipv4_mapped", None) or address)
