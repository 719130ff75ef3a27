"""Which endpoints answer a question: the rules of the page on Kubernetes, "Answers", one by one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.model import Object, Pod, ServantSpec, Server, Upstream
from registry.routing.hosts import EndpointHost, Naming
from registry.routing.select import (
    NOTHING,
    REFUSED,
    Endpoint,
    Lookup,
    ObjectId,
    Question,
    Selection,
    parse_id,
    select,
)
from registry.routing.sets import is_set
from registry.table import Table
from tests.support.tables import (
    HELLO,
    LOOKUPS,
    arguments_of,
    filled_store,
    framework,
    hello,
    pod,
    pods,
    server,
    small_frameworks,
    small_ids,
    small_servers,
)

UP = framework(
    {
        "default": [Upstream("up-default", 1), Upstream("up-default-2", 2, timeout=5_000, is_tcp=False)],
        "Up.Server.Obj": [Upstream("up-exact", 3, timeout=60_000)],
        "Test.HelloServer.HelloObj": [Upstream("never", 4)],
    }
)


def ask(
    objects: Sequence[Object],
    object_id: str,
    lookup: Lookup = Lookup.ANY,
    argument: str | None = None,
    naming: Naming | None = None,
) -> Selection:
    text, *rest = arguments_of(lookup, object_id, argument)
    question = Question(lookup, parse_id(text), rest[0] if rest else "")
    return select(filled_store(*objects).table, naming or Naming(), question)


def hosts(found: Selection) -> tuple[list[str], list[str]]:
    return [e.host for e in found.active], [e.host for e in found.inactive]


# -- 1. ids --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "A.B.C",
        "A.B.C@",
        "A.B.C@tcp -h 127.0.0.1 -p 10000",
        "A.B.C#sz",
        "A.B.C#1.2.3",
        "A.B.C#x@tcp -h 1.2.3.4",
        "A.B.C@tcp -h h#x.y",
        "A.B.C@@##",
    ],
)
def test_what_follows_an_id_is_not_looked_at(text: str) -> None:
    assert parse_id(text) == ObjectId("A", "B", "C")


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "A", "A.B", "A.B.", ".B.C", "A..C", "A.B.C.D", "A.B.C.", "@A.B.C", "#A.B.C", "A.B@C", "A.B#.C"],
)
@pytest.mark.parametrize("lookup", LOOKUPS)
def test_what_is_no_id_gets_an_empty_success(text: str, lookup: Lookup) -> None:
    """R6: and never the up-chain."""
    assert parse_id(text) is None
    assert ask([hello(), UP], text, lookup) == NOTHING == Selection(ret=0)


@given(st.text())
def test_any_text_is_an_id_or_is_not(text: str) -> None:
    found = parse_id(text)
    if found is not None:
        assert all((found.app, found.server, found.servant))
        assert text.startswith(found.text)
        assert parse_id(found.text) == found


# -- 3. names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "object_id", ["Test.HelloServer.HelloObj", "test.helloserver.HelloObj", "TEST.hELLOsERVER.HelloObj"]
)
@pytest.mark.parametrize("lookup", LOOKUPS)
def test_servers_are_found_in_any_case(object_id: str, lookup: Lookup) -> None:
    """R5."""
    assert len(ask([hello(2, 1)], object_id, lookup).active) == 2


@pytest.mark.parametrize("servant", ["helloobj", "HELLOOBJ", "HelloObj2", "HelloOb"])
def test_servants_are_found_only_as_they_are_written(servant: str) -> None:
    assert ask([hello()], f"Test.HelloServer.{servant}") == NOTHING


def test_a_server_without_names_in_its_spec_is_found_by_its_object() -> None:
    nameless = Server("tars", "test-helloserver", servants=hello().servants, pods=hello().pods)
    assert ask([nameless], "TEST.HelloServer.HelloObj") == ask([hello()], HELLO)


def test_hyphens_of_an_object_name_may_stand_anywhere() -> None:
    nameless = Server("tars", "a-b-c", servants=hello().servants, pods=pods("a-b-c", 1))
    for object_id in ("A-B.C.HelloObj", "a.B-c.HelloObj"):
        assert hosts(ask([nameless], object_id)) == (["a-b-c-0.a-b-c"], [])


# -- 4. endpoints --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_tcp", [True, False])
def test_an_endpoint_has_port_timeout_and_network_of_its_servant(is_tcp: bool) -> None:
    """R1."""
    servants = [ServantSpec("AObj", 1), ServantSpec("BObj", 2, timeout=7_000, is_tcp=is_tcp)]
    found = server("A", "B", servants=servants, pods=pods("a-b", 1))
    assert ask([found], "A.B.BObj").active == (Endpoint("a-b-0.a-b", 2, 7_000, is_tcp),)


@pytest.mark.parametrize(
    ("setting", "present"),
    [("Active", "Terminating"), ("Inactive", "Active"), ("Active", ""), ("", ""), ("active", "active")],
)
def test_a_pod_in_any_other_state_is_inactive(setting: str, present: str) -> None:
    """R11: a pod that is going away is inactive at once."""
    other = Pod("test-helloserver-1", pod_ip="10.1.0.2", setting_state=setting, present_state=present)
    found = ask([server(pods=[pod("test-helloserver-0"), other])], HELLO)
    assert hosts(found) == (["test-helloserver-0.test-helloserver"], ["test-helloserver-1.test-helloserver"])


def test_a_pod_without_an_address_is_left_out() -> None:
    """Nobody could reach it; it may be waiting for its node."""
    daemons = [pod("test-helloserver-aaaaa", ip=""), pod("test-helloserver-bbbbb", ip="10.1.0.5", active=False)]
    assert hosts(ask([server(pods=daemons)], HELLO)) == ([], ["10.1.0.5"])


def test_pods_of_a_daemonset_with_host_ports_are_reached_through_their_nodes() -> None:
    daemons = [
        pod("test-helloserver-aaaaa", host_ip="192.168.0.1"),
        pod("test-helloserver-bbbbb", host_ip="192.168.0.2"),
    ]
    found = ask([server(pods=daemons, host_ports={"HelloObj": 31_000})], HELLO)
    assert [(e.host, e.port) for e in found.active] == [("192.168.0.1", 31_000), ("192.168.0.2", 31_000)]


@pytest.mark.parametrize("mode", EndpointHost)
def test_naming_decides_about_hosts(mode: EndpointHost) -> None:
    found = hello(1, 0)
    naming = Naming(mode)
    endpoint = ask([found], HELLO, naming=naming).active[0]
    assert (endpoint.host, endpoint.port) == naming.address(found, found.pods[0], found.servants[0])


# -- 5. known and unknown ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lookup", LOOKUPS)
@pytest.mark.parametrize(
    "known",
    [
        pytest.param(server(), id="no pods, or no status"),
        pytest.param(hello(0, 2), id="no active pod"),
        pytest.param(server(servants=[], pods=pods("test-helloserver", 2)), id="normal server, or unknown servant"),
    ],
)
def test_a_known_server_is_never_looked_for_up_the_chain(lookup: Lookup, known: Server) -> None:
    """R3, R4, R9, R10: not by a default, and not even where the chain names the object itself."""
    found = ask([known, UP], HELLO, lookup)
    assert (found.ret, found.active) == (0, ())
    assert len(found.inactive) == (2 if known.servants and known.pods else 0)


@pytest.mark.parametrize("lookup", LOOKUPS)
def test_an_unknown_server_is_looked_for_up_the_chain_by_its_id(lookup: Lookup) -> None:
    """R2: with the active list alone."""
    assert ask([hello(), UP], "Up.Server.Obj@tcp -p 1", lookup) == Selection(
        active=(Endpoint("up-exact", 3, 60_000, True),)
    )


@pytest.mark.parametrize("object_id", ["Other.Server.Obj", "up.server.obj", "Up.Server.obj", "UP.Server.Obj"])
def test_an_id_that_the_chain_does_not_name_exactly_takes_its_default(object_id: str) -> None:
    assert ask([UP], object_id) == Selection(
        active=(Endpoint("up-default", 1, 6_000, True), Endpoint("up-default-2", 2, 5_000, False))
    )


@pytest.mark.parametrize("lookup", LOOKUPS)
def test_without_a_chain_what_is_unknown_is_an_empty_success(lookup: Lookup) -> None:
    """R18: so also once the framework's configuration is deleted."""
    assert ask([hello()], "Unknown.Server.Obj", lookup) == NOTHING
    assert ask([hello(), framework({"Up.Server.Obj": [Upstream("up", 1)]})], "Unknown.Server.Obj", lookup) == NOTHING


# -- 7. order, and several objects of one server ----------------------------------------------------------------------


def test_pods_are_in_order_of_their_ordinals() -> None:
    """R19."""
    names = [f"test-helloserver-{number}" for number in (10, 2, 0, 11, 1)]
    active, _ = hosts(ask([server(pods=[pod(name) for name in names])], HELLO))
    assert [host.partition(".")[0] for host in active] == [f"test-helloserver-{number}" for number in (0, 1, 2, 10, 11)]


def test_endpoints_of_several_objects_of_a_server_are_merged() -> None:
    """Each under the name of its own object, with the port of its own servant; in one order."""
    blue = server(name="blue", pods=[pod("blue-0"), pod("blue-10"), pod("blue-9", active=False)])
    green = server(
        name="green", namespace="second", servants=[ServantSpec("HelloObj", 2)], pods=[pod("blue-2"), pod("green-0")]
    )
    for objects in ([blue, green], [green, blue]):
        found = ask(objects, HELLO, naming=Naming(EndpointHost.DNS))
        assert [(e.host, e.port) for e in found.active] == [
            ("blue-0.blue", 10_000),
            ("blue-2.green", 2),
            ("blue-10.blue", 10_000),
            ("green-0.green", 2),
        ]
        assert hosts(found)[1] == ["blue-9.blue"]


def test_of_several_objects_only_those_with_the_servant_answer() -> None:
    with_it = server(name="blue", pods=pods("blue", 1))
    without = server(name="green", servants=[ServantSpec("OtherObj", 2)], pods=pods("green", 1))
    assert hosts(ask([with_it, without], HELLO)) == (["blue-0.blue"], [])


# -- 8. sets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["n.a.1", "n.a.*", "app.sz.10", "a.b.c"])
def test_a_set_that_no_endpoint_is_in_is_answered_as_without_sets(text: str) -> None:
    assert is_set(text)
    assert ask([hello(2, 1)], HELLO, Lookup.SAME_SET, text) == ask([hello(2, 1)], HELLO)


@pytest.mark.parametrize("object_id", [HELLO, "Unknown.Server.Obj", "no id"])
@pytest.mark.parametrize(
    "text", ["", "n", "n.a", "n.a.1.2", "*.a.1", "n.*.1", "*.*.*", "*.*.1", "..", "n..1", ".a.1", "n.a.", "n.a.1."]
)
def test_what_can_be_no_set_is_refused(text: str, object_id: str) -> None:
    """Whatever is asked for: -1, both lists empty."""
    assert not is_set(text)
    assert ask([hello(2, 1), UP], object_id, Lookup.SAME_SET, text) == REFUSED == Selection(ret=-1)


# -- all of them -------------------------------------------------------------------------------------------------------


@given(
    servers=st.lists(small_servers, max_size=5),
    up_chain=small_frameworks,
    object_id=small_ids,
    mode=st.sampled_from(EndpointHost),
)
def test_all_six_ways_to_ask_agree(servers: list[Server], up_chain: Object, object_id: str, mode: EndpointHost) -> None:
    """R8: while neither sets nor groups are configured. The answer has only endpoints that can be reached."""
    found = [ask([*servers, up_chain], object_id, lookup, naming=Naming(mode)) for lookup in LOOKUPS]
    assert all(selection == found[0] for selection in found)
    assert all(endpoint.host for endpoint in (*found[0].active, *found[0].inactive))


def test_an_object_that_the_up_chain_lists_without_an_address_gets_none_of_the_default_ones() -> None:
    up_chain = {"default": (Upstream("up", 1),), "App.Server.Obj": ()}
    table = Table(synced=True, up_chain=up_chain)
    assert select(table, Naming(), Question(Lookup.ANY, parse_id("App.Server.Obj"))).active == ()
    assert len(select(table, Naming(), Question(Lookup.ANY, parse_id("App.Server.Other"))).active) == 1


def test_an_id_that_is_longer_than_any_name_can_be_is_none() -> None:
    assert parse_id(f"{'a' * 990}.b.c") is not None
    assert parse_id(f"{'a' * 1000}.b.c") is None
