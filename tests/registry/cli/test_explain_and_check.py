"""``tars-registry explain`` and ``check``: what they print, as text and JSON, and their exit status."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path

import aiohttp
import pytest

from registry.app import App
from registry.cli import main
from registry.config import ListenAddress
from registry.routing.hosts import EndpointHost
from tests.support import manifests
from tests.support.in_process import running
from tests.support.tables import HELLO

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "manifests"
    found.mkdir()
    hello = manifests.hello("10.1.0.1", "10.1.0.2", inactive=["10.1.0.9"])
    hello["metadata"]["annotations"] = {"tars.io/set": "n.a.1", "tars.io/pod-weights": '{"test-helloserver-0": 30}'}
    manifests.write(found / "hello.yaml", hello)
    return found


def admin(app: App) -> str:
    ((bound, *_),) = app._admin_sockets.values()
    return f"127.0.0.1:{bound.getsockname()[1]}"


async def explain(app: App, *arguments: str) -> int:
    return await asyncio.to_thread(main, ["explain", "--admin", admin(app), *arguments])


async def test_explain_tells_endpoints_facts_and_reasons(folder: Path, capsys: Capture) -> None:
    async with running(folder, endpoint_host=EndpointHost.POD_IP) as app:
        assert await explain(app, HELLO) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Test.HelloServer.HelloObj by findObjectByIdInSameGroup",
        "caller: in no group: there is no policy with groups",
        "  all endpoints: taken",
        "active    10.1.0.1:18100/tcp  set n.a.1; weight 30",
        "active    10.1.0.2:18100/tcp  set n.a.1; weight 100",
        "inactive  10.1.0.9:18100/tcp  set n.a.1; weight 100; its state is Active/Activating, not Active/Active",
    ]


async def test_explain_of_a_set_with_nobody_in_it_is_exit_status_1(folder: Path, capsys: Capture) -> None:
    async with running(folder, endpoint_host=EndpointHost.POD_IP) as app:
        assert await explain(app, HELLO, "--set", "n.b.1") == 1
    out = capsys.readouterr().out
    assert "returns -1" in out
    assert "left out  10.1.0.1:18100/tcp  set n.a.1; its set is n.a.1, the caller asks for n.b.1" in out


async def test_explain_as_json(folder: Path, capsys: Capture) -> None:
    async with running(folder, endpoint_host=EndpointHost.POD_IP) as app:
        assert await explain(app, HELLO, "--json", "--from", "10.1.0.1", "--function", "findObjectById") == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["host"] for each in told["active"]] == ["10.1.0.1", "10.1.0.2"]
    assert [each["host"] for each in told["left_out"]] == ["10.1.0.9"]


async def test_explain_tells_what_it_can_not_do(folder: Path, capsys: Capture) -> None:
    async with running(folder) as app:
        assert await explain(app, HELLO, "--from", "nowhere") == 2
        assert "expected an address as in 10.1.2.3, got 'nowhere'" in capsys.readouterr().err
        assert await asyncio.to_thread(main, ["explain", HELLO, "--admin", f"127.0.0.1:{app.query.port}"]) == 2
        assert "name a running registry's --admin-listen with --admin" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--admin", "x"], "--admin 'x': expected HOST:PORT"),
        (["--admin", "127.0.0.1:1"], "name a running registry's --admin-listen with --admin"),
        (["--timeout", "0"], "--timeout: expected a number of seconds above 0"),
    ],
)
def test_explain_tells_what_is_wrong_with_its_options(arguments: list[str], says: str, capsys: Capture) -> None:
    assert main(["explain", HELLO, *arguments]) == 2
    assert says in capsys.readouterr().err


async def test_objects_are_listed_on_the_admin_port_a_page_at_a_time(folder: Path) -> None:
    spec = [manifests.tendpoint("Test", name, servant="Obj") for name in ("A", "B", "C")]
    manifests.write(folder / "more.yaml", *spec)
    async with (
        running(folder, metrics_listen=ListenAddress("127.0.0.1", 0)) as app,
        aiohttp.ClientSession() as session,
    ):

        async def get(port: int, path: str) -> tuple[int, str]:
            async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
                return answer.status, await answer.text()

        port = app._admin_sockets["--admin-listen"][0].getsockname()[1]
        status, text = await get(port, "/objects?limit=2")
        assert (status, json.loads(text)) == (200, {"objects": ["Test.A.Obj", "Test.B.Obj"], "next": "Test.B.Obj"})
        status, text = await get(port, "/objects?after=Test.B.Obj")
        assert (status, json.loads(text)) == (200, {"objects": ["Test.C.Obj", HELLO], "next": None})
        assert await get(port, "/objects?after=x") == (
            400,
            "after: expected an object id as in App.Server.Obj, got 'x'\n",
        )
        public = app._admin_sockets["--metrics-listen"][0].getsockname()[1]
        assert (await get(public, "/objects"))[0] == 404


@pytest.mark.parametrize("body", [b"{}", b'{"status": "ok", "active": []}', b"[]", b"<html>"])
async def test_explain_of_what_is_no_admin_port_is_an_error(body: bytes, capsys: Capture) -> None:
    """Whatever else answers there, in JSON or not."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await asyncio.to_thread(main, ["explain", HELLO, "--admin", f"127.0.0.1:{port}"]) == 2
    assert f"127.0.0.1:{port}: no admin port of a registry (it answered 200)" in capsys.readouterr().err


async def test_explain_asks_over_ipv6_and_about_ipv6(folder: Path, capsys: Capture) -> None:
    async with running(folder, admin_listen=ListenAddress("::1", 0)) as app:
        port = app._admin_sockets["--admin-listen"][0].getsockname()[1]
        arguments = ["explain", HELLO, "--from", "fd00::1", "--json", "--admin", f"[::1]:{port}"]
        assert await asyncio.to_thread(main, arguments) == 0
    assert len(json.loads(capsys.readouterr().out)["active"]) == 2


async def test_explain_of_what_is_not_known_says_so_by_its_status_and_in_words(folder: Path, capsys: Capture) -> None:
    async with running(folder) as app:
        assert await explain(app, "Nobody.Server.Obj") == 1
        assert "no server Nobody.Server is known" in capsys.readouterr().out
        assert await explain(app, "Nobody") == 1
        assert "this is no object id (App.Server.Obj)" in capsys.readouterr().out


async def test_the_page_is_not_on_the_port_of_metrics_alone(folder: Path, capsys: Capture) -> None:
    async with running(folder, metrics_listen=ListenAddress("127.0.0.1", 0)) as app:
        port = app._admin_sockets["--metrics-listen"][0].getsockname()[1]
        assert await asyncio.to_thread(main, ["explain", HELLO, "--admin", f"127.0.0.1:{port}"]) == 2
    assert "no admin port of a registry (it answered 404)" in capsys.readouterr().err


# -- check ------------------------------------------------------------------------------------------------------------

POLICY = """\
groups:
  - id: 1
    name: north
    addresses: [10.1.0.0/16, 10.2.3.*]
priorities:
  - {station: coast, groups: [north]}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TARS_REGISTRY_")]:
        monkeypatch.delenv(name)


def test_check_of_what_is_right(folder: Path, policy: Path, capsys: Capture) -> None:
    assert main(["check", "--manifests", str(folder), "--policy", str(policy)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "configuration: defaults and environment",
        f"manifests {folder}: 1 TEndpoint, 0 TTemplate, 0 TFrameworkConfig in 1 files",
        f"policy {policy}: 1 groups, 2 addresses, 1 stations",
        "nothing is wrong",
    ]


def test_check_shows_in_which_group_addresses_are(policy: Path, capsys: Capture) -> None:
    assert main(["check", "--policy", str(policy), "--ip", "10.2.3.4", "--ip", "fd00::1"]) == 0
    assert capsys.readouterr().out.splitlines()[2:4] == [
        "10.2.3.4: group 1 (north), by 10.2.3.* in line 4; priorities: coast",
        "fd00::1: in no group",
    ]


def test_check_tells_all_that_is_wrong_with_file_and_line(folder: Path, policy: Path, capsys: Capture) -> None:
    config = folder.parent / "config.yaml"
    config.write_text("log_level: loud\n")
    policy.write_text(POLICY.replace("10.1.0.0/16", "10.1.0.0/33").replace("[north]", "[nord]"))
    bad = manifests.hello("10.1.0.1")
    bad["metadata"]["annotations"] = {"tars.io/weight": "heavy"}
    manifests.write(folder / "hello.yaml", bad)
    assert main(["check", "--config", str(config), "--manifests", str(folder), "--policy", str(policy)]) == 1
    out = capsys.readouterr().out
    assert "configuration: " in out
    assert "log_level: 'loud': expected one of debug, info, warning, error" in out
    assert re.search(rf"{folder}/hello.yaml:\d+: TEndpoint tars/test-helloserver: tars.io/weight: expected", out)
    assert f"{policy}:4: groups[0].addresses[0]: the length of an IPv4 range is 0 to 32" in out
    assert f"{policy}:6: priorities[0].groups[0]: there is no group 'nord'; did you mean north?" in out
    assert out.endswith("4 problems\n")


def test_check_tells_what_serve_would_refuse(policy: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TARS_REGISTRY_MAX_FILE_BYTES", "1024")
    policy.write_text(POLICY + "#" * 1024)
    assert main(["check", "--policy", str(policy)]) == 1
    assert f"{policy}: longer than max_file_bytes, 1024 bytes" in capsys.readouterr().out
    monkeypatch.setenv("TARS_REGISTRY_SOURCE", "directory")
    monkeypatch.setenv("TARS_REGISTRY_ROUTING_POLICY_CONFIGMAP", "routing")
    assert main(["check"]) == 1
    assert "routing_policy_configmap goes with the kubernetes source" in capsys.readouterr().out
    monkeypatch.setenv("TARS_REGISTRY_CALLER_GROUP", "nobody")
    assert main(["check"]) == 1
    assert "what else the settings name was not looked at" in capsys.readouterr().out


def test_check_tells_of_group_names_that_the_policy_does_not_have(folder: Path, policy: Path, capsys: Capture) -> None:
    named = manifests.hello("10.1.0.1")
    named["metadata"]["annotations"] = {"tars.io/group-name": "east"}
    manifests.write(folder / "hello.yaml", named)
    assert main(["check", "--manifests", str(folder), "--policy", str(policy)]) == 1
    assert "the policy has no group named 'east' (it has north)" in capsys.readouterr().out


def test_check_takes_what_to_look_at_from_the_settings(
    folder: Path, policy: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TARS_REGISTRY_MANIFESTS", str(folder))
    monkeypatch.setenv("TARS_REGISTRY_ROUTING_POLICY", str(policy))
    assert main(["check", "--json", "--ip", "10.1.2.3"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["checked"]) == 3
    assert told["problems"] == []
    assert told["addresses"] == [
        {
            "address": "10.1.2.3",
            "group": 1,
            "name": "north",
            "rule": "10.1.0.0/16",
            "line": 4,
            "stations": ["coast"],
            "zone_unknown": False,
        }
    ]
    monkeypatch.setenv("TARS_REGISTRY_ROUTING_POLICY_CONFIGMAP", "routing")
    assert main(["check"]) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--manifests", "/nowhere"], "/nowhere: can't be read"),
        (["--policy", "/nowhere"], "/nowhere: can't be read"),
        (["--ip", "10.1.2.3"], "--ip needs a policy"),
    ],
)
def test_check_of_what_can_not_be_read_is_an_error(arguments: list[str], says: str, capsys: Capture) -> None:
    assert main(["check", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_check_tells_the_line_of_a_policy_that_is_no_text(policy: Path, capsys: Capture) -> None:
    policy.write_bytes(POLICY.replace("north", "m\xfcnchen").encode("latin-1"))
    assert main(["check", "--policy", str(policy)]) == 1
    assert f"{policy}:3: not UTF-8: invalid start byte" in capsys.readouterr().out


def test_check_does_not_say_that_an_address_is_in_no_zone(policy: Path, capsys: Capture) -> None:
    """It knows of no nodes."""
    policy.write_text(POLICY + "from_topology: true\n")
    assert main(["check", "--policy", str(policy), "--ip", "10.9.9.9", "--ip", "10.1.2.3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "10.9.9.9: in no group, but its node may have a zone (from_topology), which is not known here" in lines
    assert lines[3].startswith("10.1.2.3: group 1 (north)")


def test_check_of_an_address_that_is_none_is_an_error(policy: Path, capsys: Capture) -> None:
    assert main(["check", "--policy", str(policy), "--ip", "north"]) == 2
    assert "--ip 'north': expected an address" in capsys.readouterr().err
