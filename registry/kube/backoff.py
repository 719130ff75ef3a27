"""How long to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """A pause that doubles with each failure in a row, with full jitter, and starts short again after a healthy while.

    ``first`` and ``longest`` bound it in seconds. The jitter draws from 0 up to the bound, which spreads many replicas
    over all of it: those that lose the API server in one moment do not come back in one.
    """

    def __init__(
        self, first: float, longest: float, reset_after: float, clock: Callable[[], float], chance: random.Random
    ) -> None:
        self._first = first
        self._longest = longest
        self._reset_after = reset_after
        self._clock = clock
        self._chance = chance
        self._failures = 0
        self._healthy_since: float | None = None

    def healthy(self) -> None:
        """All is well as of now; after ``reset_after`` seconds of it the next failure counts as the first."""
        if self._healthy_since is None:
            self._healthy_since = self._clock()

    def pause(self) -> float:
        """One more failure: seconds to wait."""
        if self._healthy_since is not None and self._clock() - self._healthy_since >= self._reset_after:
            self._failures = 0
        self._healthy_since = None
        # The exponent is bounded so that the power stays a small number.
        bound = min(self._first * 2 ** min(self._failures, 30), self._longest)
        self._failures += 1
        return self._chance.uniform(0, bound)
