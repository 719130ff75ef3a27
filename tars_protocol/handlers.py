"""What a connection is given to answer frames with, and what it tells of who asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from tars_protocol.errors import FrameError
from tars_protocol.packets import Reply


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the other end, and which of our addresses it connected to. Addresses are IP literals."""

    peer: str
    peer_port: int
    local: str
    local_port: int

    def __str__(self) -> str:
        return f"[{self.peer}]:{self.peer_port}" if ":" in self.peer else f"{self.peer}:{self.peer_port}"


class Refused(FrameError):
    """A frame to which no answer can be given, so that the connection ends."""


Lookup = Callable[[bytes], Reply | None]
"""From a frame without its length and with 0 for its request id, behind the connection's scope, to its answer; None
where that is not known."""


class Handler(Protocol):
    """What answers a frame that the look-up does not know."""

    def __call__(self, data: bytes, key: bytes | None, caller: Caller) -> bytes | Awaitable[bytes]:
        """The response frame; empty where none is sent; an awaitable of it where that takes time.

        ``key`` is what the look-up was asked for, None where the frame has none. Raises Refused.
        """


class Near(Protocol):
    """What answers a frame that has a key but is not known by it, where that can take less than to decode it."""

    def __call__(self, data: bytes, key: bytes, request_id: bytes, at: int, caller: Caller) -> bytes | Awaitable[bytes]:
        """As :class:`Handler`. ``request_id`` is the id's value as it is in the frame; what follows begins ``at``."""


class Load:
    """Answers under way on all connections of a server: ``in_flight`` now, and the ``most`` there may be."""

    __slots__ = ("in_flight", "most", "refused")

    def __init__(self, most: int) -> None:
        self.in_flight = 0
        self.most = most
        self.refused = 0
        """Requests answered -9 because there were so many."""

    @property
    def full(self) -> bool:
        """True where one more would be one too many."""
        return self.in_flight >= self.most


def abandon(answer: Awaitable[object]) -> None:
    """Give up an answer that nobody has begun to wait for: a coroutine is closed, a future cancelled."""
    for name in ("close", "cancel"):
        method = getattr(answer, name, None)
        if method is not None:
            method()
            return


def unknown(_: bytes) -> None:
    """A look-up that knows nothing: for servers that keep no answers."""
