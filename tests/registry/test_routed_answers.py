"""Answers by the caller's group: what is kept, what a change drops, and that no caller gets what is another's."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from registry.model import Kind, Node, RoutingFacts, Server
from registry.routing.callers import CallerGroup
from registry.routing.groups import Rule, parse_prefix
from registry.routing.hosts import EndpointHost, Naming
from registry.routing.policy import NO_POLICY, Group, Policy, PolicyDocument, Station
from registry.routing.select import BY_GROUP, Lookup, Question, parse_id, select
from tests.support.tables import (
    LOOKUPS,
    Peer,
    Served,
    endpoint_f,
    pod,
    server,
    small_routed_servers,
)

NAMING = Naming(EndpointHost.POD_IP)
GROUPED = RoutingFacts(grouping=True)


def policy(groups: dict[int, str], stations: Iterable[Station] = (), **fields: bool) -> Policy:
    made = (
        Group(number, f"g{number}", tuple(Rule(parse_prefix(text), number) for text in texts.split()))
        for number, texts in groups.items()
    )
    return Policy(PolicyDocument(tuple(made), tuple(stations), **fields))


def in_two_groups(name: str = "HelloServer", number: int = 0) -> Server:
    """A server with a pod in group 1 and one in group 2."""
    own = f"test-{name}".lower()
    pods = [pod(f"{own}-{group}", ip=f"10.{group}.{number >> 8}.{number & 255}") for group in (1, 2)]
    return server("Test", name, pods=pods, routing=GROUPED)


TWO = policy({1: "10.1.0.0/16", 2: "10.2.0.0/16"})


def renew(served: Served, *peers: Peer) -> None:
    """Give connections their scope again, as the service does after a change."""
    for peer in peers:
        peer.connection.scope = served.answers.scope(peer.connection.caller)


def test_callers_of_two_groups_get_their_own_endpoints_for_the_same_bytes() -> None:
    served = Served(in_two_groups(), naming=NAMING)
    served.answers.route(TWO, {})
    first, second, nobody = (served.connect(peer=ip) for ip in ("10.1.9.9", "10.2.9.9", "192.0.2.1"))
    for _ in range(2):
        assert first.ask(Lookup.SAME_GROUP).hosts == (["10.1.0.0"], [])
        assert second.ask(Lookup.SAME_GROUP).hosts == (["10.2.0.0"], [])
        assert nobody.ask(Lookup.SAME_GROUP).hosts == (["10.1.0.0", "10.2.0.0"], [])
    assert served.answers.stats.computed == served.answers.stats.decoded == 3


def test_an_answer_carries_set_groups_and_weights_of_each_endpoint() -> None:
    found = server(
        pods=[pod("test-helloserver-1", ip="10.1.0.1"), pod("test-helloserver-2", ip="10.2.0.1", active=False)],
        routing=replace(GROUPED, set_id="n.a.1", pod_weights=(("test-helloserver-1", 7),)),
    )
    served = Served(found, naming=NAMING)
    served.answers.route(TWO, {})
    for lookup in (Lookup.ACTIVE, Lookup.ANY, Lookup.SAME_SET):
        _, active, inactive = served.connect().ask(lookup, argument="n.a.1")
        assert [(e.setId, e.grouprealid, e.groupworkid, e.weight, e.weightType, e.bakFlag) for e in active] == [
            ("n.a.1", 1, 1, 7, 1, 0)
        ]
        if lookup is not Lookup.ACTIVE:
            assert [(e.setId, e.grouprealid, e.groupworkid, e.weight, e.weightType, e.bakFlag) for e in inactive] == [
                ("n.a.1", 2, 2, 100, 1, 0)
            ]


def test_callers_of_one_group_share_what_is_kept() -> None:
    served = Served(in_two_groups(), naming=NAMING)
    served.answers.route(TWO, {})
    for last in range(5):
        served.connect(peer=f"10.1.0.{last}").ask(Lookup.SAME_GROUP)
    assert (served.answers.stats.computed, served.answers.stats.decoded) == (1, 1)


@pytest.mark.parametrize("lookup", sorted(set(LOOKUPS) - BY_GROUP))
def test_look_ups_that_ignore_groups_are_one_answer_for_all(lookup: Lookup) -> None:
    served = Served(in_two_groups(), naming=NAMING)
    served.answers.route(TWO, {})
    answers = {served.connect(peer=ip).ask(lookup) for ip in ("10.1.9.9", "10.2.9.9", "192.0.2.1")}
    assert len(answers) == 1
    assert served.answers.stats.computed == 1


def test_without_a_policy_a_scope_is_what_it_was() -> None:
    served = Served(in_two_groups())
    assert served.connect(peer="10.1.9.9").connection.scope == b"127.0.0.1"


def test_a_policy_moves_open_connections_once_their_scope_is_renewed() -> None:
    served = Served(in_two_groups(), naming=NAMING)
    peer = served.connect(peer="10.1.9.9")
    assert peer.ask(Lookup.SAME_GROUP).hosts == (["10.1.0.0", "10.2.0.0"], [])
    assert served.answers.route(TWO, {}) is True
    renew(served, peer)
    assert peer.ask(Lookup.SAME_GROUP).hosts == (["10.1.0.0"], [])


def test_a_scope_that_is_behind_spoils_nothing_for_others() -> None:
    """Between a change and the renewal of its scope a caller gets what its old group does, and keeps nothing else."""
    served = Served(in_two_groups(), naming=NAMING)
    served.answers.route(TWO, {})
    moved = served.connect(peer="10.1.9.9")
    served.answers.route(policy({1: "10.1.0.0/16", 2: "10.2.0.0/16 10.1.9.9"}), {})
    stays = served.connect(peer="10.1.8.8")
    assert moved.ask(Lookup.SAME_GROUP).hosts == (["10.1.0.0"], [])
    assert stays.ask(Lookup.SAME_GROUP).hosts == (["10.1.0.0"], [])
    renew(served, moved)
    assert moved.ask(Lookup.SAME_GROUP).hosts == (["10.2.0.0"], [])


def test_a_scope_that_is_behind_a_policy_that_ended_spoils_nothing_for_others_either() -> None:
    """What it asks for the first time then stands under its old group's key when there is a policy again."""
    served = Served(in_two_groups(), naming=NAMING)
    served.answers.route(TWO, {})
    behind = served.connect(peer="10.1.9.9")
    served.answers.route(NO_POLICY, {})
    assert behind.ask(Lookup.SAME_GROUP).hosts == (["10.1.0.0", "10.2.0.0"], [])
    served.answers.route(TWO, {})
    assert served.connect(peer="10.1.8.8").ask(Lookup.SAME_GROUP).hosts == (["10.1.0.0"], [])
    assert behind.ask(Lookup.SAME_GROUP).hosts == (["10.1.0.0"], [])


# -- what a change drops ---------------------------------------------------------------------------------------------


class Counted:
    """20 servers, asked for by callers of two groups and of none, each answer kept."""

    def __init__(self) -> None:
        self.names = [f"Server{n}" for n in range(20)]
        servers = [in_two_groups(name, number) for number, name in enumerate(self.names)]
        self.served = Served(*servers, naming=NAMING)
        self.served.answers.route(TWO, {})
        self.peers = [self.served.connect(peer=ip) for ip in ("10.1.9.9", "10.2.9.9", "192.0.2.1")]
        self.computed_by_all()

    def computed_by_all(self) -> int:
        """Ask everything; how many answers had to be made for it."""
        renew(self.served, *self.peers)
        before = self.served.answers.stats.computed
        for peer in self.peers:
            for name in self.names:
                peer.ask(Lookup.SAME_GROUP, f"Test.{name}.HelloObj")
        return self.served.answers.stats.computed - before


def test_a_change_of_one_server_drops_its_answers_alone() -> None:
    counted = Counted()
    changed = in_two_groups("Server7", 7)
    counted.served.store.upsert(replace(changed, pods=changed.pods[:1]))
    assert counted.computed_by_all() == 3
    assert counted.computed_by_all() == 0


def test_an_address_that_moves_to_another_group_drops_the_answers_of_its_server_alone() -> None:
    counted = Counted()
    counted.served.answers.route(policy({1: "10.1.0.0/16", 2: "10.2.0.0/16 10.1.0.7"}), {})
    assert counted.computed_by_all() == 3
    assert counted.computed_by_all() == 0


def test_another_priority_drops_the_answers_to_its_groups_alone() -> None:
    counted = Counted()
    counted.served.answers.route(policy({1: "10.1.0.0/16", 2: "10.2.0.0/16"}, [Station("s", ())]), {})
    counted.computed_by_all()  # stations are told apart from now on
    counted.served.answers.route(policy({1: "10.1.0.0/16", 2: "10.2.0.0/16"}, [Station("s", (1,))]), {})
    assert counted.computed_by_all() == 20


def test_a_priority_of_the_same_name_with_other_groups_drops_the_answers_to_them() -> None:
    """Server7 has no pod in group 1, whose callers it sends to the priority's."""
    counted = Counted()
    three = {1: "10.1.0.0/16", 2: "10.2.0.0/16", 3: "10.3.0.0/16"}
    pods = [pod(f"test-server7-{group}", ip=f"10.{group}.0.7") for group in (2, 3)]
    counted.served.store.upsert(server("Test", "Server7", pods=pods, routing=GROUPED))
    for groups, host in (((1, 2), "10.2.0.7"), ((1, 3), "10.3.0.7"), ((1, 2), "10.2.0.7")):
        counted.served.answers.route(policy(three, [Station("s", groups), Station("t", (2,))]), {})
        renew(counted.served, *counted.peers)
        found = [peer.ask(Lookup.SAME_GROUP, "Test.Server7.HelloObj").hosts[0] for peer in counted.peers[:2]]
        assert found == [[host], ["10.2.0.7"]]


def test_a_group_under_another_name_drops_the_answers_of_the_servers_that_name_it() -> None:
    counted = Counted()
    named = replace(in_two_groups("Server7", 7), routing=replace(GROUPED, group_name="west"))
    counted.served.store.upsert(named)
    counted.computed_by_all()
    rules = {number: (Rule(parse_prefix(f"10.{number}.0.0/16"), number),) for number in (1, 2)}
    west = Policy(PolicyDocument((Group(1, "west", rules[1]), Group(2, "east", rules[2]))))
    counted.served.answers.route(west, {})
    assert counted.computed_by_all() == 3
    assert counted.peers[0].ask(Lookup.SAME_GROUP, "Test.Server7.HelloObj").hosts == (["10.1.0.7", "10.2.0.7"], [])


def test_a_policy_that_says_the_same_drops_nothing() -> None:
    counted = Counted()
    decoded = counted.served.answers.stats.decoded
    for _ in range(3):
        counted.served.answers.route(policy({2: "10.2.0.0/16", 1: "10.1.0.0/16"}), {})
    assert counted.computed_by_all() == 0
    assert counted.served.answers.stats.decoded == decoded


def test_a_new_group_drops_nothing_that_it_has_no_part_in() -> None:
    counted = Counted()
    counted.served.answers.route(policy({1: "10.1.0.0/16", 2: "10.2.0.0/16", 3: "10.3.0.0/16"}), {})
    assert counted.computed_by_all() == 0


def test_an_answer_that_was_not_asked_for_through_many_changes_is_made_again() -> None:
    counted = Counted()
    for number in range(10):
        counted.served.answers.route(policy({1: "10.1.0.0/16", 2: "10.2.0.0/16", 3: f"10.3.{number}.0/24"}), {})
    assert counted.computed_by_all() == 60


# -- topology --------------------------------------------------------------------------------------------------------


def test_zones_are_groups_of_endpoints_by_their_node_and_of_callers_by_their_pod() -> None:
    pods = [pod(f"test-helloserver-{n}", ip=f"10.0.0.{n}", host_ip=f"192.168.0.{n}") for n in (1, 2)]
    served = Served(server(pods=pods, routing=GROUPED), naming=NAMING)
    nodes = [Node(f"node-{n}", (f"192.168.0.{n}",), f"zone-{n}", "north") for n in (1, 2)]
    by_zone = Policy(PolicyDocument(from_topology=True), nodes)
    served.answers.route(by_zone, {"10.9.9.9": "192.168.0.2"})
    assert served.connect(peer="10.9.9.9").ask(Lookup.SAME_GROUP).hosts == (["10.0.0.2"], [])
    assert served.connect(peer="192.168.0.1").ask(Lookup.SAME_GROUP).hosts == (["10.0.0.1"], [])
    assert len(served.connect(peer="10.8.8.8").ask(Lookup.SAME_GROUP).hosts[0]) == 2
    assert len(served.connect().ask(Lookup.SAME_STATION, argument="north").hosts[0]) == 2
    assert served.connect().ask(Lookup.SAME_STATION, argument="south")[0] == -1


def test_addresses_of_the_policy_stand_above_zones() -> None:
    pods = [pod(f"test-helloserver-{n}", ip=f"10.0.0.{n}", host_ip=f"192.168.0.{n}") for n in (1, 2)]
    served = Served(server(pods=pods, routing=GROUPED), naming=NAMING)
    nodes = [Node(f"node-{n}", (f"192.168.0.{n}",), f"zone-{n}", "north") for n in (1, 2)]
    rules = (Rule(parse_prefix("10.0.0.1"), 5), Rule(parse_prefix("10.9.0.0/16"), 5))
    served.answers.route(
        Policy(PolicyDocument((Group(5, "own", rules),), from_topology=True), nodes), {"10.9.9.9": "192.168.0.2"}
    )
    assert served.connect(peer="10.9.9.9").ask(Lookup.SAME_GROUP).hosts == (["10.0.0.1"], [])
    assert served.connect(peer="192.168.0.2").ask(Lookup.SAME_GROUP).hosts == (["10.0.0.2"], [])


def test_groups_of_zones_have_the_same_numbers_whatever_other_nodes_there_are() -> None:
    document = PolicyDocument((Group(7, "zone-c"),), from_topology=True)
    few = Policy(document, [Node("n", ("192.168.0.1",), "zone-b")])
    many = Policy(document, [Node(f"n{zone}", (), f"zone-{zone}") for zone in "abcdef"])
    assert few.ids["zone-b"] == many.ids["zone-b"] >= 1 << 30
    assert many.ids["zone-c"] == 7
    assert len(set(many.ids.values())) == len(many.ids)


def test_a_node_in_another_zone_drops_the_answers_about_its_pods_alone() -> None:
    def zoned(last: str) -> list[Node]:
        return [Node("a", ("192.168.0.1",), "zone-1"), Node("b", ("192.168.0.2",), last), Node("c", (), "zone-2")]

    servers = [
        server("Test", f"S{n}", pods=[pod(f"test-s{n}-0", ip=f"10.0.0.{n}", host_ip=f"192.168.0.{n}")]) for n in (1, 2)
    ]
    served = Served(*servers, naming=NAMING)
    first = Policy(PolicyDocument(from_topology=True), zoned("zone-1"))
    served.answers.route(first, {})
    peer = served.connect()
    for _ in range(2):
        for n in (1, 2):
            peer.ask(Lookup.ANY, f"Test.S{n}.HelloObj")
        assert served.answers.stats.computed in (2, 3)
        served.answers.route(first.with_nodes(zoned("zone-2")), {})
    assert served.answers.stats.computed == 3


# -- callers by their requests ---------------------------------------------------------------------------------------


def by_request(mode: CallerGroup) -> tuple[Served, Peer]:
    served = Served(in_two_groups(), naming=NAMING, caller_group=mode)
    rules = {number: (Rule(parse_prefix(f"10.{number}.0.0/16"), number),) for number in (1, 2)}
    groups = (
        Group(1, "g1", rules[1], ("app.sz.*",), ("node-1",)),
        Group(2, "g2", rules[2], ("app.sh.1",), ("node-2",)),
    )
    served.answers.route(Policy(PolicyDocument(groups)), {})
    return served, served.connect(peer="10.2.9.9")


def test_callers_may_be_known_by_their_set() -> None:
    served, peer = by_request(CallerGroup.SET)
    for set_id, host in (("app.sz.5", "10.1.0.0"), ("app.sh.1", "10.2.0.0")):
        for _ in range(2):
            found = peer.ask(Lookup.SAME_GROUP, iMessageType=0x80, status={"TARS_SETNAME": set_id})
            assert found.hosts == ([host], [])
            assert peer.ask(Lookup.SAME_SET, argument=set_id).hosts == ([host], [])
    assert len(peer.ask(Lookup.SAME_GROUP).hosts[0]) == 2
    assert served.answers.scope(peer.connection.caller) == b"127.0.0.1"


def test_callers_may_be_known_by_their_node_name() -> None:
    _, peer = by_request(CallerGroup.NODE_NAME)
    for name, host in (("node-1", "10.1.0.0"), ("10.2.3.4", "10.2.0.0")):
        for _ in range(2):
            assert peer.ask(Lookup.ALL, context={"node_name": name}).hosts == ([host], [])
    assert len(peer.ask(Lookup.ALL, context={"node_name": "else"}).hosts[0]) == 2


def test_callers_that_say_the_address_of_a_pod_are_in_the_zone_of_its_node() -> None:
    """Also when a pod of that address is on another node later on, which the same bytes tell nothing of."""
    served, peer = by_request(CallerGroup.NODE_NAME)
    nodes = [Node(f"node-{group}", (f"192.168.0.{group}",), zone=f"g{group}") for group in (1, 2)]
    hosts = {"10.9.0.1": "192.168.0.1"}
    served.answers.route(policy({1: "10.1.0.0/16", 2: "10.2.0.0/16"}, from_topology=True).with_nodes(nodes), hosts)
    for group in (1, 2):
        hosts["10.9.0.1"] = f"192.168.0.{group}"
        served.answers.pods_moved()
        for _ in range(2):
            assert peer.ask(Lookup.ALL, context={"node_name": "10.9.0.1"}).hosts == ([f"10.{group}.0.0"], [])


def test_callers_that_were_alike_without_a_policy_are_told_apart_with_one() -> None:
    """While no group is told by a request, one that differs in its context alone is answered as the others are."""
    served, peer = by_request(CallerGroup.NODE_NAME)
    by_name = served.answers.policies.policy
    served.answers.route(NO_POLICY, {})
    for _ in range(3):
        for name in ("node-1", "10.2.3.4", "else"):
            assert len(peer.ask(Lookup.ALL, context={"node_name": name}).hosts[0]) == 2
    served.answers.route(by_name, {})
    for name, host in (("node-1", "10.1.0.0"), ("10.2.3.4", "10.2.0.0")):
        assert peer.ask(Lookup.ALL, context={"node_name": name}).hosts == ([host], [])


def test_callers_may_be_in_no_group_at_all() -> None:
    _, peer = by_request(CallerGroup.OFF)
    assert len(peer.ask(Lookup.ALL, context={"node_name": "node-1"}).hosts[0]) == 2


def test_when_other_sets_are_in_a_group_the_same_bytes_ask_another_question() -> None:
    served, peer = by_request(CallerGroup.SET)
    assert peer.ask(Lookup.ALL, status={"TARS_SETNAME": "app.sz.1"}).hosts == (["10.1.0.0"], [])
    rules = {number: (Rule(parse_prefix(f"10.{number}.0.0/16"), number),) for number in (1, 2)}
    groups = (Group(1, "g1", rules[1]), Group(2, "g2", rules[2], ("app.sz.*",)))
    kept = served.answers.cache.bytes
    assert served.answers.route(Policy(PolicyDocument(groups)), {}) is False
    assert served.answers.cache.bytes < kept
    assert peer.ask(Lookup.ALL, status={"TARS_SETNAME": "app.sz.1"}).hosts == (["10.2.0.0"], [])


# -- all of it -------------------------------------------------------------------------------------------------------

PEERS = ("10.0.0.1", "10.0.0.2", "192.168.0.1", "192.0.2.1")
policies = st.sampled_from(
    (
        NO_POLICY,
        policy({1: "10.0.0.1", 2: "10.0.0.2"}),
        policy({1: "10.0.0.0/24", 2: "10.0.0.2"}, everywhere=True),
        policy({1: "10.0.0.2", 2: "10.0.0.1"}, [Station("x", (1, 2))]),
        policy({1: "10.0.0.2", 2: "10.0.0.1"}, [Station("x", (2,)), Station("y", (1,))], everywhere=True),
        policy({2: "10.0.0.*"}, [Station("x", (2,))]),
    )
)


class RoutedMachine(RuleBasedStateMachine):
    """Objects and policies change; every answer, kept or not, is the one that is made afresh."""

    def __init__(self) -> None:
        super().__init__()
        self.served = Served(naming=NAMING)
        self.peers = [self.served.connect(peer=ip) for ip in PEERS]

    @rule(item=small_routed_servers)
    def upsert(self, item: Server) -> None:
        self.served.store.upsert(item)

    @rule(item=small_routed_servers)
    def delete(self, item: Server) -> None:
        self.served.store.delete(Kind.SERVER, (item.namespace, item.name))

    @rule(new=policies)
    def change_policy(self, new: Policy) -> None:
        if self.served.answers.route(new, {}):
            renew(self.served, *self.peers)

    @rule(station=st.sampled_from(("x", "y", "z")), set_id=st.sampled_from(("n.a.1", "n.a.*", "m.b.2")))
    def ask_everything(self, station: str, set_id: str) -> None:
        self.compare(station, set_id)

    @invariant()
    def answers_are_as_made_afresh(self) -> None:
        self.compare("x", "n.a.1")

    def compare(self, station: str, set_id: str) -> None:
        policy = self.served.answers.policies.policy
        for peer in self.peers:
            group = policy.group_of_address(peer.connection.caller.peer)
            for lookup in LOOKUPS:
                argument = {Lookup.SAME_STATION: station, Lookup.SAME_SET: set_id}.get(lookup, "")
                question = Question(lookup, parse_id("Alpha.One.Obj"), argument, group)
                fresh = select(self.served.store.table, NAMING, question, policy)
                found = peer.ask(lookup, "Alpha.One.Obj", argument)
                active, inactive = (tuple(map(endpoint_f, each)) for each in (fresh.active, fresh.inactive))
                assert found == ((0, active, ()) if lookup is Lookup.ACTIVE else (fresh.ret, active, inactive))


TestRouted = RoutedMachine.TestCase
TestRouted.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)
