"""Manifests as a controller writes them, small enough for tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

ACTIVE = ("Active", "Active")


def pod(name: str, ip: str, state: tuple[str, str] = ACTIVE) -> dict[str, Any]:
    """One entry of status.pods."""
    return {
        "name": name,
        "uid": f"uid-of-{name}",
        "podIP": ip,
        "hostIP": "192.0.2.1",
        "settingState": state[0],
        "presentState": state[1],
        "pid": "27",
        "id": "r1",
    }


def tendpoint(
    app: str,
    server: str,
    pods: Iterable[Mapping[str, Any]] = (),
    *,
    servant: str = "HelloObj",
    port: int = 18100,
    timeout: int = 3000,
    is_tcp: bool = True,
    namespace: str = "tars",
) -> dict[str, Any]:
    """A TEndpoint with one servant."""
    spec = {"name": servant, "port": port, "timeout": timeout, "isTcp": is_tcp, "isTars": True, "thread": 1}
    return {
        "apiVersion": "k8s.tars.io/v1beta3",
        "kind": "TEndpoint",
        "metadata": {"name": f"{app}-{server}".lower(), "namespace": namespace},
        "spec": {"app": app, "server": server, "subType": "tars", "tars": {"template": "tars.cpp", "servants": [spec]}},
        "status": {"pods": list(map(dict, pods))},
    }


def hello(*ips: str, inactive: Iterable[str] = (), port: int = 18100) -> dict[str, Any]:
    """Test.HelloServer with a pod for each address."""
    pods = [pod(f"test-helloserver-{n}", ip) for n, ip in enumerate(ips)]
    pods += [pod(f"test-helloserver-{len(ips) + n}", ip, ("Active", "Activating")) for n, ip in enumerate(inactive)]
    return tendpoint("Test", "HelloServer", pods, port=port)


def framework(**up_chain: list[dict[str, Any]]) -> dict[str, Any]:
    """The framework's configuration with this up-chain."""
    return {
        "apiVersion": "k8s.tars.io/v1beta3",
        "kind": "TFrameworkConfig",
        "metadata": {"name": "tars-framework", "namespace": "tars"},
        "upChain": up_chain,
    }


def write(path: Path, *documents: Mapping[str, Any]) -> None:
    """Put documents into a file at once, as a careful writer does."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    temporary.rename(path)
