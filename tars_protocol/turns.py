"""How much is done at a stretch for the requests of many connections, before everything else has its turn again."""

from __future__ import annotations


class Turns:
    """What the connections of a server together may use up in one stretch.

    ``seconds`` for requests that no kept answer fits: ``left`` is what is left of them. While that is less than
    ``floor`` the next such request is held instead of decoded. One alone may take longer: what it took is known when it
    is over. ``answer_bytes`` for the answers of reads with more than one request: ``room`` is what is left of those.

    Whoever drives the connections begins a new stretch (``renew``) once everything else had its turn.
    """

    __slots__ = ("answer_bytes", "floor", "left", "refused", "room", "seconds")

    def __init__(self, seconds: float = float("inf"), answer_bytes: int = 1 << 62) -> None:
        self.seconds = seconds
        self.left = seconds
        self.floor = 0.0
        """More than 0 where a connection may not have all that is left."""
        self.answer_bytes = answer_bytes
        self.room = answer_bytes
        self.refused = 0
        """Requests answered -9 because they had waited too long for their turn."""

    @property
    def over(self) -> bool:
        """True once the stretch is used up."""
        return self.left < 0 or self.room < 0

    def renew(self) -> None:
        """Begin a new stretch."""
        self.left = self.seconds
        self.room = self.answer_bytes
