"""The image at work, as docs/image.md says how to run it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from tars_protocol.aio.client import Client
from tars_protocol.interfaces.query import QUERY, SERVANT
from tests.image.conftest import Built
from tests.image.containers import OWN_LIMITS, ROOT, Tools, running

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]

SERVERS: Final = 1000
PODS: Final = 10

HIGH_USER: Final = 1_000_700_001
"""Of the size that OpenShift gives: a range for each namespace, in no image's /etc/passwd."""

MEMORY: Final = 256 << 20

RESTRICTED: Final = (
    f"--user={HIGH_USER}",
    "--read-only",
    # As in Kubernetes, where nothing is put over /tmp and /run.
    "--read-only-tmpfs=false",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    f"--memory={MEMORY}",
)

FREE_PORTS: Final = (
    "--query-listen=127.0.0.1:0",
    "--registry-listen=127.0.0.1:0",
    "--admin-listen=127.0.0.1:0",
)


def host(server: int, number: int) -> str:
    return f"shop-server{server}-{number}.shop-server{server}"


def port(server: int) -> int:
    return 10_000 + server


def tendpoint(server: int) -> str:
    """A server with one pod that does not serve, so that both lists are told apart."""
    pods = [
        {
            "name": f"shop-server{server}-{number}",
            "podIP": f"10.{server >> 8}.{server & 255}.{number + 1}",
            "settingState": "Active",
            "presentState": "Active" if number else "Activating",
        }
        for number in range(PODS)
    ]
    return json.dumps(
        {
            "apiVersion": "k8s.tars.io/v1beta3",
            "kind": "TEndpoint",
            "metadata": {"name": f"shop-server{server}", "namespace": "tars"},
            "spec": {
                "app": "Shop",
                "server": f"Server{server}",
                "subType": "tars",
                "tars": {"servants": [{"name": "OrderObj", "port": port(server), "isTcp": True, "timeout": 3000}]},
            },
            "status": {"pods": pods},
        }
    )


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a thousand servers with ten pods each, readable for every user, as a mounted ConfigMap is."""
    folder = tmp_path_factory.mktemp("manifests")
    for first in range(0, SERVERS, 100):
        text = "\n---\n".join(map(tendpoint, range(first, first + 100)))
        (folder / f"{first:04}.yaml").write_text(text)
    folder.chmod(0o755)
    return folder


async def status_of(address: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(address) as answer:
        return answer.status


async def test_restricted_as_in_kubernetes_it_serves_a_thousand_servers_and_drains(
    tools: Tools, built: Built, manifests: Path
) -> None:
    """Read-only, without a capability, as a user that no file knows, in 256 MiB; SIGTERM ends it with status 0."""
    arguments = (
        *RESTRICTED,
        f"--volume={manifests}:/manifests:ro",
        built.name,
        "serve",
        "--source=directory",
        "--manifests=/manifests",
        *FREE_PORTS,
        "--drain-delay=2",
    )
    async with running(tools, arguments) as container:
        process = container.status_of_process()
        assert process["Uid"].split() == [str(HIGH_USER)] * 4
        assert {process[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert process["NoNewPrivs"] == "1"
        assert container.memory("memory.limit_in_bytes", "memory.max") == MEMORY
        ready = f"http://127.0.0.1:{container.admin_port}/readyz"
        assert await status_of(ready) == 200

        async with Client("127.0.0.1", container.query_port, SERVANT, QUERY) as client:
            for server in range(SERVERS):
                ret, active, inactive = await client.call("findObjectById4Any", f"Shop.Server{server}.OrderObj")
                assert ret == 0
                assert [(e.host, e.port) for e in active] == [(host(server, n), port(server)) for n in range(1, PODS)]
                assert [(e.host, e.port) for e in inactive] == [(host(server, 0), port(server))]
            assert container.memory("memory.max_usage_in_bytes", "memory.peak") < MEMORY

            container.signal("TERM")
            await container.says("not ready any more")
            # It goes on answering while others learn that it will be gone.
            assert await status_of(ready) == 503
            assert (await client.call("findObjectById4Any", "Shop.Server7.OrderObj"))[0] == 0
            assert await container.ended() == 0
    assert not [line for line in container.lines if " ERROR " in line or "Traceback" in line]


async def test_the_printed_commands_run_it(tools: Tools, built: Built) -> None:
    """Each `docker run` of docs/image.md that serves a folder; ports are those of this machine that are free."""
    page = (ROOT / "docs" / "image.md").read_text()
    commands = re.findall(r"^docker run ((?:.*\\\n)*.*)$", page, re.MULTILINE)
    serving = [command for command in commands if "--manifests" in command]
    assert serving
    for command in serving:
        words = shlex.split(command.replace("\\\n", " ").replace("$PWD", str(ROOT)))
        words = [built.name if word.startswith("tars-registry:") else word for word in words]
        # The network is this machine's: nothing is published, and other ports are listened on.
        for option in ("-p", "--metrics-listen"):
            while option in words:
                del words[words.index(option) : words.index(option) + 2]
        async with running(tools, [*words, *FREE_PORTS, "--drain-delay=0"]) as container:
            async with Client("127.0.0.1", container.query_port, SERVANT, QUERY) as client:
                assert len((await client.call("findObjectById4Any", "Test.HelloServer.HelloObj"))[1]) == 2
            assert container.status_of_process()["Uid"].split()[0] == "10001"
            container.signal("TERM")
            assert await container.ended() == 0


async def test_its_commands_are_there(tools: Tools, built: Built) -> None:
    status, output, errors = await tools.ran("run", "--rm", *RESTRICTED, *OWN_LIMITS, built.name, "version")
    assert (status, errors) == (0, "")
    assert re.fullmatch(r"tars-registry \S+ \(Python 3\.11\.\d+\)\n", output)
    status, output, errors = await tools.ran("run", "--rm", *RESTRICTED, *OWN_LIMITS, built.name, "resolve", "A.B.C")
    assert (status, output) == (2, "")
    assert "127.0.0.1:17890" in errors or "no registry" in errors


async def test_every_module_can_be_imported(tools: Tools, built: Built) -> None:
    """Parts of Python's library and of Debian's libraries are left out: none that anything here needs."""
    program = """
import importlib, pkgutil, ssl
names = []
for package in ("jce", "tars_protocol", "registry", "kubernetes_asyncio.client", "kubernetes_asyncio.config"):
    module = importlib.import_module(package)
    names += [package, *(found.name for found in pkgutil.walk_packages(module.__path__, package + "."))]
names += ["aiohttp.web", "construct", "msgspec.json", "prometheus_client", "uvloop", "watchfiles", "yaml", "ssl"]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
import yaml._yaml, aiohttp._http_parser, frozenlist._frozenlist, multidict._multidict, uvloop.loop
print(len(names), ssl.OPENSSL_VERSION)
"""
    status, output, errors = await tools.ran(
        "run", "--rm", *OWN_LIMITS, "--entrypoint=python", built.name, "-W", "error", "-c", program
    )
    assert (status, errors) == (0, ""), errors
    assert int(output.split()[0]) > 200
