"""Real TARS clients and routing: what they resolve in their set, and by the group of their address."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.clients.driver import KINDS, Kind, RealClient, find
from tests.support.hello import SERVANT, saying_hello
from tests.support.manifests import hello, pod, tendpoint, write
from tests.support.service import Service, serving

pytestmark = [pytest.mark.clients, pytest.mark.timeout(180)]

REFRESH_MS = 50
SEES_CHANGE_WITHIN = 30.0


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


def client(argv: list[str], service: Service, tmp_path: Path, **options: Any) -> RealClient:
    """A client that asks this service."""
    return RealClient(argv, locator=service.locator, folder=tmp_path, refresh_ms=REFRESH_MS, **options)


async def resolved(client: RealClient) -> list[str]:
    """The hosts that the client holds for the object; empty where it could not resolve it."""
    answer = await client.request({"op": "endpoints", "obj": SERVANT})
    return sorted(endpoint["host"] for endpoint in answer.get("endpoints", ()))


async def until_resolved(client: RealClient, *expected: str) -> None:
    """Ask the client for its endpoints until they are these."""
    async with asyncio.timeout(SEES_CHANGE_WITHIN):
        while await resolved(client) != list(expected):
            pass


def part(name: str, *ips: str, **annotations: str) -> dict[str, Any]:
    """One of the TEndpoints of Test.HelloServer."""
    found = tendpoint("Test", "HelloServer", [pod(f"{name}-{n}", ip) for n, ip in enumerate(ips)])
    found["metadata"] |= {"name": name, "annotations": {f"tars.io/{k}": v for k, v in annotations.items()}}
    return found


def in_sets(manifests: Path) -> None:
    """Two sets, and a wildcard set in the area of one of them."""
    write(
        manifests / "sets.yaml",
        part("one", "127.0.0.1", set="app.sz.1"),
        part("two", "127.0.0.2", set="app.sz.2"),
        part("any", "127.0.0.3", set="app.sz.*"),
        part("far", "127.0.0.4", set="app.sh.1"),
        part("none", "127.0.0.5"),
    )


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ("app.sz.1", ["127.0.0.1"]),
        ("app.sz.2", ["127.0.0.2"]),
        ("app.sz.9", ["127.0.0.3"]),
        ("app.sh.1", ["127.0.0.4"]),
        ("app.sz.*", ["127.0.0.1", "127.0.0.2", "127.0.0.3"]),
        ("app.bj.1", []),
        ("app.sh.9", []),
        ("other.sz.1", ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"]),
    ],
)
async def test_a_client_with_set_division_resolves_in_its_set_the_wildcard_set_or_not_at_all(
    argv: list[str], manifests: Path, tmp_path: Path, own: str, expected: list[str]
) -> None:
    in_sets(manifests)
    async with (
        serving(manifests, "--endpoint-host=pod-ip") as service,
        client(argv, service, tmp_path, set_division=own) as asking,
    ):
        assert await resolved(asking) == expected
        answer = await asking.request({"op": "query", "function": "findObjectByIdInSameSet", "id": SERVANT, "set": own})
        if expected:
            assert answer["ret"] == 0
            assert sorted(e["host"] for e in answer["active"]) == expected
        else:
            assert answer["ret"] == -1
            assert (answer["active"], answer["inactive"]) == ([], [])


@pytest.mark.parametrize("own", ["app.bj.1", "app.sh.9"])
async def test_a_call_in_a_set_with_nobody_in_it_is_an_error_though_other_sets_serve(
    argv: list[str], manifests: Path, tmp_path: Path, own: str
) -> None:
    async with saying_hello("127.0.0.1", "127.0.0.4") as port:
        parts = [part("one", "127.0.0.1", set="app.sz.*"), part("far", "127.0.0.4", set="app.sh.1")]
        for each in parts:
            each["spec"]["tars"]["servants"][0]["port"] = port
        write(manifests / "sets.yaml", *parts)
        async with (
            serving(manifests, "--endpoint-host=pod-ip") as service,
            client(argv, service, tmp_path, set_division="app.sz.7") as served,
            client(argv, service, tmp_path, set_division=own) as alone,
        ):
            call = {"op": "call", "obj": SERVANT, "text": "hi"}
            answer = await served.request(call)
            assert (answer["ok"], answer["rsp"]) == (True, "hi from 127.0.0.1")
            answer = await alone.request(call)
            assert answer["ok"] is False
            assert answer["error"]


async def test_a_client_follows_its_set_as_it_moves(argv: list[str], manifests: Path, tmp_path: Path) -> None:
    in_sets(manifests)
    async with (
        serving(manifests, "--endpoint-host=pod-ip") as service,
        client(argv, service, tmp_path, set_division="app.sz.1") as asking,
    ):
        assert await resolved(asking) == ["127.0.0.1"]
        write(manifests / "sets.yaml", part("one", "127.0.0.6", set="app.sz.1"), part("far", "127.0.0.4"))
        await until_resolved(asking, "127.0.0.6")


GROUPS = """\
grouping: all
groups:
  - {id: 1, name: own, addresses: [%s]}
  - {id: 2, name: near, addresses: [127.0.2.*]}
  - {id: 3, name: far, addresses: [127.0.3.*]}
priorities:
  - {station: coast, groups: [own, near]}
"""


@pytest.mark.parametrize(
    ("ips", "expected"),
    [
        (["127.0.1.1", "127.0.2.1", "127.0.3.1", "127.0.9.1"], ["127.0.1.1"]),
        (["127.0.2.1", "127.0.3.1", "127.0.9.1"], ["127.0.2.1"]),
        (["127.0.3.1", "127.0.9.1"], ["127.0.9.1"]),
        (["127.0.3.1", "127.0.3.2"], ["127.0.3.1", "127.0.3.2"]),
    ],
)
async def test_a_client_in_a_group_gets_its_groups_endpoints_then_the_prioritys_then_all(
    argv: list[str], manifests: Path, tmp_path: Path, ips: list[str], expected: list[str]
) -> None:
    write(manifests / "hello.yaml", hello(*ips))
    policy = tmp_path / "policy.yaml"
    policy.write_text(GROUPS % "127.0.0.1, 127.0.1.0/24")
    async with (
        serving(manifests, "--endpoint-host=pod-ip", f"--routing-policy={policy}") as service,
        client(argv, service, tmp_path) as asking,
    ):
        assert await resolved(asking) == expected
        for station, found in (("coast", [ip for ip in ips if ip[:8] in ("127.0.1.", "127.0.2.")]), ("hill", None)):
            answer = await asking.request(
                {"op": "query", "function": "findObjectByIdInSameStation", "id": SERVANT, "station": station}
            )
            assert answer["ret"] == (0 if found is not None else -1)
            assert sorted(e["host"] for e in answer["active"]) == (found or [])


async def test_a_client_that_is_moved_to_another_group_while_connected_gets_its_endpoints(
    argv: list[str], manifests: Path, tmp_path: Path
) -> None:
    write(manifests / "hello.yaml", hello("127.0.1.1", "127.0.2.1"))
    policy = tmp_path / "policy.yaml"
    policy.write_text(GROUPS % "127.0.0.1, 127.0.1.0/24")
    async with (
        serving(manifests, "--endpoint-host=pod-ip", f"--routing-policy={policy}") as service,
        client(argv, service, tmp_path) as asking,
    ):
        assert await resolved(asking) == ["127.0.1.1"]
        policy.write_text((GROUPS % "127.0.1.0/24").replace("127.0.2.*", "127.0.2.*, 127.0.0.1"))
        await until_resolved(asking, "127.0.2.1")


@pytest.mark.parametrize(
    ("annotations", "weights"),
    [
        ({"weight": "0"}, [(0, 0), (0, 0)]),
        ({"pod-weights": '{"one-0": 0, "one-1": 50}'}, [(0, 1), (50, 1)]),
        ({"pod-weights": '{"one-1": 50}'}, [(100, 1), (50, 1)]),
    ],
)
async def test_weights_are_such_that_no_client_chokes_on_them(
    argv: list[str], manifests: Path, tmp_path: Path, annotations: dict[str, str], weights: list[tuple[int, int]]
) -> None:
    """A Go client would end where all weights of weightType 1 are 0."""
    write(manifests / "hello.yaml", part("one", "127.0.0.1", "127.0.0.2", **annotations))
    async with (
        serving(manifests, "--endpoint-host=pod-ip") as service,
        client(argv, service, tmp_path) as asking,
    ):
        assert await resolved(asking) == ["127.0.0.1", "127.0.0.2"]
        await asking.request({"op": "call", "obj": SERVANT, "text": "hi"})  # nobody listens there; it must live
        answer = await asking.request({"op": "query", "function": "findObjectById4Any", "id": SERVANT})
        assert [(e["weight"], e["weightType"]) for e in answer["active"]] == weights
