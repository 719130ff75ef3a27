"""The Kubernetes API as the source: one reflector for each resource and namespace, each kept going."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar

from registry.kube.objects import Key, decoder
from registry.kube.reflector import Reflector
from registry.kube.resource import ReflectorStatus, Resource, Session, State
from registry.kube.settings import ReflectorSettings
from registry.model import Kind, Object, ObjectKey, Server
from registry.sources.base import Problem, Sink, SourceStatus
from registry.sources.cluster_objects import AddressObject, ConfigMapObject, NodeObject, to_address, to_node, to_policy
from registry.sources.pods import SELECTOR, PodObject, to_server
from registry.sources.supervise import supervise
from registry.sources.tendpoints import FRAMEWORK_NAME, GROUP, TEndpoint, TFrameworkConfig, TTemplate
from registry.table import Part
from tars_protocol.settings import setting

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Object)


class Discover(StrEnum):
    """Which objects are the servers."""

    TENDPOINTS = "tendpoints"
    PODS = "pods"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """Which cluster is followed, and what in it."""

    discover: Discover = setting(
        Discover.TENDPOINTS,
        "Which objects are the servers: the TEndpoints that TARS's controller writes; pods with the labels "
        "tars.io/ServerApp and tars.io/ServerName, which need no controller; or both, where a TEndpoint stands above "
        "the pods of its server.",
    )
    kubeconfig: Path | None = setting(
        None, "The kubeconfig file of the kubernetes source outside a pod; by default KUBECONFIG or ~/.kube/config."
    )
    context: str = setting("", "The context in the kubeconfig; by default its current one.")
    namespace: str = setting(
        "", "The namespaces to follow, with commas. By default the pod's own, or that of the context."
    )
    stale_after: float = setting(
        0.0,
        "Not ready once the table was not known to be current for so long; 0 for never. Answers are given all the "
        "same: an old address is better than none.",
        unit="seconds",
        minimum=0,
        reloadable=True,
    )


_VERSIONS: Final = ("v1beta3", "v1beta2")
"""Of the custom resources, the one to try first."""

_STRUCTS: Final[dict[Kind, tuple[str, type[Any]]]] = {
    Kind.SERVER: ("tendpoints", TEndpoint),
    Kind.TEMPLATE: ("ttemplates", TTemplate),
    Kind.FRAMEWORK: ("tframeworkconfigs", TFrameworkConfig),
}


@dataclass(frozen=True, slots=True)
class Followed:
    """One thing to follow: a kind in a namespace ("" for what is in none), or only the object of a ``name``.

    ``optional``: where it is not there, or not allowed, the service goes on without. ``addresses``: of any pods,
    where they are and nothing else.
    """

    kind: Kind
    namespace: str
    optional: bool
    name: str = ""
    addresses: bool = False

    @property
    def part(self) -> Part:
        """How the table calls it."""
        return self.kind, self.namespace


def followed(discover: Discover, namespaces: Iterable[str]) -> list[Followed]:
    """What must be followed to find servers in these namespaces."""
    kinds = {
        Discover.TENDPOINTS: [(Kind.SERVER, False), (Kind.TEMPLATE, False), (Kind.FRAMEWORK, False)],
        # A cluster without TARS's controller may have none of its resources.
        Discover.PODS: [(Kind.POD, False), (Kind.TEMPLATE, True), (Kind.FRAMEWORK, True)],
        Discover.BOTH: [(Kind.SERVER, False), (Kind.POD, False), (Kind.TEMPLATE, False), (Kind.FRAMEWORK, False)],
    }[discover]
    return [Followed(kind, namespace, optional) for namespace in namespaces for kind, optional in kinds]


NODES: Final = Followed(Kind.NODE, "", optional=True)
"""The cluster's nodes."""


_ASIDE: Final = frozenset((Kind.POLICY, Kind.NODE))
"""What is for routing alone: without the right to it any longer, callers get endpoints as they were last grouped."""


class KubernetesSource:
    """Follows resources into the sink. ``run`` it; ``statuses`` tells how each is."""

    def __init__(
        self, session: Session, sink: Sink, parts: Iterable[Followed], settings: ReflectorSettings | None = None
    ) -> None:
        self._session = session
        self._sink = sink
        self._settings = settings or ReflectorSettings()
        self._follows = [_Follow(session, sink, part, self._settings) for part in parts]
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for follow in self._follows:
                group.create_task(follow.run(), name=follow.name)

    def follow_topology(self, hosts: Sink) -> None:
        """Follow the cluster's nodes as well, and into ``hosts`` where the pods of the same namespaces are.

        What is not allowed of it is told, and nothing else.
        """
        # The policy may be in a namespace of its own, which is none of those whose pods are callers.
        namespaces = dict.fromkeys(f.what.namespace for f in self._follows if f.what.kind is not Kind.POLICY)
        pods = [Followed(Kind.POD, namespace, optional=True, addresses=True) for namespace in namespaces]
        added = [_Follow(self._session, self._sink, NODES, self._settings)]
        added += [_Follow(self._session, hosts, what, self._settings) for what in pods]
        self._follows += added
        if self._group is not None:
            for follow in added:
                self._group.create_task(follow.run(), name=follow.name)

    @property
    def statuses(self) -> list[SourceStatus]:
        """How each resource is."""
        return [follow.status for follow in self._follows]


class _Follow:
    """One resource in one namespace, and the store that its reflector fills: the sink's part for it."""

    def __init__(self, session: Session, sink: Sink, what: Followed, settings: ReflectorSettings) -> None:
        self.name = _name(what)
        self._sink = sink
        self.what = what
        self._session = session
        self._settings = settings
        self._reflector: Reflector[Any] | None = None
        self._crashes = 0
        self._crash = ""
        self._last_change: float | None = None
        self._flawed: dict[ObjectKey, tuple[str, ...]] = {}
        """What was passed over in the annotations of objects that are taken."""
        self._flaws = 0

    async def run(self) -> None:
        """Follow for ever; each crash costs a new list."""
        await supervise(self.name, self._reflect, self._crashed, self._restarted)

    async def _reflect(self) -> None:
        if self._reflector is None:
            resource = _resource(self.what)
            self._reflector = Reflector(self._session, resource, self, self._settings, optional=self.what.optional)
        self._reflector.start_over()
        await self._reflector.run()

    def _crashed(self, reason: str) -> None:
        self._crashes += 1
        self._crash = reason

    def _restarted(self) -> None:
        self._crash = ""

    # The store of its reflector:

    def replacing(self, items: Iterable[Any]) -> Iterator[None]:
        """All objects there are."""
        known, self._flawed = self._flawed, {}
        yield from self._sink.replacing(self.what.kind, self._noting(items, known), self.what.namespace)
        self._sink.synced(self.what.kind, self.what.namespace)
        self._last_change = time.monotonic()

    def upsert(self, item: Any) -> None:
        """An object that is new or changed."""
        self._note_flaws(item, self._flawed)
        self._sink.upsert(item)
        self._last_change = time.monotonic()

    def delete(self, key: Key) -> None:
        """An object that is gone."""
        self._flawed.pop(key, None)
        self._sink.delete(self.what.kind, key)
        self._last_change = time.monotonic()

    def _noting(self, items: Iterable[Any], known: dict[ObjectKey, tuple[str, ...]]) -> Iterator[Any]:
        for item in items:
            self._note_flaws(item, known)
            yield item

    def _note_flaws(self, item: Any, known: dict[ObjectKey, tuple[str, ...]]) -> None:
        """Tell what was passed over in an object's annotations, once."""
        if not isinstance(item, Server):
            return
        key = item.namespace, item.name
        before = known.get(key, ())
        flaws = item.routing.flaws if item.routing is not None else ()
        if flaws:
            self._flawed[key] = flaws
            for flaw in set(flaws) - set(before):
                self._flaws += 1
                log.warning("%s %s: %s", item.kind, "/".join(key), flaw)
        elif before:
            self._flawed.pop(key, None)

    @property
    def status(self) -> SourceStatus:
        """How it is."""
        if self._reflector is None:
            return SourceStatus(self.name)
        known = self._reflector.status
        problems = [Problem("/".join(key), reason) for key, reason in known.dropped.items()]
        problems += [Problem("/".join(key), flaw) for key, flaws in self._flawed.items() for flaw in flaws]
        if known.problem:
            problems.insert(0, Problem(self.name, known.problem))
        return SourceStatus(
            self.name,
            state="crashed" if self._crash else str(known.state),
            synced=known.synced,
            last_success=_last_success(known, self._settings.watch_idle_timeout),
            last_change=self._last_change,
            last_byte=known.last_byte,
            version=known.version,
            relists=known.relists,
            reconnects=known.reconnects,
            problems=tuple(problems),
            errors={
                **known.errors,
                **({"crash": self._crashes} if self._crashes else {}),
                **({"annotation": self._flaws} if self._flaws else {}),
            },
            aside=self.what.kind in _ASIDE or self.what.addresses,
        )


def _last_success(status: ReflectorStatus, idle: float) -> float | None:
    """When the resource was last known to be current: now while its watch is alive, else when that last spoke."""
    now = asyncio.get_running_loop().time()
    alive = status.state is State.WATCHING and status.last_byte is not None and now - status.last_byte <= idle
    return now if alive or status.absent else status.current


def _plural(kind: Kind) -> str:
    plain = {Kind.POD: "pods", Kind.POLICY: "configmaps", Kind.NODE: "nodes"}
    return plain[kind] if kind in plain else _STRUCTS[kind][0]


def _name(what: Followed) -> str:
    """How people are told what is followed."""
    if what.addresses:
        return f"pod addresses in {what.namespace}"
    if what.name:
        return f"{str(what.kind).lower()} {what.name} in {what.namespace}"
    return f"{_plural(what.kind)} in {what.namespace}" if what.namespace else _plural(what.kind)


def _resource(what: Followed) -> Resource[Any]:
    """What to ask the API server for."""
    kind, namespace, plural = what.kind, what.namespace, _plural(what.kind)
    paths: tuple[str, ...]
    full_name, install, scope, role = plural, "", f"-n {namespace} ", "role"
    parameters: dict[str, str] = {}
    decode: Callable[..., Any]
    if kind is Kind.POD:
        paths = (f"/api/v1/namespaces/{namespace}/pods",)
        decode = decoder(AddressObject, to_address) if what.addresses else decoder(PodObject, to_server)
        parameters = {} if what.addresses else {"labelSelector": SELECTOR}
    elif kind is Kind.POLICY:
        paths = (f"/api/v1/namespaces/{namespace}/configmaps",)
        decode = decoder(ConfigMapObject, to_policy)
        parameters = {"fieldSelector": f"metadata.name={what.name}"}
        full_name = f"configmaps --resource-name={what.name}"
    elif kind is Kind.NODE:
        paths = ("/api/v1/nodes",)
        decode = decoder(NodeObject, to_node)
        scope, role = "", "clusterrole"
    else:
        paths = tuple(f"/apis/{GROUP}/{version}/namespaces/{namespace}/{plural}" for version in _VERSIONS)
        decode = decoder(_STRUCTS[kind][1], lambda found: found.to_model(namespace))
        if kind is Kind.FRAMEWORK:
            parameters = {"fieldSelector": f"metadata.name={FRAMEWORK_NAME}"}
        full_name = f"{plural}.{GROUP}"
        install = "the chart of TARS on Kubernetes, or use --discover pods"
    grant = (
        f"kubectl {scope}create {role} tars-registry-{plural} --verb=get,list,watch --resource={full_name} && "
        f"kubectl {scope}create {role}binding tars-registry-{plural} --{role}=tars-registry-{plural} "
        "--serviceaccount=NAMESPACE:SERVICEACCOUNT"
    )
    return Resource(_name(what), paths, decode, parameters, grant, install)
