"""Frames: a length of 4 bytes, big-endian, which counts itself, then one packet.

Many frames may come in one read and one frame in many. A length is checked as soon as its 4 bytes are there, before
anything is kept for the body.
"""

from __future__ import annotations

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
    """Cuts a stream of bytes into frames.

    After a length that can't be, ``error`` is set and nothing more is taken: the stream has no place to go on from.
    """

    __slots__ = ("_max", "_need", "_partial", "completed", "error")

    def __init__(self, max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES) -> None:
        self._max = max_frame_bytes
        self._partial = bytearray()
        self._need = HEADER_BYTES
        """How many bytes ``_partial`` must hold before there is anything to do."""
        self.completed = 0
        """Frames that came in pieces, or several to a read; tells whether the one that is held is still the same."""
        self.error: FrameError | None = None

    @property
    def waiting(self) -> int:
        """Bytes held of a frame that is not complete."""
        return len(self._partial)

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they come; the frames that are complete now, each with its length before it."""
        partial = self._partial
        if not partial and MIN_FRAME_BYTES <= len(data) <= self._max and _from_bytes(data[:4], "big") == len(data):
            # One read, one whole frame: what nearly every read of a client's question is.
            return [data] if self.error is None else []
        if self.error is not None:
            return []
        if partial:
            partial += data
            if len(partial) < self._need:
                return []
            data = bytes(partial)
            partial.clear()
        frames: list[bytes] = []
        start, size = 0, len(data)
        while size - start >= HEADER_BYTES:
            length = _from_bytes(data[start : start + HEADER_BYTES], "big")
            if not MIN_FRAME_BYTES <= length <= self._max:
                self.error = self._refuse(length)
                return frames
            if start + length > size:
                self._need = length
                break
            frames.append(data[start : start + length])
            start += length
            self.completed += 1
        else:
            self._need = HEADER_BYTES
        if start < size:
            partial += data[start:]
        return frames

    def _refuse(self, length: int) -> FrameError:
        if length < MIN_FRAME_BYTES:
            return FrameError("frame_too_short", f"a frame of {length} bytes; the least is {MIN_FRAME_BYTES}")
        return FrameError("frame_too_long", f"a frame of {length} bytes; max_frame_bytes is {self._max}")
