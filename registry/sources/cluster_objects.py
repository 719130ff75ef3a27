"""What is used of the cluster's own objects for routing: the ConfigMap of the policy, nodes, addresses of pods."""

from __future__ import annotations

from sys import intern
from typing import Annotated, Final

from msgspec import Meta, Struct, field

from registry.model import Node, PodAddress, PolicyText

POLICY_KEY: Final = "routing.yaml"
"""The entry of the ConfigMap that holds the policy, where it has several."""

_Text = Annotated[str, Meta(min_length=1)]


class _Metadata(Struct, frozen=True, gc=False, rename="camel"):
    name: _Text
    namespace: str | None = None
    resource_version: str | None = None


class ConfigMapObject(Struct, frozen=True, gc=False):
    """What is used of a ConfigMap."""

    metadata: _Metadata
    data: dict[str, str] | None = None


def to_policy(found: ConfigMapObject) -> PolicyText:
    """The policy in a ConfigMap: its only entry, or that of :data:`POLICY_KEY`."""
    data = found.data or {}
    text = data.get(POLICY_KEY, next(iter(data.values())) if len(data) == 1 else None)
    problem = ""
    if text is None:
        problem = f"it has {len(data) or 'no'} entries and none is named {POLICY_KEY}; put the policy there"
    return PolicyText(found.metadata.namespace or "", found.metadata.name, text or "", problem)


class _NodeLabels(Struct, frozen=True, gc=False):
    zone: str | None = field(default=None, name="topology.kubernetes.io/zone")
    region: str | None = field(default=None, name="topology.kubernetes.io/region")
    old_zone: str | None = field(default=None, name="failure-domain.beta.kubernetes.io/zone")
    old_region: str | None = field(default=None, name="failure-domain.beta.kubernetes.io/region")


class _NodeMetadata(_Metadata, frozen=True, gc=False, rename="camel"):
    labels: _NodeLabels | None = None


class _Address(Struct, frozen=True, gc=False):
    type: str
    address: str


class _NodeStatus(Struct, frozen=True, gc=False):
    addresses: list[_Address] | None = None


class NodeObject(Struct, frozen=True, gc=False):
    """What is used of a Node."""

    metadata: _NodeMetadata
    status: _NodeStatus | None = None


_IP_TYPES: Final = frozenset(("InternalIP", "ExternalIP"))


def to_node(found: NodeObject) -> Node:
    """As the registry keeps it."""
    labels = found.metadata.labels or _NodeLabels()
    addresses = (found.status.addresses if found.status else None) or ()
    return Node(
        found.metadata.name,
        tuple(sorted({each.address for each in addresses if each.type in _IP_TYPES})),
        zone=labels.zone or labels.old_zone or "",
        region=labels.region or labels.old_region or "",
    )


class _PodIP(Struct, frozen=True, gc=False):
    ip: str


class _AddressStatus(Struct, frozen=True, gc=False, rename="camel"):
    phase: str | None = None
    pod_ip: str | None = field(default=None, name="podIP")
    pod_ips: list[_PodIP] | None = field(default=None, name="podIPs")
    host_ip: str | None = field(default=None, name="hostIP")


class AddressObject(Struct, frozen=True, gc=False):
    """What is used of a Pod that may be a caller."""

    metadata: _Metadata
    status: _AddressStatus | None = None


_ENDED: Final = frozenset(("Succeeded", "Failed"))


def to_address(found: AddressObject) -> PodAddress:
    """Where a pod is; one that has ended has no address, which may be another's by then."""
    status = found.status or _AddressStatus()
    namespace, name = found.metadata.namespace or "", found.metadata.name
    if status.phase in _ENDED:
        return PodAddress(namespace, name)
    # In a cluster with IPv4 and IPv6 it has one of each, and may call from either.
    addresses = {status.pod_ip, *(each.ip for each in status.pod_ips or ())}
    return PodAddress(namespace, name, tuple(sorted(filter(None, addresses))), intern(status.host_ip or ""))
