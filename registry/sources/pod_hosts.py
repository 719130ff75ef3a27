"""On which node each pod address is: what tells the zone of a caller, where zones are groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from registry.model import Kind, Object, ObjectKey, PodAddress, Server
from registry.table import Table


class PodHosts(Mapping[str, str]):
    """For the address of a pod that of its node: of the servers' pods, and of all others that may be followed.

    A sink of :class:`PodAddress` objects. ``moved`` is called after changes by which callers may be in other groups.
    """

    def __init__(self, moved: Callable[[], None]) -> None:
        self._moved = moved
        self._table = Table()
        """The snapshot whose servers are in ``_of_servers``."""
        self._of_servers = _Hosts()
        self._pods: dict[ObjectKey, PodAddress] = {}
        self._of_pods = _Hosts()

    def __getitem__(self, address: str) -> str:
        host = self._of_servers.last.get(address)
        return self._of_pods.last[address] if host is None else host

    def __iter__(self) -> Iterator[str]:
        return iter(self._of_servers.last.keys() | self._of_pods.last.keys())

    def __len__(self) -> int:
        return len(self._of_servers.last.keys() | self._of_pods.last.keys())

    def follow(self, table: Table) -> None:
        """Bring the servers' pods up to a snapshot; looks only at servers that changed."""
        before, self._table = self._table.servers, table
        now = table.servers
        if before is now:
            return
        moved = False
        for key in now.differing(before):
            gone, come = _hosts_of(before.get(key, ())), _hosts_of(now.get(key, ()))
            if gone != come:
                moved = True
                self._of_servers.change(gone, come)
        if moved:
            self._moved()

    # The sink, of pods that are followed for their addresses alone:

    def replace(self, kind: Kind, objects: Iterable[Any], namespace: str = "") -> None:
        """All pods of a namespace."""
        for _ in self.replacing(kind, objects, namespace):
            pass

    def replacing(self, kind: Kind, objects: Iterable[Any], namespace: str = "") -> Iterator[None]:
        """The same in small steps."""
        named: set[ObjectKey] = set()
        for item in objects:
            named.add((item.namespace, item.name))
            self._put(item)
            yield
        for key in [key for key in self._pods if key[0] == namespace and key not in named]:
            self._drop(key)
            yield
        self._moved()

    def upsert(self, item: Object) -> None:
        """A pod that is new or changed."""
        if isinstance(item, PodAddress) and self._put(item):
            self._moved()

    def delete(self, kind: Kind, key: ObjectKey) -> None:
        """A pod that is gone."""
        if self._drop(key):
            self._moved()

    def synced(self, kind: Kind, namespace: str = "") -> None:
        """Nobody waits for it."""

    def _put(self, item: PodAddress) -> bool:
        key = item.namespace, item.name
        if self._pods.get(key) == item:
            return False
        self._drop(key)
        if item.addresses and item.host:
            self._pods[key] = item
            self._of_pods.change((), _hosts_of_pod(item))
        return True

    def _drop(self, key: ObjectKey) -> bool:
        known = self._pods.pop(key, None)
        if known is None:
            return False
        self._of_pods.change(_hosts_of_pod(known), ())
        return True


class _Hosts:
    """By address the host of who has it, as it was told ``last``.

    Two may be told to have one address: that of a pod that ends can be another's before its end is told. So all are
    kept, and what is left counts when one of them is gone.
    """

    __slots__ = ("_others", "last")

    def __init__(self) -> None:
        self.last: dict[str, str] = {}
        self._others: dict[str, list[str]] = {}
        """Hosts of those that were told before the last one, where there are several."""

    def change(self, gone: Iterable[tuple[str, str]], come: Iterable[tuple[str, str]]) -> None:
        """Take away addresses with their hosts, and add others."""
        for address, host in gone:
            others = self._others.get(address)
            if others is None:
                del self.last[address]
                continue
            if self.last[address] == host:
                self.last[address] = others.pop()
            else:
                others.remove(host)
            if not others:
                del self._others[address]
        for address, host in come:
            known = self.last.get(address)
            if known is not None:
                self._others.setdefault(address, []).append(known)
            self.last[address] = host


def _hosts_of(servers: tuple[Server, ...]) -> list[tuple[str, str]]:
    return [(pod.pod_ip, pod.host_ip) for server in servers for pod in server.pods if pod.pod_ip and pod.host_ip]


def _hosts_of_pod(pod: PodAddress) -> list[tuple[str, str]]:
    return [(address, pod.host) for address in pod.addresses]
