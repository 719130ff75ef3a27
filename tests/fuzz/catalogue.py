"""Every malformed input that is tried, each with its name and with what must come of it by the wire notes.

They are made by hand from the tables of the notes (:mod:`tests.fuzz.pieces`), so that the codec has no part in saying
what is right. The same come out each time. The tests drive each of them; ``python -m benchmarks.malformed`` measures
what each costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from tests.fuzz.cases import Case
from tests.fuzz.full_frames import full_frames
from tests.fuzz.small_bodies import small_bodies
from tests.fuzz.small_packets import small_packets
from tests.fuzz.small_reports import small_reports


@cache
def small() -> tuple[Case, ...]:
    """Those of the size of an honest question."""
    return (*small_packets(), *small_bodies(), *small_reports())


def full() -> Iterator[Case]:
    """Those that need a long frame. One at a time: together they are half a gigabyte."""
    return full_frames()


def catalogue() -> Iterator[Case]:
    """All of them, small ones first."""
    yield from small()
    yield from full()
