"""Turns for connections whose requests wait: one round in each turn of the event loop."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from time import perf_counter
from typing import Protocol

from tars_protocol.turns import Turns


class Waiting(Protocol):
    """What has a turn."""

    since: float | None
    """Since when it waits, on the loop's clock; None where it is not its turn that it waits for."""

    def go_on(self, *, late: bool) -> None:
        """Have it; enter again where it was not enough. ``late``: it has waited for too long."""


class Rounds:
    """Who waits for a turn.

    The addresses have theirs one after the other, and so have the connections of each: a peer with a thousand
    connections holds up its own more than those of others. All turns of one round together use up one stretch of
    ``turns``, each of them a share of its time; the next round comes after everything that has happened meanwhile.

    ``patience`` is for how many seconds one may wait. Who has waited longer may use up the stretch: to refuse what has
    come takes little, and helps its callers only if it is done at once.
    """

    def __init__(self, turns: Turns, patience: float) -> None:
        self.patience = patience
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
        self._turns.crowded = True
        self._plan()

    def _plan(self) -> None:
        if self._next is None:
            self._next = asyncio.get_running_loop().call_soon(self._round)

    def _round(self) -> None:
        self._next = None
        turns = self._turns
        turns.renew()
        if not self._waiting:
            return
        end = perf_counter() + turns.seconds
        share = turns.seconds / self._waiting
        now = asyncio.get_running_loop().time()
        try:
            for _ in range(self._waiting):
                waiting = self._take()
                late = waiting.since is not None and now - waiting.since > self.patience
                turns.share = turns.left if late else share
                waiting.go_on(late=late)
                # What it takes to send the answers counts as well.
                if turns.room < 0 or turns.left < 0 or perf_counter() >= end:
                    break
        finally:
            turns.crowded = self._waiting > 0
            # Also where nobody waits any more: who comes next is to find a stretch that is not used up.
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
