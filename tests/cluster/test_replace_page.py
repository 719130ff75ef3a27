"""docs/replace-the-cpp-registry.md: its commands do what it says, on a real API server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cluster.client import CRDS, TENDPOINTS, TFRAMEWORKCONFIGS, TTEMPLATES, ApiError, Resource
from tests.cluster.conftest import Cluster
from tests.cluster.crds import ANYTHING, GROUP
from tests.cluster.programs import free_ports
from tests.cluster.support_service import following
from tests.cluster.test_in_place_of_cpp import installed
from tests.support.service import attached

pytestmark = pytest.mark.cluster

PAGE: Final = (Path(__file__).parents[2] / "docs" / "replace-the-cpp-registry.md").read_text(encoding="utf-8")
BLOCKS: Final = re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS: Final = [line.removeprefix("$ ") for block in BLOCKS for line in block.splitlines()]
PATCHES: Final = [shlex.split(command) for command in COMMANDS if " patch " in command]
OURS: Final = [shlex.split(command) for command in COMMANDS if command.startswith("tars-registry ")]
TSERVERS: Final = Resource(f"{GROUP}/v1beta3", "tservers")
USED: Final = {"get", "patch", "port-forward", "rollout", "logs"}


def tserver() -> dict[str, Any]:
    """The registry's TServer, as far as it is changed here."""
    release = {"id": "r1", "image": "registry.example.com/tars.tarsregistry:1.4.1", "secret": "pull"}
    env = [{"name": name, "value": "x"} for name in ("Namespace", "PodName", "PodIP")]
    return {
        "apiVersion": TSERVERS.version,
        "kind": "TServer",
        "metadata": {"name": "tars-tarsregistry"},
        "spec": {"app": "tars", "server": "tarsregistry", "k8s": {"env": env}, "release": release},
    }


async def define_tservers(cluster: Cluster) -> None:
    """The one kind more that the page changes."""
    version = {"name": "v1beta3", "served": True, "storage": True, "schema": {"openAPIV3Schema": ANYTHING}}
    names = {"plural": "tservers", "singular": "tserver", "kind": "TServer", "listKind": "TServerList"}
    definition = {
        "apiVersion": CRDS.version,
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"tservers.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }
    with contextlib.suppress(ApiError):  # another test may have done it
        await cluster.admin.create(definition)
    async with asyncio.timeout(20):
        while True:
            try:
                await cluster.admin.create(tserver())
                return
            except ApiError as error:
                if error.code not in (404, 429):
                    raise
                await asyncio.sleep(0.05)


def test_the_page_has_the_commands_that_are_tried_here() -> None:
    assert (len(PATCHES), len(OURS)) == (3, 4)
    kubectl = [shlex.split(command) for command in COMMANDS if command.startswith("kubectl ")]
    assert len(kubectl) + len(OURS) + COMMANDS.count("mkdir -p cluster") == len(COMMANDS)
    for command in kubectl:
        assert command[1:3] == ["-n", "tars"]
        assert command[3] in USED


async def test_its_patches_change_release_and_environment_and_go_back(cluster: Cluster) -> None:
    await define_tservers(cluster)
    switch, metrics, back = PATCHES
    kinds: dict[str, Any] = {"merge": "merge", "json": "json"}

    async def patch(command: list[str]) -> dict[str, Any]:
        assert command[4:6] == ["tserver", "tars-tarsregistry"]
        how, body = kinds[command[command.index("--type") + 1]], json.loads(command[command.index("-p") + 1])
        made = await cluster.admin.patch(TSERVERS, "tars-tarsregistry", body, how=how)
        return dict(made["spec"])

    assert (await patch(switch))["release"] == {
        "id": "tars-registry-0.1.0",
        "image": "registry.example.com/tars-registry:0.1.0",
        "secret": "pull",
    }
    env = (await patch(metrics))["k8s"]["env"]
    assert [each["name"] for each in env] == ["Namespace", "PodName", "PodIP", "TARS_REGISTRY_METRICS_LISTEN"]
    old = tserver()["spec"]["release"]
    told = [each.replace("OLD-ID", old["id"]).replace("OLD-IMAGE", old["image"]) for each in back]
    assert (await patch(told))["release"] == old


async def run(command: list[str], folder: Path) -> tuple[int, str]:
    """One of our commands: exit status and output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "registry", *command[1:]),
        cwd=folder,
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


def environment() -> dict[str, str]:
    """Where the checkout is found from any folder, and no settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TARS_REGISTRY_")}
    return clean | {"PYTHONPATH": str(Path(__file__).parents[2])}


async def test_its_own_commands_check_serve_and_compare(cluster: Cluster, tmp_path: Path) -> None:
    """With other ports and the test's namespace in the place of the page's."""
    await installed(cluster)
    check, serve, compare, again = OURS
    (tmp_path / "cluster").mkdir()
    found = [each for kind in (TENDPOINTS, TTEMPLATES, TFRAMEWORKCONFIGS) for each in await listed(cluster, kind)]
    (tmp_path / "cluster" / "all.yaml").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": found}))
    status, said = await run(check, tmp_path)
    assert (status, said.splitlines()[-1]) == (0, "nothing is wrong"), said
    assert "2 TEndpoint, 1 TTemplate, 1 TFrameworkConfig" in said

    ports = dict(zip(("27890", "27891", "27892"), map(str, free_ports(3)), strict=True))
    kubeconfig = cluster.server.kubeconfig(namespace=cluster.namespace)

    def here(word: str) -> str:
        if word == "tars":
            return cluster.namespace
        return re.sub(r":(2789\d)$", lambda match: f":{ports[match[1]]}", word)

    command = [here(word) for word in serve]
    command[command.index("--context") + 1] = "test"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "registry", *command[1:], "--drain-delay=0"),
        stderr=asyncio.subprocess.PIPE,
        env=environment() | {"KUBECONFIG": str(kubeconfig)},
    )
    async with attached(process), following(kubeconfig, "--endpoint-host=auto", "--self-host=x") as other:
        for told in (compare, again):
            replaced = [here(word).replace(":17890", f":{other.service.query_port}") for word in told]
            assert await run(replaced, tmp_path) == (0, "1 object asked for: no difference\n")


async def listed(cluster: Cluster, kind: Resource) -> list[dict[str, Any]]:
    """As kubectl prints them: each with its kind."""
    names = {TENDPOINTS: "TEndpoint", TTEMPLATES: "TTemplate", TFRAMEWORKCONFIGS: "TFrameworkConfig"}
    items = (await cluster.admin.list(kind))["items"]
    return [{"apiVersion": kind.version, "kind": names[kind]} | item for item in items]
