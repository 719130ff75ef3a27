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
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
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
    Status,
    Store,
    Undecodable,
    decode_event,
    decode_metadata,
    decode_page,
    decode_status,
)
from registry.kube.resource import Parameters, ReflectorStatus, Resource, Response, Session, State
from registry.kube.settings import ReflectorSettings

log = logging.getLogger(__name__)

T = TypeVar("T")

_OK: Final = 200
_EXPIRED: Final = 410
_NO_STREAMING: Final = frozenset((400, 422))
"""What a server without streaming lists says when it is asked for one."""

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


class Failure(Exception):
    """An attempt that failed: ``reason`` for counters, a text for people."""

    def __init__(self, reason: str, detail: str, *, unreachable: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(detail)
        self.reason = reason
        self.unreachable = unreachable
        self.retry_after = retry_after


class _Expired(Exception):
    """The version that we have is no longer known to the server."""


class _NoStreaming(Exception):
    """The server has no streaming lists."""


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
        self._session = session
        self._resource = resource
        self._store = store
        self._settings = settings = settings or ReflectorSettings()
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
        self._path = 0
        self._streaming = True
        self._credentials_reloaded = False
        self._last_expired: float | None = None
        self._missing = 0
        """How many paths in a row the server did not know."""

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
            except _NoStreaming as answer:
                log.info("%s: listing in pages: %s", self._resource.name, answer)
                self._streaming = False
            except _Expired as expired:
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

    async def _expired(self, expired: _Expired) -> None:
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
            await self._session.reload()
            return
        if failure.reason == "not_found" and self._missing % len(self._resource.paths):
            # There is another path to try before anything is made of it.
            return
        pause = self._pause(failure)
        if self._optional and not self.status.synced and failure.reason in ("forbidden", "not_found"):
            log.info("%s: going on without: %s", self._resource.name, failure)
            self.status.synced = True
            self._store.replace([])
        elif str(failure) != self.status.problem:
            log.warning("%s: %s", self._resource.name, failure)
        self.status.problem = str(failure)
        self.status.state = State.WAITING
        await asyncio.sleep(pause)
        if failure.reason == "unauthorized":
            await self._session.reload()

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
            async with self._get(parameters) as response:
                body = b"".join([chunk async for chunk in self._chunks(response)])
            try:
                page = decode_page(body)
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
        self._take_list(items, dropped, page.metadata.resource_version)

    def _take_list(self, items: dict[Key, T], dropped: dict[Key, str], version: str) -> None:
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
        self._store.replace(list(items.values()))
        self.status.dropped = dropped
        self.status.relists += self.status.synced
        self._version = self._newest = self.status.version = version
        self.status.synced = True
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
        async with self._get(parameters) as response, aclosing(self._lines(response)) as lines:
            if self._listed is None:
                self._now_watching()
            async for line in lines:
                self._event(line)
                await turn.over()
        if self._listed is not None:
            raise Failure("list_cut", "a streaming list that ended before it was whole")
        lasted = self._clock() - began
        if lasted < _SHORT_WATCH and self._version == version:
            raise Failure("short_watch", "a watch that ended at once, without anything new")
        if lasted < seconds - _SHORT_WATCH:
            # The server ended it before its time, and maybe those of many replicas: they do not come back at once.
            await asyncio.sleep(self._chance.uniform(0, settings.retry_first))

    def _event(self, line: bytes) -> None:
        """Put one line of a watch into the store, or into the list that is still growing."""
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
                    listed, self._listed = self._listed, None
                    self._take_list(listed, self._list_dropped, meta.resource_version)
                    self._now_watching()
                    return
                self._moved_on(meta.resource_version)
            case "ERROR":
                self._refused(decode_status(event.object), 0, 0.0)
            case other:
                # A later server may send more kinds; what they are about still moves the version on.
                log.warning("%s: an event of type %.40r, passed over", self._resource.name, other)
                self.status.errors["unknown_event"] += 1

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

    # -- asking --------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _get(self, parameters: Parameters) -> AsyncIterator[Response]:
        """Ask for the resource; an answer that is not 200 is a failure, and so is one that breaks off."""
        path = self._resource.paths[self._path]
        parameters = {**self._resource.parameters, **parameters}
        timeout = self._settings.list_timeout
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(timeout):
                    response = await stack.enter_async_context(self._session.get(path, parameters))
                    self.status.last_byte = self._clock()
                    if response.status != _OK:
                        body = b"".join([chunk async for chunk in response.chunks()])
                        self._refused(decode_status(body), response.status, response.retry_after or 0.0)
                    self._missing = 0
                yield response
        except ConnectionError as error:
            raise Failure("connection", str(error), unreachable=True) from None
        except TimeoutError:
            raise Failure("timeout", f"no answer within {timeout:g} s", unreachable=True) from None

    def _refused(self, status: Status, http: int, retry_after: float) -> NoReturn:
        """Turn an error of the API server into what is to be done about it."""
        code = http or status.code
        detail = f"{code} {status.reason or ''}: {status.message or 'no reason given'}".replace(" :", ":")
        if code == _EXPIRED or status.reason in ("Expired", "Gone"):
            raise _Expired(detail)
        if self._listed is not None and code in _NO_STREAMING:
            raise _NoStreaming(detail)
        if code == 401:
            raise Failure("unauthorized", f"the API server does not take our credentials ({detail})")
        if code == 403:
            raise Failure("forbidden", f"{status.message or 'forbidden'}{_hint('grant it', self._resource.grant)}")
        if code == 404:
            # Another version of the API may be what this server has.
            self._missing += http == code
            self._path = (self._path + 1) % len(self._resource.paths)
            hint = _hint("install it", self._resource.install)
            raise Failure("not_found", f"the API server has no {self._resource.name} ({detail}){hint}")
        reason = "throttled" if code == 429 else "server" if code >= 500 else "refused"
        raise Failure(reason, f"the API server answered {detail}", retry_after=retry_after)

    async def _chunks(self, response: Response) -> AsyncGenerator[bytes, None]:
        """The body as it comes; no byte for too long is a failure."""
        chunks = aiter(response.chunks())
        try:
            while True:
                settings = self._settings
                watching = self.status.state is State.WATCHING
                idle = settings.watch_idle_timeout if watching else settings.list_timeout
                try:
                    async with asyncio.timeout(idle):
                        chunk = await anext(chunks)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    raise Failure("idle", f"not a byte for {idle:g} s", unreachable=True) from None
                except ConnectionError as error:
                    raise Failure("connection", f"the answer broke off: {error}", unreachable=True) from None
                self.status.last_byte = self._clock()
                if self.status.state is State.WATCHING:
                    self.status.current = self.status.last_byte
                yield chunk
        finally:
            # Left half read, it would be closed by a task of its own, some time later.
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()

    async def _lines(self, response: Response) -> AsyncGenerator[bytes, None]:
        """The lines of a watch. What comes after the last line break was cut off, and is no line."""
        pieces: list[bytes] = []
        async with aclosing(self._chunks(response)) as chunks:
            async for chunk in chunks:
                pieces.append(chunk)
                if b"\n" in chunk:
                    *lines, rest = b"".join(pieces).split(b"\n")
                    pieces = [rest]
                    for line in lines:
                        if line.strip():
                            yield line
        if any(pieces):
            self.status.errors["truncated"] += 1


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


def _hint(what: str, command: str) -> str:
    return f"; {what} with: {command}" if command else ""
