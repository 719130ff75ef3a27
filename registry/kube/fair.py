"""Shares of what is bounded, by address: whoever asks for much waits for its own, and takes nothing from others."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Lines(Generic[T]):
    """What waits for its turn, in a line for each address; the lines take turns, but that of "" goes first."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, OrderedDict[T, None]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._lines)

    def put(self, address: str, item: T) -> None:
        """At the end of the line of an address, unless it stands in there already."""
        self._lines.setdefault(address, OrderedDict())[item] = None

    def take(self) -> T | None:
        """That of the address whose turn it is, None where nothing waits. It may stand in other lines still."""
        if not self._lines:
            return None
        address = "" if "" in self._lines else next(iter(self._lines))
        line = self._lines[address]
        item, _ = line.popitem(last=False)
        if line:
            self._lines.move_to_end(address)
        else:
            del self._lines[address]
        return item


class Shares(Generic[T]):
    """What each address has of something of which there is a bounded amount."""

    def __init__(self) -> None:
        self._items: dict[str, OrderedDict[T, None]] = {}
        self._by_size: dict[int, dict[str, None]] = {}
        """The addresses that have so many."""
        self._all = 0

    def __len__(self) -> int:
        return self._all

    def add(self, address: str, item: T) -> None:
        """An address has one more."""
        items = self._items.setdefault(address, OrderedDict())
        if item not in items:
            self._moved(address, len(items), 1)
            items[item] = None

    def discard(self, address: str, item: T) -> None:
        """An address has this one no more, if it had it."""
        items = self._items.get(address)
        if items is None or item not in items:
            return
        self._moved(address, len(items), -1)
        del items[item]
        if not items:
            del self._items[address]

    def surplus(self, address: str) -> tuple[str, T] | None:
        """What is to make room for one more of an address: the newest of the address that has the most.

        None where nobody has more than this one would have then.
        """
        most = max(self._by_size, default=0)
        if most <= len(self._items.get(address, ())) + 1:
            return None
        other = next(iter(self._by_size[most]))
        return other, next(reversed(self._items[other]))

    def _moved(self, address: str, size: int, by: int) -> None:
        self._all += by
        if size:
            del self._by_size[size][address]
            if not self._by_size[size]:
                del self._by_size[size]
        if size + by:
            self._by_size.setdefault(size + by, {})[address] = None
