"""On which node the pod with an address is, also while two are told to have it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.model import Kind, PodAddress, Server
from registry.sources.cluster_objects import AddressObject, to_address
from registry.sources.pod_hosts import PodHosts
from tests.support.tables import filled_store, pod, server


class Moves:
    """Counts the calls."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def web(name: str, *addresses: str, host: str = "192.168.0.1") -> PodAddress:
    return PodAddress("tars", name, addresses, host)


def one_pod(name: str, ip: str, host_ip: str = "192.168.0.1", *, active: bool = True) -> Server:
    return server("Test", name, pods=[pod(f"test-{name}-0".lower(), ip=ip, host_ip=host_ip, active=active)])


@pytest.mark.parametrize("host", ["192.168.0.1", "192.168.0.2"])
def test_an_address_that_another_pod_has_already_stays_when_the_old_one_is_gone(host: str) -> None:
    """A node gives the addresses of pods that ended to new ones, often before the end of the old one is told."""
    hosts = PodHosts(Moves())
    hosts.upsert(web("old", "10.0.0.1"))
    hosts.upsert(web("new", "10.0.0.1", host=host))
    assert hosts["10.0.0.1"] == host
    hosts.delete(Kind.POD, ("tars", "old"))
    assert hosts["10.0.0.1"] == host
    hosts.delete(Kind.POD, ("tars", "new"))
    assert dict(hosts) == {}


def test_an_address_goes_back_to_the_pod_that_has_it_still() -> None:
    hosts = PodHosts(Moves())
    hosts.upsert(web("stays", "10.0.0.1"))
    hosts.upsert(web("goes", "10.0.0.1", host="192.168.0.2"))
    hosts.upsert(web("goes", "10.0.0.9", host="192.168.0.2"))
    assert dict(hosts) == {"10.0.0.1": "192.168.0.1", "10.0.0.9": "192.168.0.2"}


def test_an_address_that_a_server_lists_still_stays_when_another_no_longer_does() -> None:
    moves = Moves()
    hosts = PodHosts(moves)
    first, second = one_pod("One", "10.0.0.1"), one_pod("Two", "10.0.0.1")
    store = filled_store(first)
    hosts.follow(store.table)
    store.upsert(second)
    hosts.follow(store.table)
    store.delete(Kind.SERVER, (first.namespace, first.name))
    hosts.follow(store.table)
    assert dict(hosts) == {"10.0.0.1": "192.168.0.1"}
    store.delete(Kind.SERVER, (second.namespace, second.name))
    hosts.follow(store.table)
    assert dict(hosts) == {}


def test_callers_are_moved_only_by_what_changes_an_address() -> None:
    moves = Moves()
    hosts = PodHosts(moves)
    store = filled_store(one_pod("One", "10.0.0.1"))
    hosts.follow(store.table)
    assert moves.count == 1
    store.upsert(one_pod("One", "10.0.0.1", active=False))
    hosts.follow(store.table)
    assert moves.count == 1
    hosts.upsert(web("a", "10.0.0.2"))
    hosts.upsert(web("a", "10.0.0.2"))
    hosts.delete(Kind.POD, ("tars", "unknown"))
    assert moves.count == 2


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.lists(st.sampled_from(("10.0.0.1", "10.0.0.2")), max_size=2, unique=True),
            st.sampled_from(("192.168.0.1", "192.168.0.2")),
        ),
        max_size=12,
    )
)
def test_after_any_changes_an_address_is_on_the_node_of_a_pod_that_has_it(
    changes: list[tuple[str, list[str], str]],
) -> None:
    hosts = PodHosts(Moves())
    there: dict[str, PodAddress] = {}
    for name, addresses, host in changes:
        changed = there.get(name) != web(name, *addresses, host=host)
        there[name] = web(name, *addresses, host=host)
        hosts.upsert(there[name])
        expected: dict[str, set[str]] = {}
        for each in there.values():
            for address in each.addresses:
                expected.setdefault(address, set()).add(each.host)
        assert hosts.keys() == expected.keys()
        assert all(hosts[address] in expected[address] for address in expected)
        assert not changed or all(hosts[address] == host for address in addresses)
    hosts.replace(Kind.POD, [], "tars")
    assert dict(hosts) == {}


def status(**fields: Any) -> PodAddress:
    raw = {"metadata": {"name": "a", "namespace": "tars"}, "status": {"hostIP": "192.168.0.1", **fields}}
    return to_address(msgspec.convert(raw, AddressObject))


def test_a_pod_has_all_its_addresses() -> None:
    """One of IPv4 and one of IPv6, where the cluster has both."""
    both = status(podIP="10.0.0.1", podIPs=[{"ip": "10.0.0.1"}, {"ip": "fd00::1"}])
    assert both == web("a", "10.0.0.1", "fd00::1")
    assert status(podIP="10.0.0.1") == status(podIP="10.0.0.1", podIPs=None) == web("a", "10.0.0.1")
    assert status(podIP="10.0.0.1", podIPs=[], phase="Failed").addresses == ()
    assert status().addresses == ()
