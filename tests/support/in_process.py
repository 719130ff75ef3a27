"""The whole service in this process, on loopback."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from registry.app import App, build
from registry.config import Config, ListenAddress, ServiceSettings, SourceKind


def loopback(manifests: Path, **service: Any) -> Config:
    """A configuration for a directory of manifests, with any free ports."""
    anywhere = ListenAddress("127.0.0.1", 0)
    settings = ServiceSettings(
        source=SourceKind.DIRECTORY,
        manifests=manifests,
        query_listen=anywhere,
        registry_listen=anywhere,
        admin_listen=anywhere,
        drain_timeout=4.0,
        reconnect_grace=0.2,
    )
    return Config(service=dataclasses.replace(settings, **service))


@contextlib.asynccontextmanager
async def running(manifests: Path, **service: Any) -> AsyncIterator[App]:
    """The service, once it has read the directory."""
    app = await build(loopback(manifests, **service))
    await app.start()
    try:
        await app.synced.wait()
        yield app
    finally:
        await app.stop()


def admin_ports(log: str) -> list[int]:
    """The ports of the pages, in the order of their options, from what the service logged (level info)."""
    return [int(port) for port in re.findall(r"health and metrics .*: http://\S+:([0-9]+)/", log)]
