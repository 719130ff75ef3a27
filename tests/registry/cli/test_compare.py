"""``tars-registry compare``: against real registries, and against others that answer wrongly, late or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from registry.app import App
from registry.cli import compare_asking, main
from registry.cli.compare import _Progress
from registry.cli.compare_answers import Answer, Kind
from registry.cli.compare_asking import Outcome
from registry.routing.hosts import EndpointHost
from registry.routing.select import Lookup
from tars_protocol.aio.server import Server
from tars_protocol.connection import Connection
from tars_protocol.constants import ReturnCode
from tars_protocol.dispatch import Call, Dispatcher, Servant
from tars_protocol.errors import CallError
from tars_protocol.interfaces.query import QUERY, SERVANT, EndpointF
from tests.support import manifests
from tests.support.in_process import running
from tests.support.service import serving
from tests.support.tables import HELLO, LOOKUPS

Capture = pytest.CaptureFixture[str]
Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OTHER = "Test.OtherServer.OtherObj"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_asking, "_FIRST_PAUSE", 0.01)


async def compare(first: int, second: int, *arguments: str) -> int:
    """Run the command beside the registries that it asks."""
    ports = (f"--registry=127.0.0.1:{first}", f"--with=127.0.0.1:{second}")
    return await asyncio.to_thread(main, ["compare", *ports, *arguments])


def admin(app: App) -> str:
    ((bound, *_),) = app._admin_sockets.values()
    return f"--admin=127.0.0.1:{bound.getsockname()[1]}"


def endpoint(number: int, **fields: Any) -> EndpointF:
    known: dict[str, Any] = {"host": f"a-{number}.a", "port": 18100, "timeout": 3000, "istcp": 1, "grid": 0}
    return EndpointF(**known | fields)


RIGHT = Answer(active=(endpoint(0), endpoint(1)), inactive=(endpoint(2),))


@contextlib.asynccontextmanager
async def answering(answers: Mapping[str, Answer], otherwise: Answer = RIGHT) -> AsyncIterator[int]:
    """A stand-in for a registry; what it says of an object, or by a function. Its port."""

    def answer(call: Call) -> tuple[object, ...]:
        name = call.function.name
        told = answers.get(call.arguments[0], answers.get(name, otherwise))
        if told.code:
            raise CallError(told.code, told.description)
        return (told.active,) if name == Lookup.ACTIVE else (told.ret, told.active, told.inactive)

    dispatcher = Dispatcher({SERVANT: Servant(QUERY, dict.fromkeys(Lookup, answer))})
    server = Server("test", lambda caller: Connection(caller, dispatcher.handle))
    server.bind("127.0.0.1", 0)
    await server.start()
    try:
        yield server.port
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def peer(behave: Peer) -> AsyncIterator[int]:
    """Something on a port."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await behave(reader, writer)
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# -- real registries ---------------------------------------------------------------------------------------------------


async def test_two_processes_with_the_same_manifests_do_not_differ(tmp_path: Path, capsys: Capture) -> None:
    manifests.write(tmp_path / "hello.yaml", manifests.hello("10.0.0.1", "10.0.0.2", inactive=["10.0.0.3"]))
    async with serving(tmp_path) as first, serving(tmp_path) as second:
        page = f"--admin=127.0.0.1:{first.admin_port}"
        for protocol in ("tars", "tup", "json"):
            assert await compare(first.query_port, second.query_port, page, "--protocol", protocol) == 0
            assert capsys.readouterr().out == "1 object asked for: no difference\n"


async def test_one_pod_in_another_state_is_exactly_one_difference(tmp_path: Path, capsys: Capture) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder, states in zip(folders, (["10.0.0.2"], []), strict=True):
        folder.mkdir()
        active = ["10.0.0.1"] if states else ["10.0.0.1", "10.0.0.2"]
        other = manifests.tendpoint("Test", "OtherServer", [manifests.pod("x", "10.0.0.9")], servant="OtherObj")
        manifests.write(folder / "all.yaml", manifests.hello(*active, inactive=states), other)
    async with running(folders[0]) as first, running(folders[1]) as second:
        assert await compare(first.query.port, second.query.port, admin(first)) == 1
        assert capsys.readouterr().out.splitlines() == [
            f"difference: 127.0.0.1:{first.query.port} | 127.0.0.1:{second.query.port}",
            HELLO,
            "  state     test-helloserver-1.test-helloserver:18100/tcp: inactive | active",
            "2 objects asked for: 1 differs (1 state)",
        ]
        assert await compare(first.query.port, second.query.port, OTHER) == 0
        assert await compare(first.query.port, second.query.port, OTHER, HELLO, "--ignore", "state") == 0


async def test_names_and_addresses_of_the_same_pods_differ_in_host(tmp_path: Path, capsys: Capture) -> None:
    manifests.write(tmp_path / "hello.yaml", manifests.hello("10.0.0.1", "10.0.0.2"))
    async with running(tmp_path) as first, running(tmp_path, endpoint_host=EndpointHost.POD_IP) as second:
        assert await compare(first.query.port, second.query.port, HELLO, "--json") == 1
        told = json.loads(capsys.readouterr().out)
        assert await compare(first.query.port, second.query.port, HELLO, "--ignore", "host") == 0
    assert told["objects"] == 1
    assert told["functions"] == list(LOOKUPS)
    assert told["unanswered"] == []
    assert [(each["kind"], each["registry"], each["with"]) for each in told["differences"]] == [
        ("host", f"test-helloserver-{number}.test-helloserver", f"10.0.0.{number + 1}") for number in (0, 1)
    ]
    assert all(each["functions"] == list(LOOKUPS) and each["id"] == HELLO for each in told["differences"])


async def test_sets_are_asked_for_where_one_is_named(tmp_path: Path, capsys: Capture) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    for number, folder in enumerate(folders, 1):
        folder.mkdir()
        hello = manifests.hello("10.0.0.1")
        hello["metadata"]["annotations"] = {"tars.io/set": f"n.a.{number}"}
        manifests.write(folder / "hello.yaml", hello)
    async with running(folders[0]) as first, running(folders[1]) as second:
        ports = first.query.port, second.query.port
        assert await compare(*ports, HELLO, "--ignore", "setId") == 0
        capsys.readouterr()
        assert await compare(*ports, HELLO, "--ignore=setId", "--set=n.a.1", "--function=findObjectByIdInSameSet") == 1
        assert "return value: 0 | -1" in capsys.readouterr().out


# -- a registry that answers wrongly ----------------------------------------------------------------------------------

WRONG = {
    Kind.ORDER: replace(RIGHT, active=RIGHT.active[::-1]),
    Kind.INACTIVE: replace(RIGHT, inactive=()),
    Kind.HOST: replace(RIGHT, active=(endpoint(0), endpoint(1, host="a-1.a.tars.svc.cluster.local"))),
    Kind.FIELDS: replace(RIGHT, active=(endpoint(0), endpoint(1, timeout=1))),
    Kind.STATE: replace(RIGHT, active=RIGHT.active[:1], inactive=(endpoint(1), endpoint(2))),
    Kind.ONLY: replace(RIGHT, active=RIGHT.active[:1]),
    Kind.EMPTY: Answer(),
    Kind.RETURN: Answer(ret=-1),
    Kind.ERROR: Answer(ReturnCode.OVERLOAD, "too much"),
}


@pytest.mark.parametrize("kind", Kind)
async def test_each_wrong_answer_is_told_with_its_kind(kind: Kind, capsys: Capture) -> None:
    async with answering({}) as right, answering({HELLO: WRONG[kind]}) as wrong:
        assert await compare(right, wrong, HELLO, OTHER, "--json") == 1
        told = json.loads(capsys.readouterr().out)
        assert {each["id"] for each in told["differences"]} == {HELLO}
        # findObjectById has no return value: there it shows as no endpoints.
        assert {each["kind"] for each in told["differences"]} == {kind} | (
            {Kind.EMPTY} if kind is Kind.RETURN else set()
        )
        assert await compare(right, wrong, HELLO, OTHER) == 1
        out = capsys.readouterr().out
        assert f"  {kind:8}  " in out
        assert OTHER not in out


@pytest.mark.parametrize("lookup", LOOKUPS)
async def test_a_single_function_that_is_wrong_is_named(lookup: Lookup, capsys: Capture) -> None:
    async with answering({}) as right, answering({lookup: WRONG[Kind.ONLY]}) as wrong:
        assert await compare(right, wrong, HELLO) == 1
        assert f"a-1.a:18100/tcp: active | absent  (by {lookup})\n" in capsys.readouterr().out
        assert await compare(right, wrong, HELLO, f"--function={lookup}") == 1
        others = [f"--function={each}" for each in LOOKUPS if each is not lookup]
        assert await compare(right, wrong, HELLO, *others) == 0


async def test_what_differs_for_a_moment_is_no_difference() -> None:
    """Both follow the same source, one a moment behind the other."""
    asked = 0

    def answer(call: Call) -> tuple[object, ...]:
        nonlocal asked
        asked += 1
        told = WRONG[Kind.ONLY] if asked <= 6 else RIGHT
        return (told.active,) if call.function.name == Lookup.ACTIVE else (told.ret, told.active, told.inactive)

    dispatcher = Dispatcher({SERVANT: Servant(QUERY, dict.fromkeys(Lookup, answer))})
    server = Server("test", lambda caller: Connection(caller, dispatcher.handle))
    server.bind("127.0.0.1", 0)
    await server.start()
    try:
        async with answering({}) as right:
            assert await compare(right, server.port, HELLO) == 0
            assert asked == 12
            asked = 0
            assert await compare(right, server.port, HELLO, "--retries=0") == 1
    finally:
        await server.stop()


# -- what does not answer ---------------------------------------------------------------------------------------------


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    while await reader.read(1 << 16):
        pass


async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def say(data: bytes) -> Peer:
    async def saying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(data)
        await writer.drain()

    return saying


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Frames without end that answer nothing."""
    await reader.read(1)
    while True:
        writer.write(b"\x00\x00\x00\x05x" * 1000)
        await writer.drain()


@pytest.mark.parametrize(
    ("behave", "says"),
    [
        (hang, "no answer from 127.0.0.1"),
        (close, "closed the connection"),
        (say(b""), "closed the connection"),
        (say(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "client decode"),
        (say(b"\x00\x00\x00\x05x"), "client decode"),
        (say(b"\x00" * 8), "client decode"),
        (flood, "client decode"),
    ],
    ids=["hangs", "closes", "ends", "HTTP", "garbage", "zeros", "floods"],
)
@pytest.mark.parametrize("second", [True, False], ids=["second", "first"])
async def test_a_registry_that_is_none_ends_it_in_one_line(
    behave: Peer, says: str, second: bool, capsys: Capture
) -> None:
    async with answering({}) as right, peer(behave) as wrong:
        ports = (right, wrong) if second else (wrong, right)
        assert await compare(*ports, HELLO, OTHER, "--timeout=0.2", "--retries=1") == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert len(found.err.splitlines()) == 1
    assert found.err.startswith(f"tars-registry compare: 127.0.0.1:{wrong}: ")
    assert says in found.err


async def test_a_registry_that_is_not_there_ends_it_in_one_line(capsys: Capture) -> None:
    async with answering({}) as right:
        async with answering({}) as gone:
            pass
        assert await compare(right, gone, HELLO) == 2
    assert capsys.readouterr().err.endswith("Connection refused (-8, proxy connect)\n")


def question(data: bytes) -> str | None:
    """Which of the two objects a request is about."""
    return next((each for each in (HELLO, OTHER) if each.encode() in data), None)


@pytest.mark.parametrize("how", ["garbage", "silence"])
async def test_one_object_that_is_not_answered_is_named_and_the_others_are_compared(how: str, capsys: Capture) -> None:
    """Garbage ends the connection, and with it whatever else was asked on it; that is asked again."""
    async with answering({OTHER: WRONG[Kind.ONLY]}) as behind:

        async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", behind)

            async def back() -> None:
                while data := await far_reader.read(1 << 16):
                    writer.write(data)

            task = asyncio.create_task(back())
            try:
                while True:
                    length = await reader.readexactly(4)
                    frame = length + await reader.readexactly(int.from_bytes(length, "big") - 4)
                    if question(frame) == HELLO and b"4Any" in frame:
                        if how == "garbage":
                            writer.write(b"\x00\x00\x00\x05x")
                            return
                        continue
                    far_writer.write(frame)
            except asyncio.IncompleteReadError:
                pass
            finally:
                task.cancel()
                far_writer.close()

        async with answering({}) as right, peer(between) as wrong:
            assert await compare(right, wrong, HELLO, OTHER, "--timeout=0.3", "--json") == 2
            told = json.loads(capsys.readouterr().out)
            assert {(each["id"], each["kind"]) for each in told["differences"]} == {(OTHER, "only")}
            assert {(each["id"], each["function"]) for each in told["unanswered"]} == {(HELLO, "findObjectById4Any")}
            assert await compare(right, wrong, HELLO, "--timeout=0.3") == 2
    out = capsys.readouterr().out
    assert f"{HELLO}: findObjectById4Any is not answered by 127.0.0.1:{wrong}: " in out
    assert out.endswith("1 object asked for: 1 not answered\n")


async def test_many_objects_that_are_not_answered_are_not_all_waited_for(capsys: Capture) -> None:
    """It answers pings, so it is there; whatever else it is asked ends the connection."""
    async with answering({}) as behind:

        async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", behind)
            with contextlib.suppress(asyncio.IncompleteReadError):
                length = await reader.readexactly(4)
                frame = length + await reader.readexactly(int.from_bytes(length, "big") - 4)
                if b"tars_ping" in frame:
                    far_writer.write(frame)
                    writer.write(await far_reader.read(1 << 16))
                    await reader.readexactly(4)
            far_writer.close()

        async with answering({}) as right, peer(between) as wrong:
            ids = [f"Test.Server{number}.Obj" for number in range(60)]
            assert await compare(right, wrong, *ids) == 2
    assert "more than 20 objects are not answered, asked for one at a time" in capsys.readouterr().err


# -- the pages ---------------------------------------------------------------------------------------------------------


def page(body: bytes, status: str = "200 OK") -> Peer:
    return say(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


@pytest.mark.parametrize(
    ("behave", "says"),
    [
        (page(b"{}"), "no page of objects"),
        (page(b'{"objects": [1], "next": null}'), "no page of objects"),
        (page(b'{"objects": ["a.b.c"], "next": "a.b.d"}'), "no page of objects"),
        (page(b'{"objects": ["a.b.c"], "next": "a.b.c"}'), "no page of objects"),
        (page(b'{"objects": [], "next": ""}'), "no page of objects"),
        (page(b"[" * 100_000), "no admin port of a registry (it answered 200)"),
        (page(b"gone", "404 Not Found"), "no admin port of a registry (it answered 404)"),
        (page(b"what?", "400 Bad Request"), "what?"),
        (page(b" " * (17 << 20)), "a page of more than 16 MiB"),
        (say(b"garbage\r\n\r\n"), "name a running registry's --admin-listen"),
        (hang, "timed out"),
        (close, "name a running registry's --admin-listen"),
    ],
    ids=[
        "empty",
        "numbers",
        "another next",
        "for ever",
        "no next",
        "deep",
        "none",
        "refused",
        "long",
        "garbage",
        "hangs",
        "closes",
    ],
)
async def test_what_is_no_admin_port_ends_it_in_one_line(behave: Peer, says: str, capsys: Capture) -> None:
    async with answering({}) as right, peer(behave) as wrong:
        assert await compare(right, right, f"--admin=127.0.0.1:{wrong}", "--timeout=1") == 2
    found = capsys.readouterr()
    assert (found.out, len(found.err.splitlines())) == ("", 1)
    assert says in found.err


async def test_all_objects_are_those_of_all_pages(tmp_path: Path, capsys: Capture) -> None:
    spec = [manifests.tendpoint("Many", f"Server{number}", [manifests.pod("p", "10.0.0.1")]) for number in range(600)]
    manifests.write(tmp_path / "many.yaml", *spec)
    async with running(tmp_path) as first:
        ports = first.query.port, first.query.port
        assert await compare(*ports, admin(first), HELLO, "--concurrency=64", "--progress") == 0
        assert capsys.readouterr().out == "601 objects asked for: no difference\n"


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a.b.c", "--registry=x"], "--registry 'x': expected HOST:PORT"),
        (["a.b.c", "--with=x"], "--with 'x': expected HOST:PORT"),
        (["a.b.c", "--timeout=0"], "--timeout: expected a number of seconds above 0"),
        (["a.b.c", "--timeout=nan"], "--timeout: "),
        (["a.b.c", "--concurrency=0"], "--concurrency: expected a number from 1 to 256"),
        (["a.b.c", "--retries=11"], "--retries: expected a number from 0 to 10"),
        (["--admin=x"], "--admin 'x': expected HOST:PORT"),
        ([], "which objects? name them, as in App.Server.Obj, or have all of --admin HOST:PORT"),
        (["\ud800", "--protocol=tars"], "can't be asked for"),
    ],
)
def test_what_can_not_be_compared_is_told_in_one_line(arguments: list[str], says: str, capsys: Capture) -> None:
    assert main(["compare", "--with=127.0.0.1:1", *arguments]) == 2
    found = capsys.readouterr()
    assert (found.out, len(found.err.splitlines())) == ("", 1)
    assert says in found.err


class _Stream:
    def __init__(self, *, terminal: bool) -> None:
        self._terminal = terminal
        self.text = ""

    def isatty(self) -> bool:
        return self._terminal

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


@pytest.mark.parametrize(
    ("terminal", "wanted", "expected"),
    [
        (False, False, ""),
        (False, True, "5 of 2,000 objects asked for, 0 differ\n"),
        (True, False, "\r5 of 2,000 objects asked for, 0 differ\r" + " " * 38 + "\r"),
    ],
)
def test_progress_is_for_a_terminal_or_who_asks_for_it(
    terminal: bool, wanted: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter([0.0, 0.5, 1.5, 1.5, 1.6])
    monkeypatch.setattr("registry.cli.compare.time.monotonic", lambda: next(moments))
    stream = _Stream(terminal=terminal)
    progress = _Progress(stream, wanted=wanted)  # type: ignore[arg-type]
    for done in (4, 5, 6):
        progress.tell(done, 2000, Outcome())
    progress.end()
    assert stream.text == expected
