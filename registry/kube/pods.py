"""A pod as a writer of its conditions sees it, and the change to one of them.

Nothing of it depends on what a condition means.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

import msgspec
from msgspec import Struct, field

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_MAX_NAME: Final = 253


def is_pod_name(name: str) -> bool:
    """True where a pod may have this name: labels as in DNS, in lower case, 253 characters at most."""
    return len(name) <= _MAX_NAME and _NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Condition:
    """What a condition of a pod is to be."""

    type: str
    status: bool
    reason: str
    message: str = ""

    @property
    def text(self) -> str:
        """Its status as Kubernetes writes it."""
        return "True" if self.status else "False"

    def same(self, other: Condition) -> bool:
        """True where another says the same; messages tell nothing more."""
        return (self.type, self.status, self.reason) == (other.type, other.status, other.reason)


class Known(Struct, frozen=True, gc=False):
    """A condition as a pod has it."""

    type: str
    status: str = ""
    reason: str | None = None
    message: str | None = None

    def says(self, wanted: Condition) -> bool:
        """True where it is as it is to be; its message tells nothing more."""
        return self.status == wanted.text and (self.reason or "") == wanted.reason


class _Metadata(Struct, frozen=True, gc=False):
    name: str = ""
    uid: str = ""
    version: str = field(default="", name="resourceVersion")


class _Address(Struct, frozen=True, gc=False):
    ip: str | None = None


class _Status(Struct, frozen=True, gc=False):
    pod_ip: str | None = field(default=None, name="podIP")
    pod_ips: list[_Address] | None = field(default=None, name="podIPs")
    conditions: list[Known] | None = None


class _Object(Struct, frozen=True, gc=False):
    metadata: _Metadata
    status: _Status | None = None


_decode: Final = msgspec.json.Decoder(_Object).decode


@dataclass(frozen=True, slots=True)
class PodView:
    """What is used of a pod: addresses in the form that sockets give them in."""

    namespace: str
    name: str
    uid: str
    addresses: frozenset[str]
    conditions: tuple[Known, ...]
    version: str = ""

    def condition(self, kind: str) -> Known | None:
        """Its condition of a type."""
        return next((each for each in self.conditions if each.type == kind), None)


def decode_pod(namespace: str, name: str, body: bytes) -> PodView:
    """A pod from the API server's answer. Raises msgspec.MsgspecError."""
    found = _decode(body)
    status = found.status or _Status()
    addresses = [status.pod_ip, *(each.ip for each in status.pod_ips or ())]
    return PodView(
        namespace,
        name,
        found.metadata.uid,
        frozenset(_canonical(address) for address in addresses if address),
        tuple(status.conditions or ()),
        found.metadata.version,
    )


def pod_path(namespace: str, name: str, subresource: str = "") -> str:
    """Where a pod is."""
    path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(name, safe='')}"
    return f"{path}/{subresource}" if subresource else path


def condition_patch(wanted: Condition, pod: PodView | None, changed_at: datetime | None) -> dict[str, Any]:
    """A strategic merge patch of a pod's status that sets one condition.

    ``pod`` is what was read of it, None for nothing: the API server refuses the patch (409) where another pod has the
    name by now, and where anything was changed since. ``changed_at`` is when the condition's status changed; None where
    it did not.
    """
    condition = {"type": wanted.type, "status": wanted.text, "reason": wanted.reason, "message": wanted.message}
    if changed_at is not None:
        condition["lastTransitionTime"] = changed_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    patch: dict[str, Any] = {"status": {"conditions": [condition]}}
    if pod is None:
        return patch
    return {"metadata": {"uid": pod.uid, "resourceVersion": pod.version}, **patch}


def _canonical(address: str) -> str:
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address
