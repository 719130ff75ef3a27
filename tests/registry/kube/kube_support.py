"""What the tests of the reflector share: made-up things, a store that records, and a reflector at work."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from msgspec import Struct

from registry.kube.objects import Key, Meta, decoder
from registry.kube.reflector import Reflector
from registry.kube.resource import ReflectorStatus, Resource, Session
from registry.kube.settings import ReflectorSettings
from tests.support.scripted_api import OLDER_PATH, PATH, FakeApi
from tests.support.virtual_time import now


class Thing(Struct, frozen=True):
    """What is kept of an object."""

    namespace: str
    name: str
    version: int
    value: int


class _ThingObject(Struct):
    metadata: Meta
    value: int = 0


def _to_thing(found: _ThingObject) -> Thing | None:
    if found.value < 0:
        return None
    if found.value > 1_000_000:
        raise ValueError(f"{found.value} is too many")
    return Thing(found.metadata.namespace, found.metadata.name, int(found.metadata.resource_version), found.value)


THINGS: Final[Resource[Thing]] = Resource(
    "things in ns", (PATH,), decoder(_ThingObject, _to_thing), {}, "kubectl grant things", "kubectl install things"
)
EITHER_VERSION: Final = replace(THINGS, paths=(PATH, OLDER_PATH))

AT_ONCE: Final = ReflectorSettings(list_spread=0)
"""A first list without the spread, so that tests can say when things happen."""


class RecordingStore:
    """Holds things, and records what was done to it and when. ``wrong`` is what must never be done to it."""

    def __init__(self) -> None:
        self.things: dict[Key, Thing] = {}
        self.calls: list[tuple[str, Any]] = []
        self.times: list[float] = []
        self.wrong: list[str] = []
        self._newest: dict[Key, int] = {}

    @property
    def values(self) -> dict[str, int]:
        """Name to value of all that is held."""
        return {thing.name: thing.value for thing in self.things.values()}

    def replacing(self, things: Iterable[Thing]) -> Iterator[None]:
        """All things there are; nothing changes before the last step."""
        items: list[Thing] = []
        for item in things:
            items.append(item)
            yield
        fresh = {(item.namespace, item.name): item for item in items}
        if len(fresh) != len(items):
            self.wrong.append(f"a list with one thing twice: {items}")
        for key in set(self.things) - set(fresh):
            self._newest[key] += 1
        for item in items:
            self._held(item)
        self.things = fresh
        self._record("replace", sorted(item.name for item in items))

    def upsert(self, item: Thing) -> None:
        """A thing that is new or changed."""
        self._held(item)
        self.things[item.namespace, item.name] = item
        self._record("upsert", item.name)

    def delete(self, key: Key) -> None:
        """A thing that is gone."""
        if self.things.pop(key, None):
            # It may come back, but only as something newer.
            self._newest[key] += 1
        self._record("delete", key[1])

    def _held(self, item: Thing) -> None:
        key = item.namespace, item.name
        if item.version < self._newest.get(key, 0):
            self.wrong.append(f"at {now():.3f} s {item} after one of version {self._newest[key]} (or gone since)")
        self._newest[key] = max(item.version, self._newest.get(key, 0))

    def _record(self, what: str, about: Any) -> None:
        self.calls.append((what, about))
        self.times.append(now())


class Following:
    """A reflector at work, and its store."""

    def __init__(self, reflector: Reflector[Thing], store: RecordingStore, task: asyncio.Task[None]) -> None:
        self.reflector = reflector
        self.store = store
        self.task = task

    @property
    def status(self) -> ReflectorStatus:
        """How it is."""
        return self.reflector.status

    async def until(self, done: Callable[[], bool], within: float = 5.0) -> float:
        """Wait for something; seconds since the start."""
        began, step = now(), 0.0005
        while not done():
            assert not self.task.done(), self.task
            assert now() - began <= within, f"not within {within} s: {self.status}, {self.store.calls[-5:]}"
            await asyncio.sleep(step)
            step = min(step * 1.1, 0.05)
        return now()

    async def holds(self, within: float = 5.0, **values: int) -> float:
        """Wait until exactly these are held."""
        return await self.until(lambda: self.store.values == values, within)


@asynccontextmanager
async def following(
    session: Session,
    settings: ReflectorSettings = AT_ONCE,
    resource: Resource[Thing] = THINGS,
    *,
    optional: bool = False,
    seed: int = 1,
) -> AsyncIterator[Following]:
    """A reflector at work. At the end it is cancelled; it must not have ended by itself, and must leave nothing."""
    store = RecordingStore()
    reflector = Reflector(session, resource, store, settings, optional=optional, chance=random.Random(seed))
    task = asyncio.create_task(reflector.run())
    try:
        yield Following(reflector, store, task)
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()
    assert not store.wrong, store.wrong


def truth(api: FakeApi) -> dict[str, int]:
    """Name to value of what a server has and a reflector keeps."""
    return {
        name: body["value"]
        for name, body in api.objects.items()
        if isinstance(body["value"], int) and body["value"] >= 0
    }
