"""How much is done at a stretch for all connections together, before everything else has its turn again."""

from __future__ import annotations

from typing import Final

_KNOWN: Final = 5
"""Times ``seconds`` for rows of requests whose answers are kept: they take a microsecond each, and to hold and go on
with a connection takes as long as a dozen of them."""

_PART_OF_A_READ: Final = 1 << 16
"""Bytes that are less than a read can be: asyncio and uvloop read a quarter of a megabyte."""


class Turns:
    """What the connections of a server together may use up in one stretch.

    ``left`` of ``seconds`` is for what is to be decoded, ``known_left`` for rows of requests whose answers are known;
    what a single look-up answers takes nothing. ``room`` of ``answer_bytes`` is for the answers of reads with more than
    one request. What comes when it is used up is held; whoever drives the connections then lets everything else have
    its turn, and begins a new one (``renew``). One request alone may take longer: nobody knows before it is over.

    Whoever came first in a stretch and comes again shows that all sockets were looked at meanwhile: then a new one
    begins, and nobody needs to be held (``come``).
    """

    __slots__ = (
        "_first",
        "answer_bytes",
        "crowded",
        "known_left",
        "left",
        "refused",
        "room",
        "seconds",
        "share",
    )

    def __init__(self, seconds: float = float("inf"), answer_bytes: int = 1 << 62) -> None:
        self.seconds = seconds
        self.answer_bytes = answer_bytes
        self.share = seconds
        """Of the seconds, those for the connection whose turn it is."""
        self.crowded = False
        """Connections wait for their turn: nobody else's requests are decoded before theirs."""
        self._first: object = None
        self.refused = 0
        """Requests answered -9 because they had waited too long for their turn."""
        self.renew()

    def come(self, who: object, size: int) -> None:
        """A read of so many bytes is to be answered in this stretch.

        One that fills the buffer may be followed by another of the same socket at once, so it shows nothing.
        """
        if who is self._first:
            self.renew()
        if self._first is None and size < _PART_OF_A_READ:
            self._first = who

    def renew(self) -> None:
        """Everything else had its turn."""
        self._first = None
        self.left = self.seconds
        self.known_left = _KNOWN * self.seconds
        self.room = self.answer_bytes
