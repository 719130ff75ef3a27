"""A mapping that stays as it is; one that differs from it a little shares nearly all of its memory.

The table's snapshots are of this kind: to copy 10,000 entries for each change takes longer than all else that a change
does, and Python's garbage collector would look through each copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Final, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_PARTS: Final = 256
"""A change copies one part, and the list of them: with 10,000 entries 40 and 256."""


class Shards(Mapping[K, V]):
    """Entries in parts, by their keys' hashes."""

    __slots__ = ("_parts", "_size")

    def __init__(self) -> None:
        self._parts: tuple[dict[K, V], ...] = ({},) * _PARTS
        """Never changed: snapshots share them."""
        self._size = 0

    def changed(self, new: Mapping[K, V | None]) -> Shards[K, V]:
        """The same with these entries; without those that are None."""
        parts = list(self._parts)
        own: set[int] = set()
        for key, value in new.items():
            at = hash(key) % _PARTS
            if at not in own:
                own.add(at)
                parts[at] = parts[at].copy()
            if value is None:
                parts[at].pop(key, None)
            else:
                parts[at][key] = value
        made: Shards[K, V] = Shards()
        made._parts = tuple(parts)
        made._size = self._size + sum(len(parts[at]) - len(self._parts[at]) for at in own)
        return made

    def differing(self, other: Shards[K, V]) -> Iterator[K]:
        """The keys whose values may not be the same objects in another; looks only at parts that are not shared."""
        for mine, its in zip(self._parts, other._parts, strict=True):
            if mine is not its:
                yield from (key for key in mine.keys() | its.keys() if mine.get(key) is not its.get(key))

    def __getitem__(self, key: K) -> V:
        return self._parts[hash(key) % _PARTS][key]

    def __iter__(self) -> Iterator[K]:
        return chain.from_iterable(self._parts)

    def __len__(self) -> int:
        return self._size
