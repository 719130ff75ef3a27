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
        self._of_servers: dict[str, str] = {}
        self._pods: dict[ObjectKey, PodAddress] = {}
        self._of_pods: dict[str, str] = {}

    def __getitem__(self, address: str) -> str:
        host = self._of_servers.get(address)
        return self._of_pods[address] if host is None else host

    def __iter__(self) -> Iterator[str]:
        return iter(self._of_servers.keys() | self._of_pods.keys())

    def __len__(self) -> int:
        return len(self._of_servers.keys() | self._of_pods.keys())

    def follow(self, table: Table) -> None:
        """Bring the servers' pods up to a snapshot; looks only at servers that changed."""
        before, self._table = self._table.servers, table
        now = table.servers
        if before is now:
            return
        gone: dict[str, str] = {}
        come: dict[str, str] = {}
        for key in before.keys() | now.keys():
            if before.get(key) is not now.get(key):
                gone |= _hosts_of(before.get(key, ()))
                come |= _hosts_of(now.get(key, ()))
        if gone != come:
            for address in gone.keys() - come.keys():
                self._of_servers.pop(address, None)
            self._of_servers |= come
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
        if item.address and item.host:
            self._pods[key] = item
            self._of_pods[item.address] = item.host
        return True

    def _drop(self, key: ObjectKey) -> bool:
        known = self._pods.pop(key, None)
        if known is None:
            return False
        # Its address may be another pod's by now, on another node.
        if self._of_pods.get(known.address) == known.host:
            del self._of_pods[known.address]
        return True


def _hosts_of(servers: tuple[Server, ...]) -> dict[str, str]:
    return {pod.pod_ip: pod.host_ip for server in servers for pod in server.pods if pod.pod_ip and pod.host_ip}
