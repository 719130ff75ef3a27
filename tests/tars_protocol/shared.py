"""What the tests of this folder share: a servant with every kind of parameter, requests to it, bytes in pieces."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from jce import Double, Float, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, field, struct
from tars_protocol.bodies import FORMS
from tars_protocol.connection import Connection
from tars_protocol.dispatch import Call, Dispatcher, Servant
from tars_protocol.errors import CallError
from tars_protocol.handlers import Caller
from tars_protocol.interface import Interface, Out, function
from tars_protocol.packets import RequestPacket, encode_request
from tests.support import golden

CALLER: Final = Caller("10.1.2.3", 40_000, "10.1.2.4", 17_890)
SERVANT: Final = "Test.KindServer.KindObj"

VERSIONS: Final = (1, 3, 5)
"""Every iVersion that is served."""

ID_CORNERS: Final = (
    *(0, 1, -1, 7, 127, 128, -128, -129, 255, 256, 32_767, 32_768, -32_768, -32_769),
    *(65_535, 65_536, 8_388_607, -8_388_608, (1 << 31) - 1, -(1 << 31)),
)
"""Request ids at the ends of every width."""


# -- a servant -----------------------------------------------------------------------------------------------------


@struct
class Part:
    """A struct within a struct; hashable, so that it can be the key of a map too."""

    id: Int32 = field(0)
    label: str = field(1, default="")


@struct
class Everything:
    """A field of every kind."""

    i8: Int8 = field(0)
    i16: Int16 = field(1)
    i32: Int32 = field(2)
    i64: Int64 = field(3)
    u8: UInt8 = field(4)
    u16: UInt16 = field(5)
    u32: UInt32 = field(6)
    flag: bool = field(7)
    real: Float = field(8)
    wide: Double = field(9)
    text: str = field(10)
    octets: bytes = field(11)
    part: Part = field(12)
    numbers: tuple[Int32, ...] = field(13)
    parts: tuple[Part, ...] = field(14)
    names: Mapping[str, str] = field(15)
    by_number: Mapping[Int32, Part] = field(16)
    by_part: Mapping[Part, tuple[bytes, ...]] = field(200)
    note: str = field(255, default="")


EVERYTHING: Final = Everything(
    i8=-128,
    i16=-32_768,
    i32=-(1 << 31),
    i64=-(1 << 63),
    u8=255,
    u16=65_535,
    u32=(1 << 32) - 1,
    flag=True,
    real=0.5,
    wide=1e-300,
    text="注册表 \udcff\udc80",
    octets=bytes(range(256)),
    part=Part(id=1, label="one"),
    numbers=(0, -1, 1 << 30),
    parts=(Part(id=2), Part(id=-3, label="")),
    names={"": "empty", "\udcfe": "\udcfd", '"': "\\"},
    by_number={-1: Part(id=4), 0: Part(id=5)},
    by_part={Part(id=6, label='"'): (b"", b"\x00\xff")},
    note="not the default",
)

NOTHING: Final = Everything(
    i8=0,
    i16=0,
    i32=0,
    i64=0,
    u8=0,
    u16=0,
    u32=0,
    flag=False,
    real=0.0,
    wide=0.0,
    text="",
    octets=b"",
    part=Part(id=0),
    numbers=(),
    parts=(),
    names={},
    by_number={},
    by_part={},
)

KINDS: Final = Interface(
    "Kinds",
    function("echo", Everything, before=Out(str), given=Everything, copy=Out(Everything), name=str, after=Out(Int32)),
    function("add", Int32, a=Int32, b=Int32),
    function("say", str, text=str),
    function("note", None, text=str),
    function("total", Int64, numbers=tuple[Int32, ...]),
    function("fail", Int32, code=Int32, text=str),
    function("crash", Int32),
    function("unfit", Int32),
    function("later", Int32, n=Int32),
    function("absent", Int32, n=Int32),
)
"""Functions with every kind of parameter and of end; ``absent`` is declared and not implemented."""


class Kinds:
    """The implementation: ``calls`` are those that reached it, ``gates`` hold back ``later`` by its argument."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.gates: dict[int, asyncio.Future[int]] = {}
        self.arrived: asyncio.Queue[int] = asyncio.Queue()
        """The argument of each ``later`` that came in."""
        self.unfit: Any = ("no number",)
        self.dispatcher = Dispatcher({SERVANT: Servant(KINDS, self.functions)})

    @property
    def functions(self) -> Mapping[str, Callable[[Call], Any]]:
        """What is served."""
        return {
            name: functools.partial(self._run, name)
            for name in ("echo", "add", "say", "note", "total", "fail", "crash", "unfit", "later")
        }

    def _run(self, name: str, call: Call) -> Any:
        self.calls.append(call)
        match name, call.arguments:
            case "echo", (given, text):
                return (given, text, given, len(text))
            case "add", (a, b):
                return (a + b,)
            case "say", (text,):
                return (text,)
            case "note", _:
                return ()
            case "total", (numbers,):
                return (sum(numbers),)
            case "fail", (code, text):
                raise CallError(code, text)
            case "unfit", ():
                return self.unfit
            case "later", (n,):
                return self._later(n)
        raise LookupError("a mistake in a servant")

    async def _later(self, n: int) -> tuple[int]:
        gate = self.gates.setdefault(n, asyncio.get_running_loop().create_future())
        self.arrived.put_nowait(n)
        return (await gate,)

    def release(self, n: int, result: int | Exception) -> None:
        """Let ``later`` with this argument end."""
        if isinstance(result, Exception):
            self.gates.pop(n).set_exception(result)
        else:
            self.gates.pop(n).set_result(result)

    def connect(self, caller: Caller) -> Connection:
        """A connection to it, as a server makes one."""
        return Connection(caller, self.dispatcher.handle)


# -- requests ------------------------------------------------------------------------------------------------------


def request(
    name: str, *arguments: Any, version: int = 1, servant: str = SERVANT, body: bytes | None = None, **header: Any
) -> bytes:
    """The frame of a call; ``body`` instead of arguments, ``header`` for the packet's other fields."""
    if body is None:
        body = FORMS[version].encode(KINDS[name].inputs, arguments)
    return encode_request(
        RequestPacket(
            iVersion=version, sServantName=servant, sFuncName=name, sBuffer=body, **({"iRequestId": 7} | header)
        )
    )


def captured(kind: str) -> list[Any]:
    """The captured lines of one kind, as parameters of a test."""
    lines = golden.lines(kind)
    return [pytest.param(line, id=f"{n}-{line['client']}-{line['func']}") for n, line in enumerate(lines)]


# -- bytes in pieces -----------------------------------------------------------------------------------------------


def bytewise(data: bytes) -> list[bytes]:
    """One byte at a time."""
    return [data[at : at + 1] for at in range(len(data))]


def pieces(data: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    """The data cut at these places, taken modulo its length."""
    last = 0
    for cut in sorted(cut % (len(data) + 1) for cut in cuts):
        yield data[last:cut]
        last = cut
    yield data[last:]


CUTS: Final = st.lists(st.integers(0, 10_000), max_size=12)


FEWER: Final = settings(max_examples=settings().max_examples // 2)
"""For tests whose examples are large."""


# -- event loops ---------------------------------------------------------------------------------------------------

AsyncTest = Callable[..., Coroutine[Any, Any, None]]


def _uvloop() -> asyncio.AbstractEventLoop:
    uvloop = pytest.importorskip("uvloop", reason="no uvloop on this machine")
    made: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return made


LOOPS: Final[Mapping[str, Callable[[], asyncio.AbstractEventLoop]]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": _uvloop,
}


def on_every_loop(test: AsyncTest) -> Callable[..., None]:
    """Run a test on asyncio's own event loop and on uvloop; what a callback raises fails it, as does a task left over.

    Not by fixtures of the test runner: policies of event loops are on their way out of Python.
    """

    @functools.wraps(test)
    def run(*args: Any, event_loop_kind: str, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=LOOPS[event_loop_kind]) as runner:
            runner.run(_strictly(test(*args, **kwargs)))

    signature = inspect.signature(test)
    kind = inspect.Parameter("event_loop_kind", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]  # what pytest looks for
        parameters=[*signature.parameters.values(), kind], return_annotation=None
    )
    marked: Callable[..., None] = pytest.mark.parametrize("event_loop_kind", LOOPS)(run)
    return marked


async def _strictly(test: Awaitable[None], seconds: float = 30.0) -> None:
    problems: list[Mapping[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: problems.append(context))
    async with asyncio.timeout(seconds):
        await test
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for _ in range(10):  # what was cancelled needs a turn to end
        if not left:
            break
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks left over: {left}"
    assert not problems, problems
