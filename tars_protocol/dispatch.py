"""From the frame of a call to the frame of its answer: decode, find servant and function, call, encode.

Two kinds of errors. The peer's: a call that can't be decoded, an unknown servant; answered with a return code. Ours:
an exception out of a servant, which is a bug; logged with its trace, answered -99, and the server goes on. Both are
counted, by servant, function and code.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final

from jce import DecodeError, EncodeError, Reader
from jce.wire import DEFAULT_MAX_VALUES
from tars_protocol.bodies import FORMS
from tars_protocol.constants import PING, PacketType, ReturnCode
from tars_protocol.errors import CallError
from tars_protocol.frames import HEADER_BYTES
from tars_protocol.handlers import Caller, Load, Refused, abandon
from tars_protocol.interface import Function, Interface
from tars_protocol.packets import NO_REPLY, REQUEST, Reply, RequestPacket, identify, reply
from tars_protocol.stats import Histogram

log = logging.getLogger(__name__)

OTHER: Final = "other"
"""Servant or function in the counters where the caller named one that is not there: a peer makes no new labels."""

_SECONDS: Final = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1)
"""Bounds of the histogram: a small call takes tens of microseconds, a frame full of values some milliseconds."""

_MAX_NAME: Final = 100
"""Characters of a peer's text that go into an error text."""


@dataclass(frozen=True, slots=True)
class Call:
    """A decoded call: ``arguments`` are the inputs in order; ``key`` is what the look-up was asked for, if anything."""

    request: RequestPacket
    function: Function
    arguments: tuple[Any, ...]
    caller: Caller
    key: bytes | None

    def reply(self, values: tuple[Any, ...]) -> Reply:
        """The answer with these results (return value, then outputs), as this caller takes it. Raises EncodeError."""
        return _success(self.request, FORMS[self.request.iVersion].encode(self.function.results, values))


Implementation = Callable[[Call], "tuple[Any, ...] | Reply | Awaitable[tuple[Any, ...]]"]
"""One function of a servant. It gives its results (return value, then outputs); or a whole answer that it has at hand,
and counts itself; or an awaitable of results. It raises CallError to answer with a code."""


@dataclass(frozen=True, slots=True)
class Servant:
    """An interface and the implementations of those of its functions that are served; the others answer -3."""

    interface: Interface
    functions: Mapping[str, Implementation]

    def __post_init__(self) -> None:
        unknown = self.functions.keys() - self.interface.keys()
        if unknown:
            raise ValueError(f"{self.interface.name} has no {', '.join(sorted(unknown))}")


@dataclass(slots=True)
class DispatchStats:
    """What was answered: ``answers`` by (servant, function, return code); ``bugs`` are exceptions out of servants.

    Whole answers that a servant had at hand are not among ``answers``: it counts them itself.
    """

    answers: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    bugs: int = 0
    seconds: Histogram = field(default_factory=lambda: Histogram(_SECONDS))
    """Time that frames took here, those that were answered at once."""


class Dispatcher:
    """Answers the frames of calls to a set of servants, by name.

    ``max_values`` bounds the values of one frame. While ``load`` is full, a call whose answer takes time gets -9 at
    once; those that are answered at once are answered.
    """

    def __init__(
        self,
        servants: Mapping[str, Servant],
        *,
        max_values: int = DEFAULT_MAX_VALUES,
        load: Load | None = None,
    ) -> None:
        self._servants = dict(servants)
        self._load = load
        self.max_values = max_values
        self.stats = DispatchStats()

    def handle(self, data: bytes, key: bytes | None, caller: Caller) -> bytes | Awaitable[bytes]:
        """Answer one frame (see :class:`tars_protocol.handlers.Handler`)."""
        began = perf_counter()
        try:
            return self._handle(data, key, caller)
        finally:
            self.stats.seconds.observe(perf_counter() - began)

    def _handle(self, data: bytes, key: bytes | None, caller: Caller) -> bytes | Awaitable[bytes]:
        packet = data[HEADER_BYTES:]
        try:
            reader = Reader(packet, self.max_values)
            request = REQUEST.decode(reader)
        except DecodeError as error:
            return self._undecodable(packet, error)
        try:
            result = self._call(request, reader.budget, key, caller)
            if isinstance(result, tuple):
                return self._results(request, result)
            if isinstance(result, Reply):
                return b"" if request.cPacketType == PacketType.ONE_WAY else result.frame(request.iRequestId)
            if self._load is not None and self._load.full:
                # An async function has not begun before it is waited for.
                abandon(result)
                self._load.refused += 1
                log.warning(
                    "%s: %s gets %d: %d calls are under way (max_in_flight)",
                    caller,
                    request.sFuncName[:_MAX_NAME],
                    ReturnCode.OVERLOAD,
                    self._load.most,
                    extra={"limit_key": caller.peer},
                )
                raise CallError(ReturnCode.OVERLOAD, f"{self._load.most} calls are under way: ask again")
            return _Later(self._later, request, result)
        except Exception as error:
            return self._failed(request, error)

    def _call(
        self, request: RequestPacket, max_values: int, key: bytes | None, caller: Caller
    ) -> tuple[Any, ...] | Reply | Awaitable[tuple[Any, ...]]:
        form = FORMS.get(request.iVersion)
        if form is None:
            served = ", ".join(map(str, FORMS))
            raise CallError(ReturnCode.SERVER_DECODE, f"iVersion {request.iVersion} is not served; {served} are")
        servant = self._servants.get(request.sServantName)
        if servant is None:
            raise CallError(ReturnCode.NO_SERVANT, f"no servant {request.sServantName[:_MAX_NAME]!r} here")
        if request.sFuncName == PING:
            self._count(request, ReturnCode.SUCCESS)
            return _success(request, form.empty)
        implementation = servant.functions.get(request.sFuncName)
        if implementation is None:
            raise CallError(ReturnCode.NO_FUNCTION, f"no function {request.sFuncName[:_MAX_NAME]!r} here")
        function = servant.interface[request.sFuncName]
        try:
            arguments = form.decode(function.inputs, request.sBuffer, max_values)
        except DecodeError as error:
            raise CallError(ReturnCode.SERVER_DECODE, f"{function.name}: {error}"[: 4 * _MAX_NAME]) from None
        return implementation(Call(request, function, arguments, caller, key))

    async def _later(self, request: RequestPacket, result: Awaitable[tuple[Any, ...]]) -> bytes:
        try:
            return self._results(request, await result)
        except Exception as error:
            return self._failed(request, error)

    def _results(self, request: RequestPacket, values: tuple[Any, ...]) -> bytes:
        function = self._servants[request.sServantName].interface[request.sFuncName]
        try:
            body = FORMS[request.iVersion].encode(function.results, values)
        except EncodeError as error:
            log.error("%s: results that do not fit their types: %s", function.name, error)
            self.stats.bugs += 1
            raise CallError(ReturnCode.SERVER_ENCODE, f"{function.name}: {error}") from None
        self._count(request, ReturnCode.SUCCESS)
        return _success(request, body).frame(request.iRequestId)

    def _failed(self, request: RequestPacket, error: Exception) -> bytes:
        if isinstance(error, CallError):
            code, description = error.code, error.description
        else:
            log.error(
                "%s.%s failed: a bug; the caller gets %d",
                request.sServantName[:_MAX_NAME],
                request.sFuncName[:_MAX_NAME],
                ReturnCode.UNKNOWN,
                exc_info=error,
            )
            self.stats.bugs += 1
            code, description = ReturnCode.UNKNOWN, "internal error"
        self._count(request, code)
        if request.cPacketType == PacketType.ONE_WAY:
            return b""
        answer = _error(request.iVersion, request.iMessageType, code, description, request)
        return answer.frame(request.iRequestId)

    def _undecodable(self, packet: bytes, error: DecodeError) -> bytes:
        identity = identify(packet)
        if identity is None:
            raise Refused("undecodable", f"not a request: {error}")
        self.stats.answers[OTHER, OTHER, ReturnCode.SERVER_DECODE] += 1
        if identity.packet_type == PacketType.ONE_WAY:
            return b""
        answer = _error(
            identity.version, identity.message_type, ReturnCode.SERVER_DECODE, f"not a request: {error}", None
        )
        return answer.frame(identity.request_id)

    def _count(self, request: RequestPacket, code: int) -> None:
        servant, function = request.sServantName, request.sFuncName
        known = self._servants.get(servant)
        if known is None:
            servant = function = OTHER
        elif function != PING and function not in known.interface:
            function = OTHER
        self.stats.answers[servant, function, code] += 1


class _Later:
    """The frame of an answer that takes time. Until somebody waits for it nothing is begun, and it can be given up."""

    __slots__ = ("_make", "_request", "_result")

    def __init__(
        self,
        make: Callable[[RequestPacket, Awaitable[tuple[Any, ...]]], Awaitable[bytes]],
        request: RequestPacket,
        result: Awaitable[tuple[Any, ...]],
    ) -> None:
        self._make = make
        self._request = request
        self._result = result

    def __await__(self) -> Generator[Any, Any, bytes]:
        return self._make(self._request, self._result).__await__()

    def close(self) -> None:
        """Give it up."""
        abandon(self._result)


def _success(request: RequestPacket, body: bytes) -> Reply:
    if request.cPacketType == PacketType.ONE_WAY:
        return NO_REPLY
    return reply(request.iVersion, request.iMessageType, body, servant=request.sServantName, function=request.sFuncName)


def _error(version: int, message_type: int, code: int, description: str, request: RequestPacket | None) -> Reply:
    form = FORMS.get(version)
    return reply(
        version,
        message_type,
        form.empty if form else b"",
        code=code,
        description=description,
        servant=request.sServantName if request else "",
        function=request.sFuncName if request else "",
    )
