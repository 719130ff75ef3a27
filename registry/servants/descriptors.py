"""getServerDescriptor: how a tarsnode is to run its server."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from registry.model import Server
from registry.profile import ProfileError, ProfileLimits, Profiles, descriptor, join
from registry.table import Table
from tars_protocol.dispatch import Call
from tars_protocol.interfaces.registry import ServerDescriptor

log = logging.getLogger(__name__)

_NONE: Final = (-1, ServerDescriptor(profile="", adapters={}))
"""There is no descriptor. A tarsnode asks again every second."""

_LONG: Final = 100_000
"""Characters that take more than some milliseconds to join: others get their turn meanwhile."""

_MAX_NAME: Final = 100
"""Characters of a caller's text that go into the log."""


class Descriptors:
    """Answers from the table. ``refused`` counts the calls that got no descriptor, by reason."""

    def __init__(self, table: Callable[[], Table], limits: ProfileLimits | None = None) -> None:
        self._table = table
        self._profiles = Profiles(limits)
        self._joining: dict[tuple[str, ...], asyncio.Task[str]] = {}
        """Long profiles that are being joined, by their texts."""
        self._one_at_a_time = asyncio.Lock()
        self.refused: Counter[str] = Counter()

    async def answer(self, call: Call) -> tuple[Any, ...]:
        """The implementation of getServerDescriptor(app, server): return value and descriptor."""
        app, name = call.arguments
        table = self._table()
        if not table.synced:
            return self._refuse(call, "not_synchronised", "the table is not synchronised yet")
        if not app or not name:
            return self._refuse(call, "empty_name", "expected the names of an application and a server")
        known = table.find(app, name)
        if not known:
            return self._refuse(call, "unknown_server", "no such server is known")
        server = _of_caller(known, call.caller.peer)
        try:
            texts = self._profiles.sources(server, table.templates)
            profile = self._profiles.find(texts)
            if profile is None:
                short = sum(map(len, texts)) <= _LONG
                profile = join(texts) if short else await self._joined(texts)
                self._profiles.keep(texts, profile)
        except ProfileError as error:
            return self._refuse(call, "profile", str(error))
        return 0, descriptor(server, app, name, profile)

    async def _joined(self, texts: tuple[str, ...]) -> str:
        """A long profile: joined once for all who ask meanwhile, also where it is too long to be kept. Raises
        ProfileError."""
        joining = self._joining.get(texts)
        if joining is None:
            joining = self._joining[texts] = asyncio.create_task(self._join(texts))
            joining.add_done_callback(lambda _: self._joining.pop(texts))
        # Others may wait for it, too.
        return await asyncio.shield(joining)

    async def _join(self, texts: tuple[str, ...]) -> str:
        # Several threads would take no less time, but more of the event loop's.
        async with self._one_at_a_time:
            return await asyncio.to_thread(join, texts)

    def _refuse(self, call: Call, reason: str, text: str) -> tuple[Any, ...]:
        self.refused[reason] += 1
        app, name = (str(argument)[:_MAX_NAME] for argument in call.arguments)
        log.warning(
            "no descriptor of %s.%s for %s: %s", app, name, call.caller, text, extra={"limit_key": call.caller.peer}
        )
        return _NONE


def _of_caller(known: tuple[Server, ...], peer: str) -> Server:
    """Of several objects of one server (in other namespaces, say) the one that has the caller's pod, else the first."""
    return next((server for server in known if any(pod.pod_ip == peer for pod in server.pods)), known[0])
