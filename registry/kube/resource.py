"""What a reflector follows, how it reaches the API server, and how it tells how it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Generic, Protocol, TypeVar

from msgspec import Raw

from registry.kube.objects import Decoded, Key

T = TypeVar("T")

Parameters = dict[str, str]


class Response(Protocol):
    """An answer whose body comes in pieces."""

    status: int
    retry_after: float
    """Seconds that the server asks to wait; 0 where it does not ask."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises ConnectionError where it breaks off."""


class Session(Protocol):
    """How a reflector reaches the API server."""

    def get(self, path: str, parameters: Parameters) -> AbstractAsyncContextManager[Response]:
        """Ask for a path. Raises ConnectionError where the server can't be reached."""

    async def reload(self) -> None:
        """Read the credentials again: the server did not take them."""


JSON: Final = "application/json"
STRATEGIC_MERGE_PATCH: Final = "application/strategic-merge-patch+json"

Body = Mapping[str, Any]
"""What is sent, before it is encoded as JSON."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. ``retry_after``: seconds that the server asks to wait; 0 where it does not ask.

    ``date``: when it was made by the server's clock, in seconds since 1970; None where the server does not say.
    """

    status: int
    body: bytes = b""
    retry_after: float = 0.0
    date: float | None = None


class Writing(Protocol):
    """How a writer reaches the API server."""

    async def send(self, method: str, path: str, body: Body | None = None, content_type: str = JSON) -> Reply:
        """Send a request and wait for all of its answer. Raises ConnectionError where there is none."""

    async def reload(self) -> None:
        """Read the credentials again: the server did not take them."""


@dataclass(frozen=True, slots=True)
class Resource(Generic[T]):
    """What to follow: ``name`` for people, ``paths`` to list and watch (the first that the server has), its decoder.

    ``grant`` is what to type where the right to it is missing, ``install`` where the resource itself is.
    """

    name: str
    paths: tuple[str, ...]
    decode: Callable[[Raw], Decoded[T]]
    parameters: Parameters = field(default_factory=dict)
    grant: str = ""
    install: str = ""


class State(StrEnum):
    """What a reflector does now."""

    LISTING = "listing"
    WATCHING = "watching"
    WAITING = "backing off"


@dataclass(slots=True)
class ReflectorStatus:
    """How a reflector is, for health and metrics. ``last_byte`` is a time of :func:`time.monotonic`."""

    name: str
    state: State = State.LISTING
    synced: bool = False
    version: str = ""
    last_byte: float | None = None
    current: float | None = None
    """When the store was last known to be as the server has it: at a whole list, and at each byte of a watch."""
    absent: bool = False
    """An optional resource that is not to be had, as the last answer said: there is nothing that could be old."""
    relists: int = 0
    reconnects: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    problem: str = ""
    """What is wrong now; empty while it watches."""
    dropped: dict[Key, str] = field(default_factory=dict)
    """Objects that are left out now, because a value of theirs is of the wrong type, and why."""
