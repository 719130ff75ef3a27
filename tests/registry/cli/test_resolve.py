"""``tars-registry resolve``: what it asks, what it shows, and its exit status; against real servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from registry.cli import main
from registry.routing.select import Lookup
from tars_protocol.aio.server import Server
from tars_protocol.connection import Connection
from tars_protocol.dispatch import Call, Dispatcher, Servant
from tars_protocol.interfaces.query import QUERY, SERVANT, EndpointF
from tests.support import manifests
from tests.support.in_process import running
from tests.support.tables import HELLO, LOOKUPS, Served

Capture = pytest.CaptureFixture[str]


async def resolve(port: int, *arguments: str) -> int:
    """Run the command beside the server that it asks."""
    return await asyncio.to_thread(main, ["resolve", *arguments, "--registry", f"127.0.0.1:{port}"])


@contextlib.asynccontextmanager
async def answering(dispatcher: Dispatcher) -> AsyncIterator[int]:
    """A server on loopback that answers with these servants; its port."""
    server = Server("test", lambda caller: Connection(caller, dispatcher.handle))
    server.bind("127.0.0.1", 0)
    await server.start()
    try:
        yield server.port
    finally:
        await server.stop()


def saying(ret: int, active: tuple[EndpointF, ...], inactive: tuple[EndpointF, ...] = ()) -> Dispatcher:
    def answer(call: Call) -> tuple[object, ...]:
        return (active,) if call.function.name == Lookup.ACTIVE else (ret, active, inactive)

    return Dispatcher({SERVANT: Servant(QUERY, dict.fromkeys(Lookup, answer))})


def endpoint(host: str = "10.0.0.1", **fields: int | str) -> EndpointF:
    known: dict[str, Any] = {"host": host, "port": 18100, "timeout": 3000, "istcp": 1, "grid": 0}
    return EndpointF(**known | fields)


# -- what can't be asked ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--function", "findObjectByIdInSameSet"], "findObjectByIdInSameSet needs --set"),
        (["--function", "findObjectByIdInSameStation"], "findObjectByIdInSameStation needs --station"),
        (["--function", "findObjectById", "--set", "a.b.c"], "--set goes with findObjectByIdInSameSet, not with find"),
        (["--function", "findObjectById", "--station", "x"], "--station goes with findObjectByIdInSameStation, not w"),
        (["--set", "a.b.c", "--station", "x"], "--station goes with findObjectByIdInSameStation, not with findObjectB"),
        (["--registry", "127.0.0.1"], "--registry '127.0.0.1': expected HOST:PORT"),
        (["--registry", "::1:17890"], "--registry '::1:17890': an IPv6 address stands in brackets"),
        (["--registry", "h:70000"], "--registry 'h:70000': expected HOST:PORT"),
        (["--registry", "a..b:1"], "--registry 'a..b:1': no host name"),
        (["--timeout", "0"], "--timeout: "),
        (["--timeout", "-1"], "--timeout: "),
        (["--timeout", "nan"], "--timeout: "),
        (["--timeout", "inf"], "--timeout: "),
        (["--timeout", "1e12"], "--timeout: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_can_not_be_asked_is_told_in_one_line(arguments: list[str], expected: str, capsys: Capture) -> None:
    assert main(["resolve", HELLO, *arguments]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.startswith(f"tars-registry resolve: {expected}")
    assert len(found.err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [HELLO, "--function", "nope"],
        [HELLO, "--protocol", "xml"],
        [HELLO, "--timeout", "soon"],
        [HELLO, "more"],
        [HELLO, "--reg", "h:1"],
    ],
    ids=" ".join,
)
def test_what_is_no_command_line_ends_in_status_two(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["resolve", *arguments])
    assert ended.value.code == 2
    assert "usage: tars-registry" in capsys.readouterr().err


def test_an_id_that_no_packet_can_hold_is_told(capsys: Capture) -> None:
    assert main(["resolve", "\ud800.B.C"]) == 2
    assert "can't be asked for" in capsys.readouterr().err


# -- a real registry ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    """A registry with Test.HelloServer (two active pods, one not) and Test.IdleServer (none active)."""
    idle = manifests.tendpoint("Test", "IdleServer", [manifests.pod("test-idleserver-0", "10.0.0.9", ("Active", ""))])
    udp = manifests.tendpoint("Test", "UdpServer", [manifests.pod("test-udpserver-0", "10.0.0.8")], is_tcp=False)
    manifests.write(tmp_path / "all.yaml", manifests.hello("10.0.0.1", "10.0.0.2", inactive=["10.0.0.3"]), idle, udp)
    async with running(tmp_path) as app:
        yield app.query.port


@pytest.mark.parametrize("protocol", ["tars", "tup", "json"])
async def test_endpoints_are_shown_one_a_line(port: int, protocol: str, capsys: Capture) -> None:
    assert await resolve(port, HELLO, "--protocol", protocol) == 0
    assert capsys.readouterr().out.splitlines() == [
        "active    test-helloserver-0.test-helloserver  18100  tcp  timeout 3000 ms",
        "active    test-helloserver-1.test-helloserver  18100  tcp  timeout 3000 ms",
        "inactive  test-helloserver-2.test-helloserver  18100  tcp  timeout 3000 ms",
    ]
    assert await resolve(port, "Test.UdpServer.HelloObj", "--protocol", protocol) == 0
    assert "  udp  " in capsys.readouterr().out


@pytest.mark.parametrize("lookup", LOOKUPS)
async def test_every_function_can_be_asked(port: int, lookup: Lookup, capsys: Capture) -> None:
    extra = {Lookup.SAME_SET: ["--set", "a.b.c"], Lookup.SAME_STATION: ["--station", "sz"]}.get(lookup, [])
    assert await resolve(port, HELLO, "--function", lookup, "--json", *extra) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["id"], shown["function"], shown["return"]) == (HELLO, lookup, 0)
    assert [e["host"] for e in shown["active"]] == [f"test-helloserver-{n}.test-helloserver" for n in (0, 1)]
    assert len(shown["inactive"]) == (0 if lookup is Lookup.ACTIVE else 1)
    assert shown["active"][0] | {"weight": 0, "setId": "", "nodeName": ""} == shown["active"][0]


@pytest.mark.parametrize(
    ("options", "function"),
    [
        ([], "findObjectByIdInSameGroup"),
        (["--set", "a.b.c"], "findObjectByIdInSameSet"),
        (["--station", "sz"], "findObjectByIdInSameStation"),
        (["--station", ""], "findObjectByIdInSameStation"),
    ],
)
async def test_the_function_is_that_of_clients_or_of_the_options(
    port: int, options: list[str], function: str, capsys: Capture
) -> None:
    await resolve(port, HELLO, "--json", *options)
    assert json.loads(capsys.readouterr().out)["function"] == function


async def test_without_an_active_endpoint_the_status_is_one(port: int, capsys: Capture) -> None:
    assert await resolve(port, "Test.IdleServer.HelloObj") == 1
    assert capsys.readouterr().out.startswith("inactive  test-idleserver-0.test-idleserver")
    assert await resolve(port, "Nobody.Server.Obj") == 1
    assert capsys.readouterr().out == "Nobody.Server.Obj: no endpoints\n"
    assert await resolve(port, "Nobody.Server.Obj", "--json") == 1
    assert json.loads(capsys.readouterr().out)["active"] == []
    assert await resolve(port, "no-id") == 1
    assert capsys.readouterr().out == "no-id: no endpoints (an id is App.Server.Obj)\n"


async def test_a_refused_set_is_shown_as_what_was_returned(port: int, capsys: Capture) -> None:
    assert await resolve(port, HELLO, "--set", "*.b.c") == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{HELLO}: findObjectByIdInSameSet returned -1",
        f"{HELLO}: no endpoints",
    ]


async def test_the_registry_itself_is_found_where_it_was_asked(port: int, capsys: Capture) -> None:
    assert await resolve(port, "tars.tarsregistry.QueryObj") == 0
    assert capsys.readouterr().out == f"active    127.0.0.1  {port:5}  tcp  timeout 6000 ms\n"


@pytest.mark.parametrize("object_id", ["\udcff.B.C", "A\n\x1b[31m.B.C", "Ünï.cödé.Obj"])
async def test_an_odd_id_is_asked_for_and_shown_on_one_line(port: int, object_id: str, capsys: Capture) -> None:
    """As it came from a shell: bytes that are no UTF-8, and what a terminal would obey."""
    assert await resolve(port, object_id) == 1
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 1
    assert out.rstrip("\n").isprintable()
    assert await resolve(port, object_id, "--json") == 1
    assert json.loads(capsys.readouterr().out)["id"] == object_id


# -- other registries --------------------------------------------------------------------------------------------------


async def test_sets_weights_and_networks_are_shown_where_there_are_any(capsys: Capture) -> None:
    dispatcher = saying(
        0,
        (endpoint(istcp=2, setId="n.a.1"), endpoint("longer.example", istcp=9, weight=0, weightType=1)),
        (endpoint(istcp=0),),
    )
    async with answering(dispatcher) as port:
        assert await resolve(port, HELLO) == 0
    assert capsys.readouterr().out.splitlines() == [
        "active    10.0.0.1        18100  ssl  timeout 3000 ms  set n.a.1",
        "active    longer.example  18100  9  timeout 3000 ms  weight 0",
        "inactive  10.0.0.1        18100  udp  timeout 3000 ms",
    ]


async def test_what_a_registry_answers_writes_nothing_else_to_the_terminal(capsys: Capture) -> None:
    odd = endpoint("a\nactive  forged\x1b[2J\udcff", setId="\x07\n")
    async with answering(saying(0, (odd,))) as port:
        assert await resolve(port, HELLO) == 0
        out = capsys.readouterr().out
        assert len(out.splitlines()) == 1
        assert out.rstrip("\n").isprintable()
        assert await resolve(port, HELLO, "--json") == 0
        assert json.loads(capsys.readouterr().out)["active"][0]["host"] == odd.host


async def test_an_answer_with_a_code_is_an_error(capsys: Capture) -> None:
    """As before a registry is synchronised, for the one function that has no return value."""
    async with answering(Served(synced=False).dispatcher) as port:
        assert await resolve(port, HELLO, "--function", "findObjectById") == 2
        err = capsys.readouterr().err
        assert err.startswith(f"tars-registry resolve: 127.0.0.1:{port}: not synchronised: ask again (-99")
        assert await resolve(port, HELLO) == 1
        assert "findObjectByIdInSameGroup returned -1" in capsys.readouterr().out
    async with answering(Dispatcher({})) as port:
        assert await resolve(port, HELLO) == 2
        assert "no servant" in capsys.readouterr().err


async def test_a_registry_that_is_not_there_is_an_error(capsys: Capture) -> None:
    async with answering(Dispatcher({})) as port:
        pass
    assert await resolve(port, HELLO, "--timeout", "0.2") == 2
    found = capsys.readouterr()
    assert (
        found.err == f"tars-registry resolve: 127.0.0.1:{port}: no connection to 127.0.0.1:{port}: Connection refused "
        "(-8, proxy connect)\n"
    )


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\x00\x00\x05x", b"\x00" * 8])
async def test_what_is_no_registry_is_an_error(sent: bytes, capsys: Capture) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(sent)
        writer.close()
        await writer.wait_closed()

    other = await asyncio.start_server(say, "127.0.0.1", 0)
    async with other:
        port = other.sockets[0].getsockname()[1]
        assert await resolve(port, HELLO, "--timeout", "5") == 2
    err = capsys.readouterr().err
    assert err.startswith(f"tars-registry resolve: 127.0.0.1:{port}: ")
    assert len(err.splitlines()) == 1
