"""How much is done at a stretch for all connections together, before everything else has its turn again."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter


class Turns:
    """One stretch of a server, and what is left of it.

    It begins with the first read that takes more than to look up one answer, and lasts for ``seconds``; what comes
    later is held for the next one. Whoever drives the connections is told that it began (``on_begin``), and calls
    ``renew`` once everything else had its turn. One request alone may take longer: nobody knows before it is over.
    ``answer_bytes`` bound the answers of reads with more than one request; ``room`` is what is left of them.
    """

    __slots__ = ("answer_bytes", "crowded", "end", "on_begin", "refused", "room", "seconds")

    def __init__(
        self,
        seconds: float = float("inf"),
        answer_bytes: int = 1 << 62,
        on_begin: Callable[[], object] = lambda: None,
    ) -> None:
        self.seconds = seconds
        self.answer_bytes = answer_bytes
        self.on_begin = on_begin
        self.end = 0.0
        """When the stretch is over, or the part of it that one connection may have; 0 before it has begun."""
        self.room = answer_bytes
        self.crowded = False
        """Connections wait for their turn: nobody else's requests are decoded before theirs."""
        self.refused = 0
        """Requests answered -9 because they had waited too long for their turn."""

    @property
    def over(self) -> bool:
        """True once it is used up."""
        return self.room < 0 or 0 < self.end <= perf_counter()

    def open(self) -> bool:
        """Begin the stretch, if it has not; False where it is used up."""
        if not self.end:
            self.begin()
            return True
        return self.room >= 0 and perf_counter() < self.end

    def begin(self) -> float:
        """Begin a stretch; when it will be over."""
        self.end = perf_counter() + self.seconds
        self.room = self.answer_bytes
        self.on_begin()
        return self.end

    def renew(self) -> None:
        """Everything else had its turn: the next read that takes long begins a new stretch."""
        self.end = 0.0
        self.room = self.answer_bytes
