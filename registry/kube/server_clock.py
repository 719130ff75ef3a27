"""What the API server's clock says: the one clock that all registries of a cluster can see."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

_BEHIND: Final = 2.0
"""Seconds by which an answer's date may be behind: it is cut to seconds, and was under way. More is another clock."""

_TOLD: Final = re.compile(r" at (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)$")


class ServerClock:
    """Tells times of the event loop's ``clock`` in the API server's, by the dates of its answers."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._offset: float | None = None
        """Of all that was seen the largest: the date that was cut the least, in the answer that was the fastest."""

    def note(self, date: float | None) -> None:
        """An answer has just come; ``date`` is when it was made, in seconds since 1970."""
        if date is None:
            return
        offset = date - self._clock()
        if self._offset is None or offset > self._offset or offset < self._offset - _BEHIND:
            self._offset = offset

    def at(self, time: float) -> datetime | None:
        """A time of the event loop, to the millisecond; None while nothing is known of the server's clock."""
        if self._offset is None:
            return None
        return datetime.fromtimestamp(round(time + self._offset, 3), UTC)


def with_time(message: str, at: datetime | None) -> str:
    """A message that ends with a time, where that is known."""
    return message if at is None else f"{message} at {at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"


def time_in(message: str) -> datetime | None:
    """The time that a message ends with; None where there is none."""
    found = _TOLD.search(message)
    try:
        return datetime.fromisoformat(found[1]) if found else None
    except ValueError:
        return None
