"""What a malformed input is, and what must come of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.fuzz.pieces import REQUEST_ID


@dataclass(frozen=True, slots=True)
class Expected:
    """What the wire notes say must happen: an answer with each of these codes, in order; then, where ``closed`` names
    a reason, the end of the connection; where it is empty, the connection goes on.
    """

    codes: tuple[int, ...] = ()
    closed: str = ""
    version: int = 1
    """Of the answers."""
    request_id: int = REQUEST_ID
    """Of the answers."""


SILENT: Final = Expected()
"""Taken without an answer: a one-way call, or no whole frame."""

NOT_A_REQUEST: Final = Expected(closed="undecodable")
"""The request id can't be read, so nobody could be told."""

TOO_SHORT: Final = Expected(closed="frame_too_short")
TOO_LONG: Final = Expected(closed="frame_too_long")


def answered(*codes: int, version: int = 1, request_id: int = REQUEST_ID) -> Expected:
    """An answer with each of these codes, after which the connection goes on."""
    return Expected(codes, version=version, request_id=request_id)


@dataclass(frozen=True, slots=True)
class Case:
    """One input: the bytes that a peer sends to a port, ``query`` or ``registry``, and what must come of them."""

    name: str
    data: bytes
    expected: Expected
    port: str = "query"

    @property
    def small(self) -> bool:
        """Of the size of an honest question, or a few of them; the others are about ``max_frame_bytes`` long."""
        return len(self.data) <= 8_192
