"""How much is done at a stretch for all connections together, before everything else has its turn again."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Final

_KNOWN: Final = 5
"""Times ``seconds`` for rows of requests whose answers are kept: they take a microsecond each, and to hold and go on
with a connection takes as long as a dozen of them."""


class Turns:
    """One stretch of a server, and what is left of it.

    It begins with the first read that takes more than to look up one answer, and lasts for ``seconds``. What is to be
    decoded later than that is held for the next one, and what is known some time later. One request alone may take
    longer: nobody knows before it is over. ``answer_bytes`` bound the answers of reads with more than one request;
    ``room`` is what is left of them.

    Once everything else had its turn a new one begins. Whoever drives the connections is told that one began
    (``on_begin``) and calls ``renew`` then, or gives a ``clock`` that stands still until then.
    """

    __slots__ = (
        "_began",
        "answer_bytes",
        "clock",
        "crowded",
        "end",
        "known_end",
        "on_begin",
        "refused",
        "room",
        "seconds",
    )

    def __init__(
        self,
        seconds: float = float("inf"),
        answer_bytes: int = 1 << 62,
        on_begin: Callable[[], object] = lambda: None,
    ) -> None:
        self.seconds = seconds
        self.answer_bytes = answer_bytes
        self.on_begin = on_begin
        self.clock: Callable[[], float] = float
        self._began = 0.0
        self.end = 0.0
        """When the stretch is over for what is to be decoded, or the part of it that one connection may have; 0 before
        it has begun."""
        self.known_end = 0.0
        """When it is over for what is known."""
        self.room = answer_bytes
        self.crowded = False
        """Connections wait for their turn: nobody else's requests are decoded before theirs."""
        self.refused = 0
        """Requests answered -9 because they had waited too long for their turn."""

    def open(self) -> bool:
        """Begin the stretch, if it has not; False where nothing more is to be decoded in it."""
        if not self.end or self.clock() != self._began:
            self.begin()
            return True
        return self.room >= 0 and perf_counter() < self.end

    def open_for_known(self) -> bool:
        """True while rows of known answers go on though nothing more is to be decoded."""
        return self.room >= 0 and perf_counter() < self.known_end

    def begin(self) -> float:
        """Begin a stretch; when it will be over."""
        self._began = self.clock()
        now = perf_counter()
        self.end = now + self.seconds
        self.known_end = now + _KNOWN * self.seconds
        self.room = self.answer_bytes
        self.on_begin()
        return self.end

    def renew(self) -> None:
        """Everything else had its turn: the next read that takes long begins a new stretch."""
        self.end = 0.0
        self.room = self.answer_bytes
