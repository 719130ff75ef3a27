"""The rules of routing, one test a sentence. The model in test_classic_model.py goes over their combinations."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from registry.model import Object, Pod, RoutingFacts, Server, Upstream
from registry.routing.groups import Rule, parse_prefix
from registry.routing.hosts import EndpointHost, Naming
from registry.routing.policy import NO_POLICY, Group, Policy, PolicyDocument, Station
from registry.routing.select import NOTHING, REFUSED, Lookup, Marks, Question, Selection, parse_id, select
from tests.support.tables import HELLO, LOOKUPS, arguments_of, filled_store, framework, hello, pod, server

NAMING = Naming(EndpointHost.POD_IP)
IGNORE_GROUPS = (Lookup.ACTIVE, Lookup.ANY)
BY_PRIORITY = (Lookup.ALL, Lookup.SAME_GROUP)
GROUPED = RoutingFacts(grouping=True)


def policy(*, everywhere: bool = False, stations: Iterable[Station] = (), **groups: str) -> Policy:
    """Groups named g1, g2 … with their addresses."""
    made = []
    for name, texts in groups.items():
        number = int(name[1:])
        made.append(Group(number, name, tuple(Rule(parse_prefix(text), number) for text in texts.split())))
    return Policy(PolicyDocument(tuple(made), tuple(stations), everywhere))


def part(name: str, *ips: str, inactive: Iterable[str] = (), facts: RoutingFacts | None = None) -> Server:
    """One of the objects of Test.HelloServer."""
    found = [pod(f"{name}-{n}", ip=ip) for n, ip in enumerate(ips)]
    found += [pod(f"{name}-{n + 50}", ip=ip, active=False) for n, ip in enumerate(inactive)]
    return server(name=name, pods=found, routing=facts)


def ask(
    objects: Iterable[Object],
    lookup: Lookup,
    argument: str = "",
    group: int = -1,
    by: Policy = NO_POLICY,
    of: str = HELLO,
) -> Selection:
    return select(filled_store(*objects).table, NAMING, Question(lookup, parse_id(of), argument, group), by)


def hosts(found: Selection) -> tuple[list[str], list[str]]:
    return [e.host for e in found.active], [e.host for e in found.inactive]


def marks(found: Selection) -> list[Marks]:
    return [e.marks for e in found.active]


THREE = policy(
    g1="10.1.0.0/16", g2="10.2.0.0/16", g3="10.3.0.0/16", stations=[Station("s", (1, 2)), Station("t", (3,))]
)

# -- findObjectById, findObjectById4Any ------------------------------------------------------------------------------


def test_find_object_by_id_gives_the_active_list_of_all_and_4any_both_and_groups_do_not_count() -> None:
    everywhere = policy(everywhere=True, g1="10.1.0.0/16", g2="10.2.0.0/16")
    objects = [part("a", "10.1.0.1", "10.2.0.1", inactive=["10.1.0.9"])]
    for lookup in IGNORE_GROUPS:
        assert hosts(ask(objects, lookup, group=1, by=everywhere)) == (["10.1.0.1", "10.2.0.1"], ["10.1.0.9"])


# -- findObjectById4All, findObjectByIdInSameGroup -------------------------------------------------------------------


@pytest.mark.parametrize("lookup", BY_PRIORITY)
@pytest.mark.parametrize("group", [-1, 99])
def test_a_caller_in_no_group_or_an_unknown_one_gets_all(lookup: Lookup, group: int) -> None:
    objects = [part("a", "10.1.0.1", "10.2.0.1", inactive=["10.3.0.1"], facts=GROUPED), part("b", "10.9.0.1")]
    found = hosts(ask(objects, lookup, group=group, by=THREE))
    assert found == (["10.1.0.1", "10.2.0.1", "10.9.0.1"], ["10.3.0.1"])


@pytest.mark.parametrize("lookup", BY_PRIORITY)
def test_a_caller_gets_the_endpoints_of_its_own_group_first(lookup: Lookup) -> None:
    objects = [part("a", "10.1.0.1", "10.2.0.1", inactive=["10.1.0.9", "10.2.0.9"], facts=GROUPED)]
    assert hosts(ask(objects, lookup, group=1, by=THREE)) == (["10.1.0.1"], ["10.1.0.9"])


@pytest.mark.parametrize("lookup", BY_PRIORITY)
def test_then_those_of_the_first_priority_with_its_group_and_an_active_endpoint(lookup: Lookup) -> None:
    objects = [part("a", "10.2.0.1", "10.3.0.1", inactive=["10.1.0.9", "10.2.0.9"], facts=GROUPED)]
    assert hosts(ask(objects, lookup, group=1, by=THREE)) == (["10.2.0.1"], ["10.1.0.9", "10.2.0.9"])


def test_priorities_are_tried_in_order_and_those_without_the_callers_group_are_not() -> None:
    by = policy(
        g1="10.1.0.0/16",
        g2="10.2.0.0/16",
        g3="10.3.0.0/16",
        stations=[Station("others", (2, 3)), Station("dead", (1,)), Station("x", (1, 3)), Station("y", (1, 2))],
    )
    objects = [part("a", "10.2.0.1", "10.3.0.1", facts=GROUPED)]
    assert hosts(ask(objects, Lookup.ALL, group=1, by=by)) == (["10.3.0.1"], [])


def test_then_those_that_work_for_no_group_and_at_last_all() -> None:
    off = part("b", "10.3.0.2", "10.9.0.1")
    only_others = part("a", "10.3.0.1", inactive=["10.1.0.9"], facts=GROUPED)
    assert hosts(ask([only_others, off], Lookup.ALL, group=1, by=THREE)) == (["10.3.0.2", "10.9.0.1"], [])
    assert hosts(ask([only_others], Lookup.ALL, group=1, by=THREE)) == (["10.3.0.1"], ["10.1.0.9"])


def test_inactive_endpoints_come_from_the_same_step_as_the_active_ones() -> None:
    objects = [part("a", "10.2.0.1", inactive=["10.1.0.9", "10.2.0.9", "10.3.0.9", "10.9.0.9"], facts=GROUPED)]
    assert hosts(ask(objects, Lookup.ALL, group=2, by=THREE)) == (["10.2.0.1"], ["10.2.0.9"])
    assert hosts(ask(objects, Lookup.ALL, group=1, by=THREE)) == (["10.2.0.1"], ["10.1.0.9", "10.2.0.9"])
    assert hosts(ask(objects, Lookup.ALL, group=3, by=THREE))[1] == ["10.1.0.9", "10.2.0.9", "10.3.0.9", "10.9.0.9"]


# -- groups of endpoints ---------------------------------------------------------------------------------------------


def test_an_endpoint_is_in_the_group_that_its_object_names_else_in_that_of_its_address_else_in_none() -> None:
    for facts, expected in (
        (RoutingFacts(grouping=True, group_name="g2"), [2, 2]),
        (RoutingFacts(grouping=True, group_name="no such"), [1, -1]),
        (GROUPED, [1, -1]),
    ):
        found = ask([part("a", "10.1.0.1", "10.9.0.1", facts=facts)], Lookup.ANY, by=THREE)
        assert [mark.group_real for mark in marks(found)] == expected
        assert [mark.group_work for mark in marks(found)] == expected


def test_an_endpoint_works_for_its_group_only_where_grouping_is_on_for_its_object() -> None:
    objects = [part("a", "10.1.0.1", facts=GROUPED), part("b", "10.1.0.2", facts=RoutingFacts(weight=None))]
    found = ask(objects, Lookup.ANY, by=THREE)
    assert [(m.group_real, m.group_work) for m in marks(found)] == [(1, 1), (1, -1)]


def test_grouping_may_be_on_everywhere_by_policy_but_where_an_object_says_off() -> None:
    by = policy(everywhere=True, g1="10.1.0.0/16")
    objects = [part("a", "10.1.0.1"), part("b", "10.1.0.2", facts=RoutingFacts(grouping=False))]
    assert [(m.group_real, m.group_work) for m in marks(ask(objects, Lookup.ANY, by=by))] == [(1, 1), (1, -1)]


def test_without_a_policy_groups_are_what_says_nothing() -> None:
    found = ask([part("a", "10.1.0.1", facts=GROUPED)], Lookup.ALL, group=1)
    assert marks(found) == [Marks()]


# -- findObjectByIdInSameStation -------------------------------------------------------------------------------------


def test_with_no_station_in_the_policy_a_station_is_asked_as_4any() -> None:
    objects = [part("a", "10.1.0.1", "10.2.0.1", inactive=["10.1.0.9"], facts=GROUPED)]
    by = policy(g1="10.1.0.0/16")
    assert ask(objects, Lookup.SAME_STATION, "s", 1, by) == ask(objects, Lookup.ANY, by=by)


@pytest.mark.parametrize("of", [HELLO, "Unknown.Server.Obj"])
def test_an_unknown_station_is_refused(of: str) -> None:
    assert ask([part("a", "10.1.0.1")], Lookup.SAME_STATION, "nowhere", by=THREE, of=of) == REFUSED


def test_a_station_gives_the_endpoints_that_are_in_its_groups_grouping_on_or_off() -> None:
    objects = [part("a", "10.1.0.1", "10.3.0.1", inactive=["10.2.0.9"]), part("b", "10.2.0.1", facts=GROUPED)]
    assert hosts(ask(objects, Lookup.SAME_STATION, "s", 3, THREE)) == (["10.1.0.1", "10.2.0.1"], ["10.2.0.9"])
    assert hosts(ask(objects, Lookup.SAME_STATION, "t", 1, THREE)) == (["10.3.0.1"], [])


def test_a_station_without_endpoints_is_an_empty_success() -> None:
    assert ask([part("a", "10.1.0.1")], Lookup.SAME_STATION, "t", by=THREE) == NOTHING


# -- findObjectByIdInSameSet -----------------------------------------------------------------------------------------


def in_set(name: str, set_id: str, *ips: str, inactive: Iterable[str] = ()) -> Server:
    return part(name, *ips, inactive=inactive, facts=RoutingFacts(set_id=set_id, grouping=True))


SETS = [
    in_set("a", "n.sz.1", "10.1.0.1", inactive=["10.1.0.9"]),
    in_set("b", "n.sz.2", "10.1.0.2"),
    in_set("c", "n.sz.*", "10.1.0.3"),
    in_set("d", "n.sh.1", "10.2.0.1"),
    in_set("e", "m.sz.1", "10.2.0.2"),
    part("f", "10.3.0.1", facts=GROUPED),
]


def test_where_no_endpoint_is_in_a_set_of_that_name_the_group_decides() -> None:
    for group in (-1, 2):
        assert ask(SETS, Lookup.SAME_SET, "other.sz.1", group, THREE) == ask(
            SETS, Lookup.SAME_GROUP, group=group, by=THREE
        )
    assert hosts(ask(SETS, Lookup.SAME_SET, "other.sz.1", 2, THREE)) == (["10.2.0.1", "10.2.0.2"], [])


def test_a_star_as_group_gives_every_endpoint_of_that_name_and_area() -> None:
    found = ask(SETS, Lookup.SAME_SET, "n.sz.*", 3, THREE)
    assert hosts(found) == (["10.1.0.1", "10.1.0.2", "10.1.0.3"], ["10.1.0.9"])


def test_a_star_in_an_area_without_endpoints_is_refused() -> None:
    assert ask(SETS, Lookup.SAME_SET, "n.bj.*") == REFUSED


def test_a_caller_gets_exactly_its_set() -> None:
    assert hosts(ask(SETS, Lookup.SAME_SET, "n.sz.1")) == (["10.1.0.1"], ["10.1.0.9"])
    assert hosts(ask(SETS, Lookup.SAME_SET, "n.sz.2")) == (["10.1.0.2"], [])


def test_a_set_with_inactive_endpoints_only_is_that_set_nevertheless() -> None:
    objects = [in_set("a", "n.sz.1", inactive=["10.1.0.9"]), in_set("c", "n.sz.*", "10.1.0.3")]
    assert hosts(ask(objects, Lookup.SAME_SET, "n.sz.1")) == ([], ["10.1.0.9"])


def test_a_set_whose_pods_have_no_address_yet_is_that_set_nevertheless() -> None:
    """While its only pod starts, its callers must not be sent to other sets."""
    objects = [in_set("a", "n.sz.1", ""), in_set("c", "n.sz.*", "10.1.0.3")]
    assert ask(objects, Lookup.SAME_SET, "n.sz.1") == NOTHING


def test_without_anybody_in_a_set_its_wildcard_set_answers() -> None:
    assert hosts(ask(SETS, Lookup.SAME_SET, "n.sz.7")) == (["10.1.0.3"], [])


def test_without_a_wildcard_set_either_it_is_refused() -> None:
    assert ask(SETS, Lookup.SAME_SET, "n.sh.7") == REFUSED
    assert ask(SETS, Lookup.SAME_SET, "m.bj.1") == REFUSED


def test_every_answer_carries_the_set_of_an_endpoint() -> None:
    for lookup in (*IGNORE_GROUPS, *BY_PRIORITY):
        found = ask(SETS, lookup)
        assert [m.set_id for m in marks(found)] == ["n.sz.1", "n.sz.2", "n.sz.*", "n.sh.1", "m.sz.1", ""]


# -- the up-chain ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lookup", LOOKUPS)
def test_the_up_chain_is_for_unknown_servers_alone_with_any_of_the_functions(lookup: Lookup) -> None:
    up = framework({"default": [Upstream("up", 1)]})
    argument = "s" if lookup is Lookup.SAME_STATION else (arguments_of(lookup, HELLO)[1:] or ("",))[0]
    found = ask([up], lookup, argument, 1, THREE)
    assert (hosts(found), marks(found)) == ((["up"], []), [Marks()])
    known = ask([up, part("a", inactive=["10.1.0.9"])], lookup, argument, 1, THREE)
    assert hosts(known)[0] == []


# -- flow, backups ---------------------------------------------------------------------------------------------------


def test_endpoints_with_flow_off_are_inactive_whatever_their_state() -> None:
    facts = RoutingFacts(flow_off=True)
    assert hosts(ask([part("a", "10.1.0.1", facts=facts)], Lookup.ANY)) == ([], ["10.1.0.1"])


def test_flow_may_be_off_for_single_pods() -> None:
    facts = RoutingFacts(flow_off_pods=frozenset(("a-1", "gone-7")))
    assert hosts(ask([part("a", "10.1.0.1", "10.1.0.2", facts=facts)], Lookup.ANY)) == (["10.1.0.1"], ["10.1.0.2"])


def test_a_group_whose_endpoints_have_no_flow_has_none_that_is_active() -> None:
    off = part("a", "10.1.0.1", facts=replace(GROUPED, flow_off=True))
    found = ask([off, part("b", "10.2.0.1", facts=GROUPED)], Lookup.ALL, group=1, by=THREE)
    assert hosts(found) == (["10.2.0.1"], ["10.1.0.1"])


@pytest.mark.parametrize("lookup", LOOKUPS)
def test_a_backup_is_not_returned_at_all(lookup: Lookup) -> None:
    objects = [part("a", "10.1.0.1"), part("b", "10.1.0.2", facts=RoutingFacts(backup=True, set_id="name.area.1"))]
    found = ask(objects, lookup, (arguments_of(lookup, HELLO)[1:] or ("",))[0])
    assert hosts(found) == (["10.1.0.1"], [])


# -- weights ---------------------------------------------------------------------------------------------------------


def weights(*objects: Server, lookup: Lookup = Lookup.ANY, argument: str = "") -> list[tuple[int, int]]:
    return [(m.weight, m.weight_type) for m in marks(ask(objects, lookup, argument))]


def test_where_one_endpoint_has_a_weight_all_have_one_100_where_none_is_given() -> None:
    heavy = part("a", "10.1.0.1", facts=RoutingFacts(weight=30))
    assert weights(heavy, part("b", "10.1.0.2")) == [(30, 1), (100, 1)]


def test_single_pods_may_have_weights_of_their_own() -> None:
    facts = RoutingFacts(weight=30, pod_weights=(("a-1", 0), ("a-2", 5)))
    assert weights(part("a", "10.1.0.1", "10.1.0.2", "10.1.0.3", facts=facts)) == [(30, 1), (0, 1), (5, 1)]


def test_where_all_are_0_or_none_is_given_there_are_no_weights() -> None:
    assert weights(part("a", "10.1.0.1", facts=RoutingFacts(weight=0)), part("b", "10.1.0.2")) == [(0, 0), (0, 0)]
    assert weights(part("a", "10.1.0.1", facts=RoutingFacts(set_id="n.a.1"))) == [(0, 0)]


def test_a_list_in_which_all_would_be_0_has_no_weights_though_others_of_the_object_have() -> None:
    """A Go client divides by the sum."""
    zero = part("a", "10.1.0.1", facts=RoutingFacts(weight=0, set_id="n.a.1"))
    heavy = part("b", "10.1.0.2", facts=RoutingFacts(weight=50, set_id="n.a.2"))
    assert weights(zero, heavy, lookup=Lookup.SAME_SET, argument="n.a.1") == [(0, 0)]
    assert weights(zero, heavy, lookup=Lookup.SAME_SET, argument="n.a.2") == [(50, 1)]
    assert weights(zero, heavy) == [(0, 1), (50, 1)]


# -- several objects, and none that says anything --------------------------------------------------------------------


def test_several_objects_of_one_server_are_merged_each_with_its_own_set_and_name_in_its_host() -> None:
    objects = [in_set("blue", "n.a.1", "10.1.0.1"), in_set("green", "n.a.2", "10.1.0.2")]
    found = select(filled_store(*objects).table, Naming(), Question(Lookup.ANY, parse_id(HELLO)))
    assert [(e.host, e.marks.set_id) for e in found.active] == [("blue-0.blue", "n.a.1"), ("green-0.green", "n.a.2")]


def test_pods_of_several_objects_are_in_one_order_by_their_numbers() -> None:
    """So that the same set gives the same bytes, whatever object a pod moves to."""
    pods = [pod(f"x-{n}", ip=f"10.1.0.{n}") for n in (0, 2, 10, 11)]
    facts = RoutingFacts(set_id="n.a.1")
    blue = server(name="blue", pods=pods[::2], routing=facts)
    green = server(name="green", pods=pods[1::2], routing=facts)
    assert hosts(ask([blue, green], Lookup.ANY))[0] == ["10.1.0.0", "10.1.0.2", "10.1.0.10", "10.1.0.11"]


@pytest.mark.parametrize("lookup", LOOKUPS)
def test_where_nothing_is_configured_all_functions_answer_alike(lookup: Lookup) -> None:
    argument = (arguments_of(lookup, HELLO)[1:] or ("",))[0]
    assert ask([hello()], lookup, argument) == ask([hello()], Lookup.ANY)
    assert set(marks(ask([hello()], lookup, argument))) == {Marks()}


def test_facts_that_change_nothing_give_the_endpoints_of_an_object_without_any() -> None:
    """The short way of an object that says nothing and the long way agree."""
    pods = (pod("a-0", ip=""), pod("a-2", ip="10.1.0.2"), Pod("a-10", pod_ip="10.1.0.3"))
    plain = server(name="a", pods=pods)
    assert ask([plain], Lookup.ANY) == ask([replace(plain, routing=RoutingFacts())], Lookup.ANY)
