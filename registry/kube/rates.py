"""No more than so many a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class TokenBucket:
    """``rate`` a second in the long run; up to ``burst`` at once after a quiet time."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._left = self._burst
        self._at = clock()

    def wait(self) -> float:
        """Seconds until there is one to take; 0 where there is one now."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        # What is missing by the roundings of a float is not worth a wait.
        return 0.0 if self._left >= 1 - 1e-6 else (1 - self._left) / self._rate

    def take(self) -> bool:
        """Take one, if there is one."""
        if self.wait():
            return False
        self._left -= 1
        return True

    async def taken(self) -> None:
        """Wait for one, and take it."""
        seconds = self.wait()
        # What is owed is waited for by those that come later.
        self._left -= 1
        if seconds:
            await asyncio.sleep(seconds)
