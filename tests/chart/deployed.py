"""The registry's process as a Deployment of the chart starts it: with its arguments, variables, files and account.

Pods of these tests run nothing. So what the kubelet would start is started here, with as little changed as there must
be: it listens on loopback, its files are in a folder, and the API server and the account's token come by a kubeconfig.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

import aiohttp
import yaml

from tars_protocol.aio.client import Client
from tars_protocol.interfaces.query import QUERY, SERVANT
from tests.chart.tools import Object, configuration, container, one
from tests.cluster.support_service import Registry
from tests.support.service import Service

ON_LOOPBACK: Final = tuple(f"--{name}-listen=127.0.0.1:0" for name in ("query", "registry", "admin", "metrics"))
ENDS_WITHIN: Final = 10.0


def command(objects: list[Object], folder: Path) -> list[str]:
    """The command line, with the configuration file written into a folder and the snapshot beside it."""
    file = folder / "registry.yaml"
    config = configuration(objects)
    if "snapshot_path" in config:
        config["snapshot_path"] = str(folder / "snapshot")
    file.write_text(yaml.safe_dump(config))
    (mounted,) = (arg for arg in container(objects)["args"] if arg.startswith("--config="))
    return [f"--config={file}" if arg == mounted else arg for arg in container(objects)["args"]]


def environment(objects: list[Object], pod: str) -> Mapping[str, str]:
    """The variables of the container in a pod of this name, and those that every pod has."""
    of_container = {
        each["name"]: each["value"]
        if "value" in each
        else {"metadata.name": pod}[each["valueFrom"]["fieldRef"]["fieldPath"]]
        for each in container(objects).get("env", ())
    }
    return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1", "HOSTNAME": pod, **of_container}


@contextlib.asynccontextmanager
async def deployed(
    objects: list[Object], folder: Path, kubeconfig: Path, *options: str, pod: str = "registry-0"
) -> AsyncIterator[Registry]:
    """Run what a Deployment of these objects would; it may still be without its table."""
    assert one(objects, "Deployment")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "registry",
        *command(objects, folder),
        *ON_LOOPBACK,
        f"--kubeconfig={kubeconfig}",
        *options,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **environment(objects, pod)},
    )
    service = Service(process)
    following = asyncio.create_task(service.follow())
    try:
        service.query_port = int((await service.says(r"queries: \S+:(\d+)"))[1])
        service.registry_port = int((await service.says(r"tarsnodes: \S+:(\d+)"))[1])
        service.admin_port = int((await service.says(r"health and metrics \(?.*: http://\S+:(\d+)/"))[1])
        async with (
            Client("127.0.0.1", service.query_port, SERVANT, QUERY) as client,
            aiohttp.ClientSession(f"http://127.0.0.1:{service.admin_port}") as pages,
        ):
            yield Registry(service, client, pages)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)  # without the delay that a cluster needs
        try:
            async with asyncio.timeout(ENDS_WITHIN):
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            await following
