"""One connection without I/O: bytes that came in, bytes to send.

There is one way in, :meth:`Connection.receive`, and so one hot path: each frame without its request id is the key for
``lookup``, which the server injects; what it finds is a whole answer but for the request id. Only a frame that it does
not know is handed to ``handle`` to be decoded.

Everything here can be driven with whole reads or one byte at a time, with the same result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from tars_protocol.errors import FrameError
from tars_protocol.frames import DEFAULT_MAX_FRAME_BYTES, FrameReader
from tars_protocol.packets import Reply, request_id_span


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
"""From a frame without length and request id (behind the connection's scope) to its answer, if that is known."""


class Handler(Protocol):
    """What answers a frame that the look-up does not know."""

    def __call__(self, data: bytes, key: bytes | None, caller: Caller) -> bytes | Awaitable[bytes]:
        """The response frame; empty where none is sent; an awaitable of it where that takes time.

        ``key`` is what the look-up was asked for, None where the frame has none. Raises Refused.
        """


DEFAULT_MAX_UNSENT_BYTES: Final = 1 << 18
"""One read may hold thousands of small questions, and an answer be thousands of times as long."""


def unknown(_: bytes) -> None:
    """A look-up that knows nothing: for servers that keep no answers."""


class Connection:
    """The server's end of one connection.

    ``scope`` stands before every key: what answers depend on beside the caller's bytes. Once ``error`` is set the
    connection is over: send what ``receive`` returned, then close. Once one call of ``receive`` has more than
    ``max_unsent_bytes`` to send, the frames after that are ``held``.
    """

    __slots__ = ("_frames", "_handle", "_held", "_lookup", "_max_unsent", "_scope", "caller", "error", "pending")

    def __init__(
        self,
        caller: Caller,
        handle: Handler,
        lookup: Lookup = unknown,
        *,
        scope: bytes = b"",
        max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES,
        max_unsent_bytes: int = DEFAULT_MAX_UNSENT_BYTES,
    ) -> None:
        self.caller = caller
        self.error: FrameError | None = None
        self.pending: list[Awaitable[bytes]] = []
        """Answers that are not ready yet: whoever drives the connection takes them out, and sends what they give."""
        self._frames = FrameReader(max_frame_bytes)
        self._handle = handle
        self._held: list[bytes] = []
        self._lookup = lookup
        self._max_unsent = max_unsent_bytes
        self._scope = scope

    @property
    def waiting(self) -> int:
        """Bytes held of a frame that is not complete; 0 between frames."""
        return self._frames.waiting

    @property
    def held(self) -> int:
        """Frames whose turn has not come, because there is so much to send: once it is sent, receive b"" to go on."""
        return len(self._held)

    @property
    def held_bytes(self) -> int:
        """Bytes of the frames that are held."""
        return sum(map(len, self._held))

    @property
    def completed(self) -> int:
        """Grows with each frame that did not come alone in one read: while it stays, ``waiting`` is of one frame."""
        return self._frames.completed

    def receive(self, data: bytes) -> bytes:
        """Take bytes as they came; the bytes to send for them."""
        if self.error is not None:
            return b""
        out: list[bytes] = []
        room = self._max_unsent
        lookup, scope = self._lookup, self._scope
        frames = self._frames.feed(data)
        left = iter([*self._held, *frames] if self._held else frames)
        for frame in left:
            span = request_id_span(frame)
            key = None
            if span is not None:
                start, end = span
                key = scope + frame[4 : start - 1] + frame[end:]
                reply = lookup(key)
                if reply is not None:
                    if reply.heads:
                        out += (reply.heads[end - start], frame[start:end], reply.tail)
                        room -= len(reply.tail)
                        if room < 0:
                            break
                    continue
            try:
                answer = self._handle(frame, key, self.caller)
            except Refused as error:
                self.error = error
                self._held = []
                return b"".join(out)
            if isinstance(answer, bytes):
                out.append(answer)
                room -= len(answer)
                if room < 0:
                    break
            else:
                self.pending.append(answer)
        self._held = list(left)
        if not self._held:
            self.error = self._frames.error
        return b"".join(out)
