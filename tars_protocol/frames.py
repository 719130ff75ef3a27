"""Frames: a length of 4 bytes, big-endian, which counts itself, then one packet.

Many frames may come in one read and one frame in many. A length is checked as soon as its 4 bytes are there, before
anything is kept for the body.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tars_protocol.errors import FrameError

HEADER_BYTES: Final = 4
MIN_FRAME_BYTES: Final = HEADER_BYTES + 1
"""A packet has at least one byte."""

DEFAULT_MAX_FRAME_BYTES: Final = 1 << 20
"""Callers send their old endpoint lists along: 500 endpoints are about 20 kB. The C++ runtime allows 10 MiB."""

_from_bytes = int.from_bytes


def frame(packet: bytes) -> bytes:
    """A packet with its length before it."""
    return (len(packet) + HEADER_BYTES).to_bytes(HEADER_BYTES, "big") + packet


class FrameReader:
    """Cuts a stream of bytes into frames, when they are asked for: what is never asked for costs nothing.

    After a length that can't be, ``error`` is set and nothing more is taken: the stream has no place to go on from.
    """

    __slots__ = ("_at", "_data", "_max", "_need", "_partial", "completed", "error")

    def __init__(self, max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES) -> None:
        self._max = max_frame_bytes
        self._data = b""
        """What is not cut yet, from ``_at`` on."""
        self._at = 0
        self._partial = bytearray()
        """A frame that is not complete."""
        self._need = HEADER_BYTES
        """How many bytes ``_partial`` must hold before there is anything to do."""
        self.completed = 0
        """Frames that were taken; tells whether one that is not complete is still the same."""
        self.error: FrameError | None = None

    @property
    def waiting(self) -> int:
        """Bytes held of a frame that is not complete."""
        return len(self._partial)

    @property
    def empty(self) -> bool:
        """Nothing is held."""
        return not self._data and not self._partial

    @property
    def uncut(self) -> int:
        """Bytes held that frames are still to be taken from; 0 once none was left."""
        return len(self._data) - self._at

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they come; the frames that are complete now, each with its length before it."""
        self.add(data)
        frames = self.take(len(self._data))
        self.take(1)
        return frames

    def add(self, data: bytes) -> bool:
        """Take bytes as they come; False where they do no more than to go on with a frame that is not complete."""
        partial = self._partial
        if self.error is not None:
            return False
        if self._at < len(self._data):
            data = self._data[self._at :] + data
        elif partial:
            partial += data
            if len(partial) < self._need:
                return False
            data = bytes(partial)
            partial.clear()
        self._data, self._at = data, 0
        return True

    def take(self, most: int) -> list[bytes]:
        """The next frames that are complete, so many at most, each with its length before it.

        Only what finds none at all is done with the bytes that came: take until then.
        """
        frames: list[bytes] = []
        data, start, size = self._data, self._at, len(self._data)
        if not data:
            return frames
        while size - start >= HEADER_BYTES and len(frames) < most:
            length = _from_bytes(data[start : start + HEADER_BYTES], "big")
            if not MIN_FRAME_BYTES <= length <= self._max:
                if not frames:
                    self.error = self._refuse(length)
                    self.clear()
                break
            if start + length > size:
                if not frames:
                    self._keep(data[start:], length)
                break
            frames.append(data[start : start + length])
            start += length
        else:
            if not frames:
                self._keep(data[start:], HEADER_BYTES)
        if frames:
            self.completed += len(frames)
            if start == size:
                self._data, self._at = b"", 0
            else:
                self._at = start
        return frames

    def put_back(self, frames: Iterable[bytes]) -> None:
        """Have these, the last that were taken, taken again. Nothing was added and no other taken since."""
        if not self._data:
            self._data = b"".join(frames)
            return
        self._at -= sum(map(len, frames))
        # What was taken is given up once it is more than what is left: that alone is counted.
        if 2 * self._at > len(self._data):
            self._data, self._at = self._data[self._at :], 0

    def _keep(self, partial: bytes, need: int) -> None:
        """Hold the beginning of a frame."""
        self._partial += partial
        self._need = need
        self._data, self._at = b"", 0

    def clear(self) -> None:
        """Give up what is held."""
        self._data, self._at = b"", 0
        self._partial.clear()

    def _refuse(self, length: int) -> FrameError:
        if length < MIN_FRAME_BYTES:
            return FrameError("frame_too_short", f"a frame of {length} bytes; the least is {MIN_FRAME_BYTES}")
        return FrameError("frame_too_long", f"a frame of {length} bytes; max_frame_bytes is {self._max}")
