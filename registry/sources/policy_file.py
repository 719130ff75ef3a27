"""The routing policy in a file: read at start, and again after each change of it."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Final

from watchfiles import awatch

from registry.model import Kind, PolicyText
from registry.sources.base import Sink, SourceError
from registry.sources.directory import DEBOUNCE_MS, STEP_MS, DirectorySettings
from registry.sources.supervise import supervise

log = logging.getLogger(__name__)

PART: Final = (Kind.POLICY, "")
"""What a file hands over, as the table calls it."""


class PolicyFile:
    """Follows one file into the sink, as text: whoever reads it judges it. A file that is gone is a problem of it.

    Looked at after each change in its folder (an editor's, or that of a mounted ConfigMap, whose files are links), and
    every now and then, as network file systems tell of none.
    """

    def __init__(self, path: Path, sink: Sink, settings: DirectorySettings | None = None) -> None:
        self.path = path
        self._sink = sink
        self._settings = settings or DirectorySettings()
        self._changed = asyncio.Event()

    def check(self) -> None:
        """Raise SourceError where there is no such file to begin with."""
        try:
            with self.path.open("rb"):
                pass
        except OSError as error:
            raise SourceError(
                f"{self.path}: the routing policy can't be read: {error.strerror}; name another with --routing-policy"
            ) from None

    async def run(self) -> None:
        """Follow until cancelled."""
        watch = asyncio.create_task(supervise(f"the watch of {self.path}", self._watch, lambda _: None, lambda: None))
        try:
            while True:
                self._changed.clear()
                await self.read()
                try:
                    async with asyncio.timeout(self._settings.rescan_interval):
                        await self._changed.wait()
                except TimeoutError:
                    pass
        finally:
            watch.cancel()
            await asyncio.wait([watch])

    async def read(self) -> None:
        """Hand the text over as it is now."""
        text, problem = await asyncio.to_thread(_read, self.path, self._settings.max_file_bytes)
        # As all that there is of the kind: a snapshot may have brought the policy of a file that was named before.
        self._sink.replace(Kind.POLICY, [PolicyText("", str(self.path), text, problem)])
        self._sink.synced(*PART)

    async def _watch(self) -> None:
        folder = self.path.absolute().parent
        while True:
            try:
                async for _ in awatch(
                    folder,
                    watch_filter=None,
                    step=STEP_MS,
                    debounce=DEBOUNCE_MS,
                    recursive=False,
                    ignore_permission_denied=True,
                ):
                    self._changed.set()
            except (OSError, RuntimeError) as error:  # no such folder now, or no more watches to be had
                log.debug("%s: changes are not told: %s", folder, error)
            await asyncio.sleep(self._settings.rescan_interval)


def _read(path: Path, max_bytes: int) -> tuple[str, str]:
    """Text of a file, and why there is none."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        return "", f"it can't be read: {error.strerror}"
    if len(data) > max_bytes:
        return "", f"longer than max_file_bytes, {max_bytes} bytes"
    try:
        return data.decode("utf-8-sig"), ""
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return "", f"line {line}: not UTF-8"
