"""Counters that cost nearly nothing while they are kept, and are read when somebody asks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence


class Histogram:
    """How many observations fell up to each of ``bounds`` (ascending; one more bucket is above the last)."""

    __slots__ = ("bounds", "buckets", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.buckets = [0] * (len(self.bounds) + 1)
        self.total = 0.0
        """Sum of what was observed."""

    def observe(self, value: float) -> None:
        """One more observation."""
        self.buckets[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[float, int]]:
        """(bound, observations up to it) for each bound, the last one infinite."""
        counted = 0
        result = []
        for bound, count in zip((*self.bounds, float("inf")), self.buckets, strict=True):
            counted += count
            result.append((bound, counted))
        return result
