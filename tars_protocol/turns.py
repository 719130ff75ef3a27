"""How much is done at a stretch for all connections together, before everything else has its turn again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_KNOWN: Final = 5
"""Times ``seconds`` for rows of requests whose answers are kept: they take a microsecond each, and to hold and go on
with a connection takes as long as a dozen of them."""


class Turns:
    """What the connections of a server together may use up in one stretch.

    ``left`` of ``seconds`` is for what is to be decoded, ``known_left`` for rows of requests whose answers are known;
    what a single look-up answers takes nothing. ``room`` of ``answer_bytes`` is for the answers of reads with more than
    one request. What comes when it is used up is held; whoever drives the connections then lets everything else have
    its turn, and begins a new one (``renew``). One request alone may take longer: nobody knows before it is over.

    A stretch that began before everything else had its turn is as good as used up, and a new one begins without anybody
    being held, where that can be told: ``clock`` is one that stands still until then.
    """

    __slots__ = (
        "_began",
        "answer_bytes",
        "clock",
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
        self.clock: Callable[[], float] = float
        """By default it stands still for ever: only ``renew`` begins a new stretch."""
        self._began = 0.0
        self.refused = 0
        """Requests answered -9 because they had waited too long for their turn."""
        self.renew()

    def look(self) -> None:
        """Begin a new stretch if everything else had its turn since the last began."""
        now = self.clock()
        if now != self._began:
            self._began = now
            self.renew()

    def renew(self) -> None:
        """Everything else had its turn."""
        self.left = self.seconds
        self.known_left = _KNOWN * self.seconds
        self.room = self.answer_bytes
