"""Restores the table from the snapshot file at start, and writes it now and then."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from registry import snapshot
from registry.model import Kind, Object
from registry.table import Part, TableStore

log = logging.getLogger(__name__)

_WAITING: Final = 1.0
"""Seconds between looks whether the table is all there."""


async def encode(objects: Mapping[Kind, Iterable[Object]], parts: Iterable[Part], written: float) -> list[bytes]:
    """The lines of a file; gives way to others between them."""
    lines: list[bytes] = []
    for line in snapshot.encode(objects, parts, written):
        lines.append(line)
        await asyncio.sleep(0)
    return [lines[-1], *lines[:-1]]


class SnapshotKeeper:
    """Restores a table at start and writes it now and then. ``errors`` counts writings that failed."""

    def __init__(self, store: TableStore, parts: Iterable[Part], path: Path, interval: float) -> None:
        self._store = store
        self._parts = frozenset(parts)
        self._path = path
        self._interval = interval
        self._changed = asyncio.Event()
        self._writing: asyncio.Future[None] | None = None
        """A writing that may still be under way, though whoever began it was cancelled."""
        self._failed = False
        self.errors = 0
        self.written: float | None = None
        """Unix time of the file's table; None where there is no file."""
        self._age = 0.0
        self._since = 0.0
        """The table of the file was so old at this moment of a clock that nobody can set."""
        store.subscribe(lambda _: self._changed.set())

    @property
    def age(self) -> float | None:
        """Seconds since the file's table was current; None where there is no file. Setting the clock changes nothing
        of it, but between two runs of the service there is no other clock."""
        return None if self.written is None else self._age + time.monotonic() - self._since

    def restore(self) -> bool:
        """Fill the table from the file, where it has all that the table needs. True where that was done."""
        found = snapshot.load(self._path)
        if found is None:
            return False
        self._dated(found.written)
        missing = self._parts - found.parts
        if missing:
            names = sorted(f"{kind} in {namespace}" if namespace else str(kind) for kind, namespace in missing)
            log.warning("%s: the snapshot lacks %s; it is not used", self._path, ", ".join(names))
            return False
        followed = {
            kind: [item for item in items if (kind, item.namespace) in self._parts or (kind, "") in self._parts]
            for kind, items in found.objects.items()
        }
        self._store.restore(followed)
        # What was restored is not written again: it is no newer than the file.
        self._changed.clear()
        log.warning("%s: serving the table of %.0f s ago until the sources are synchronised", self._path, self._age)
        return True

    def _dated(self, written: float) -> None:
        """There is a file of this Unix time."""
        self.written = written
        self._age, self._since = max(0.0, time.time() - written), time.monotonic()

    async def run(self) -> None:
        """Write after changes, for ever."""
        while True:
            await self._changed.wait()
            if self._store.waiting_for:
                await asyncio.sleep(_WAITING)
                continue
            await self.write()
            await asyncio.sleep(self._interval)

    async def write(self) -> None:
        """Write the table now, if it is all there and changed. A failure is logged and tried again after the next."""
        if self._store.waiting_for or not self._changed.is_set():
            return
        self._changed.clear()
        try:
            now = time.time()
            lines = await encode(self._store.objects(), self._parts, now)
            await self._replace_file(lines)
        except OSError as error:
            self.errors += 1
            self._changed.set()
            if not self._failed:
                log.error("%s: the snapshot can't be written: %s; the old one stays", self._path, error.strerror)
            self._failed = True
            return
        except asyncio.CancelledError:
            # There is one more writing at exit, which must not take this one for done.
            self._changed.set()
            raise
        if self._failed:
            log.info("%s: the snapshot is written again", self._path)
        self._failed = False
        self._dated(now)

    async def _replace_file(self, lines: Iterable[bytes]) -> None:
        """Write in a thread, one file after the other: threads can't be cancelled."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
            self._writing.exception()
        self._writing = asyncio.ensure_future(asyncio.to_thread(snapshot.write, self._path, lines))
        await asyncio.shield(self._writing)
