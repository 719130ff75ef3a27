"""The tables that the service is measured with, as manifests, and the answers that must come of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.load.plan import Lists

NAMESPACE: Final = "bench"
PORT: Final = 21010


def object_id(number: int) -> str:
    """The object that clients ask for to find a server."""
    return f"Bench.Server{number}.MainObj"


def expected(number: int, pods: int, active: int | None = None) -> Lists:
    """What is to be answered for a server of so many pods, the last of which are not active."""
    hosts = [(f"bench-server{number}-{n}.bench-server{number}", PORT) for n in range(pods)]
    if active is None:
        active = pods
    return Lists(tuple(hosts[:active]), tuple(hosts[active:]))


def tendpoint(number: int, pods: int, active: int | None = None) -> dict[str, Any]:
    """A server as TARS's controller writes it."""
    name = f"bench-server{number}"
    addresses = [number * 16 + n for n in range(pods)]
    return {
        "apiVersion": "k8s.tars.io/v1beta3",
        "kind": "TEndpoint",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {"tars.io/ServerApp": "Bench", "tars.io/ServerName": f"Server{number}"},
        },
        "spec": {
            "app": "Bench",
            "server": f"Server{number}",
            "subType": "tars",
            "tars": {
                "asyncThread": 3,
                "profile": "",
                "template": "tars.default",
                "servants": [{"name": "MainObj", "port": PORT, "isTars": True, "isTcp": True, "timeout": 60000}],
            },
        },
        "status": {
            "pods": [
                {
                    "uid": f"{number:08x}-{n:04x}-4000-8000-{number:012x}",
                    "pid": "",
                    "name": f"{name}-{n}",
                    "podIP": f"10.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}",
                    "hostIP": f"192.168.{(number + n) % 4}.{(number * 7 + n) % 250 + 1}",
                    "settingState": "Active",
                    "presentState": "Active" if active is None or n < active else "Activating",
                    "id": f"v{number % 20}",
                }
                for n, address in enumerate(addresses)
            ]
        },
    }


@dataclass(frozen=True)
class Table:
    """So many servers of so many pods; the first one may have another number of them."""

    servers: int
    pods: int = 3
    first: int | None = None

    def pods_of(self, number: int) -> int:
        """Pods of a server."""
        return self.first if number == 0 and self.first is not None else self.pods

    def manifests(self) -> Iterator[dict[str, Any]]:
        """All of it."""
        for number in range(self.servers):
            yield tendpoint(number, self.pods_of(number))

    def expected(self, number: int) -> Lists:
        """What is to be answered for a server."""
        return expected(number, self.pods_of(number))

    def write(self, folder: Path) -> Path:
        """As a directory for the service to follow."""
        items = list(self.manifests())
        (folder / "table.json").write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": items}))
        return folder
