"""A histogram of times with steps of under 1 %, the same as in load.c: 128 steps for each power of two nanoseconds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final, Self

SUB_BITS: Final = 7
_STEPS: Final = 1 << SUB_BITS


def bucket_of(value: int) -> int:
    """The bucket of a number of nanoseconds."""
    if value < _STEPS:
        return max(0, value)
    shift = value.bit_length() - 1 - SUB_BITS
    return ((shift + 1) << SUB_BITS) + (value >> shift) - _STEPS


def upper_end(bucket: int) -> int:
    """The largest number of nanoseconds that falls into a bucket."""
    if bucket < _STEPS:
        return bucket
    shift = (bucket >> SUB_BITS) - 1
    return ((bucket % _STEPS + _STEPS + 1) << shift) - 1


class Histogram:
    """Counts of times, in nanoseconds."""

    __slots__ = ("count", "counts", "max")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.count = 0
        self.max = 0

    def add(self, value: int, times: int = 1) -> None:
        """One more (or so many more) of a value."""
        bucket = bucket_of(value)
        self.counts[bucket] = self.counts.get(bucket, 0) + times
        self.count += times
        self.max = max(self.max, value)

    def merge(self, other: Histogram) -> None:
        """Take in all of another."""
        for bucket, times in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + times
        self.count += other.count
        self.max = max(self.max, other.max)

    def percentile(self, share: float) -> int:
        """The value that so many percent do not exceed, good to the step; 0 where there are none."""
        left = math.ceil(self.count * share / 100)
        for bucket in sorted(self.counts):
            left -= self.counts[bucket]
            if left <= 0:
                return min(upper_end(bucket), self.max)
        return self.max

    def milliseconds(self, share: float) -> float:
        """The same in milliseconds."""
        return self.percentile(share) / 1e6

    def curve(self) -> list[tuple[float, float]]:
        """Points for a plot: percentage of the values below (to 99.99 and 100), and milliseconds."""
        points = []
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            points.append((100 * seen / self.count, min(upper_end(bucket), self.max) / 1e6))
        return points

    def to_json(self) -> dict[str, Any]:
        """As the load generators print it."""
        return {
            "count": self.count,
            "max_ns": self.max,
            "buckets": [list(each) for each in sorted(self.counts.items())],
        }

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Self:
        """From what a load generator printed."""
        made = cls()
        made.counts = dict(said["buckets"])
        made.count = said["count"]
        made.max = said["max_ns"]
        return made

    @classmethod
    def merged(cls, several: Iterable[Histogram]) -> Self:
        """All of several in one."""
        made = cls()
        for each in several:
            made.merge(each)
        return made
