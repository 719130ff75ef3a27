"""Notices that the time of day was set. Nothing depends on it but what is shown; who reads the log should know."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

log = logging.getLogger(__name__)

_EVERY: Final = 1.0
_JUMP: Final = 1.0
"""Seconds. A clock that is adjusted slowly gains or loses half a millisecond a second."""


class ClockWatch:
    """Compares the time of day with a clock that nobody can set. ``jumps`` counts how often they parted."""

    def __init__(self) -> None:
        self._apart = time.time() - time.monotonic()
        self.jumps = 0

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(_EVERY)
            self.look()

    def look(self) -> None:
        """Look now."""
        apart = time.time() - time.monotonic()
        by, self._apart = apart - self._apart, apart
        if abs(by) >= _JUMP:
            self.jumps += 1
            log.warning(
                "the clock was set %s by %.0f s, or the machine slept; deadlines and the age of the table do not "
                "depend on it, times in the log and certificates do",
                "forward" if by > 0 else "back",
                abs(by),
            )
