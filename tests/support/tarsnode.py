"""The end of the line that a tarsnode has: reports and questions from an address of one's own."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

from tars_protocol.bodies import FORMS
from tars_protocol.constants import Version
from tars_protocol.errors import CallError
from tars_protocol.interfaces.registry import PID_KEY, REGISTRY, SERVANT, ServerDescriptor
from tars_protocol.packets import RequestPacket, decode_response, encode_request

TIMEOUT = 6.0
"""Seconds that a tarsnode waits for an answer."""


class Tarsnode:
    """One connection from ``address`` (any of 127.0.0.0/8), with one call at a time, as a tarsnode has it."""

    def __init__(self, address: str, port: int, version: int = Version.TARS) -> None:
        self.address = address
        self._port = port
        self._version = version
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._last_id = 0

    async def __aenter__(self) -> Self:
        self._streams = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(self.address, 0))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._streams
        self._streams[1].close()
        try:
            await self._streams[1].wait_closed()
        except OSError:
            pass  # the other end was faster

    async def report(self, pod: str, setting: str, present: str, pid: str = "27") -> None:
        """updateServerState. Raises CallError, and TimeoutError after the tarsnode's own time-out."""
        await self._call("updateServerState", pod, setting, present, context={PID_KEY: pid} if pid else {})

    async def refused(self, pod: str, setting: str, present: str, pid: str = "27") -> str:
        """The text with which a report is refused; it must be."""
        try:
            await self.report(pod, setting, present, pid)
        except CallError as error:
            if error.code == -99:
                return error.description
            raise
        raise AssertionError(f"{setting}/{present} of {pod} was taken")

    async def descriptor(self, app: str, server: str) -> tuple[int, ServerDescriptor]:
        """getServerDescriptor: the return value and the descriptor."""
        value, found = await self._call("getServerDescriptor", app, server)
        return value, found

    async def _call(self, name: str, *arguments: Any, context: dict[str, str] | None = None) -> tuple[Any, ...]:
        assert self._streams, "a tarsnode is an async context manager"
        reader, writer = self._streams
        function, form = REGISTRY[name], FORMS[self._version]
        self._last_id += 1
        request = RequestPacket(
            iVersion=self._version,
            iRequestId=self._last_id,
            sServantName=SERVANT,
            sFuncName=name,
            sBuffer=form.encode(function.inputs, arguments),
            iTimeout=int(TIMEOUT * 1000),
            context=context or {},
        )
        writer.write(encode_request(request))
        async with asyncio.timeout(TIMEOUT):
            length = await reader.readexactly(4)
            packet = await reader.readexactly(int.from_bytes(length) - 4)
        response = decode_response(length + packet)
        assert response.request_id == self._last_id
        if response.code:
            raise CallError(response.code, response.description)
        return form.decode(function.results, response.body, 100_000)
