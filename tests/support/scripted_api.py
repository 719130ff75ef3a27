"""An API server for tests of reflectors, in made-up time: a session with a script, and behind it a model of a server.

:class:`ScriptedSession` records every request, and answers with the next :class:`Answer` of its script. Where the
script is at its end, :class:`FakeApi` answers: objects with versions, a history that can be compacted, lists in pages
and streaming ones, watches with bookmarks, and faults of every kind.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import msgspec

from registry.kube.objects import INITIAL_EVENTS_END
from registry.kube.resource import Parameters
from tests.support.virtual_time import now

NAMESPACE: Final = "ns"
PATH: Final = "/apis/test/v2/namespaces/ns/things"
OLDER_PATH: Final = "/apis/test/v1/namespaces/ns/things"

LATENCY: Final = 0.001
"""Seconds from a request to its answer: nothing happens at once, so a client that spins can be seen to."""

FOREVER: Final = math.inf

Body = dict[str, Any]

encode: Final = msgspec.json.encode


# ------------------------------------------------------------------------------------------------- what is said


def thing(name: str, version: int | str, value: object = 0, **metadata: object) -> Body:
    """An object as the API server gives it; a value that is no int is of the wrong type."""
    meta = {"name": name, "namespace": NAMESPACE, "resourceVersion": str(version), **metadata}
    return {"apiVersion": "test/v2", "kind": "Thing", "metadata": meta, "value": value}


def page(version: int | str, *things: Body, more: str = "") -> bytes:
    """A list, or a page of one; ``more`` is the token that leads to the next."""
    meta = {"resourceVersion": str(version)} | ({"continue": more} if more else {})
    return encode({"kind": "ThingList", "apiVersion": "test/v2", "metadata": meta, "items": things})


def event(kind: str, about: Body) -> bytes:
    """A line of a watch."""
    return encode({"type": kind, "object": about}) + b"\n"


def bookmark(version: int | str, *, ends_list: bool = False) -> bytes:
    """A bookmark; with ``ends_list`` the one that ends the first part of a streaming list."""
    meta: Body = {"resourceVersion": str(version)}
    if ends_list:
        meta["annotations"] = {INITIAL_EVENTS_END: "true"}
    return event("BOOKMARK", {"kind": "Thing", "metadata": meta})


def status(code: int, reason: str = "", message: str = "") -> Body:
    """An error as the API server describes it."""
    return {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}


def streaming_list(version: int | str, *things: Body) -> bytes:
    """The first part of a streaming list, whole."""
    return b"".join(event("ADDED", one) for one in things) + bookmark(version, ends_list=True)


# --------------------------------------------------------------------------------------------- requests, answers


@dataclass
class Request:
    """What was asked, and when (seconds since the start)."""

    path: str
    parameters: Parameters
    at: float
    closed: float | None = None

    @property
    def kind(self) -> str:
        """watch, streaming list, page (not the first one of a list) or list."""
        if "watch" in self.parameters:
            return "streaming list" if "sendInitialEvents" in self.parameters else "watch"
        return "page" if "continue" in self.parameters else "list"

    @property
    def version(self) -> str:
        """The version that a watch starts from."""
        return self.parameters.get("resourceVersion", "")


class FakeResponse:
    """An answer under way."""

    def __init__(self, status: int, retry_after: float, body: AsyncIterator[bytes]) -> None:
        self.status = status
        self.retry_after = retry_after
        self._body = body

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes."""
        return self._body


Step = bytes | float | Exception


class Answer:
    """One scripted answer.

    Its body is the steps: bytes to send, seconds to wait (FOREVER: not another byte), an exception that breaks it off.
    ``delay`` is waited before the status line.
    """

    def __init__(self, *steps: Step, status: int = 200, retry_after: float = 0.0, delay: float = 0.0) -> None:
        self.steps = steps
        self.status = status
        self.retry_after = retry_after
        self.delay = delay

    async def begin(self) -> FakeResponse:
        """Wait until there is an answer."""
        await _wait(self.delay)
        return FakeResponse(self.status, self.retry_after, self._body())

    async def _body(self) -> AsyncIterator[bytes]:
        for step in self.steps:
            if isinstance(step, bytes):
                yield step
            elif isinstance(step, Exception):
                raise step
            else:
                await _wait(step)


def error(code: int, reason: str = "", message: str = "", *, retry_after: float = 0.0) -> Answer:
    """An answer that is an error."""
    return Answer(encode(status(code, reason, message)), status=code, retry_after=retry_after)


REFUSED: Final = ConnectionError("connection refused")
RESET: Final = ConnectionError("connection reset")
SILENT: Final = Answer(delay=FOREVER)
"""Takes the connection and never answers."""


async def _wait(seconds: float) -> None:
    if seconds == FOREVER:
        await asyncio.Event().wait()
    elif seconds:
        await asyncio.sleep(seconds)


class SpinError(AssertionError):
    """Far more requests than any client in its senses sends."""


class ScriptedSession:
    """What a reflector asks. Answers are the script's, one after the other, then the model's, else there is none."""

    def __init__(self, *script: Answer | Exception, model: FakeApi | None = None, most: int = 5000) -> None:
        self.script = deque(script)
        self.requests: list[Request] = []
        self.reloads: list[float] = []
        self.on_reload: Callable[[], None] | None = None
        self.open = 0
        self.token = ""
        self._model = model
        self._most = most

    @property
    def kinds(self) -> list[str]:
        """What kinds of requests there were."""
        return [request.kind for request in self.requests]

    @asynccontextmanager
    async def get(self, path: str, parameters: Parameters) -> AsyncIterator[FakeResponse]:
        """Ask for a path."""
        request = Request(path, dict(parameters), now())
        self.requests.append(request)
        if len(self.requests) > self._most:
            raise SpinError(f"{self._most} requests by {now():.3f} s, the last {request}")
        self.open += 1
        try:
            await asyncio.sleep(LATENCY)
            if not self.script and self._model:
                async with self._model.respond(request, self.token) as response:
                    yield response
                return
            answer = self.script.popleft() if self.script else SILENT
            if isinstance(answer, Exception):
                raise answer
            yield await answer.begin()
        finally:
            self.open -= 1
            request.closed = now()

    async def reload(self) -> None:
        """Read the credentials again."""
        self.reloads.append(now())
        if self.on_reload:
            self.on_reload()


# ---------------------------------------------------------------------------------------------------- the model


class Streaming(Enum):
    """What a server does when it is asked for a streaming list."""

    ON = "has it"
    REFUSED = "refuses it"
    IGNORED = "takes it for a watch"


class Fault(Enum):
    """What befalls an answer under way."""

    CUT = "broken off"
    END = "ended in good order"
    STALL = "not another byte"


@dataclass(frozen=True)
class Change:
    """One write: the kind of event that it makes, and the object as it is after it."""

    version: int
    kind: str
    name: str
    body: Body


class _EndedError(Exception):
    """The answer ends here."""


@dataclass(eq=False)
class _Connection:
    """An answer under way, where faults can get at it."""

    wake: asyncio.Event = field(default_factory=asyncio.Event)
    fault: Fault | None = None

    async def wait(self, seconds: float | None) -> None:
        """Until there is something new, or so long; or until the fault."""
        try:
            async with asyncio.timeout(seconds):
                await self.wake.wait()
        except TimeoutError:
            pass
        self.wake.clear()
        await self.check()

    async def pause(self, seconds: float) -> None:
        """So long, whatever is new; or until the fault."""
        until = now() + seconds
        while not _due(until):
            await self.wait(until - now())

    async def check(self) -> None:
        match self.fault:
            case Fault.STALL:
                await asyncio.Event().wait()
            case Fault.CUT:
                raise RESET
            case Fault.END:
                raise _EndedError


class FakeApi:
    """One resource in one namespace on an API server; several sessions may ask it."""

    def __init__(self) -> None:
        self.version = 100
        self.objects: dict[str, Body] = {}
        self.requests: list[Request] = []
        self.up = True
        self.black_hole = False
        """Takes connections and never answers."""
        self.oldest = 0
        """A watch from an older version has expired."""
        self.expires_in_stream = True
        self.streaming = Streaming.ON
        self.bookmarks_every: float | None = 60.0
        self.chunk_size = 0
        """Bytes in a piece of a body; 0: as it comes."""
        self.chunk_delay = 0.0
        self.next_answers: deque[Answer] = deque()
        """Given to the next requests, whoever asks."""
        self.lists_lag_once = 0
        """The next list is as of so many writes ago, as from a server that lags behind."""
        self.served: tuple[str, ...] = (PATH,)
        self.token = ""
        """The one that is accepted."""
        self._log: list[Change] = []
        self._snapshots: dict[str, tuple[int, list[Body]]] = {}
        self._connections: set[_Connection] = set()

    # -- writes --------------------------------------------------------------------------------------------------

    def put(self, name: str, value: object = 0) -> int:
        """Create or update an object; its new version."""
        kind = "MODIFIED" if name in self.objects else "ADDED"
        self.version += 1
        self.objects[name] = thing(name, self.version, value)
        return self._written(kind, name, self.objects[name])

    def remove(self, name: str) -> int:
        """Delete an object; the version of that."""
        self.version += 1
        gone = self.objects.pop(name)
        last = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.version)}}
        return self._written("DELETED", name, last)

    def elsewhere(self, writes: int = 1) -> None:
        """Writes to other resources, which share the versions."""
        self.version += writes

    def compact(self) -> None:
        """Forget the history: versions older than now have expired, and so have lists under way."""
        self.oldest = self.version
        self._snapshots.clear()

    def _written(self, kind: str, name: str, body: Body) -> int:
        self._log.append(Change(self.version, kind, name, body))
        self._wake()
        return self.version

    # -- faults --------------------------------------------------------------------------------------------------

    @property
    def watchers(self) -> int:
        """Answers under way."""
        return len(self._connections)

    def befall(self, fault: Fault) -> None:
        """Something happens to every answer under way."""
        for connection in self._connections:
            connection.fault = connection.fault or fault
        self._wake()

    def go_down(self, fault: Fault = Fault.CUT) -> None:
        """The server is gone: connections break, new ones are refused."""
        self.up = False
        self.befall(fault)

    def come_up(self, *, forgetful: bool = False) -> None:
        """The server is back; a forgetful one no longer knows older versions, as with custom resources."""
        self.up = True
        if forgetful:
            self.compact()

    def heal(self) -> None:
        """No fault from now on; what befell answers under way stays."""
        self.up, self.black_hole = True, False
        self.chunk_delay = 0.0
        self.lists_lag_once = 0
        self.next_answers.clear()

    def _wake(self) -> None:
        for connection in self._connections:
            connection.wake.set()

    # -- answers -------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def respond(self, request: Request, token: str) -> AsyncIterator[FakeResponse]:
        """Answer a request."""
        self.requests.append(request)
        connection = _Connection()
        self._connections.add(connection)
        try:
            if self.black_hole:
                connection.fault = Fault.STALL
            elif not self.up:
                raise REFUSED
            await connection.check()
            yield await self._answer(request, token, connection)
        finally:
            self._connections.discard(connection)

    async def _answer(self, request: Request, token: str, connection: _Connection) -> FakeResponse:
        if self.next_answers:
            return await self.next_answers.popleft().begin()
        if token != self.token:
            return await error(401, "Unauthorized", "Unauthorized").begin()
        if request.path not in self.served:
            return await Answer(b"404 page not found\n", status=404).begin()
        parameters = request.parameters
        if "watch" not in parameters:
            return await self._list(parameters, connection)
        seconds = float(parameters["timeoutSeconds"])
        if "sendInitialEvents" in parameters:
            if self.streaming is Streaming.REFUSED:
                return await error(422, "Invalid", "sendInitialEvents: Forbidden").begin()
            return FakeResponse(200, 0.0, self._sent(self._stream(seconds, connection), connection))
        version = int(parameters["resourceVersion"])
        if version < self.oldest:
            expired = status(410, "Expired", f"too old resource version: {version} ({self.oldest})")
            if not self.expires_in_stream:
                return await Answer(encode(expired), status=410).begin()
            return await Answer(event("ERROR", expired)).begin()
        return FakeResponse(200, 0.0, self._sent(self._events(version, seconds, connection), connection))

    async def _list(self, parameters: Parameters, connection: _Connection) -> FakeResponse:
        limit = int(parameters["limit"])
        if token := parameters.get("continue"):
            if token not in self._snapshots:
                return await error(410, "Expired", "The provided continue parameter is too old").begin()
            version, left = self._snapshots[token]
        else:
            version, left = self._as_of_list()
        more = ""
        if len(left) > limit:
            more = f"{version}-{len(left) - limit}"
            self._snapshots[more] = version, left[limit:]
        return FakeResponse(200, 0.0, self._sent(_once(page(version, *left[:limit], more=more)), connection))

    def _as_of_list(self) -> tuple[int, list[Body]]:
        lag, self.lists_lag_once = self.lists_lag_once, 0
        if not lag or len(self._log) <= lag:
            return self.version, sorted(self.objects.values(), key=_name)
        objects: dict[str, Body] = {}
        for change in self._log[:-lag]:
            if change.kind == "DELETED":
                objects.pop(change.name, None)
            else:
                objects[change.name] = change.body
        return self._log[-lag - 1].version, sorted(objects.values(), key=_name)

    async def _stream(self, seconds: float, connection: _Connection) -> AsyncIterator[bytes]:
        """A streaming list, and the watch that it turns into."""
        version, objects = self._as_of_list()
        for one in objects:
            yield event("ADDED", one)
        if self.streaming is Streaming.ON:
            # What happened meanwhile may come before the bookmark too.
            for change in self._since(version):
                yield event(change.kind, change.body)
                version = change.version
            yield bookmark(version, ends_list=True)
        async for line in self._events(version, seconds, connection):
            yield line

    async def _events(self, version: int, seconds: float, connection: _Connection) -> AsyncIterator[bytes]:
        ends = now() + seconds
        marks = self._marks(seconds)
        mark = next(marks)
        while True:
            if changes := self._since(version):
                for change in changes:
                    yield event(change.kind, change.body)
                    version = change.version
                continue
            if _due(ends):
                return
            if _due(mark):
                mark = next(marks)
                version = max(version, self.version)
                yield bookmark(version)
                continue
            await connection.wait(min(mark, ends) - now())

    def _marks(self, seconds: float) -> Iterator[float]:
        """When bookmarks are due: regularly, and a last one 2 s before the watch's end."""
        began = now()
        if self.bookmarks_every:
            last = seconds - 2
            regular = int(last / self.bookmarks_every)
            yield from (began + number * self.bookmarks_every for number in range(1, regular + 1))
            yield began + last
        while True:
            yield FOREVER

    def _since(self, version: int) -> list[Change]:
        return self._log[bisect_right(self._log, version, key=lambda change: change.version) :]

    async def _sent(self, body: AsyncIterator[bytes], connection: _Connection) -> AsyncIterator[bytes]:
        """A body in the pieces and with the delays that are set, until a fault."""
        try:
            async for data in body:
                size = self.chunk_size or len(data)
                for at in range(0, len(data), size):
                    await connection.pause(self.chunk_delay)
                    await connection.check()
                    yield data[at : at + size]
        except _EndedError:
            return


def _due(at: float) -> bool:
    """Times are sums of fractions: what is a millionth of a second away is now."""
    return now() >= at - 1e-6


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _name(body: Body) -> str:
    name: str = body["metadata"]["name"]
    return name
