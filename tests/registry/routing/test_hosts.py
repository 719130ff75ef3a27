"""The host and port of an endpoint, in each mode."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from registry.model import Kind, Pod, ServantSpec, Server
from registry.routing.hosts import EndpointHost, Naming
from tests.support.tables import server, small_pods, small_servers

OBJ = ServantSpec("HelloObj", 10_000)
STATEFUL = Pod("test-helloserver-3", pod_ip="10.1.0.3", host_ip="192.168.0.3")
DAEMON = Pod("test-helloserver-x7k2p", pod_ip="10.1.0.9", host_ip="192.168.0.9")
PLAIN = server()
ON_HOST = server(host_ports={"HelloObj": 31_000, "OtherObj": 31_001})


@pytest.mark.parametrize("found", [PLAIN, ON_HOST])
@pytest.mark.parametrize(
    ("mode", "pod", "host"),
    [
        (EndpointHost.DNS, STATEFUL, "test-helloserver-3.test-helloserver"),
        (EndpointHost.DNS, DAEMON, "test-helloserver-x7k2p.test-helloserver"),
        (EndpointHost.DNS_FQDN, STATEFUL, "test-helloserver-3.test-helloserver.tars.svc.cluster.local"),
        (EndpointHost.POD_IP, STATEFUL, "10.1.0.3"),
        (EndpointHost.POD_IP, DAEMON, "10.1.0.9"),
    ],
)
def test_names_and_pod_addresses_go_with_the_port_of_the_servant(
    found: Server, mode: EndpointHost, pod: Pod, host: str
) -> None:
    """Host ports are of the node alone."""
    assert Naming(mode).address(found, pod, OBJ) == (host, 10_000)


def test_full_names_end_in_the_domain_of_the_cluster() -> None:
    naming = Naming(EndpointHost.DNS_FQDN, cluster_domain="example.internal")
    host, _ = naming.address(server(namespace="prod"), STATEFUL, OBJ)
    assert host == "test-helloserver-3.test-helloserver.prod.svc.example.internal"


def test_the_address_of_the_node_goes_with_the_host_port_of_that_servant() -> None:
    naming = Naming(EndpointHost.HOST_IP)
    assert naming.address(ON_HOST, STATEFUL, OBJ) == ("192.168.0.3", 31_000)
    assert naming.address(ON_HOST, STATEFUL, ServantSpec("OtherObj", 7)) == ("192.168.0.3", 31_001)


def test_a_servant_without_a_host_port_keeps_its_own() -> None:
    """As with hostNetwork, where there is nothing to map. Names of servants are exact."""
    naming = Naming(EndpointHost.HOST_IP)
    assert naming.address(PLAIN, STATEFUL, OBJ) == ("192.168.0.3", 10_000)
    assert naming.address(ON_HOST, STATEFUL, ServantSpec("helloobj", 7)) == ("192.168.0.3", 7)


@pytest.mark.parametrize("ordinal", ["0", "3", "12", "100000", "007"])
def test_auto_is_dns_for_pods_that_are_named_by_an_ordinal(ordinal: str) -> None:
    """Host ports make no difference to them."""
    pod = Pod(f"test-helloserver-{ordinal}", pod_ip="10.1.0.3", host_ip="192.168.0.3")
    for found in (PLAIN, ON_HOST):
        assert Naming().address(found, pod, OBJ) == (f"{pod.name}.test-helloserver", 10_000)


@pytest.mark.parametrize(
    "name",
    [
        "test-helloserver-x7k2p",
        "test-helloserver-",
        "test-helloserver",
        "test-helloserver--007",
        "test-helloserver-1-0",
        "test-helloserver-²",
        "test-helloserver-٣",
        "test-helloserver-0x1",
        "test-helloserver2-0",
        "helloserver-0",
        "-0",
        "0",
        "",
    ],
)
def test_auto_is_the_address_of_the_pod_for_all_others(name: str) -> None:
    """A pod of a DaemonSet, or of another object, has no name that resolves; nor has "-007" any ordinal."""
    pod = Pod(name, pod_ip="10.1.0.9", host_ip="192.168.0.9")
    assert Naming().address(PLAIN, pod, OBJ) == ("10.1.0.9", 10_000)
    assert Naming().address(ON_HOST, pod, OBJ) == ("192.168.0.9", 31_000)


def test_auto_is_the_address_of_the_node_only_for_servants_that_have_a_port_there() -> None:
    """The others of such a server are not to be had under it: their ports are the pod's own."""
    assert Naming().address(ON_HOST, DAEMON, OBJ) == ("192.168.0.9", 31_000)
    assert Naming().address(ON_HOST, DAEMON, ServantSpec("MetricsObj", 9)) == ("10.1.0.9", 9)


def labelled(pod: Pod, subdomain: str = "", host_ports: dict[str, int] | None = None) -> Server:
    """A labelled Pod, an object of its own."""
    found = server(name=pod.name, pods=(pod,), host_ports=host_ports)
    return replace(found, kind=Kind.POD, subdomain=subdomain)


@pytest.mark.parametrize("subdomain", ["test-helloserver", "headless"])
def test_a_labelled_pod_has_its_name_in_its_subdomain(subdomain: str) -> None:
    """That is the headless Service of its StatefulSet; its own name is that of no Service."""
    found = labelled(STATEFUL, subdomain)
    host = f"test-helloserver-3.{subdomain}"
    assert Naming(EndpointHost.DNS).address(found, STATEFUL, OBJ) == (host, 10_000)
    full = Naming(EndpointHost.DNS_FQDN, "example.internal").address(found, STATEFUL, OBJ)
    assert full == (f"{host}.tars.svc.example.internal", 10_000)


@pytest.mark.parametrize("mode", [EndpointHost.DNS, EndpointHost.DNS_FQDN])
def test_a_labelled_pod_without_a_subdomain_has_no_name(mode: EndpointHost) -> None:
    """As one of a Deployment: it is no endpoint in these modes."""
    assert Naming(mode).address(labelled(STATEFUL), STATEFUL, OBJ)[0] == ""


@pytest.mark.parametrize(
    ("subdomain", "host"),
    [
        ("test-helloserver", "test-helloserver-3.test-helloserver"),
        ("", "10.1.0.3"),
        ("headless", "10.1.0.3"),
        ("test", "10.1.0.3"),
    ],
)
def test_auto_is_dns_for_labelled_pods_that_are_named_after_their_service(subdomain: str, host: str) -> None:
    """Only of these it is known that they have a name that resolves."""
    assert Naming().address(labelled(STATEFUL, subdomain), STATEFUL, OBJ) == (host, 10_000)
    deployed = labelled(DAEMON, "test-helloserver", {"HelloObj": 31_000})
    assert Naming().address(deployed, DAEMON, OBJ) == ("192.168.0.9", 31_000)


@pytest.mark.parametrize("mode", [EndpointHost.AUTO, EndpointHost.POD_IP, EndpointHost.HOST_IP])
def test_a_pod_without_the_address_has_an_empty_host(mode: EndpointHost) -> None:
    pod = Pod("test-helloserver-x7k2p")
    assert Naming(mode).address(PLAIN, pod, OBJ)[0] == ""


def test_a_pod_that_has_a_name_needs_no_address() -> None:
    assert Naming().address(PLAIN, Pod("test-helloserver-0"), OBJ)[0] == "test-helloserver-0.test-helloserver"


@given(found=small_servers, pod=small_pods, mode=st.sampled_from(EndpointHost))
def test_every_pod_has_some_address_in_every_mode(found: Server, pod: Pod, mode: EndpointHost) -> None:
    host, port = Naming(mode).address(found, pod, OBJ)
    assert host in ("", pod.pod_ip, pod.host_ip) or host.startswith(f"{pod.name}.{found.name}")
    assert port in (OBJ.port, found.host_ports.get(OBJ.name))
