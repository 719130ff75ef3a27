"""A directory of manifests as the source: for tests, for trying things out, and for places without Kubernetes.

Changes are seen through the operating system's events, within about 0.1 s, and by going through the directory every
now and then, as network file systems send none. What is broken keeps its last good content.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from watchfiles import Change, awatch

from registry.model import CUSTOM_RESOURCES, Kind, Object, ObjectKey
from registry.sources.base import Problem, Sink, SourceError, SourceStatus
from registry.sources.files import Directory, differences, identity, look, new_flaws
from registry.sources.manifests import Reason
from tars_protocol.settings import setting

log = logging.getLogger(__name__)

STEP_MS: Final = 50
"""Quiet time that ends a burst of events: an editor's truncating and writing is one change."""

DEBOUNCE_MS: Final = 200
"""A burst is looked at after this time even when it goes on."""

RETRY_SECONDS: Final = 0.5
"""How often to look for a directory that went away."""

SINGLY: Final = 100
"""Up to so many changes of a kind are handed over one by one: a large table is then not compared as a whole."""

LOGGED_AT_ONCE: Final = 20
"""Problems logged of one pass; all of them are in the status."""


@dataclass(frozen=True, slots=True)
class DirectorySettings:
    """How a directory of manifests is followed."""

    rescan_interval: float = setting(
        10.0,
        "How often to go through the directory without being told of a change: network file systems send no events. "
        "Only files with another time, size or inode are read.",
        unit="seconds",
        minimum=0.01,
    )
    max_file_bytes: int = setting(
        64 << 20,
        "Longest file read; of a longer one nothing is taken.",
        unit="bytes",
        minimum=1,
    )


class DirectorySource:
    """Follows the ``*.yaml``, ``*.yml`` and ``*.json`` files of a directory and the folders in it, but hidden ones.

    Call :meth:`check` before starting, then :meth:`run`. ``status`` tells how it is: ``starting`` until everything was
    read once, ``watching``, or ``failing`` while there is no such directory.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        sink: Sink,
        settings: DirectorySettings | None = None,
        status: SourceStatus | None = None,
    ) -> None:
        self.path = Path(path)
        self.status = SourceStatus("directory") if status is None else status
        self._sink = sink
        self._settings = DirectorySettings() if settings is None else settings
        self._known = Directory()
        self._failure: Problem | None = None
        self._blind: Problem | None = None
        self._changed = asyncio.Event()

    @property
    def statuses(self) -> list[SourceStatus]:
        """How it is: one part, all of it."""
        return [self.status]

    def check(self) -> None:
        """Raise SourceError where there is no directory that can be read."""
        try:
            with os.scandir(self.path):
                pass
        except FileNotFoundError:
            raise SourceError(f"{self.path}: no such directory; create it or name another with --manifests") from None
        except NotADirectoryError:
            raise SourceError(
                f"{self.path}: not a directory; name the one that holds the manifests with --manifests"
            ) from None
        except OSError as error:
            raise SourceError(
                f"{self.path}: can't be read: {error.strerror}; "
                "give this user the right to, or name another with --manifests"
            ) from None

    async def run(self) -> None:
        """Follow the directory until cancelled."""
        watch: asyncio.Task[None] | None = None
        watched: tuple[int, int] | None = None
        try:
            while True:
                self._changed.clear()
                here = await asyncio.to_thread(identity, self.path)
                if watch is not None and (watch.done() or here != watched):
                    await _end(watch)
                    watch = None
                if watch is None and here is not None:
                    watch, watched = asyncio.create_task(self._watch()), here
                    # Its first step sets the watch up: what changes from here on is seen, what did before is read now.
                    await asyncio.sleep(0)
                    if not watch.done():
                        self._blind = None
                await self.scan()
                interval = self._settings.rescan_interval
                await self._wait(interval if self._failure is None else min(interval, RETRY_SECONDS))
        finally:
            if watch is not None:
                await _end(watch)

    async def scan(self) -> None:
        """Go through the directory once and hand over what changed."""
        known = self._known
        try:
            found = await asyncio.to_thread(look, self.path, known, self._settings.max_file_bytes)
        except OSError as error:
            self._fail(error)
            return
        if self._failure is not None:
            log.info("%s: there again", self.path)
            self._failure = None
        if self.status.synced:
            # Compares every object that was read again: too long for the loop where a file holds thousands.
            changes = await asyncio.to_thread(_differences, known, found)
            self._hand_over_changes(changes, found)
        else:
            self._hand_over_all(found)
        self._known = found
        self._report(known, found)
        self.status.state = "watching"
        self.status.last_success = time.monotonic()

    async def _watch(self) -> None:
        """Set ``_changed`` with every change, until the directory itself is deleted."""
        own_path = str(self.path.absolute())
        try:
            async for changes in awatch(
                own_path, watch_filter=None, step=STEP_MS, debounce=DEBOUNCE_MS, ignore_permission_denied=True
            ):
                self._changed.set()
                if (Change.deleted, own_path) in changes:
                    return
        except (OSError, RuntimeError) as error:  # no more watches to be had, mostly
            reason = f"changes are not told: {error}; looking every {self._settings.rescan_interval:g} s"
            problem = Problem(str(self.path), reason)
            if problem != self._blind:
                log.warning("%s", problem)
            self._blind = problem

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _hand_over_all(self, found: Directory) -> None:
        for kind in CUSTOM_RESOURCES:
            self._sink.replace(kind, found.objects[kind].values())
        for kind in CUSTOM_RESOURCES:
            self._sink.synced(kind)
        self.status.synced = True
        self.status.last_change = time.monotonic()
        counts = ", ".join(f"{len(found.objects[kind])} {kind}" for kind in CUSTOM_RESOURCES)
        log.info("%s: %s in %d files", self.path, counts, len(found.files))

    def _hand_over_changes(self, changes: Differences, found: Directory) -> None:
        for kind, (changed, gone) in changes.items():
            self._hand_over_kind(kind, changed, gone, found)
            self.status.last_change = time.monotonic()
            log.info("%s: %d %s new or changed, %d gone", self.path, len(changed), kind, len(gone))

    def _hand_over_kind(self, kind: Kind, changed: list[Object], gone: list[ObjectKey], found: Directory) -> None:
        if len(changed) + len(gone) > SINGLY:
            self._sink.replace(kind, found.objects[kind].values())
            return
        # New ones first: a server whose object got another name is never without one.
        for item in changed:
            self._sink.upsert(item)
        for key in gone:
            self._sink.delete(kind, key)

    def _report(self, known: Directory, found: Directory) -> None:
        new = new_flaws(known, found) if found.objects is not known.objects else []
        for one in new:
            self.status.count(one.flaw.reason)
        for one in new[:LOGGED_AT_ONCE]:
            log.warning("%s", one.problem(self.path))
        if len(new) > LOGGED_AT_ONCE:
            log.warning("%s: and %d more problems", self.path, len(new) - LOGGED_AT_ONCE)
        for file, state in found.files.items():
            if state.flaw is None and (before := known.files.get(file)) is not None and before.flaw is not None:
                log.info("%s: mended", self.path / file)
        self._show_problems()

    def _fail(self, error: OSError) -> None:
        """The directory itself can't be read: all that is known stays."""
        missing = isinstance(error, FileNotFoundError)
        reason = "no such directory" if missing else f"can't be read: {error.strerror}"
        failure = Problem(str(self.path), f"{reason}; what was read from it stays until it is there again")
        if failure != self._failure:
            log.warning("%s", failure)
            self.status.count(Reason.UNREADABLE)
        self._failure = failure
        self.status.state = "failing"
        self._show_problems()

    def _show_problems(self) -> None:
        own = (problem for problem in (self._failure, self._blind) if problem is not None)
        self.status.problems = (*own, *(one.problem(self.path) for one in self._known.flaws))


Differences = dict[Kind, tuple[list[Object], list[ObjectKey]]]
"""New or changed objects and keys of those that are gone, of the kinds that have any."""


def _differences(known: Directory, found: Directory) -> Differences:
    if found.objects is known.objects:
        return {}
    all_kinds = {kind: differences(known.objects, found.objects, kind) for kind in CUSTOM_RESOURCES}
    return {kind: (changed, gone) for kind, (changed, gone) in all_kinds.items() if changed or gone}


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("the watch of a directory ended: %r", error, exc_info=error)
