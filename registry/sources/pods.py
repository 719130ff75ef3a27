"""Pods as servers, for clusters without a controller of TARS: those with the labels tars.io/ServerApp and …/ServerName.

Each pod is an object of its own; the table puts those of one server together. Its servants come from the annotation
``tars.io/servants``: a list as in a TEndpoint, in YAML or JSON, or the short form ``OrderObj:21010/tcp``, several with
commas. Without it they are the container ports that are named after a servant, in any case. Whoever may create a pod
writes that annotation, so its text is bounded and read as strictly as a manifest.

The state of a pod is worked out as the TARS controller does.
"""

from __future__ import annotations

import re
from functools import lru_cache
from sys import intern
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct, field

from registry.model import ACTIVE, Kind, Pod, ServantSpec, Server
from registry.sources.routing_facts import facts_of_pod
from registry.sources.tendpoints import ServantFields
from registry.sources.yaml_values import YamlError, read_documents

APP_LABEL: Final = "tars.io/ServerApp"
SERVER_LABEL: Final = "tars.io/ServerName"
SERVANTS_ANNOTATION: Final = "tars.io/servants"

SELECTOR: Final = f"{APP_LABEL},{SERVER_LABEL}"
"""Label selector of the pods that are servers."""

ACTIVE_CONDITION: Final = "tars.io/active"
"""The condition in whose reason a tarsnode's report is kept: setting/present/pid."""

_FIRST_CONDITIONS: Final = ("PodScheduled", "Initialized", "ContainersReady")
"""The order in which a pod becomes ready: the first that is not true says what it waits for."""

_SHORT: Final = re.compile(
    r"\s*(?P<name>[A-Za-z][0-9A-Za-z]*)\s*:\s*(?P<port>[0-9]{1,5})\s*(?:/\s*(?P<net>tcp|udp))?\s*",
    re.IGNORECASE | re.ASCII,
)

_MAX_ANNOTATION: Final = 10_000
"""Characters of an annotation: room for 80 servants with every field, read in a few milliseconds."""


class _Metadata(Struct, frozen=True, gc=False, rename="camel"):
    name: Annotated[str, Meta(min_length=1)]
    namespace: str | None = None
    resource_version: str | None = None
    uid: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class _Port(Struct, frozen=True, gc=False, rename="camel"):
    container_port: int
    name: str | None = None
    protocol: str | None = None
    host_port: int | None = None


class _Container(Struct, frozen=True, gc=False):
    ports: list[_Port] | None = None


class _Spec(Struct, frozen=True, gc=False):
    containers: list[_Container] | None = None
    subdomain: str | None = None


class _Condition(Struct, frozen=True, gc=False):
    type: str
    status: str
    reason: str | None = None


class _Status(Struct, frozen=True, gc=False, rename="camel"):
    pod_ip: str | None = field(default=None, name="podIP")
    host_ip: str | None = field(default=None, name="hostIP")
    conditions: list[_Condition] | None = None


class PodObject(Struct, frozen=True, gc=False):
    """What is used of a Pod."""

    metadata: _Metadata
    spec: _Spec | None = None
    status: _Status | None = None


def to_server(found: PodObject) -> Server | None:
    """The server that a pod is one of; None where its labels name none. Raises ValueError for a bad annotation."""
    meta, spec, status = found.metadata, found.spec or _Spec(), found.status or _Status()
    labels = meta.labels or {}
    app, server = labels.get(APP_LABEL, ""), labels.get(SERVER_LABEL, "")
    if not app or not server:
        return None
    ports = [port for container in spec.containers or () for port in container.ports or ()]
    servants = _servants((meta.annotations or {}).get(SERVANTS_ANNOTATION), ports)
    setting, present, pid = _state(meta, status.conditions or [])
    pod = Pod(
        name=meta.name,
        uid=meta.uid or "",
        pod_ip=status.pod_ip or "",
        host_ip=intern(status.host_ip or ""),
        setting_state=intern(setting),
        present_state=intern(present),
        pid=pid,
    )
    return Server(
        namespace=intern(meta.namespace or "default"),
        name=meta.name,
        app=intern(app),
        server=intern(server),
        servants=servants,
        host_ports=_host_ports(servants, ports),
        pods=(pod,),
        kind=Kind.POD,
        subdomain=intern(spec.subdomain or ""),
        routing=facts_of_pod(meta.annotations, labels),
    )


def _servants(annotation: str | None, ports: list[_Port]) -> tuple[ServantSpec, ...]:
    if annotation is not None:
        return parse_servants(annotation)
    return _named_ports(tuple((p.name, p.container_port, p.protocol != "UDP") for p in ports if p.name))


def _host_ports(servants: tuple[ServantSpec, ...], ports: list[_Port]) -> dict[str, int]:
    """By servant: the port on the node of the container port that it listens on."""
    mapped = {(p.container_port, p.protocol != "UDP"): p.host_port for p in ports if p.host_port}
    return {s.name: mapped[s.port, s.is_tcp] for s in servants if (s.port, s.is_tcp) in mapped} if mapped else {}


# Thousands of pods share a few lists of servants: one tuple for all that are alike, and no text read twice.


@lru_cache(2_000)
def _named_ports(ports: tuple[tuple[str, int, bool], ...]) -> tuple[ServantSpec, ...]:
    return tuple(ServantSpec(name, port, is_tcp=is_tcp, any_case=True) for name, port, is_tcp in ports)


@lru_cache(2_000)
def parse_servants(text: str) -> tuple[ServantSpec, ...]:
    """The servants in an annotation. Raises ValueError that says what was expected."""
    if len(text) > _MAX_ANNOTATION:
        raise ValueError(f"{SERVANTS_ANNOTATION}: {len(text)} characters, more than {_MAX_ANNOTATION}")
    short = [_SHORT.fullmatch(part) for part in text.split(",")]
    if all(short):
        return tuple(_from_short(match) for match in short if match)
    try:
        found = msgspec.convert(_read_list(text), list[ServantFields])
    except YamlError as error:
        raise ValueError(f"{SERVANTS_ANNOTATION}: {error}; {_EXPECTED}, got {text[:60]!r}") from None
    except msgspec.ValidationError as error:
        raise ValueError(f"{SERVANTS_ANNOTATION}: {error}; {_EXPECTED}") from None
    return tuple(servant.to_model() for servant in found)


def _read_list(text: str) -> Any:
    """The value of a text in JSON or YAML. Raises YamlError."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        documents = list(read_documents(text, {}, lambda _: False))
    if len(documents) > 1:
        raise YamlError(1, "more than one document")
    return documents[0] if documents else None


_EXPECTED: Final = "expected OrderObj:21010/tcp (several with commas), or a list of servants as in a TEndpoint"


def _from_short(match: re.Match[str]) -> ServantSpec:
    port = int(match["port"])
    if not 1 <= port <= 65535:
        raise ValueError(f"{SERVANTS_ANNOTATION}: {match['name']}: {port} is no port from 1 to 65535")
    return ServantSpec(match["name"], port, is_tcp=(match["net"] or "tcp").lower() == "tcp")


def _state(meta: _Metadata, conditions: list[_Condition]) -> tuple[str, str, str]:
    """Setting state, present state and process id of a pod."""
    by_type = {condition.type: condition for condition in conditions}
    reported = by_type.get(ACTIVE_CONDITION)
    parts = (reported.reason or "").split("/") if reported else []
    pid = parts[2] if len(parts) == 3 else ""
    if meta.deletion_timestamp:
        return ACTIVE, "Terminating", pid
    ready = by_type.get("Ready")
    if ready is not None and ready.status == "True":
        return ACTIVE, ACTIVE, pid
    others = [name for name in by_type if name not in (*_FIRST_CONDITIONS, "Ready", ACTIVE_CONDITION)]
    for name in (*_FIRST_CONDITIONS, *others):
        condition = by_type.get(name)
        if condition is not None and condition.status != "True":
            return ACTIVE, condition.reason or name, pid
    if not parts or len(parts) > 3:
        return "Unknown", "Unknown", ""
    return parts[0], parts[1] if len(parts) > 1 else "", pid
