"""Letting connections in.

Not left to the event loops, because they differ where it matters, when there are no file descriptors left: asyncio
stops accepting for a second, so that callers wait for nothing; libuv closes what it accepts, and tells nobody. Here the
caller is closed at once, so that it asks another registry, and that is counted and logged.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from tars_protocol.aio.listen import BACKLOG

log = logging.getLogger(__name__)

_AT_A_STRETCH: Final = 16
"""Connections let in before the ones that are open get their turn: a bit more than 1 ms."""

_PAUSE: Final = 0.1
"""Seconds without accepting after an error that closing the caller does not mend."""

_NO_ROOM: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

_GONE: Final = frozenset(
    (
        errno.ECONNABORTED,
        errno.EPERM,
        errno.EPROTO,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
    )
)
"""Errors of the one connection, which is gone, and not of the socket that is listened on (accept(2))."""

Admit = Callable[[socket.socket, "tuple[str, int]"], asyncio.Protocol | None]
"""Given an accepted socket and the address of its peer, what drives it; None where it is to be closed."""


class Acceptor:
    """Accepts on some sockets and makes a transport for each connection that ``admit`` takes.

    ``refused`` counts, by reason, those that could not be let in.
    """

    def __init__(self, name: str, admit: Admit, refused: Counter[str]) -> None:
        self._name = name
        self._admit = admit
        self._refused = refused
        self._sockets: list[socket.socket] = []
        self._paused: dict[socket.socket, asyncio.TimerHandle] = {}
        self._starting: set[asyncio.Task[None]] = set()
        self._ending = asyncio.Lock()
        self._spare = -1
        """A descriptor to give up for a moment where there is no other one, so that a caller can be told."""

    def start(self, sockets: Iterable[socket.socket]) -> None:
        """Let connections in."""
        self._spare = _spare()
        self._sockets = list(sockets)
        for listening in self._sockets:
            self._listen(listening)

    async def stop(self) -> None:
        """Let in what has connected already, then no more; the sockets are closed. They can be used when this ends.

        Where callers come faster than they are let in, so many of them as may wait to be accepted.
        """
        async with self._ending:
            sockets, self._sockets = self._sockets, []
            try:
                for listening in sockets:
                    await self._let_in_the_last(listening)
            finally:
                for listening in sockets:
                    listening.close()
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
        if self._starting:
            await asyncio.wait(self._starting)

    async def _let_in_the_last(self, listening: socket.socket) -> None:
        pause = self._paused.pop(listening, None)
        if pause is not None:
            pause.cancel()
        else:
            asyncio.get_running_loop().remove_reader(listening)
        for number in range(1, BACKLOG + 1):
            if not self._accept(listening):
                return
            if number % _AT_A_STRETCH == 0:
                await asyncio.sleep(0)

    def _listen(self, listening: socket.socket) -> None:
        self._paused.pop(listening, None)
        asyncio.get_running_loop().add_reader(listening, self._readable, listening)

    def _pause(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        self._paused[listening] = loop.call_later(_PAUSE, self._listen, listening)

    def _readable(self, listening: socket.socket) -> None:
        for _ in range(_AT_A_STRETCH):
            if not self._accept(listening):
                return

    def _accept(self, listening: socket.socket) -> bool:
        """Let one in; False where nobody waits, or nobody can be let in for now."""
        try:
            accepted, address = listening.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno in _GONE:
                return True
            return self._no_room(listening, error)
        self._take(accepted, address[:2])
        return True

    def _take(self, accepted: socket.socket, address: tuple[str, int]) -> None:
        try:
            accepted.setblocking(False)
            # A peer whose machine died never says so.
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            protocol = self._admit(accepted, address)
        except Exception:
            # Of whoever is to drive it; one connection must not keep others out.
            log.exception("%s: closing %s after a bug", self._name, address[0])
            self._refused["bug"] += 1
            protocol = None
        if protocol is None:
            accepted.close()
            return
        task = asyncio.get_running_loop().create_task(self._open(accepted, protocol), name=f"{self._name} accept")
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _open(self, accepted: socket.socket, protocol: asyncio.Protocol) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, accepted)
        except Exception as error:
            if not isinstance(error, OSError):
                log.exception("%s: closing a connection after a bug", self._name)
                self._refused["bug"] += 1
            accepted.close()
            protocol.connection_lost(error)

    def _no_room(self, listening: socket.socket, error: OSError) -> bool:
        short = error.errno in _NO_ROOM
        # Without a descriptor the system says so even where nobody waits.
        turned_away = self._turn_away(listening) if short else None
        if turned_away is False:
            return False
        if short:
            self._refused["no_file_descriptors"] += 1
            log.error(
                "%s: no connection can be let in: %s; callers are closed until there is room. Raise the limit of open "
                "files (ulimit -n), or lower max_connections",
                self._name,
                error.strerror,
            )
        else:
            self._refused["accept_failed"] += 1
            log.error("%s: can't accept connections: %s; trying again", self._name, error.strerror)
        if turned_away is None and listening in self._sockets:
            self._pause(listening)
        return turned_away is True

    def _turn_away(self, listening: socket.socket) -> bool | None:
        """Close the next caller, with the descriptor that is kept for it. False where nobody waits, None where it could
        not be done."""
        if self._spare >= 0:
            os.close(self._spare)
        try:
            accepted, _ = listening.accept()
            accepted.close()
            return True
        except BlockingIOError:
            return False
        except OSError:
            return None
        finally:
            self._spare = _spare()


def _spare() -> int:
    """A descriptor that is good for nothing but to be closed; -1 where there is none."""
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
