"""The table: what is known, as immutable snapshots.

A change makes a new snapshot that shares all that did not change; readers take the snapshot that is there and never
see half of a change. There is one writer, the event loop. Sources fill the store through their sink; whoever keeps
something made from the table (the answers) is told which servers changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from msgspec import Struct

from registry.model import (
    CUSTOM_RESOURCES,
    Framework,
    Kind,
    Node,
    Object,
    ObjectKey,
    PolicyText,
    Server,
    Template,
    Upstream,
)
from registry.shards import Shards

ServerKey = tuple[str, str]
"""A server, however its name is spelt: app and server in lower case; ("", object name) for an object without them."""


def server_key(server: Server) -> ServerKey:
    """Under which key a server is found."""
    if server.app and server.server:
        return server.app.lower(), server.server.lower()
    return "", server.name


def keys_for(app: str, server: str) -> tuple[ServerKey, ServerKey]:
    """The keys under which the server of an object id may stand: by its names, or by its object's name."""
    app, server = app.lower(), server.lower()
    return (app, server), ("", f"{app}-{server}")


@dataclass(frozen=True, slots=True)
class Table:
    """One snapshot. ``servers`` are in order of namespace and name; ``version`` grows with each change.

    ``synced`` is False until every source has handed over all it has: until then absence means nothing. ``policy`` is
    as it was written; ``nodes`` are by their name.
    """

    version: int = 0
    synced: bool = False
    servers: Shards[ServerKey, tuple[Server, ...]] = field(default_factory=Shards)
    templates: Mapping[ObjectKey, Template] = field(default_factory=dict)
    up_chain: Mapping[str, tuple[Upstream, ...]] = field(default_factory=dict)
    policy: PolicyText | None = None
    nodes: Mapping[str, Node] = field(default_factory=dict)

    def find(self, app: str, server: str) -> tuple[Server, ...]:
        """The objects of a server, by its names in any case; empty where it is unknown.

        A TEndpoint stands above labelled Pods also where it is found by its own name.
        """
        by_name, by_object = keys_for(app, server)
        named, nameless = self.servers.get(by_name, ()), self.servers.get(by_object, ())
        if nameless and all(item.kind is Kind.POD for item in named):
            return nameless
        return named


@dataclass(frozen=True, slots=True)
class Change:
    """What a new snapshot changed: these servers; with ``everything`` set, any answer may be another.

    ``routing``: the text of the policy, or a node. Which answers that changes is for whoever reads them to say.
    """

    servers: frozenset[ServerKey] = frozenset()
    everything: bool = False
    routing: bool = False


@dataclass(frozen=True, slots=True)
class TableSize:
    """How much the table holds."""

    servers: int
    pods: int
    active_pods: int
    templates: int


Listener = Callable[[Change], None]

Part = tuple[Kind, str]
"""What is handed over as a whole: a kind, of one namespace ("" for all of them together)."""

DIRECTORY_PARTS: Final[frozenset[Part]] = frozenset((kind, "") for kind in CUSTOM_RESOURCES)
"""What a source hands over that has all of it at hand."""


class TableStore:
    """Keeps the current snapshot, ``table``; the sink of every source (see :class:`registry.sources.base.Sink`).

    ``awaited`` are the parts that must be handed over before the table counts as synchronised.
    """

    def __init__(self, awaited: Iterable[Part] = DIRECTORY_PARTS) -> None:
        self.table = Table()
        self._awaited = set(awaited)
        self._objects: dict[Kind, dict[ObjectKey, Object]] = {kind: {} for kind in Kind}
        self._groups: dict[ServerKey, Group] = {}
        """All objects of a server, those included that another one stands above."""
        self._counts = _Counts()
        self._listeners: list[Listener] = []
        self._when_whole: list[Callable[[], None]] = []

    def subscribe(self, listener: Listener) -> None:
        """Call this after each new snapshot, with what changed."""
        self._listeners.append(listener)

    def when_whole(self, tell: Callable[[], None]) -> None:
        """Call this once nothing is waited for any more, which a table of earlier on (:meth:`restore`) is no end of."""
        if self._awaited:
            self._when_whole.append(tell)
        else:
            tell()

    def also_await(self, part: Part) -> None:
        """Wait for one more part, unless the table is synchronised already."""
        if not self.table.synced:
            self._awaited.add(part)

    @property
    def waiting_for(self) -> list[str]:
        """The parts that were not handed over yet, in words."""
        return sorted(f"{kind} in {namespace}" if namespace else str(kind) for kind, namespace in self._awaited)

    def size(self) -> TableSize:
        """How much there is."""
        return TableSize(self._counts.servers, self._counts.pods, self._counts.active, len(self.table.templates))

    def objects(self) -> dict[Kind, list[Object]]:
        """Everything that was handed over, by kind."""
        return {kind: list(items.values()) for kind, items in self._objects.items()}

    def restore(self, objects: Mapping[Kind, Iterable[Object]]) -> None:
        """A table of earlier on: answers are given from it, until the sources replace it part by part."""
        for kind, items in objects.items():
            self.replace(kind, items)
        if not self.table.synced:
            self._publish(replace(self.table, synced=True), Change(everything=True))

    # The sink:

    def replace(self, kind: Kind, objects: Iterable[Object], namespace: str = "") -> None:
        """All objects of a kind (in a namespace, if one is named), as a whole: what is not among them is gone."""
        for _ in self.replacing(kind, objects, namespace):
            pass

    def replacing(self, kind: Kind, objects: Iterable[Object], namespace: str = "") -> Iterator[None]:
        """The same in small steps, of which one makes the whole change: 10,000 objects take some tens of milliseconds.

        Other objects may change between the steps. What comes out of ``objects`` is not kept where it is no change.
        """
        known = self._objects[kind]
        new: dict[ObjectKey, Object] = {}
        named: set[ObjectKey] = set()
        for item in objects:
            key = item.namespace, item.name
            named.add(key)
            if known.get(key) != item:
                new[key] = item
            else:
                new.pop(key, None)
            yield
        gone: list[ObjectKey] = []
        for key in list(known):
            if key not in named and (not namespace or key[0] == namespace):
                gone.append(key)
            yield
        yield from _released(named)
        yield from self._applying(kind, new, gone)

    def upsert(self, item: Object) -> None:
        """An object that is new or changed."""
        key = item.namespace, item.name
        if self._objects[item.kind].get(key) != item:
            self._apply(item.kind, {key: item}, [])

    def delete(self, kind: Kind, key: ObjectKey) -> None:
        """An object that is gone."""
        if key in self._objects[kind]:
            self._apply(kind, {}, [key])

    def synced(self, kind: Kind, namespace: str = "") -> None:
        """Everything of a kind (in a namespace) was handed over."""
        if (kind, namespace) in self._awaited:
            self._awaited.remove((kind, namespace))
            if self._awaited:
                return
            if not self.table.synced:
                self._publish(replace(self.table, synced=True), Change(everything=True))
            waiting, self._when_whole = self._when_whole, []
            for tell in waiting:
                tell()

    def _apply(self, kind: Kind, new: dict[ObjectKey, Object], gone: list[ObjectKey]) -> None:
        for _ in self._applying(kind, new, gone):
            pass

    def _applying(self, kind: Kind, new: dict[ObjectKey, Object], gone: list[ObjectKey]) -> Iterator[None]:
        """Put objects that are new or changed into the table, and take others away."""
        if not new and not gone:
            return
        if kind in (Kind.SERVER, Kind.POD):
            yield from self._applying_servers(kind, new, gone)
            return
        self._keep(kind, new, gone)
        objects = self._objects[kind]
        if kind is Kind.TEMPLATE:
            # Nothing that is answered to a query depends on a template.
            templates = {key: item for key, item in objects.items() if isinstance(item, Template)}
            self._publish(replace(self.table, templates=templates), Change())
        elif kind is Kind.POLICY:
            policy = next((item for _, item in sorted(objects.items()) if isinstance(item, PolicyText)), None)
            if policy != self.table.policy:
                self._publish(replace(self.table, policy=policy), Change(routing=True))
        elif kind is Kind.NODE:
            nodes = {item.name: item for item in objects.values() if isinstance(item, Node)}
            self._publish(replace(self.table, nodes=nodes), Change(routing=True))
        else:
            first = next((item for _, item in sorted(objects.items()) if isinstance(item, Framework)), None)
            up_chain = first.up_chain if first else {}
            if up_chain != self.table.up_chain:
                self._publish(replace(self.table, up_chain=up_chain), Change(everything=True))

    def _keep(self, kind: Kind, new: Mapping[ObjectKey, Object], gone: Iterable[ObjectKey]) -> None:
        objects = self._objects[kind]
        objects.update(new)
        for key in gone:
            objects.pop(key, None)

    def _applying_servers(self, kind: Kind, new: dict[ObjectKey, Object], gone: list[ObjectKey]) -> Iterator[None]:
        known = self._objects[kind]
        members: dict[ServerKey, dict[ObjectKey, Server | None]] = {}
        old: list[object] = []
        for key in [*gone, *new]:
            before, after = known.get(key), new.get(key)
            old.append(before)
            if isinstance(before, Server):
                members.setdefault(server_key(before), {})[key] = None
            if isinstance(after, Server):
                members.setdefault(server_key(after), {})[key] = after
            yield
        plans: dict[ServerKey, _Plan] = {}
        for name, changed in members.items():
            plans[name] = _plan(self._groups.get(name, ()), kind, changed)
            yield
        counts = _Counts()
        shown: dict[ServerKey, Group] = {}
        for name, plan in plans.items():
            counts += plan.counts
            if plan.changes_what_is_shown:
                shown[name] = plan.shown
            yield
        # From here to the last of these lines there are no steps: this is the change.
        groups = self._groups
        for name, plan in plans.items():
            if groups.get(name, ()) is not plan.before:
                # Another kind, or another namespace, has changed this server between two steps.
                again = _plan(groups.get(name, ()), kind, members[name])
                counts += again.counts - plan.counts
                plans[name] = again
                shown.pop(name, None)
                if again.changes_what_is_shown:
                    shown[name] = again.shown
        self._keep(kind, new, gone)
        for name, plan in plans.items():
            if plan.after:
                groups[name] = plan.after
            else:
                groups.pop(name, None)
        self._counts += counts
        if shown:
            servers = self.table.servers.changed({name: group or None for name, group in shown.items()})
            self._publish(replace(self.table, servers=servers), Change(frozenset(shown)))
        # To give a hundred thousand objects back takes time as well.
        for collection in (old, new, members, plans, shown):
            yield from _released(collection)

    def _publish(self, table: Table, change: Change) -> None:
        self.table = replace(table, version=self.table.version + 1)
        for listener in self._listeners:
            listener(change)


Group = tuple[Server, ...]
"""The objects of one server, in order of kind, namespace and name."""


class _Counts(Struct, frozen=True, gc=False):
    """Servers, pods and active pods; or how many more."""

    servers: int = 0
    pods: int = 0
    active: int = 0

    def __add__(self, other: _Counts) -> _Counts:
        return _Counts(self.servers + other.servers, self.pods + other.pods, self.active + other.active)

    def __sub__(self, other: _Counts) -> _Counts:
        return _Counts(self.servers - other.servers, self.pods - other.pods, self.active - other.active)


class _Plan(NamedTuple):
    """What changes of one server: all its objects, those of them that count, and how much more that is."""

    before: Group
    after: Group
    shown: Group
    changes_what_is_shown: bool
    counts: _Counts


def _plan(before: Group, kind: Kind, changed: Mapping[ObjectKey, Server | None]) -> _Plan:
    """What becomes of a server when these objects of a kind are changed (None: taken away)."""
    stay = [item for item in before if item.kind is not kind or (item.namespace, item.name) not in changed]
    new = [item for item in changed.values() if item is not None]
    after = tuple(sorted(stay + new, key=lambda item: (item.kind, item.namespace, item.name)))
    shown_before, shown = _shown(before), _shown(after)
    return _Plan(before, after, shown, shown != shown_before, _count(shown) - _count(shown_before))


def _shown(group: Group) -> Group:
    """The objects of a server that count: where there is a TEndpoint, labelled Pods do not."""
    if not group or group[0].kind is group[-1].kind:
        return group
    return tuple(item for item in group if item.kind is Kind.SERVER)


def _count(group: Group) -> _Counts:
    pods = [pod for item in group for pod in item.pods]
    return _Counts(len(group), len(pods), sum([pod.active for pod in pods]))


def _released(collection: Any) -> Iterator[None]:
    """Empty a list, set or dict step by step."""
    take = collection.popitem if isinstance(collection, dict) else collection.pop
    while collection:
        take()
        yield
