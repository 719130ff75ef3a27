"""The table: what is known, as immutable snapshots.

A change makes a new snapshot that shares all that did not change; readers take the snapshot that is there and never
see half of a change. There is one writer, the event loop. Sources fill the store through their sink; whoever keeps
something made from the table (the answers) is told which servers changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from registry.model import Framework, Kind, Object, ObjectKey, Server, Template, Upstream

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
        """The objects of a server, by its names in any case; empty where it is unknown."""
        by_name, by_object = keys_for(app, server)
        return self.servers.get(by_name) or self.servers.get(by_object) or ()


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

ALL_KINDS: Final = frozenset(Kind)


class TableStore:
    """Keeps the current snapshot, ``table``; the sink of every source (see :class:`registry.sources.base.Sink`).

    ``awaited`` are the kinds that must be handed over before the table counts as synchronised.
    """

    def __init__(self, awaited: Iterable[Kind] = ALL_KINDS) -> None:
        self.table = Table()
        self._awaited = set(awaited)
        self._objects: dict[Kind, dict[ObjectKey, Object]] = {kind: {} for kind in Kind}
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        """Call this after each new snapshot, with what changed."""
        self._listeners.append(listener)

    @property
    def waiting_for(self) -> frozenset[Kind]:
        """The kinds that were not handed over yet."""
        return frozenset(self._awaited)

    def size(self) -> TableSize:
        """Count what is there: takes time in proportion, so for scrapes only."""
        servers = [server for group in self.table.servers.values() for server in group]
        pods = [pod for server in servers for pod in server.pods]
        return TableSize(len(servers), len(pods), sum(pod.active for pod in pods), len(self.table.templates))

    # The sink:

    def replace(self, kind: Kind, objects: Iterable[Object]) -> None:
        """All objects of a kind, as a whole: what is not among them is gone."""
        new = {(item.namespace, item.name): item for item in objects}
        old = self._objects[kind]
        self._apply(kind, {key: new.get(key) for key in old.keys() | new.keys()})

    def upsert(self, item: Object) -> None:
        """An object that is new or changed."""
        self._apply(item.kind, {(item.namespace, item.name): item})

    def delete(self, kind: Kind, key: ObjectKey) -> None:
        """An object that is gone."""
        self._apply(kind, {key: None})

    def synced(self, kind: Kind) -> None:
        """Everything of a kind was handed over."""
        if kind in self._awaited:
            self._awaited.remove(kind)
            if not self._awaited:
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
        if kind is Kind.SERVER:
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
        servers = dict(self.table.servers)
        touched: set[ServerKey] = set()
        for objects, present in ((before, False), (after, True)):
            for item in objects.values():
                if isinstance(item, Server):
                    key = server_key(item)
                    touched.add(key)
                    others = tuple(
                        s for s in servers.get(key, ()) if (s.namespace, s.name) != (item.namespace, item.name)
                    )
                    group = (*others, item) if present else others
                    if group:
                        servers[key] = tuple(sorted(group, key=lambda s: (s.namespace, s.name)))
                    else:
                        servers.pop(key, None)
        self._publish(replace(self.table, servers=servers), Change(frozenset(touched)))

    def _publish(self, table: Table, change: Change) -> None:
        self.table = replace(table, version=self.table.version + 1)
        for listener in self._listeners:
            listener(change)
