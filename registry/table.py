"""The table: what is known, as immutable snapshots.

A change makes a new snapshot that shares all that did not change; readers take the snapshot that is there and never
see half of a change. There is one writer, the event loop. Sources fill the store through their sink; whoever keeps
something made from the table (the answers) is told which servers changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from registry.model import CUSTOM_RESOURCES, Framework, Kind, Object, ObjectKey, Server, Template, Upstream

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

    ``synced`` is False until every source has handed over all it has: until then absence means nothing.
    """

    version: int = 0
    synced: bool = False
    servers: Mapping[ServerKey, tuple[Server, ...]] = field(default_factory=dict)
    templates: Mapping[ObjectKey, Template] = field(default_factory=dict)
    up_chain: Mapping[str, tuple[Upstream, ...]] = field(default_factory=dict)

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
    """What a new snapshot changed: these servers; with ``everything`` set, any answer may be another."""

    servers: frozenset[ServerKey] = frozenset()
    everything: bool = False


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
        self._groups: dict[ServerKey, dict[tuple[Kind, ObjectKey], Server]] = {}
        """All objects of a server, those included that another one stands above."""
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        """Call this after each new snapshot, with what changed."""
        self._listeners.append(listener)

    @property
    def waiting_for(self) -> list[str]:
        """The parts that were not handed over yet, in words."""
        return sorted(f"{kind} in {namespace}" if namespace else str(kind) for kind, namespace in self._awaited)

    def size(self) -> TableSize:
        """Count what is there: takes time in proportion, so for scrapes only."""
        servers = [server for group in self.table.servers.values() for server in group]
        pods = [pod for server in servers for pod in server.pods]
        return TableSize(len(servers), len(pods), sum(pod.active for pod in pods), len(self.table.templates))

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
        new = {(item.namespace, item.name): item for item in objects}
        gone = [key for key in self._objects[kind] if key not in new and (not namespace or key[0] == namespace)]
        self._apply(kind, {**dict.fromkeys(gone), **new})

    def upsert(self, item: Object) -> None:
        """An object that is new or changed."""
        self._apply(item.kind, {(item.namespace, item.name): item})

    def delete(self, kind: Kind, key: ObjectKey) -> None:
        """An object that is gone."""
        self._apply(kind, {key: None})

    def synced(self, kind: Kind, namespace: str = "") -> None:
        """Everything of a kind (in a namespace) was handed over."""
        if (kind, namespace) in self._awaited:
            self._awaited.remove((kind, namespace))
            if not self._awaited and not self.table.synced:
                self._publish(replace(self.table, synced=True), Change(everything=True))

    def _apply(self, kind: Kind, changes: Mapping[ObjectKey, Object | None]) -> None:
        """Put objects (None: take away) into the table, unless that changes nothing."""
        objects = self._objects[kind]
        real = {key: item for key, item in changes.items() if objects.get(key) != item}
        if not real:
            return
        before = {key: objects.get(key) for key in real}
        for key, item in real.items():
            if item is None:
                objects.pop(key, None)
            else:
                objects[key] = item
        if kind in (Kind.SERVER, Kind.POD):
            self._apply_servers(before, real)
        elif kind is Kind.TEMPLATE:
            # Nothing that is answered to a query depends on a template.
            templates = {key: item for key, item in objects.items() if isinstance(item, Template)}
            self._publish(replace(self.table, templates=templates), Change())
        else:
            first = next((item for _, item in sorted(objects.items()) if isinstance(item, Framework)), None)
            up_chain = first.up_chain if first else {}
            if up_chain != self.table.up_chain:
                self._publish(replace(self.table, up_chain=up_chain), Change(everything=True))

    def _apply_servers(
        self, before: Mapping[ObjectKey, Object | None], after: Mapping[ObjectKey, Object | None]
    ) -> None:
        touched: set[ServerKey] = set()
        for objects, present in ((before, False), (after, True)):
            for key, item in objects.items():
                if isinstance(item, Server):
                    name = server_key(item)
                    touched.add(name)
                    group = self._groups.setdefault(name, {})
                    if present:
                        group[item.kind, key] = item
                    else:
                        group.pop((item.kind, key), None)
        servers = dict(self.table.servers)
        changed: set[ServerKey] = set()
        for name in touched:
            shown = self._shown(name)
            if shown != servers.get(name, ()):
                changed.add(name)
                if shown:
                    servers[name] = shown
                else:
                    del servers[name]
        if changed:
            self._publish(replace(self.table, servers=servers), Change(frozenset(changed)))

    def _shown(self, name: ServerKey) -> tuple[Server, ...]:
        """The objects of a server that count: where there is a TEndpoint, labelled Pods do not."""
        group = self._groups[name]
        if not group:
            del self._groups[name]
            return ()
        best = Kind.SERVER if any(kind is Kind.SERVER for kind, _ in group) else Kind.POD
        return tuple(group[entry] for entry in sorted(group) if entry[0] is best)

    def _publish(self, table: Table, change: Change) -> None:
        self.table = replace(table, version=self.table.version + 1)
        for listener in self._listeners:
            listener(change)
