"""`helm test`: its pod is run here as the kubelet would, and helm is told how it ended."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.chart.conftest import Release
from tests.chart.tools import CHART, HelmError, Object, Values
from tests.cluster.client import PODS, ApiError
from tests.support.manifests import hello, write
from tests.support.service import Service, serving

pytestmark = [pytest.mark.chart, pytest.mark.cluster]

NAME: Final = "tars-registry"
POD: Final = f"{NAME}-test"
OWN: Final = "tars.tarsregistry.QueryObj"
HELLO: Final = "Test.HelloServer.HelloObj"


async def outcome(release: Release, service: Service, service_name: str = "tars-tarsregistry") -> str:
    """What `helm test` says. Raises HelmError where it fails."""
    testing = asyncio.create_task(asyncio.to_thread(release.helm.run, "test", NAME, "--timeout=60s"))
    try:
        pod = await running_pod(release, testing)
        statuses = [
            await status_of(container["args"], service_name, service.query_port)
            for container in pod["spec"]["containers"]
        ]
        phase = "Failed" if any(statuses) else "Succeeded"
        await release.admin.patch(PODS, POD, {"status": {"phase": phase}}, how="strategic", subresource="status")
    finally:
        said = await asyncio.gather(testing, return_exceptions=True)
    if isinstance(said[0], BaseException):
        raise said[0]
    return said[0]


async def running_pod(release: Release, testing: asyncio.Task[str]) -> Object:
    """The pod, once it is running."""
    async with asyncio.timeout(30):
        while not testing.done():
            try:
                pod = await release.admin.get(PODS, POD)
            except ApiError:
                pass  # not made yet
            else:
                if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]:
                    return pod
            await asyncio.sleep(0.02)
    raise AssertionError(f"helm ended before its pod ran: {testing.result()}")


async def status_of(arguments: list[str], service_name: str, port: int) -> int:
    """The exit status of a container: its command as it is printed, but for where the Service is."""
    here = [each.replace(f"{service_name}:17890", f"127.0.0.1:{port}") for each in arguments]
    assert here != arguments, "it does not ask the Service"
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "registry", *here)
    return await process.wait()


async def install(release: Release, **values: object) -> None:
    given: Values = {"crds": {"enabled": False}, **values}
    await asyncio.to_thread(release.helm.run, "install", NAME, CHART, values=given)


async def test_it_passes_where_every_object_has_an_active_endpoint(release: Release, tmp_path: Path) -> None:
    await install(release, tests=[OWN, HELLO], service={"name": "registry-next"})
    write(tmp_path / "hello.yaml", hello("10.0.0.1"))
    async with serving(tmp_path) as service:
        said = await outcome(release, service, "registry-next")
        assert "Phase:          Succeeded" in said
        # And once more: the pod of the last time is no hindrance.
        assert "Phase:          Succeeded" in await outcome(release, service, "registry-next")


async def test_it_fails_where_one_object_has_none(release: Release, tmp_path: Path) -> None:
    await install(release, tests=[OWN, HELLO])
    async with serving(tmp_path) as service:
        with pytest.raises(HelmError, match=f"pod {POD} failed"):
            await outcome(release, service)


async def test_it_fails_where_nobody_listens(release: Release, tmp_path: Path) -> None:
    await install(release)
    async with serving(tmp_path) as service:
        service.query_port = 1
        with pytest.raises(HelmError, match=f"pod {POD} failed"):
            await outcome(release, service)
