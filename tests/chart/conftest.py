"""helm, and a cluster of their own, for the tests of the chart."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.chart import schemas
from tests.chart.tools import Helm, Kubeconform, find
from tests.cluster import apiserver
from tests.cluster.apiserver import SERVED_WITHIN, ApiServer
from tests.cluster.client import NAMESPACES, ApiError, Client, Resource
from tests.cluster.controllers import Controllers
from tests.cluster.programs import POLL_INTERVAL


@dataclass(frozen=True)
class Release:
    """A namespace to install into, in a cluster with controllers, and helm for it."""

    server: ApiServer
    namespace: str
    admin: Client
    helm: Helm


@pytest.fixture(scope="session")
def chart_programs() -> Path:
    """The folder with helm and kubeconform; skips where they are not built."""
    programs = find()
    if programs is None:
        pytest.skip("helm and kubeconform are not built: run tests/chart/install")
    return programs


@pytest.fixture(scope="session")
def cluster_programs() -> Path:
    """The folder with the programs of a cluster; skips where they are not built."""
    programs = apiserver.find()
    if programs is None:
        pytest.skip("the API server is not built: run tests/cluster/install")
    return programs


@pytest.fixture(scope="session")
def helm(chart_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """helm without a cluster."""
    return Helm(chart_programs, tmp_path_factory.mktemp("helm"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def empty_server(
    cluster_programs: Path, chart_programs: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ApiServer]:
    """An API server in which nothing of TARS is defined, with controllers, scheduler and kwok."""
    async with (
        ApiServer(cluster_programs, tmp_path_factory.mktemp("chart-apiserver")) as server,
        Controllers(cluster_programs, tmp_path_factory.mktemp("chart-controllers"), server),
    ):
        async with server.client() as admin:
            for kind in ("ServiceMonitor", "PrometheusRule"):
                await admin.create(_stand_in(kind))
                await _served(admin, Resource("monitoring.coreos.com/v1", f"{kind.lower()}s"))
        yield server


@pytest.fixture
async def release(
    empty_server: ApiServer, chart_programs: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Release]:
    """A fresh namespace, deleted at the end with all in it."""
    name = f"chart-{uuid.uuid4().hex[:8]}"
    async with empty_server.client(namespace=name) as admin:
        await admin.create({"apiVersion": NAMESPACES.version, "kind": "Namespace", "metadata": {"name": name}})
        kubeconfig = empty_server.kubeconfig(namespace=name)
        yield Release(
            empty_server, name, admin, Helm(chart_programs, tmp_path_factory.mktemp("helm"), kubeconfig, name)
        )
        await admin.delete(NAMESPACES, name)


@pytest.fixture
async def kubeconform(
    empty_server: ApiServer, chart_programs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Kubeconform:
    """kubeconform with the schemas of the API server."""
    folder = tmp_path_factory.mktemp("schemas")
    async with empty_server.client() as admin:
        schemas.write(await admin.request("GET", "/openapi/v2"), folder)
    return Kubeconform(chart_programs, folder)


async def _served(admin: Client, resource: Resource) -> None:
    """Wait until objects of a kind that has just been defined can be listed."""
    async with asyncio.timeout(SERVED_WITHIN):
        while True:
            try:
                await admin.request("GET", resource.path())
                return
            except ApiError as error:
                if error.code not in (404, 429, 503):
                    raise
                await asyncio.sleep(POLL_INTERVAL)


def _stand_in(kind: str) -> dict[str, object]:
    """The definition of a kind of the Prometheus operator, which takes whatever is in it."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    plural = f"{kind.lower()}s"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": anything}}},
                }
            ],
        },
    }
