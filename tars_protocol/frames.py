"""Frames: a length of 4 bytes, big-endian, which counts itself, then one packet.

Many frames may come in one read and one frame in many. A length is checked as soon as its 4 bytes are there, before
anything is kept for the body.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from tars_protocol.errors import FrameError

HEADER_BYTES: Final = 4
MIN_FRAME_BYTES: Final = HEADER_BYTES + 1
"""A packet has at least one byte."""

DEFAULT_MAX_FRAME_BYTES: Final = 1 << 20
"""Callers send their old endpoint lists along: 500 endpoints are about 20 kB. The C++ runtime allows 10 MiB."""

length_at: Final = Struct(">I").unpack_from
"""The length of the frame that begins at a place in bytes, where there are four, as a tuple of one."""


def frame(packet: bytes) -> bytes:
    """A packet with its length before it."""
    return (len(packet) + HEADER_BYTES).to_bytes(HEADER_BYTES, "big") + packet


class FrameReader:
    """Cuts a stream of bytes into frames, when they are asked for: what is never asked for costs nothing.

    ``data`` from ``at`` on is what came and was not cut yet. Whoever cuts it, :meth:`feed` or, for speed, a connection
    itself, goes from frame to frame as long as they are whole (:meth:`end_of`) and tells how far it came
    (:meth:`advance`). While there is ``data``, nothing is held of a frame that is not complete.

    After a length that can't be, ``error`` is set and nothing more is taken: the stream has no place to go on from.
    """

    __slots__ = ("_max", "_need", "_partial", "at", "data", "error", "taken")

    def __init__(self, max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES) -> None:
        self._max = max_frame_bytes
        self.data = b""
        self.at = 0
        self._partial = bytearray()
        """A frame that is not complete."""
        self._need = HEADER_BYTES
        """How many bytes ``_partial`` must hold before there is anything to do."""
        self.taken = 0
        """Bytes of the frames that were taken; tells whether one that is not complete is still the same."""
        self.error: FrameError | None = None

    @property
    def waiting(self) -> int:
        """Bytes held of a frame that is not complete."""
        return len(self._partial)

    @property
    def empty(self) -> bool:
        """Nothing is held."""
        return not self.data and not self._partial

    @property
    def uncut(self) -> int:
        """Bytes held that frames are still to be taken from; 0 once none was left."""
        return len(self.data) - self.at

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they come; the frames that are complete now, each with its length before it."""
        frames: list[bytes] = []
        if self.add(data):
            at, data = self.at, self.data
            while stop := self.end_of(at):
                frames.append(data[at:stop])
                at = stop
            self.advance(at)
        return frames

    def add(self, data: bytes) -> bool:
        """Take bytes as they come; False where they do no more than to go on with a frame that is not complete."""
        partial = self._partial
        if self.error is not None:
            return False
        if self.at < len(self.data):
            data = self.data[self.at :] + data
        elif partial:
            partial += data
            if len(partial) < self._need:
                return False
            data = bytes(partial)
            partial.clear()
        self.data, self.at = data, 0
        return True

    def end_of(self, at: int) -> int:
        """Where the frame ends that begins there in ``data``; 0 where it is not complete, or has an impossible length.

        A connection has the same in its loop.
        """
        data = self.data
        if len(data) - at < HEADER_BYTES:
            return 0
        length = length_at(data, at)[0]
        return at + length if MIN_FRAME_BYTES <= length <= self._max and at + length <= len(data) else 0

    def advance(self, at: int) -> None:
        """All frames before this place were taken: go on from there.

        Where no whole one begins there, what is left is kept until more comes, or refused.
        """
        if not self.data:
            return
        self.taken += at - self.at
        data = self.data
        left = len(data) - at
        if self.end_of(at):
            # What was taken is given up once it is more than what is left: that alone is counted.
            self.data, self.at = (data[at:], 0) if at > left else (data, at)
            return
        self.data, self.at = b"", 0
        if left < HEADER_BYTES:
            self._need = HEADER_BYTES
        else:
            self._need = length_at(data, at)[0]
            if not MIN_FRAME_BYTES <= self._need <= self._max:
                self.error = self._refuse(self._need)
                return
        self._partial += data[at:]

    def clear(self) -> None:
        """Give up what is held."""
        self.data, self.at = b"", 0
        self._partial.clear()

    def _refuse(self, length: int) -> FrameError:
        if length < MIN_FRAME_BYTES:
            return FrameError("frame_too_short", f"a frame of {length} bytes; the least is {MIN_FRAME_BYTES}")
        return FrameError("frame_too_long", f"a frame of {length} bytes; max_frame_bytes is {self._max}")
