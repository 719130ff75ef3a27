"""Gives open connections their scope again when callers may be in other groups."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from registry.answers import Answers
from tars_protocol.connection import Connection

_AT_ONCE: Final = 200
"""Scopes that are made at a stretch: half a millisecond."""

_PAUSE: Final = 1.0
"""Seconds between two rounds over all connections: pods that come and go by the hundred ask for one each."""


class Scopes:
    """Renews the scopes of ``connections`` after :meth:`moved` was called. ``run`` it."""

    def __init__(self, answers: Answers, connections: Callable[[], Iterable[Connection]]) -> None:
        self._answers = answers
        self._connections = connections
        self._moved = asyncio.Event()

    def moved(self) -> None:
        """Callers may be in other groups now."""
        self._moved.set()

    async def run(self) -> None:
        """Renew for ever, some at a time; all at first, as a run before may have ended in the middle."""
        self._moved.set()
        while True:
            await self._moved.wait()
            self._moved.clear()
            self._answers.pods_moved()
            for number, connection in enumerate(self._connections(), 1):
                connection.scope = self._answers.scope(connection.caller)
                if number % _AT_ONCE == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(_PAUSE)
