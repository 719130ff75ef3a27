"""Follow one resource of the Kubernetes API into a store: list once, then watch for ever.

The states, and what leads from one to the other:

    listing      a streaming list where the server has it, else pages; the store is replaced when it is whole
    watching     from the list's version; each event goes into the store and moves the version on
    backing off  after a failure, for a while that grows (:mod:`registry.kube.backoff`)

A watch that ends, however it ends, is resumed from the last version seen. Only where the server says that the version
has expired (410) everything is listed again; the store keeps what it has until that list is whole. Nothing here ever
gives up: the store is as old as the last byte, and the status says so.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator
from time import perf_counter
from typing import Final, Generic, NoReturn, TypeVar

import msgspec
from msgspec import Raw

from registry.kube.backoff import Backoff
from registry.kube.objects import (
    INITIAL_EVENTS_END,
    Decoded,
    Key,
    Meta,
    Store,
    Undecodable,
    decode_event,
    decode_metadata,
    decode_page,
    decode_status,
)
from registry.kube.requests import Expired, Failure, NoStreaming, Requests
from registry.kube.resource import ReflectorStatus, Resource, Session, State
from registry.kube.settings import ReflectorSettings

log = logging.getLogger(__name__)

T = TypeVar("T")

_SHORT_WATCH: Final = 1.0
"""Seconds: a watch that ends sooner, with nothing new, is a failure. Else one would be opened after the other."""

_RETURNING: Final = 10.0
"""Seconds after the API server was last out of reach in which what it refuses is put down to its starting."""

_RETURNING_PAUSE: Final = 1.0
"""Longest pause in that time."""

_EXPIRED_AGAIN: Final = 10.0
"""Seconds: a version that expires so soon after another did is not made good by one more list."""

_ONE_INCIDENT: Final = 120.0
"""Seconds: old lists further apart, by more than pauses and time-outs explain, have nothing to do with each other."""


class Reflector(Generic[T]):
    """Keeps a store up to date with one resource. ``run`` it; ``status`` tells how it is."""

    def __init__(
        self,
        session: Session,
        resource: Resource[T],
        store: Store[T],
        settings: ReflectorSettings | None = None,
        *,
        optional: bool = False,
        chance: random.Random | None = None,
    ) -> None:
        """``optional``: where the resource is not there, or not allowed, the store is told that it is empty."""
        self.status = ReflectorStatus(resource.name)
        self._resource = resource
        self._store = store
        self._settings = settings = settings or ReflectorSettings()
        self._requests = Requests(session, resource, settings, self.status)
        self._optional = optional
        self._chance = chance or random.Random()
        self._clock = asyncio.get_running_loop().time
        self._refusing, self._unreachable = (
            Backoff(settings.retry_first, longest, settings.retry_reset, self._clock, self._chance)
            for longest in (settings.retry_longest, settings.retry_unreachable)
        )
        self._version = ""
        """Where to resume; empty where a list is needed."""
        self._newest = ""
        """The newest version that the store was ever brought to."""
        self._listed: dict[Key, T] | None = None
        """What a streaming list has brought so far; None when there is none under way."""
        self._older: tuple[float, float] | None = None
        """When lists began to be older than what the store holds, and when the last one was."""
        self._last_unreachable: float | None = None
        self._streaming = True
        self._credentials_reloaded = False
        self._last_expired: float | None = None

    def start_over(self) -> None:
        """List again at the next run: it is not known how far the store was brought when the last one ended."""
        self._version = ""
        self._listed = None

    async def run(self) -> NoReturn:
        """List and watch until cancelled."""
        await asyncio.sleep(self._chance.uniform(0, self._settings.list_spread))
        while True:
            try:
                await self._once()
            except NoStreaming as answer:
                log.info("%s: listing in pages: %s", self._resource.name, answer)
                self._streaming = False
            except Expired as expired:
                await self._expired(expired)
            except Failure as failure:
                await self._failed(failure)

    async def _once(self) -> None:
        """One list or one watch, to its end. That a watch ends is no failure."""
        if self._version:
            self.status.reconnects += 1
            await self._watch(self._version)
            return
        self.status.state = State.LISTING
        if self._streaming:
            await self._watch("")
        else:
            self._listed = None
            await self._list()

    async def _expired(self, expired: Expired) -> None:
        log.info("%s: %s; listing again", self._resource.name, expired)
        self.status.errors["expired"] += 1
        self.status.state = State.WAITING
        self._version = ""
        if self._last_expired is not None and self._clock() - self._last_expired < _EXPIRED_AGAIN:
            self.status.problem = str(expired)
            pause = self._pause(Failure("expired", str(expired)))
        else:
            pause = self._chance.uniform(0, self._settings.list_spread)
        await asyncio.sleep(pause)
        self._last_expired = self._clock()

    async def _failed(self, failure: Failure) -> None:
        self.status.errors[failure.reason] += 1
        if self._listed is not None and failure.reason in ("idle", "list_cut"):
            # A server that does not know streaming lists may take one for a watch, which never ends as a list does.
            self._streaming = False
        if failure.reason == "unauthorized" and not self._credentials_reloaded:
            self._credentials_reloaded = True
            await self._requests.reload()
            return
        if failure.reason == "not_found" and self._requests.another_path:
            # There is another path to try before anything is made of it.
            return
        pause = self._pause(failure)
        known = str(failure) == self.status.problem
        self.status.absent = False
        if self._optional and not self._newest and failure.reason in ("forbidden", "not_found"):
            # It is known to be empty for us as of now; what was listed once is kept, as all else is.
            if not known:
                log.info("%s: going on without: %s", self._resource.name, failure)
            if not self.status.synced:
                for _ in self._store.replacing(()):
                    pass
            self.status.synced = self.status.absent = True
            self.status.current = self._clock()
        elif not known:
            log.warning("%s: %s", self._resource.name, failure)
        self.status.problem = str(failure)
        self.status.state = State.WAITING
        await asyncio.sleep(pause)
        if failure.reason == "unauthorized":
            await self._requests.reload()

    def _pause(self, failure: Failure) -> float:
        """Seconds to wait after a failure."""
        now = self._clock()
        if failure.unreachable:
            self._last_unreachable = now
            return self._unreachable.pause()
        if self._last_unreachable is not None and now - self._last_unreachable < _RETURNING:
            # It is starting: what it says of waiting (5 s, while it puts its paths together) is longer than it takes.
            return max(self._chance.uniform(0, _RETURNING_PAUSE), min(failure.retry_after, _RETURNING_PAUSE))
        return failure.retry_after + self._refusing.pause()

    # -- listing in pages ----------------------------------------------------------------------------------------

    async def _list(self) -> None:
        items: dict[Key, T] = {}
        dropped: dict[Key, str] = {}
        parameters = {"limit": str(self._settings.page_size)}
        turn = _Turn(self._settings.work_slice)
        while True:
            try:
                page = decode_page(await self._requests.body(parameters))
            except msgspec.MsgspecError as error:
                raise Failure("bad_answer", f"a list that can't be read: {error}") from None
            for raw in page.items or ():
                decoded = self._decode(raw, dropped)
                if decoded.item is not None:
                    items[decoded.key] = decoded.item
                await turn.over()
            if not page.metadata.continue_:
                break
            parameters = {**parameters, "continue": page.metadata.continue_}
        await self._take_list(items, dropped, page.metadata.resource_version)

    async def _take_list(self, items: dict[Key, T], dropped: dict[Key, str], version: str) -> None:
        """A whole list: put it into the store, unless that is further already."""
        if not version:
            raise Failure("bad_answer", "a list without a resource version")
        if _older(version, self._newest):
            now = self._clock()
            first, last = self._older or (now, now)
            self._older = (first if now - last < _ONE_INCIDENT else now), now
            if now - self._older[0] < self._settings.old_list_patience:
                raise Failure("old_list", f"a list of version {version}, older than {self._newest} which is held")
            log.warning("%s: taking a list of version %s, older than %s", self._resource.name, version, self._newest)
        self._older = None
        turn = _Turn(self._settings.work_slice)
        for _ in self._store.replacing(_taken_from(items)):
            await turn.over()
        self.status.dropped = dropped
        self.status.relists += self.status.synced
        self._version = self._newest = self.status.version = version
        self.status.synced = True
        self.status.absent = False
        self.status.current = self._clock()

    # -- watching ------------------------------------------------------------------------------------------------

    async def _watch(self, version: str) -> None:
        """Watch from a version; from none: a streaming list, then the watch that it turns into."""
        settings = self._settings
        seconds = int(self._chance.uniform(settings.watch_timeout, 2 * settings.watch_timeout))
        parameters = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        if version:
            parameters["resourceVersion"] = version
            self._listed = None
        else:
            parameters |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
            self._listed = {}
            self._list_dropped: dict[Key, str] = {}
        began = self._clock()
        turn = _Turn(settings.work_slice)
        async with self._requests.watch(parameters) as lines:
            if self._listed is None:
                self._now_watching()
            async for line in lines:
                whole = self._event(line)
                if whole is not None and self._listed is not None:
                    listed, self._listed = self._listed, None
                    await self._take_list(listed, self._list_dropped, whole.resource_version)
                    self._now_watching()
                await turn.over()
        if self._listed is not None:
            raise Failure("list_cut", "a streaming list that ended before it was whole")
        lasted = self._clock() - began
        if lasted < _SHORT_WATCH and self._version == version:
            raise Failure("short_watch", "a watch that ended at once, without anything new")
        if lasted < seconds - _SHORT_WATCH:
            # The server ended it before its time, and maybe those of many replicas: they do not come back at once.
            await asyncio.sleep(self._chance.uniform(0, settings.retry_first))

    def _event(self, line: bytes) -> Meta | None:
        """Put one line of a watch into the store, or into the list that is still growing; what ends that list."""
        try:
            event = decode_event(line)
        except msgspec.MsgspecError as error:
            raise Failure("bad_line", f"a line that is no event: {error}") from None
        match event.type:
            case "ADDED" | "MODIFIED" | "DELETED":
                self._change(event.object, deleted=event.type == "DELETED")
            case "BOOKMARK":
                meta = _bookmarked(event.object)
                if self._listed is not None:
                    if (meta.annotations or {}).get(INITIAL_EVENTS_END) != "true":
                        raise Failure("list_cut", "a streaming list that the server takes for a watch")
                    return meta
                self._moved_on(meta.resource_version)
            case "ERROR":
                self._requests.refused(decode_status(event.object), streaming=self._listed is not None)
            case other:
                # A later server may send more kinds; what they are about still moves the version on.
                log.warning("%s: an event of type %.40r, passed over", self._resource.name, other)
                self.status.errors["unknown_event"] += 1
        return None

    def _change(self, raw: Raw, *, deleted: bool) -> None:
        if self._listed is not None:
            decoded = self._decode(raw, self._list_dropped)
            if deleted:
                self._list_dropped.pop(decoded.key, None)
            if deleted or decoded.item is None:
                self._listed.pop(decoded.key, None)
            else:
                self._listed[decoded.key] = decoded.item
            return
        decoded = self._decode(raw, self.status.dropped)
        if deleted:
            self.status.dropped.pop(decoded.key, None)
        if deleted or decoded.item is None:
            self._store.delete(decoded.key)
        else:
            self._store.upsert(decoded.item)
        self._moved_on(decoded.version)

    def _decode(self, raw: Raw, dropped: dict[Key, str]) -> Decoded[T]:
        """One object; one with a value of the wrong type is nothing, noted in ``dropped``."""
        try:
            decoded = self._resource.decode(raw)
        except Undecodable as error:
            if dropped.get(error.key) != error.reason:
                log.warning("%s %s is left out: %s", self._resource.name, "/".join(error.key), error.reason)
                self.status.errors["object"] += 1
            dropped[error.key] = error.reason
            return Decoded(error.key, error.version, None)
        except msgspec.MsgspecError as error:
            raise Failure("bad_answer", f"an object without metadata: {error}") from None
        if dropped:
            dropped.pop(decoded.key, None)
        return decoded

    def _moved_on(self, version: str) -> None:
        """The store is now as of this version."""
        if version:
            self._version = self.status.version = version
            if not _older(version, self._newest):
                self._newest = version

    def _now_watching(self) -> None:
        self.status.state = State.WATCHING
        self._credentials_reloaded = False
        self._refusing.healthy()
        self._unreachable.healthy()
        if self.status.problem:
            log.info("%s: watching again", self._resource.name)
            self.status.problem = ""


def _taken_from(items: dict[Key, T]) -> Iterator[T]:
    """One item after the other, none of which is held any longer: to drop them all at once takes time too."""
    while items:
        yield items.popitem()[1]


def _bookmarked(raw: Raw) -> Meta:
    try:
        return decode_metadata(raw)
    except msgspec.MsgspecError as error:
        raise Failure("bad_line", f"a bookmark without metadata: {error}") from None


class _Turn:
    """Gives others their turn when work has gone on for long enough."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._until = perf_counter() + longest

    async def over(self) -> None:
        """A piece of work is done."""
        if perf_counter() >= self._until:
            await asyncio.sleep(0)
            self._until = perf_counter() + self._longest


def _older(version: str, than: str) -> bool:
    """True where both versions are numbers, as they are in practice, and one is the smaller."""
    return version.isdigit() and than.isdigit() and int(version) < int(than)
