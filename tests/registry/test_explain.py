"""Explanations agree with the answers, and name for each endpoint that is not given the rule that took it out."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.answers import SelfAddress
from registry.explain import Explainer, Explanation, Told, explain
from registry.model import Node, PolicyText, RoutingFacts, Server, Upstream
from registry.routing.callers import CallerGroup
from registry.routing.groups import Rule, parse_prefix
from registry.routing.hosts import EndpointHost, Naming
from registry.routing.policy import NO_POLICY, Group, Policy, PolicyDocument, Station
from registry.routing.select import Lookup, Question, parse_id, select
from registry.sources.policy_document import read_policy
from registry.table import Table
from tests.support.tables import HELLO, LOOKUPS, Served, filled_store, framework, pod, server, small_routed_servers

NAMING = Naming(EndpointHost.POD_IP)
POLICY = Policy(
    read_policy("""\
groups:
  - {id: 1, name: north, addresses: [10.1.0.0/16], sets: [n.a.*]}
  - {id: 2, name: south, addresses: [10.2.0.0/16], node_names: [node-2]}
priorities:
  - {station: coast, groups: [north]}
""")
)


def part(name: str, *ips: str, **facts: Any) -> Server:
    return server(
        name=name, pods=[pod(f"{name}-{n}", ip=ip) for n, ip in enumerate(ips)], routing=RoutingFacts(**facts)
    )


class Explained:
    """A running table and policy, and what is told of it."""

    def __init__(self, *objects: Any, mode: CallerGroup = CallerGroup.ADDRESS, policy: Policy = POLICY) -> None:
        self.served = Served(*objects, naming=NAMING, caller_group=mode, self_address=SelfAddress("", 5, 6))
        self.served.answers.route(policy, {})
        self.explainer = Explainer(self.served.store, self.served.answers, NAMING)

    def __call__(self, object_id: str = HELLO, **parameters: str) -> Explanation:
        named = {name.rstrip("_"): value for name, value in parameters.items()}
        return self.explainer.page({"id": object_id, **named})


def whys(told: list[Told]) -> dict[str, str]:
    return {each.host or each.pod: each.why for each in told}


def test_who_is_in_another_group() -> None:
    told = Explained(part("a", "10.1.0.1", "10.2.0.1", "10.9.0.1", grouping=True), part("b", "10.1.0.2"))(
        from_="10.1.9.9"
    )
    assert (told.caller_group, told.caller) == (
        1,
        "10.1.9.9: the rule 10.1.0.0/16 in line 2 of the policy: group 1 (north)",
    )
    assert [each.host for each in told.active] == ["10.1.0.1"]
    assert whys(told.left_out) == {
        "10.2.0.1": "it works for group 2 (south); group 1, the caller's own: taken",
        "10.9.0.1": "it works for no group; group 1, the caller's own: taken",
        "10.1.0.2": "it works for no group (grouping is off for its object, tars.io/group); "
        "group 1, the caller's own: taken",
    }


def test_the_weight_of_each_of_several_endpoints_under_one_address() -> None:
    """Pods of two objects on one node, by its address."""
    blue, green = (part(name, "10.1.0.1", weight=weight) for name, weight in (("blue", 7), ("green", 70)))
    assert [each.weight for each in Explained(blue, green)().active] == [7, 70]


def test_the_zone_of_a_caller_by_its_address_in_any_spelling() -> None:
    explained = Explained(part("a", "10.1.0.1"))
    policy = Policy(PolicyDocument(from_topology=True), [Node("n", ("fd00::9",), "zone-a")])
    explained.served.answers.route(policy, {"fd00::1": "fd00::9"})
    for spelt in ("fd00::1", "FD00:0:0::0001"):
        told = explained(from_=spelt)
        assert told.caller_group == policy.ids["zone-a"]
        assert told.caller == f"fd00::1: the zone of its node: group {policy.ids['zone-a']} (zone-a)"


def test_every_step_on_the_way_to_all() -> None:
    told = Explained(part("a", "10.2.0.1", grouping=True))(from_="10.1.9.9")
    assert told.steps == [
        "group 1, the caller's own: no active endpoint",
        "the groups of priority 'coast': no active endpoint",
        "those in no group: no active endpoint",
        "all endpoints: taken",
    ]


def test_who_is_in_another_set() -> None:
    told = Explained(
        part("a", "10.1.0.1", set_id="n.a.1"), part("b", "10.1.0.2", set_id="n.a.*"), part("c", "10.1.0.3")
    )(set="n.a.7")
    assert told.function == Lookup.SAME_SET
    assert told.steps == ["set n.a.7: 0 endpoints", "set n.a.*: 1 endpoints"]
    assert [each.host for each in told.active] == ["10.1.0.2"]
    assert whys(told.left_out) == {
        "10.1.0.1": "its set is n.a.1, the caller asks for n.a.7",
        "10.1.0.3": "it is in no set, the caller asks for n.a.7",
    }


def test_a_set_with_nobody_in_it() -> None:
    told = Explained(part("a", "10.1.0.1", set_id="n.b.1"))(set="n.a.7")
    assert told.ret == -1
    assert whys(told.left_out) == {"10.1.0.1": "its set is n.b.1, the caller asks for n.a.7"}


def test_a_set_that_falls_back_to_groups() -> None:
    told = Explained(part("a", "10.1.0.1", "10.2.0.1", grouping=True))(set="n.a.7", from_="10.2.9.9")
    assert told.steps[0] == "no endpoint is in a set named 'n': chosen by group instead"
    assert whys(told.left_out) == {"10.1.0.1": "it works for group 1 (north); group 2, the caller's own: taken"}


def test_a_station() -> None:
    told = Explained(part("a", "10.1.0.1", "10.2.0.1"))(station="coast")
    assert [each.host for each in told.active] == ["10.1.0.1"]
    assert whys(told.left_out) == {"10.2.0.1": "it is in group 2 (south), which is not of station 'coast'"}


def test_what_is_refused() -> None:
    explained = Explained(part("a", "10.1.0.1"))
    told = explained(station="hill")
    assert (told.ret, told.steps) == (-1, ["the policy has no station 'hill' (it has coast): -1"])
    told = explained(set="n.a")
    assert told.ret == -1
    assert "'n.a' is no set that can be asked for" in told.steps[0]


def test_why_an_endpoint_is_inactive_or_not_even_that() -> None:
    starting = server(name="s", pods=[pod("s-0", ip="10.1.0.8", active=False), pod("s-1", ip="")])
    explained = Explained(
        part("a", "10.1.0.1", flow_off=True),
        part("b", "10.1.0.2", "10.1.0.3", flow_off_pods=frozenset(("b-0",))),
        part("c", "10.1.0.4", backup=True),
        starting,
    )
    told = explained()
    assert [each.host for each in told.active] == ["10.1.0.3"]
    assert whys(told.inactive) == {
        "10.1.0.1": "flow is off for its object (tars.io/flow)",
        "10.1.0.2": "flow is off for this pod (tars.io/flow-off-pods)",
        "10.1.0.8": "its state is Active/Activating, not Active/Active",
    }
    assert whys(told.left_out) == {
        "10.1.0.4": "its object is a backup (tars.io/backup), which is given to nobody",
        "s-1": "it has no address yet of the kind that endpoint_host asks for",
    }
    only_active = explained(function="findObjectById")
    assert only_active.inactive == []
    assert "gives active endpoints alone; flow is off" in whys(only_active.left_out)["10.1.0.1"]


def test_what_is_not_there_at_all() -> None:
    explained = Explained(part("a", "10.1.0.1"), framework({"default": [Upstream("up", 1)]}))
    assert explained("Test.HelloServer.Hello").steps == [
        "TEndpoint tars/a has no servant Hello (it has HelloObj; case counts)",
        "all endpoints: taken",
    ]
    told = explained("Nobody.Server.Obj")
    assert told.steps == ["no server Nobody.Server is known: the up-chain has 1 endpoint for it"]
    assert [each.host for each in told.active] == ["up"]
    assert Explained()("Nobody.Server.Obj").steps == [
        "no server Nobody.Server is known: the up-chain has no endpoints for it"
    ]
    assert "this is no object id" in explained("x").steps[0]


def test_the_registry_itself() -> None:
    told = Explained()("tars.tarsregistry.QueryObj")
    assert [(each.host, each.port) for each in told.active] == [("(the address that the caller connected to)", 5)]


def test_a_table_that_is_not_synchronised() -> None:
    question = Question(Lookup.ANY, parse_id(HELLO))
    told = explain(Table(), NAMING, NO_POLICY, question, "", HELLO)
    assert told.ret == -1
    assert "not synchronised" in told.steps[0]


@pytest.mark.parametrize(
    ("mode", "parameters", "group", "says"),
    [
        (CallerGroup.ADDRESS, {"from_": "10.3.0.1"}, -1, "10.3.0.1: no rule fits: no group"),
        (CallerGroup.ADDRESS, {}, -1, "no address was given to find it by (from)"),
        (CallerGroup.OFF, {"from_": "10.1.0.1"}, -1, "caller_group is off"),
        (CallerGroup.SET, {"set": "n.a.1"}, 1, "by its set 'n.a.1' (caller_group is set): group 1 (north)"),
        (CallerGroup.NODE_NAME, {"from_": "10.2.0.1"}, 2, "by its node name '10.2.0.1'"),
        (CallerGroup.NODE_NAME, {"from_": "node-2"}, 2, "by its node name 'node-2'"),
        (CallerGroup.NODE_NAME, {}, -1, "no node name was given to find it by (from)"),
        (CallerGroup.ADDRESS, {"from_": "::ffff:10.1.0.1"}, 1, "10.1.0.1: the rule 10.1.0.0/16"),
    ],
)
def test_how_the_callers_group_was_found(mode: CallerGroup, parameters: dict[str, str], group: int, says: str) -> None:
    told = Explained(part("a", "10.1.0.1"), mode=mode)(**parameters)
    assert told.caller_group == group
    assert says in told.caller


def test_without_a_policy_there_is_no_group() -> None:
    told = Explained(part("a", "10.1.0.1"), policy=NO_POLICY)(from_="10.1.0.1")
    assert told.caller == "in no group: there is no policy with groups"


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"id": ""}, "which object?"),
        ({"id": HELLO, "ip": "1"}, "no parameter 'ip'; there are id, set, station, from, function"),
        ({"id": HELLO, "from": "x"}, "expected an address as in 10.1.2.3, got 'x'"),
        ({"id": HELLO, "function": "find"}, "no function 'find'; there are findObjectById,"),
        ({"id": HELLO, "set": "n.a.1", "station": "coast"}, "set and station: name one of them"),
        ({"id": HELLO, "function": "findObjectById", "station": "coast"}, "findObjectById takes no station"),
        ({"id": HELLO, "function": "findObjectByIdInSameSet"}, "findObjectByIdInSameSet needs a set"),
    ],
)
def test_what_can_not_be_explained(parameters: dict[str, str], says: str) -> None:
    explained = Explained(part("a", "10.1.0.1"))
    with pytest.raises(ValueError, match=re.escape(says)):
        explained.explainer.page(parameters)


rule_sets = st.sampled_from((NO_POLICY, POLICY, Policy(replace(POLICY.document, everywhere=True))))
small_policy = Policy(
    PolicyDocument(
        (Group(1, "", (Rule(parse_prefix("10.0.0.1"), 1),)), Group(2, "", (Rule(parse_prefix("10.0.0.2"), 2),))),
        (Station("coast", (1,)),),
        everywhere=True,
    )
)


@given(
    servers=st.lists(small_routed_servers, max_size=4),
    policy=rule_sets | st.just(small_policy),
    lookup=st.sampled_from(LOOKUPS),
    argument=st.sampled_from(("coast", "hill", "n.a.1", "n.a.*")),
    group=st.sampled_from((-1, 1, 2)),
)
def test_an_explanation_gives_what_an_answer_does(
    servers: list[Server], policy: Policy, lookup: Lookup, argument: str, group: int
) -> None:
    table = filled_store(*servers).table
    question = Question(lookup, parse_id("Alpha.One.Obj"), argument, group)
    told = explain(table, NAMING, policy, question, "", "Alpha.One.Obj")
    answer = select(table, NAMING, question, policy)
    assert told.ret == answer.ret
    assert [(e.host, e.port) for e in told.active] == [(e.host, e.port) for e in answer.active]
    inactive = [] if lookup is Lookup.ACTIVE else [(e.host, e.port) for e in answer.inactive]
    assert [(e.host, e.port) for e in told.inactive] == inactive
    assert all(each.why for each in (*told.inactive, *told.left_out))
    pods = sum(len(s.pods) for s in table.find("Alpha", "One") if any(servant.name == "Obj" for servant in s.servants))
    refused = not answer.active and told.ret == -1 and not told.left_out
    assert refused or len(told.active) + len(told.inactive) + len(told.left_out) == pods
    msgspec.json.encode(told)


def test_the_text_of_a_policy_is_no_part_of_it() -> None:
    explained = Explained(part("a", "10.1.0.1"))
    explained.served.store.upsert(PolicyText("tars", "p", "secret"))
    assert b"secret" not in msgspec.json.encode(explained())
