"""Turns for connections whose requests wait to be decoded: one round in each turn of the event loop."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from time import perf_counter
from typing import Protocol

from tars_protocol.turns import Turns


class Waiting(Protocol):
    """What has a turn."""

    def go_on(self) -> None:
        """Have it; enter the round again where it was not enough."""


class Rounds:
    """Who waits for a turn.

    The addresses have theirs one after the other, and so have the connections of each: a peer with a thousand
    connections holds up its own more than those of others. All turns of one round together use up one stretch of
    ``turns``, each of them a share of its time; the next round comes after everything that has happened meanwhile.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._lines: OrderedDict[str, deque[Waiting]] = OrderedDict()
        """Those that wait, by address, in the order of their turns."""
        self._waiting = 0
        self._next: asyncio.Handle | None = None

    def __len__(self) -> int:
        return self._waiting

    def enter(self, address: str, waiting: Waiting) -> None:
        """Have a turn in this round or the next."""
        self._lines.setdefault(address, deque()).append(waiting)
        self._waiting += 1
        self._plan()

    def _plan(self) -> None:
        if self._next is None:
            self._next = asyncio.get_running_loop().call_soon(self._round)

    def _round(self) -> None:
        self._next = None
        turns = self._turns
        turns.renew()
        share = turns.seconds / max(1, self._waiting)
        # Kept answers take none of the stretch, but they take time.
        end = perf_counter() + turns.seconds
        try:
            for _ in range(self._waiting):
                turns.floor = max(0.0, turns.left - share)
                self._take().go_on()
                if turns.over or perf_counter() >= end:
                    break
        finally:
            turns.floor = 0.0
            # Also where nobody waits any more: who comes next is to find a stretch that is not used up.
            if self._waiting or turns.over:
                self._plan()

    def _take(self) -> Waiting:
        """The one whose turn it is; its address is behind all others then."""
        address, line = next(iter(self._lines.items()))
        waiting = line.popleft()
        if line:
            self._lines.move_to_end(address)
        else:
            del self._lines[address]
        self._waiting -= 1
        return waiting
