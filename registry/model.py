"""What the registry keeps of the objects it follows: only the fields that an answer or a descriptor needs.

Values are frozen and compared by content, so that an object written again with the same content is no change. They
can't refer to each other in a circle, so Python's garbage collector need not know them (``gc=False``): to look through
100,000 pods would hold up callers for a fifth of a second.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from msgspec import Struct

ACTIVE: Final = "Active"
"""The state of a pod that serves, both as it is set and as it is."""


class Kind(StrEnum):
    """The resources that are followed, by their Kubernetes kind."""

    SERVER = "TEndpoint"
    POD = "Pod"
    TEMPLATE = "TTemplate"
    FRAMEWORK = "TFrameworkConfig"
    POLICY = "ConfigMap"
    NODE = "Node"


CUSTOM_RESOURCES: Final = (Kind.SERVER, Kind.TEMPLATE, Kind.FRAMEWORK)
"""The kinds of TARS on Kubernetes; Pods are everybody's."""


class ServantSpec(Struct, frozen=True, gc=False):
    """A servant of a server. ``timeout`` in ms; ``connections`` and ``capacity`` are the adapter's limits.

    With ``any_case`` the name is in lower case and stands for every spelling of it: that of a container port, which
    can't have capitals.
    """

    name: str
    port: int
    is_tcp: bool = True
    is_tars: bool = True
    timeout: int = 60_000
    threads: int = 3
    connections: int = 10_000
    capacity: int = 10_000
    any_case: bool = False

    def is_called(self, name: str) -> bool:
        """True where a caller's servant is this one."""
        return self.name == (name.lower() if self.any_case else name)


class Pod(Struct, frozen=True, gc=False):
    """A pod of a server, as the status of its object tells it. ``id`` is the release; ``pid`` the server's process."""

    name: str
    uid: str = ""
    pod_ip: str = ""
    host_ip: str = ""
    setting_state: str = ""
    present_state: str = ""
    pid: str = ""
    id: str = ""

    @property
    def active(self) -> bool:
        """True where it is meant to serve and does."""
        return self.setting_state == ACTIVE and self.present_state == ACTIVE

    @property
    def order(self) -> tuple[str, int, str]:
        """Sorts pods by name, ordinals by number: ``x-2`` before ``x-10``."""
        match = _ORDINAL.fullmatch(self.name)
        return (match[1], int(match[2]), self.name) if match else (self.name, -1, self.name)


_ORDINAL: Final = re.compile(r"(.*)-([0-9]{1,18})", re.DOTALL)


class RoutingFacts(Struct, frozen=True, gc=False):
    """What an object says about who gets its endpoints, and how often: most say nothing, and have none of these.

    ``set_id`` is name, area and group with dots, "" for none. ``weight`` is of all pods, ``pod_weights`` of single ones
    (0 to 100; None: not said). ``flow_off_pods`` get no calls, with ``flow_off`` none does. ``grouping``: whether its
    endpoints count as their group's (None: as the policy says). ``group_name`` names that group, instead of the pods'
    addresses. A ``backup`` is given to nobody. ``flaws`` say what could not be understood, and was passed over.
    """

    set_id: str = ""
    weight: int | None = None
    pod_weights: tuple[tuple[str, int], ...] = ()
    flow_off: bool = False
    flow_off_pods: frozenset[str] = frozenset()
    grouping: bool | None = None
    group_name: str = ""
    backup: bool = False
    flaws: tuple[str, ...] = ()

    def has_flow(self, pod: str) -> bool:
        """False for a pod that is to get no calls."""
        return not self.flow_off and pod not in self.flow_off_pods


class Server(Struct, frozen=True, gc=False):
    """A server, or the part of one that one object tells: a TEndpoint all its pods, a labelled Pod itself.

    ``app`` and ``server`` may be empty; then the object's name stands for them. ``host_ports`` maps the name of a
    servant to its port on the node. ``pods`` are in :attr:`Pod.order`. ``subdomain`` is the headless Service that gives
    a labelled Pod its name, if one does.
    """

    namespace: str
    name: str
    app: str = ""
    server: str = ""
    sub_type: str = "tars"
    template: str = ""
    profile: str = ""
    async_thread: int = 3
    servants: tuple[ServantSpec, ...] = ()
    host_ports: Mapping[str, int] = {}
    pods: tuple[Pod, ...] = ()
    kind: Kind = Kind.SERVER
    """The resource it comes from: SERVER or POD."""
    subdomain: str = ""
    routing: RoutingFacts | None = None

    @property
    def service(self) -> str:
        """The headless Service under which its pods have names; empty where there is none."""
        return self.name if self.kind is Kind.SERVER else self.subdomain


class Template(Struct, frozen=True, gc=False):
    """A template of server configurations; its own name as ``parent``, or none, ends the chain."""

    namespace: str
    name: str
    parent: str = ""
    content: str = ""

    @property
    def kind(self) -> Kind:
        """The resource it comes from."""
        return Kind.TEMPLATE


class Upstream(Struct, frozen=True, gc=False):
    """One address of the up-chain. ``timeout`` in ms."""

    host: str
    port: int
    timeout: int = 6_000
    is_tcp: bool = True


class Framework(Struct, frozen=True, gc=False):
    """What the framework's configuration object says: where to look for servers that are not known here."""

    namespace: str
    name: str
    up_chain: Mapping[str, tuple[Upstream, ...]] = {}

    @property
    def kind(self) -> Kind:
        """The resource it comes from."""
        return Kind.FRAMEWORK


class PolicyText(Struct, frozen=True, gc=False):
    """The routing policy as it is written, from a ConfigMap or (without a namespace) a file; ``problem``: why not."""

    namespace: str
    name: str
    text: str
    problem: str = ""

    @property
    def kind(self) -> Kind:
        """The resource it comes from."""
        return Kind.POLICY


class Node(Struct, frozen=True, gc=False):
    """A machine of the cluster: its addresses, and the zone and region that its labels name."""

    name: str
    addresses: tuple[str, ...] = ()
    zone: str = ""
    region: str = ""
    namespace: str = ""
    """Nodes have none."""

    @property
    def kind(self) -> Kind:
        """The resource it comes from."""
        return Kind.NODE


class PodAddress(Struct, frozen=True, gc=False):
    """The addresses of any pod, and that of the node that it is on: it may be a caller. Not in the table."""

    namespace: str
    name: str
    addresses: tuple[str, ...] = ()
    host: str = ""

    @property
    def kind(self) -> Kind:
        """The resource it comes from."""
        return Kind.POD


Object = Server | Template | Framework | PolicyText | Node | PodAddress
"""Anything that a source puts into the table."""

ObjectKey = tuple[str, str]
"""Namespace and name of an object."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that could not be taken: where it is (a file and line, or an object), and why."""

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(slots=True)
class SourceStatus:
    """How a source, or the part of it that follows one resource, is: shown by health and metrics.

    ``synced`` once everything was handed over; ``state`` one word; ``last_change``, ``last_success`` (when it was last
    known to be current) and ``last_byte`` in seconds of :func:`time.monotonic`, None before the first; ``problems``
    that stand now; ``errors`` in all, by reason. ``version`` is the resource version, ``relists`` and ``reconnects``
    how often it had to be listed and watched again. ``aside``: endpoints are known without it; its age is its own, and
    none of the table's.
    """

    name: str
    state: str = "starting"
    synced: bool = False
    last_success: float | None = None
    last_change: float | None = None
    last_byte: float | None = None
    version: str = ""
    relists: int = 0
    reconnects: int = 0
    problems: tuple[Problem, ...] = ()
    errors: dict[str, int] = field(default_factory=dict)
    aside: bool = False

    def count(self, reason: str) -> None:
        """One more error of a kind."""
        self.errors[reason] = self.errors.get(reason, 0) + 1


@dataclass(frozen=True, slots=True)
class PodState:
    """What was last reported of a pod, where the registry itself keeps it: setting/present/pid, by whom, Unix time."""

    pod: str
    state: str
    active: bool
    caller: str
    reported: float
