"""The registry's own readiness: the condition that the readiness gate of its pod looks at, where it has one."""

from __future__ import annotations

import asyncio
import logging
from typing import Final, NoReturn

from registry.kube.pods import Condition
from registry.kube.reports import Outcome, Result, Wanted
from registry.kube.writer import Writer
from registry.model import ACTIVE
from registry.servants.states import ACTIVE_CONDITION, StateSettings
from registry.table import TableStore

log = logging.getLogger(__name__)

_SERVING: Final = Condition(ACTIVE_CONDITION, True, f"{ACTIVE}/{ACTIVE}", "the registry has its table")
_TRY_AGAIN: Final = 5.0
"""Seconds until the next try where the condition could not be set."""

_LEAVING: Final = Condition(ACTIVE_CONDITION, False, f"{ACTIVE}/Deactivating", "the registry is stopping")


class OwnReadiness:
    """Sets the condition once every list is whole, and clears it at the end. ``run`` it."""

    def __init__(
        self, writer: Writer, store: TableStore, namespace: str, pod: str, settings: StateSettings | None = None
    ) -> None:
        self._writer = writer
        self._namespace = namespace
        self._pod = pod
        self._settings = settings or StateSettings()
        self._whole = asyncio.Event()
        self._set = self._leaving = False
        self._told = ""
        # A table restored from a file is served, but it is not known to be true.
        store.when_whole(self._whole.set)

    async def run(self) -> NoReturn:
        """Set the condition, and see to it that it stays."""
        await self._whole.wait()
        while True:
            pause = self._settings.readiness_interval
            # A registry that drains is still looked after by this.
            if not self._leaving:
                self._set = True
                outcome = await self._write(_SERVING)
                self._tell(outcome)
                if outcome.error:
                    pause = min(pause, _TRY_AGAIN)
            await asyncio.sleep(pause)

    async def leave(self) -> None:
        """Clear the condition, if it was set, and for good; waits for that for a bounded time."""
        self._leaving = True
        if not self._set:
            return
        try:
            async with asyncio.timeout(self._settings.leave_timeout):
                outcome = await self._write(_LEAVING)
        except TimeoutError:
            log.warning(
                "the own readiness gate is not cleared in time: %s", self._writer.problem or "too much to write"
            )
            return
        self._tell(outcome)

    def _write(self, condition: Condition) -> asyncio.Future[Outcome]:
        return self._writer.submit(Wanted((self._namespace,), self._pod, condition))

    def _tell(self, outcome: Outcome) -> None:
        """Once, until it is another."""
        said = outcome.error
        if said and said != self._told:
            log.warning(
                "the own readiness gate is left alone (pod %s/%s): %s", self._namespace, self._pod, outcome.text
            )
        elif outcome.result is Result.WRITTEN:
            log.info("own readiness gate: %s was %s", ACTIVE_CONDITION, outcome.before or "not set")
        self._told = said
