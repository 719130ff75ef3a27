"""One connection's socket: drives a :class:`tars_protocol.connection.Connection`, and cuts it where it must."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
from collections.abc import Awaitable
from typing import Protocol, cast

from tars_protocol.aio.limits import RateLimitMode, ServerLimits, ServerStats
from tars_protocol.aio.peers import Address, may_ask
from tars_protocol.aio.rounds import Rounds
from tars_protocol.connection import Connection
from tars_protocol.constants import Version
from tars_protocol.errors import FrameError
from tars_protocol.handlers import abandon
from tars_protocol.refusals import RECONNECT_FRAME
from tars_protocol.turns import Turns

log = logging.getLogger(__name__)


class Host(Protocol):
    """The server as its connections see it."""

    name: str
    limits: ServerLimits
    stats: ServerStats
    turns: Turns
    rounds: Rounds

    def holds_changed(self, peer: Peer, by: int) -> None:
        """So many bytes more than before are held for a connection."""

    def opened(self, peer: Peer) -> None:
        """A connection that was accepted can be used."""

    def closed(self, peer: Peer) -> None:
        """A connection is gone, one that never could be used as well."""


class Peer(asyncio.Protocol):
    """One connection's socket.

    Nothing more is read from it while it does not read its answers, while frames wait for their turn, and while too
    many of its answers are under way.
    """

    __slots__ = (
        "_blocked",
        "_ending",
        "_entered",
        "_gone",
        "_idle",
        "_paused",
        "_reads",
        "_send_buffer",
        "_server",
        "_stalled",
        "_taken",
        "_tasks",
        "_told",
        "_write",
        "address",
        "connection",
        "holds",
        "since",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, server: Host, connection: Connection, address: Address) -> None:
        self.connection = connection
        self.address = address
        self._send_buffer = 0
        """What the system keeps of answers where the peer does not read, known once it did not."""
        self._reads = False
        """It has read what it had to be waited for."""
        self._server = server
        self._idle = 0.0
        """Seconds without a byte."""
        self._stalled = 0.0
        """Seconds since the frame began that is not complete; ``_taken`` tells that it is still the same one."""
        self._taken = 0
        self._blocked: float | None = None
        """Seconds since there is something that the system does not take, because the peer does not read; None while
        there is nothing."""
        self._paused = False
        """Nothing is read from the socket."""
        self._entered = False
        """It has entered for its turn, as frames are held for it."""
        self.since: float | None = None
        """Since when they wait for turns, and for nothing else."""
        self._ending: float | None = None
        """Seconds since no more is read for good, while answers are still to be sent; None before."""
        self._told: float | None = None
        """When it was asked to connect anew, because the server is about to go; None before."""
        self._gone = False
        """It was cut: nothing is held for it any more, and nothing else is to be made of it."""
        self.holds = 0
        """Bytes that are held for this peer, as told to the server: of an incomplete frame, and of what waits until it
        reads. Where it does not, what the system holds counts too."""
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It can be used now."""
        # Not an assert: uvloop's transports have the methods but not the base class.
        self.transport = cast(asyncio.Transport, transport)
        self._write = self.transport.write
        # Whatever the system does not take is to be known at once: thousands may write in one turn of the loop.
        self.transport.set_write_buffer_limits(high=0)
        self.limit_rate()
        self._server.opened(self)

    # -- questions and answers -----------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes came in."""
        self._idle = 0.0
        self._answer(data)

    def eof_received(self) -> bool:
        """The peer sends no more; what it asked is answered before its connection is closed."""
        self._finish()
        return True

    def _answer(self, data: bytes) -> None:
        """Answer what came in and what is held of earlier reads, as far as the peer takes the answers."""
        connection = self.connection
        try:
            out = connection.receive(data)
        except Exception as error:
            self._bug(error)
            return
        if out:
            self._write(out)
        if not connection.calm or self.holds:
            self._look_after()

    def _look_after(self) -> None:
        """Do what is to be done beside sending."""
        connection = self.connection
        if connection.pending:
            self._start_pending()
        if connection.error is not None:
            self._end(connection.error)
            return
        self._count()
        if connection.held:
            self._set_reading()

    def _count(self) -> None:
        """Tell the server how much is held."""
        if self._gone:
            return
        held = self.connection.waiting + self.connection.held
        if self._blocked is not None:
            held += self.transport.get_write_buffer_size() + self._send_buffer
        self._tell(held)

    def _tell(self, held: int) -> None:
        if held != self.holds:
            more, self.holds = held - self.holds, held
            self._server.holds_changed(self, more)

    def _set_reading(self) -> None:
        """Read on, or not, and plan the next turn, as things are now."""
        connection = self.connection
        if self.transport.is_closing():
            return
        ready = self._blocked is None and not connection.full
        if connection.held and ready:
            if self.since is None:
                self.since = asyncio.get_running_loop().time()
            if not self._entered:
                self._entered = True
                # Not at once: first what has come from others meanwhile.
                self._server.rounds.enter(self.address.name, self)
        else:
            self.since = None
        pause = not ready or connection.held > 0 or self._ending is not None
        if pause != self._paused:
            self._paused = pause
            if pause:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def go_on(self, *, late: bool) -> None:
        """Have a turn: it answers what is held, as far as there is time."""
        self._entered = False
        connection = self.connection
        if self._blocked is not None or connection.full or self.transport.is_closing():
            return
        turns = self._server.turns
        refused = turns.refused
        connection.late = late
        self._answer(b"")
        connection.late = False
        if turns.refused != refused and self.address.tell("late", asyncio.get_running_loop().time()):
            log.warning(
                "%s: requests of %s had to wait for more than %g s (turn_timeout) to be decoded, and are answered -9",
                self._server.name,
                self.address.name,
                self._server.limits.turn_timeout,
                extra=self._once_a_peer,
            )
        self._set_reading()
        self._close_if_answered()

    def _start_pending(self) -> None:
        loop = asyncio.get_running_loop()
        pending, self.connection.pending = self.connection.pending, []
        for answer in pending:
            task = loop.create_task(self._send_when_ready(answer))
            self._tasks.add(task)
            task.add_done_callback(functools.partial(self._answered, answer))
        self._set_reading()

    async def _send_when_ready(self, answer: Awaitable[bytes]) -> None:
        try:
            data = await answer
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            # Whoever waits for it must learn that there will be none.
            self._bug(error)
            return
        if data and not self.transport.is_closing():
            self.transport.write(data)
            self._count()

    def _answered(self, answer: Awaitable[bytes], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            # It may not even have begun.
            abandon(answer)
        self.connection.answered()
        if self._paused:
            self._set_reading()
            self._close_if_answered()

    def pause_writing(self) -> None:
        """The peer does not read: take no more questions until it does."""
        self._blocked = 0.0
        with contextlib.suppress(OSError):
            self._send_buffer = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        self._set_reading()
        self._count()

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._blocked = None
        if not self._reads:
            self._reads = True
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._server.limits.send_buffer_bytes)
        self._set_reading()
        self._count()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone, or never came to be."""
        for task in self._tasks:
            task.cancel()
        for answer in self.connection.pending:
            abandon(answer)
            self.connection.answered()
        self.connection.forget()
        self._tell(0)
        self._server.closed(self)

    @property
    def _socket(self) -> socket.socket:
        return cast(socket.socket, self.transport.get_extra_info("socket"))

    # -- limits --------------------------------------------------------------------------------------------------

    def limit_rate(self) -> None:
        """Limit requests as the settings are now."""
        limited = self._server.limits.rate_limit is not RateLimitMode.OFF
        self.connection.limit_rate(self._admit if limited else None)

    def _admit(self) -> bool:
        server = self._server
        return may_ask(self.address, server.name, server.limits, server.stats, asyncio.get_running_loop().time())

    def check_deadlines(self, passed: float) -> None:
        """Cut the connection where a deadline has passed; ``passed`` seconds have gone by since the last look."""
        if self._gone:
            return
        limits = self._server.limits
        if self.holds:
            self._count()
        if self._blocked is not None:
            self._blocked += passed
        if self._ending is not None:
            self._ending += passed
        if max(self._blocked or 0.0, self._ending or 0.0) > limits.write_timeout:
            self.cut("write_timeout")
            return
        if self._paused:
            # It is not the peer that is slow.
            return
        self._idle += passed
        taken = self.connection.taken
        if self.connection.waiting and taken == self._taken:
            self._stalled += passed
        else:
            self._stalled, self._taken = 0.0, taken
        if self._stalled > limits.frame_timeout:
            self.cut("frame_timeout")
        elif self.connection.silent and self._idle > limits.first_byte_timeout:
            self.cut("first_byte_timeout")
        elif self._idle > limits.idle_timeout:
            self.cut("idle_timeout")

    # -- the end -------------------------------------------------------------------------------------------------

    def leave(self, began: float, now: float, farewell: float) -> None:
        """The server is about to go, since ``began``: ask the peer to connect anew, or close, if this is the moment.

        It is once all that is in flight is answered. Who speaks TARS is asked, and is answered until it closes, for
        ``farewell`` seconds at most: TarsGo closes within one. Any other would not understand. Who has not asked
        anything yet may be about to.
        """
        if not self.quiet or self.transport.is_closing():
            return
        if self._told is not None:
            over = now - self._told >= farewell
        elif self.connection.version == Version.TARS:
            self._told = now
            self.transport.write(RECONNECT_FRAME)
            return
        else:
            over = self.connection.version is not None or now - began >= farewell
        if over:
            self.close()

    @property
    def quiet(self) -> bool:
        """Nothing that it asked is without an answer, and nothing of a question has come."""
        return not (self.connection.outstanding or self.connection.held or self.connection.waiting)

    def _finish(self) -> None:
        """Read no more, and close once everything is answered that came before."""
        if self._ending is None:
            self._ending = 0.0
        self._set_reading()
        self._close_if_answered()

    def _close_if_answered(self) -> None:
        if self._ending is not None and not (self.connection.outstanding or self.connection.held):
            self.close()

    def close(self) -> None:
        """Close once everything is sent."""
        if self._ending is None:
            self._ending = 0.0
        self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        self.transport.abort()

    def cut(self, reason: str) -> None:
        """Close at once, and count why."""
        if self._gone:
            return
        self._gone = True
        self._server.stats.refused[reason] += 1
        log.info("%s: cut %s: %s", self._server.name, self.connection.caller, reason, extra=self._once_a_peer)
        self.connection.forget()
        self._tell(0)
        self.transport.abort()

    def _end(self, error: FrameError) -> None:
        log.warning("%s: closing %s: %s", self._server.name, self.connection.caller, error, extra=self._once_a_peer)
        self._server.stats.refused[error.reason] += 1
        self._finish()

    def _bug(self, error: BaseException) -> None:
        log.error("%s: closing %s after a bug", self._server.name, self.connection.caller, exc_info=error)
        self.cut("bug")

    @property
    def _once_a_peer(self) -> dict[str, str]:
        """Marks a log record so that a handler may keep it to one for each peer address and a while."""
        return {"limit_key": self.address.name}
