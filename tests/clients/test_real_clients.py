"""Real TARS clients against the real service: what they resolve, call, and see change."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clients.driver import KINDS, Kind, RealClient, find
from tests.support.hello import SERVANT, saying_hello
from tests.support.manifests import framework, hello, write
from tests.support.service import Service, serving

pytestmark = [pytest.mark.clients, pytest.mark.timeout(180)]

REFRESH_MS = 50
SEES_CHANGE_WITHIN = 30.0

LOOKUPS = (
    {"function": "findObjectById"},
    {"function": "findObjectById4Any"},
    {"function": "findObjectById4All"},
    {"function": "findObjectByIdInSameGroup"},
    {"function": "findObjectByIdInSameStation", "station": "sz"},
    {"function": "findObjectByIdInSameSet", "set": "app.sz.1"},
)


@pytest.fixture(params=KINDS)
def argv(request: pytest.FixtureRequest) -> list[str]:
    """The command of each client in turn."""
    kind: Kind = request.param
    found = find(kind)
    if found is None:
        pytest.skip(f"the {kind} client is not built: run tests/clients/install {kind}")
    return found


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    """A directory of manifests."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    return folder


@pytest.fixture
async def servant_port() -> AsyncIterator[int]:
    """The object behind the registry, on two addresses."""
    async with saying_hello("127.0.0.1", "127.0.0.2") as port:
        yield port


def client(argv: list[str], service: Service, tmp_path: Path, **options: Any) -> RealClient:
    """A client that asks this service."""
    return RealClient(argv, locator=service.locator, folder=tmp_path, refresh_ms=REFRESH_MS, **options)


async def hosts(client: RealClient, obj: str = SERVANT) -> list[str]:
    """The hosts that the client holds for an object."""
    answer = await client.request({"op": "endpoints", "obj": obj})
    assert answer["ok"], answer
    return [endpoint["host"] for endpoint in answer["endpoints"]]


async def until(client: RealClient, wanted: Callable[[list[str]], bool]) -> list[str]:
    """Ask the client for its endpoints until they are as wanted."""
    held: list[str] = []
    try:
        async with asyncio.timeout(SEES_CHANGE_WITHIN):
            while not wanted(held := await hosts(client)):
                pass
    except TimeoutError:
        raise AssertionError(f"the client still holds {held}") from None
    return held


async def call(client: RealClient) -> str:
    """Call the object."""
    answer = await client.request({"op": "call", "obj": SERVANT, "text": "hi"})
    assert answer == {"ok": True, "ret": 0, "rsp": answer.get("rsp")}
    return str(answer["rsp"])


async def until_called(client: RealClient, wanted: str) -> None:
    """Call the object until the call goes where it should: Java's client has a new list a moment before it uses it."""
    said = ""
    try:
        async with asyncio.timeout(SEES_CHANGE_WITHIN):
            while (said := await call(client)) != wanted:
                pass
    except TimeoutError:
        raise AssertionError(f"still {said!r}, not {wanted!r}") from None


async def test_resolves_an_object_calls_it_and_sees_the_directory_change(
    argv: list[str], manifests: Path, servant_port: int, tmp_path: Path
) -> None:
    write(manifests / "hello.yaml", hello("127.0.0.1", inactive=["127.0.0.9"], port=servant_port))
    async with (
        serving(manifests, "--endpoint-host=pod-ip") as service,
        client(argv, service, tmp_path) as asking,
    ):
        assert await call(asking) == "hi from 127.0.0.1"
        assert await hosts(asking) == ["127.0.0.1"]
        write(manifests / "hello.yaml", hello("127.0.0.2", port=servant_port))
        await until(asking, lambda held: held == ["127.0.0.2"])
        await until_called(asking, "hi from 127.0.0.2")


async def test_all_six_lookups_give_active_and_inactive_endpoints(
    argv: list[str], manifests: Path, tmp_path: Path
) -> None:
    write(manifests / "hello.yaml", hello("127.0.0.1", "127.0.0.2", inactive=["127.0.0.9"]))
    async with serving(manifests, "--endpoint-host=pod-ip") as service, client(argv, service, tmp_path) as asking:
        for lookup in LOOKUPS:
            answer = await asking.request({"op": "query", "id": SERVANT, **lookup})
            assert answer["ok"], answer
            assert answer["ret"] == 0
            shown = [(e["host"], e["port"], e["timeout"], e["istcp"]) for e in answer["active"]]
            assert shown == [("127.0.0.1", 18100, 3000, 1), ("127.0.0.2", 18100, 3000, 1)]
            inactive = [] if lookup["function"] == "findObjectById" else ["127.0.0.9"]
            assert [e["host"] for e in answer["inactive"]] == inactive


async def test_resolves_500_endpoints_and_sees_one_of_them_go(argv: list[str], manifests: Path, tmp_path: Path) -> None:
    many = [f"127.1.{n // 250}.{n % 250 + 1}" for n in range(500)]
    write(manifests / "hello.yaml", hello(*many))
    async with serving(manifests, "--endpoint-host=pod-ip") as service, client(argv, service, tmp_path) as asking:
        assert sorted(await hosts(asking)) == sorted(many)
        write(manifests / "hello.yaml", hello(*many[1:]))
        await until(asking, lambda held: sorted(held) == sorted(many[1:]))


async def test_keeps_working_after_it_has_resolved_the_registry_itself(
    argv: list[str], manifests: Path, servant_port: int, tmp_path: Path
) -> None:
    """Java's client asks for tars.tarsregistry.QueryObj and goes on with the address that it gets."""
    write(manifests / "hello.yaml", hello("127.0.0.1", port=servant_port))
    async with (
        serving(manifests, "--endpoint-host=pod-ip") as service,
        client(argv, service, tmp_path) as asking,
    ):
        answer = await asking.request({"op": "endpoints", "obj": "tars.tarsregistry.QueryObj"})
        assert [(e["host"], e["port"]) for e in answer["endpoints"]] == [("127.0.0.1", service.query_port)]
        assert await call(asking) == "hi from 127.0.0.1"
        for address in ("127.0.0.2", "127.0.0.1", "127.0.0.2"):
            write(manifests / "hello.yaml", hello(address, port=servant_port))
            await until(asking, lambda held, wanted=address: held == [wanted])  # type: ignore[misc]
        await until_called(asking, "hi from 127.0.0.2")


async def test_keeps_its_endpoints_while_the_registry_restarts_and_follows_the_new_one(
    argv: list[str], manifests: Path, servant_port: int, tmp_path: Path
) -> None:
    write(manifests / "hello.yaml", hello("127.0.0.1", port=servant_port))
    async with contextlib.AsyncExitStack() as stack:
        async with serving(manifests, "--endpoint-host=pod-ip") as first:
            asking = await stack.enter_async_context(client(argv, first, tmp_path))
            assert await call(asking) == "hi from 127.0.0.1"
        assert await call(asking) == "hi from 127.0.0.1"
        write(manifests / "hello.yaml", hello("127.0.0.2", port=servant_port))
        async with serving(manifests, "--endpoint-host=pod-ip", query_port=first.query_port):
            await until(asking, lambda held: held == ["127.0.0.2"])
            await until_called(asking, "hi from 127.0.0.2")


async def test_with_set_division_on_gets_all_endpoints_where_no_set_is_configured(
    argv: list[str], manifests: Path, servant_port: int, tmp_path: Path
) -> None:
    write(manifests / "hello.yaml", hello("127.0.0.1", port=servant_port))
    async with (
        serving(manifests, "--endpoint-host=pod-ip") as service,
        client(argv, service, tmp_path, set_division="app.sz.1") as asking,
    ):
        assert await hosts(asking) == ["127.0.0.1"]
        assert await call(asking) == "hi from 127.0.0.1"


async def test_gets_the_up_chain_for_a_server_that_is_not_known(
    argv: list[str], manifests: Path, servant_port: int, tmp_path: Path
) -> None:
    write(manifests / "framework.yaml", framework(default=[{"host": "127.0.0.1", "port": servant_port}]))
    async with serving(manifests) as service, client(argv, service, tmp_path) as asking:
        assert await call(asking) == "hi from 127.0.0.1"
