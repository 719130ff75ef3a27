"""The asyncio client: calls of one interface over one connection, several at a time, told apart by their request id.

It connects at the first call and again whenever the connection is gone, waiting a little longer after each attempt
that fails. A server that announces its end (``_reconnect_``) gets no new calls; those in flight are still answered.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from jce import DecodeError
from tars_protocol.bodies import FORMS
from tars_protocol.constants import RECONNECT, PacketType, ReturnCode, Version
from tars_protocol.errors import CallError, CallTimeout, NotConnected
from tars_protocol.frames import FrameReader
from tars_protocol.interface import Function, Interface
from tars_protocol.packets import RequestPacket, Response, decode_response, encode_request
from tars_protocol.settings import setting

_MAX_REQUEST_ID = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How a client waits and what it takes."""

    timeout: float = setting(3.0, "For a call as a whole, connecting included.", unit="seconds", minimum=0.001)
    first_retry: float = setting(
        0.05,
        "Pause after the first connection that fails; 0: the call fails with it.",
        unit="seconds",
        minimum=0,
    )
    longest_retry: float = setting(1.0, "Longest pause between connections that fail.", unit="seconds", minimum=0.001)
    max_frame_bytes: int = setting(10 << 20, "Longest answer taken: what the C++ runtime allows.", unit="bytes")
    max_values: int = setting(1_000_000, "Values in one answer: 60,000 endpoints.")


class Client:
    """Calls the functions of one interface on one servant.

        async with Client("127.0.0.1", 17890, SERVANT, QUERY) as client:
            active, inactive = (await client.call("findObjectById4Any", "App.Server.Obj"))[1:]

    ``version`` chooses the form of the bodies: TARS, TUP or JSON.
    """

    def __init__(
        self,
        host: str,
        port: int,
        servant: str,
        interface: Interface,
        *,
        version: int = Version.TARS,
        settings: ClientSettings | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.servant = servant
        self.interface = interface
        self.version = version
        self.settings = settings or ClientSettings()
        self._link: _Link | None = None
        self._links: set[_Link] = set()
        self._connecting = asyncio.Lock()
        self._closed = False
        self._last_id = 0
        self._last_failure = ""
        """Why the last attempt to connect failed."""

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls in flight end with NotConnected, and so does every call from now on."""
        self._closed = True
        for link in list(self._links):
            link.close()
        while self._links:
            await next(iter(self._links)).gone.wait()

    async def call(
        self,
        name: str,
        *arguments: Any,
        timeout: float | None = None,
        context: Mapping[str, str] | None = None,
        status: Mapping[str, str] | None = None,
        message_type: int = 0,
    ) -> tuple[Any, ...]:
        """Call a function: its return value (if it has one) and its outputs.

        Raises CallError for a return code other than 0, CallTimeout, NotConnected, EncodeError.
        """
        function = self.interface[name]
        form = FORMS[self.version]
        body = form.encode(function.inputs, arguments)
        response = await self._exchange(function.name, body, timeout, context, status, message_type)
        if response.code != 0:
            raise CallError(response.code, response.description)
        return self._results(function, response)

    async def ping(self, timeout: float | None = None) -> None:
        """Call tars_ping, which every servant has. Raises as :meth:`call`."""
        response = await self._exchange("tars_ping", FORMS[self.version].empty, timeout, None, None, 0)
        if response.code != 0:
            raise CallError(response.code, response.description)

    async def call_one_way(self, name: str, *arguments: Any) -> None:
        """Call a function without an answer: returns once the call is handed to the connection."""
        body = FORMS[self.version].encode(self.interface[name].inputs, arguments)
        seconds = self.settings.timeout
        try:
            async with asyncio.timeout(seconds):
                link = await self._connected()
        except TimeoutError:
            raise self._too_late(seconds, connected=False) from None
        link.send(self._request(name, body, seconds, None, None, 0, PacketType.ONE_WAY))

    def _too_late(self, seconds: float, *, connected: bool) -> CallTimeout:
        if connected:
            return CallTimeout(f"no answer from {self._where} in {seconds:g} s")
        why = f": {self._last_failure}" if self._last_failure else ""
        return CallTimeout(f"no connection to {self._where} in {seconds:g} s{why}")

    def _results(self, function: Function, response: Response) -> tuple[Any, ...]:
        form = FORMS[self.version]
        try:
            return form.decode(function.results, response.body, self.settings.max_values)
        except DecodeError as error:
            raise CallError(ReturnCode.CLIENT_DECODE, f"the answer to {function.name}: {error}") from None

    async def _exchange(
        self,
        name: str,
        body: bytes,
        timeout: float | None,
        context: Mapping[str, str] | None,
        status: Mapping[str, str] | None,
        message_type: int,
    ) -> Response:
        seconds = self.settings.timeout if timeout is None else timeout
        request = self._request(name, body, seconds, context, status, message_type, PacketType.NORMAL)
        link: _Link | None = None
        try:
            async with asyncio.timeout(seconds):
                link = await self._connected()
                answer = link.expect(request.iRequestId)
                link.send(request)
                return await answer
        except TimeoutError:
            raise self._too_late(seconds, connected=link is not None) from None
        finally:
            if link:
                link.forget(request.iRequestId)

    def _request(
        self,
        name: str,
        body: bytes,
        seconds: float,
        context: Mapping[str, str] | None,
        status: Mapping[str, str] | None,
        message_type: int,
        packet_type: int,
    ) -> RequestPacket:
        self._last_id = self._last_id % _MAX_REQUEST_ID + 1
        return RequestPacket(
            iVersion=self.version,
            cPacketType=packet_type,
            iMessageType=message_type,
            iRequestId=self._last_id,
            sServantName=self.servant,
            sFuncName=name,
            sBuffer=body,
            iTimeout=int(seconds * 1000),
            context=context or {},
            status=status or {},
        )

    async def _connected(self) -> _Link:
        """A connection for new calls; tries until there is one."""
        pause = self.settings.first_retry
        async with self._connecting:
            while self._link is None or not self._link.usable:
                if self._closed:
                    raise NotConnected("the client was closed")
                try:
                    loop = asyncio.get_running_loop()
                    _, link = await loop.create_connection(lambda: _Link(self), self.host, self.port)
                except OSError as error:
                    self._last_failure = _reason(error)
                    if not pause:
                        raise NotConnected(f"no connection to {self._where}: {self._last_failure}") from None
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, self.settings.longest_retry)
                else:
                    self._link = link
                    self._last_failure = ""
            return self._link

    def opened(self, link: _Link) -> None:
        """A connection is there, even where the call that asked for it no longer waits."""
        self._links.add(link)
        if self._closed:
            link.close()

    def dropped(self, link: _Link) -> None:
        """A connection is gone."""
        self._links.discard(link)

    @property
    def _where(self) -> str:
        return f"{self.host}:{self.port}"


def _reason(error: OSError) -> str:
    """The system's own words; asyncio puts the address into its text, which we name anyhow."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error)


class _Link(asyncio.Protocol):
    """One connection of a client, and the calls in flight on it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._frames = FrameReader(client.settings.max_frame_bytes)
        self._waiting: dict[int, asyncio.Future[Response]] = {}
        self._transport: asyncio.Transport | None = None
        self._retired = False
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an assert: uvloop's transports have the methods but not the base class.
        self._transport = cast(asyncio.Transport, transport)
        self._client.opened(self)

    @property
    def usable(self) -> bool:
        """False once new calls must go elsewhere."""
        return self._transport is not None and not self._retired and not self._transport.is_closing()

    def expect(self, request_id: int) -> asyncio.Future[Response]:
        """The answer to come for a request."""
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = answer
        return answer

    def forget(self, request_id: int) -> None:
        """No longer wait for an answer; one that still comes is dropped."""
        if self._waiting.pop(request_id, None) is not None and self._retired and not self._waiting:
            self.close()

    def send(self, request: RequestPacket) -> None:
        """Hand a call to the connection."""
        if self._transport is None or self._transport.is_closing():
            raise NotConnected("the connection was closed")
        self._transport.write(encode_request(request))

    def data_received(self, data: bytes) -> None:
        for frame in self._frames.feed(data):
            try:
                response = decode_response(frame, self._client.settings.max_values)
            except DecodeError as error:
                self._fail(CallError(ReturnCode.CLIENT_DECODE, f"an answer that is none: {error}"))
                return
            if response.request_id == 0 and response.description == RECONNECT:
                self._retired = True
            answer = self._waiting.pop(response.request_id, None)
            if answer is not None and not answer.done():
                answer.set_result(response)
        if self._frames.error is not None:
            self._fail(CallError(ReturnCode.CLIENT_DECODE, str(self._frames.error)))
        elif self._retired and not self._waiting:
            # The server waits for it.
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(NotConnected(f"the server closed the connection{f': {exc}' if exc else ''}"))
        self._client.dropped(self)
        self.gone.set()

    def close(self) -> None:
        """Close at once."""
        self._retired = True
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, error: CallError) -> None:
        self.close()
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(error)
