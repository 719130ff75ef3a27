"""Ask the API server for one resource: answers in pieces and lines, refusals as what is to be done about them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any, Final, NoReturn

from registry.kube.objects import Status, decode_status
from registry.kube.resource import (
    JSON,
    Body,
    Parameters,
    ReflectorStatus,
    Reply,
    Resource,
    Response,
    Session,
    State,
    Writing,
)
from registry.kube.settings import ReflectorSettings

_OK: Final = 200
_EXPIRED: Final = 410
_NO_STREAMING: Final = frozenset((400, 422))
"""What a server without streaming lists says when it is asked for one."""


class Failure(Exception):
    """An attempt that failed: ``reason`` for counters, a text for people."""

    def __init__(self, reason: str, detail: str, *, unreachable: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(detail)
        self.reason = reason
        self.unreachable = unreachable
        self.retry_after = retry_after


class Expired(Exception):
    """The version that we have is no longer known to the server."""


class NoStreaming(Exception):
    """The server has no streaming lists."""


class NoAnswer(ConnectionError):
    """There was no answer in time."""


async def send_within(
    seconds: float, api: Writing, method: str, path: str, body: Body | None = None, content_type: str = JSON
) -> Reply:
    """Send a request and wait so long for all of its answer. Raises NoAnswer, and ConnectionError where there is none
    for another cause."""
    try:
        async with asyncio.timeout(seconds):
            return await api.send(method, path, body, content_type)
    except TimeoutError:
        raise NoAnswer(f"the API server did not answer within {seconds:g} s") from None


class Requests:
    """Requests for one resource. What comes in is noted in ``status``."""

    def __init__(
        self, session: Session, resource: Resource[Any], settings: ReflectorSettings, status: ReflectorStatus
    ) -> None:
        self._session = session
        self._resource = resource
        self._settings = settings
        self._status = status
        self._clock = asyncio.get_running_loop().time
        self._path = 0
        self._missing = 0
        """How many paths in a row the server did not know."""

    @property
    def another_path(self) -> bool:
        """After a path that the server did not know: there is one that was not tried since."""
        return bool(self._missing % len(self._resource.paths))

    async def reload(self) -> None:
        """Read the credentials again."""
        await self._session.reload()

    async def body(self, parameters: Parameters) -> bytes:
        """A whole answer. Raises Failure and Expired."""
        async with self._get(parameters) as response:
            return b"".join([chunk async for chunk in self._chunks(response)])

    @asynccontextmanager
    async def watch(self, parameters: Parameters) -> AsyncIterator[AsyncGenerator[bytes, None]]:
        """The lines of a watch, from when the server has agreed to it. Raises Failure, Expired and NoStreaming."""
        async with self._get(parameters) as response, aclosing(self._lines(response)) as lines:
            yield lines

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
                    self._status.last_byte = self._clock()
                    if response.status != _OK:
                        body = b"".join([chunk async for chunk in response.chunks()])
                        streaming = "sendInitialEvents" in parameters
                        self._not_ok(decode_status(body), response.status, response.retry_after, streaming)
                    self._missing = 0
                yield response
        except ConnectionError as error:
            raise Failure("connection", str(error), unreachable=True) from None
        except TimeoutError:
            raise Failure("timeout", f"no answer within {timeout:g} s", unreachable=True) from None

    def _not_ok(self, status: Status, code: int, retry_after: float, streaming: bool) -> NoReturn:
        if code == 404:
            # Another version of the API may be what this server has.
            self._missing += 1
            self._path = (self._path + 1) % len(self._resource.paths)
        self.refused(status, code, retry_after, streaming=streaming)

    def refused(self, status: Status, code: int = 0, retry_after: float = 0.0, *, streaming: bool = False) -> NoReturn:
        """Turn an error of the API server into what is to be done about it. Raises Failure, Expired or NoStreaming.

        ``code`` is that of an answer, 0 for an error within a watch; ``streaming``: to a request for a streaming list.
        """
        code = code or status.code
        detail = f"{code} {status.reason or ''}: {status.message or 'no reason given'}".replace(" :", ":")
        if code == _EXPIRED or status.reason in ("Expired", "Gone"):
            raise Expired(detail)
        if streaming and code in _NO_STREAMING:
            raise NoStreaming(detail)
        if code == 401:
            raise Failure("unauthorized", f"the API server does not take our credentials ({detail})")
        if code == 403:
            raise Failure("forbidden", f"{status.message or 'forbidden'}{_hint('grant it', self._resource.grant)}")
        if code == 404:
            hint = _hint("install it", self._resource.install)
            raise Failure("not_found", f"the API server has no {self._resource.name} ({detail}){hint}")
        reason = "throttled" if code == 429 else "server" if code >= 500 else "refused"
        raise Failure(reason, f"the API server answered {detail}", retry_after=retry_after)

    async def _chunks(self, response: Response) -> AsyncGenerator[bytes, None]:
        """The body as it comes; no byte for too long is a failure."""
        status, settings = self._status, self._settings
        chunks = aiter(response.chunks())
        try:
            while True:
                watching = status.state is State.WATCHING
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
                status.last_byte = self._clock()
                if status.state is State.WATCHING:
                    status.current = status.last_byte
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
            self._status.errors["truncated"] += 1


def _hint(what: str, command: str) -> str:
    return f"; {what} with: {command}" if command else ""
