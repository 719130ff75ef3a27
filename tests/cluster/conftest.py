"""Running API servers for the tests of this folder and those below it."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.cluster.apiserver import ApiServer, find
from tests.cluster.client import NAMESPACES, PODS, TENDPOINTS, TFRAMEWORKCONFIGS, TTEMPLATES, Client
from tests.cluster.controllers import Controllers
from tests.cluster.proxy import Proxy


@dataclass(frozen=True)
class Cluster:
    """What a test has of an API server: a namespace of its own, and a client that may do all in it."""

    server: ApiServer
    namespace: str
    admin: Client


@contextlib.asynccontextmanager
async def running(factory: pytest.TempPathFactory, *, watch_cache: bool) -> AsyncIterator[ApiServer]:
    """An API server that knows the tars kinds; skips where it is not built."""
    programs = find()
    if programs is None:
        pytest.skip("the API server is not built: run tests/cluster/install")
    async with ApiServer(programs, factory.mktemp("apiserver"), watch_cache=watch_cache) as server:
        await server.create_crds()
        yield server


@contextlib.asynccontextmanager
async def namespace_of(server: ApiServer) -> AsyncIterator[Cluster]:
    """A fresh namespace, emptied at the end (where no controllers run, nobody would end one that is deleted)."""
    if not server.apiserver.running:
        await server.restart()  # the test before left it dead
    name = f"test-{uuid.uuid4().hex[:8]}"
    async with server.client(namespace=name) as admin:
        await admin.create({"apiVersion": NAMESPACES.version, "kind": "Namespace", "metadata": {"name": name}})
        yield Cluster(server, name, admin)
    if server.apiserver.running:
        async with server.client(namespace=name) as admin:  # another: the server may have been restarted
            for resource in (TENDPOINTS, TTEMPLATES, TFRAMEWORKCONFIGS, PODS):
                await admin.delete_all(resource)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def api_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    """The API server as it is by default, one for all tests."""
    async with running(tmp_path_factory, watch_cache=True) as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def api_server_uncached(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    """One with --watch-cache=false, for exact 410s and resumes; sends no bookmarks."""
    async with running(tmp_path_factory, watch_cache=False) as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def controllers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Controllers]:
    """One of its own in which workloads get pods, and pods nodes: in the others a test's pods are left alone."""
    async with (
        running(tmp_path_factory, watch_cache=True) as server,
        Controllers(server.programs, tmp_path_factory.mktemp("controllers"), server) as controllers,
    ):
        yield controllers


@pytest.fixture
async def cluster(api_server: ApiServer) -> AsyncIterator[Cluster]:
    """A namespace in the API server as it is by default."""
    async with namespace_of(api_server) as cluster:
        yield cluster


@pytest.fixture
async def uncached_cluster(api_server_uncached: ApiServer) -> AsyncIterator[Cluster]:
    """A namespace in the API server without watch cache."""
    async with namespace_of(api_server_uncached) as cluster:
        yield cluster


@pytest.fixture
async def live_cluster(controllers: Controllers) -> AsyncIterator[Cluster]:
    """A namespace in the API server with controllers, scheduler and kwok. It is deleted at the end, with all in it."""
    async with namespace_of(controllers.server) as cluster:
        yield cluster
    if controllers.server.apiserver.running:
        async with controllers.server.client() as admin:
            await admin.delete(NAMESPACES, cluster.namespace)


@pytest.fixture
async def proxy(cluster: Cluster) -> AsyncIterator[Proxy]:
    """A proxy before the API server as it is by default."""
    async with Proxy("127.0.0.1", cluster.server.port) as proxy:
        yield proxy
