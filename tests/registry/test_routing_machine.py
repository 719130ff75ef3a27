"""Everything that routing goes by changes at random; every answer, kept or not, is the one that is made afresh.

The parts are those of the service: the routing of :mod:`registry.routed` (the policy's keeper, the nodes' zones, the
scopes of open connections) over the answers that are kept. Only the cluster is played: objects are put into the table
and the pods' addresses as a reflector would. What is expected is worked out from the objects alone each time.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Final, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from registry.answers import Answers
from registry.cache import CacheLimits
from registry.config import Config
from registry.kube.resource import Session
from registry.model import (
    Framework,
    Kind,
    Node,
    Pod,
    PodAddress,
    PolicyText,
    RoutingFacts,
    ServantSpec,
    Server,
    Upstream,
)
from registry.routed import Routed, policy_in_cluster
from registry.routing.callers import CallerGroup
from registry.routing.groups import NO_GROUP
from registry.routing.hosts import EndpointHost, Naming
from registry.routing.policy import Policy
from registry.routing.select import BY_GROUP, Lookup, Question, parse_id, select
from registry.servants.query import query_servant
from registry.sources.base import Sink
from registry.sources.kubernetes import Discover, KubernetesSource, followed
from registry.sources.pod_hosts import PodHosts
from registry.sources.policy_document import read_policy
from registry.sources.routing_keeper import RoutingSettings
from registry.table import TableStore
from tars_protocol.connection import Connection
from tars_protocol.dispatch import Dispatcher
from tars_protocol.handlers import Caller
from tars_protocol.interfaces.query import SERVANT
from tests.support.tables import Peer, endpoint_f
from tests.support.virtual_time import VirtualTimeLoop

NAMING: Final = Naming(EndpointHost.POD_IP)
ID: Final = "App.Server.Obj"
SETTLED: Final = 3.0
"""Seconds after which open connections have surely been moved to their groups: that is done once a second."""

ADDRESSES: Final = tuple(f"10.0.{node}.{pod}" for node in (1, 2) for pod in (1, 2, 3))
"""Of pods, each of which is always on the node that its third number names."""


def node_of(address: str) -> str:
    return f"192.168.0.{address.split('.')[2]}"


PEERS: Final = ("10.0.1.1", "10.0.2.2", "192.168.0.1", "192.0.2.1")

GOOD: Final = (
    "groups: [{id: 1, name: one, addresses: [10.0.1.0/24], sets: [n.a.*]}]",
    "groups: [{id: 1, name: one, addresses: [10.0.2.0/24], sets: [n.a.1], node_names: [node-1]}]\ngrouping: all",
    """\
grouping: all
groups:
  - {id: 1, name: one, addresses: [10.0.1.0/24], sets: [n.a.1], node_names: [node-1]}
  - {id: 2, name: two, addresses: [10.0.2.0/24, 10.0.1.2], sets: [n.a.*]}
  - {id: 3, name: three, addresses: [192.168.*.*]}
priorities:
  - {station: x, groups: [1, 3]}
  - {station: w, groups: [two]}
""",
    """\
grouping: all
groups:
  - {id: 1, name: two, addresses: [10.0.1.0/24], sets: [m.b.1]}
  - {id: 2, name: one, addresses: [10.0.2.0/24], node_names: [node-1]}
priorities:
  - {station: w, groups: [2]}
  - {station: x, groups: [2, 1]}
""",
    "from_topology: true\ngrouping: all",
    """\
from_topology: true
groups:
  - {id: 5, name: zone-a, addresses: [10.0.1.1]}
priorities:
  - {station: x, groups: [zone-a, zone-c]}
""",
    "priorities: [{station: x, groups: []}]",
    "",
)
BROKEN: Final = ("groups: 5", "groups: [", "groups: [{id: 1}]\npriorities: [{station: x, groups: [9]}]")

pods = st.builds(
    lambda address, active: Pod(
        f"s-{address[-3]}{address[-1]}",
        pod_ip=address,
        host_ip=node_of(address),
        setting_state="Active",
        present_state="Active" if active else "Activating",
    ),
    st.sampled_from(ADDRESSES),
    st.booleans(),
)
facts = st.builds(
    RoutingFacts,
    set_id=st.sampled_from(("", "n.a.1", "n.a.2", "n.a.*", "m.b.1")),
    weight=st.sampled_from((None, None, 0, 50)),
    pod_weights=st.sampled_from(((), (("s-11", 7), ("s-22", 0)))),
    flow_off=st.sampled_from((False, False, True)),
    flow_off_pods=st.sampled_from((frozenset[str](), frozenset(("s-11",)))),
    grouping=st.sampled_from((None, True, True, False)),
    group_name=st.sampled_from(("", "", "one", "two", "zone-a")),
    backup=st.sampled_from((False, False, False, True)),
)
servers = st.builds(
    lambda name, found, said: Server(
        "tars",
        name,
        app="App",
        server="Server",
        servants=(ServantSpec("Obj", 1),),
        pods=tuple(sorted(found, key=lambda pod: pod.order)),
        routing=said,
    ),
    st.sampled_from(("blue", "green")),
    st.lists(pods, min_size=1, max_size=4, unique_by=lambda pod: pod.name),
    st.none() | facts,
)
nodes = st.builds(
    lambda number, zone, region: Node(f"node-{number}", (f"192.168.0.{number}",), zone, region),
    st.sampled_from((1, 2)),
    st.sampled_from(("", "zone-a", "zone-b")),
    st.sampled_from(("", "x", "north")),
)
callers = st.builds(
    lambda name, address: PodAddress("tars", name, (address,) if address else (), node_of(address) if address else ""),
    st.sampled_from(("web-1", "web-2", "web-3")),
    st.sampled_from((*PEERS[:2], "10.0.1.3", "")),
)
mostly = st.sampled_from((True, True, False))

SALTS: Final = ("a", "b", "c")
"""Callers' bytes differ for one question: so some of them are seen for the first time at an unlucky moment."""
salts = st.sampled_from(SALTS)
policies = st.lists(st.tuples(st.sampled_from(GOOD) | st.just(""), salts), min_size=1, max_size=5)

QUESTIONS: Final = (
    *((lookup, "") for lookup in (Lookup.ACTIVE, Lookup.ANY, Lookup.ALL, Lookup.SAME_GROUP)),
    *((Lookup.SAME_STATION, station) for station in ("x", "w", "north", "nowhere")),
    *((Lookup.SAME_SET, set_id) for set_id in ("n.a.1", "n.a.3", "n.a.*", "m.b.1", "o.o.o")),
)


class Cluster(KubernetesSource):
    """A source that follows nothing: it only says that it was asked to follow the topology."""

    hosts: PodHosts | None = None

    def follow_topology(self, hosts: Sink) -> None:
        assert isinstance(hosts, PodHosts)
        self.hosts = hosts


async def going(run: Callable[[], Awaitable[None]]) -> None:
    """As a coroutine."""
    await run()


class RoutingMachine(RuleBasedStateMachine):
    """A registry of one server, and connections to it that stay open all the while."""

    mode: ClassVar[CallerGroup] = CallerGroup.ADDRESS
    limits: ClassVar[CacheLimits] = CacheLimits()

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        config = dataclasses.replace(
            Config(), routing=RoutingSettings(routing_policy_configmap="routing", caller_group=self.mode)
        )
        parts = [*followed(Discover.TENDPOINTS, ["tars"]), *policy_in_cluster(config, "tars")]
        self.store = TableStore(part.part for part in parts)
        self.answers = Answers(self.store, naming=NAMING, limits=self.limits, caller_group=self.mode)
        dispatcher = Dispatcher({SERVANT: query_servant(self.answers)})
        self.cluster = Cluster(cast("Session", None), self.store, ())
        self.peers: list[Peer] = []
        routed = Routed(
            config, self.store, self.answers, NAMING, self.cluster, lambda: [peer.connection for peer in self.peers]
        )
        self.tasks = [self.loop.create_task(going(run)) for run in routed.tasks.values()]
        for part in parts:
            self.store.synced(*part.part)
        for number, address in enumerate(PEERS):
            caller = Caller(address, 40_000 + number, "127.0.0.1", 17_890)
            self.peers.append(
                Peer(Connection(caller, dispatcher.handle, self.answers.cache.lookup, scope=self.answers.scope(caller)))
            )
        # What the cluster holds:
        self.good = ""
        """The last policy that could be used."""
        self.web: dict[str, PodAddress] = {}
        self.handed_over = False

    def teardown(self) -> None:
        try:
            for salt in SALTS:
                self.ask_everything(salt)
        finally:
            self.stop()

    def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*self.tasks, return_exceptions=True))
        self.loop.close()
        assert not self.loop.unhandled

    # -- what changes ----------------------------------------------------------------------------------------------

    @rule(server=servers, there=mostly)
    def put_server(self, server: Server, there: bool) -> None:
        if there:
            self.store.upsert(server)
        else:
            self.store.delete(Kind.SERVER, ("tars", server.name))

    @initialize(found=st.lists(servers, min_size=1, max_size=2), texts=policies)
    def begin(self, found: list[Server], texts: list[tuple[str, str]]) -> None:
        for server in found:
            self.store.upsert(server)
        self.put_policies(texts)

    @rule(texts=policies)
    def put_policies(self, texts: list[tuple[str, str]]) -> None:
        """One after the other, each read, but connections have to wait for their turn to be moved."""
        for text, salt in texts:
            self.good = text
            self.store.upsert(PolicyText("tars", "routing", text))
            self.loop.run_until_complete(asyncio.sleep(0.05))
            self.ask_at_once(salt)

    @rule(text=st.sampled_from(BROKEN) | st.none())
    def break_policy(self, text: str | None) -> None:
        self.settle()
        if text is None:
            self.store.delete(Kind.POLICY, ("tars", "routing"))
        else:
            self.store.upsert(PolicyText("tars", "routing", text))

    @rule(node=nodes, there=mostly)
    def put_node(self, node: Node, there: bool) -> None:
        if not there:
            self.store.delete(Kind.NODE, ("", node.name))
        elif self.cluster.hosts is not None:
            self.store.upsert(node)

    @rule(pod=callers, there=mostly)
    def put_pod(self, pod: PodAddress, there: bool) -> None:
        if there:
            self.web[pod.name] = pod
        else:
            self.web.pop(pod.name, None)
        if self.listed() and self.cluster.hosts is not None:
            if there:
                self.cluster.hosts.upsert(pod)
            else:
                self.cluster.hosts.delete(Kind.POD, ("tars", pod.name))

    def listed(self) -> bool:
        """Hand over where the pods are, once that is asked for; True from then on."""
        if self.cluster.hosts is not None and not self.handed_over:
            self.handed_over = True
            self.cluster.hosts.replace(Kind.POD, list(self.web.values()), "tars")
        return self.handed_over

    @rule(hosts=st.lists(st.sampled_from(("up-1", "up-2")), max_size=2))
    def put_up_chain(self, hosts: list[str]) -> None:
        up_chain = {"default": tuple(Upstream(host, 1) for host in hosts)}
        self.store.upsert(Framework("tars", "tars-framework", up_chain))

    # -- what is asked ---------------------------------------------------------------------------------------------

    @rule(salt=salts)
    def ask_at_once(self, salt: str) -> None:
        """Before connections were moved: each is still answered as its old group, and spoils nothing for others."""
        for number, peer in enumerate(self.peers):
            if self.mode is CallerGroup.NODE_NAME and NODE_NAMES[number].startswith("10."):
                continue  # who says the address of a pod may have to wait until it is known where that is
            scope = peer.connection.scope
            group = int.from_bytes(scope[1:5], "big") if scope[:1] == b"\xff" else NO_GROUP
            for asked in QUESTIONS:
                known = group if self.mode is CallerGroup.ADDRESS else None
                self.compare(number, asked, salt, self.answers.policies.policy, known)

    @rule(salt=salts)
    def ask_everything(self, salt: str) -> None:
        self.settle()
        policy = self.policy()
        for number in range(len(PEERS)):
            for asked in QUESTIONS:
                self.compare(number, asked, salt, policy)

    def settle(self) -> None:
        self.listed()
        self.loop.run_until_complete(asyncio.sleep(SETTLED))
        self.listed()
        self.loop.run_until_complete(asyncio.sleep(SETTLED))
        assert not any(task.done() for task in self.tasks)

    def policy(self) -> Policy:
        return Policy(read_policy(self.good), self.store.table.nodes.values())

    def group(self, number: int, policy: Policy, asked_set: str) -> int:
        match self.mode:
            case CallerGroup.SET:
                return policy.group_of_set(asked_set or SETS[number])
            case CallerGroup.NODE_NAME:
                address = NODE_NAMES[number]
            case _:
                address = PEERS[number]
        on = {pod.pod_ip for found in self.store.table.servers.values() for s in found for pod in s.pods}
        if self.handed_over:
            on |= {address for pod in self.web.values() for address in pod.addresses}
        host = node_of(address) if address in on else ""
        if self.mode is CallerGroup.NODE_NAME:
            return policy.group_of_node_name(address, host)
        return policy.group_of_address(address, host)

    def compare(
        self, number: int, asked: tuple[Lookup, str], salt: str, policy: Policy, group: int | None = None
    ) -> None:
        """Ask, in bytes that ``salt`` makes those of one caller of several, and ask the model."""
        lookup, argument = asked
        if group is None:
            group = self.group(number, policy, argument if lookup is Lookup.SAME_SET else "")
        question = Question(lookup, parse_id(ID), argument, group if lookup in BY_GROUP else NO_GROUP)
        fresh = select(self.store.table, NAMING, question, policy)
        active, inactive = (tuple(map(endpoint_f, each)) for each in (fresh.active, fresh.inactive))
        context = {"salt": salt}
        if self.mode is CallerGroup.NODE_NAME:
            context["node_name"] = NODE_NAMES[number]
        header: dict[str, Any] = {"context": context}
        if self.mode is CallerGroup.SET:
            header["status"] = {"TARS_SETNAME": SETS[number]}
        found = self.peers[number].ask(lookup, ID, argument, **header)
        assert found == ((0, active, ()) if lookup is Lookup.ACTIVE else (fresh.ret, active, inactive))


SETS: Final = ("n.a.1", "n.a.2", "m.b.1", "")
NODE_NAMES: Final = ("node-1", "10.0.2.2", "192.168.0.1", "")
"""What the callers' requests say, where that is what counts."""


class BySet(RoutingMachine):
    """The same where callers are known by their sets."""

    mode = CallerGroup.SET


class ByNodeName(RoutingMachine):
    """The same where callers are known by their node names."""

    mode = CallerGroup.NODE_NAME


class WithLittleRoom(RoutingMachine):
    """The same where most answers are dropped soon."""

    limits = CacheLimits(cache_entries=12)


TestByAddress = RoutingMachine.TestCase
TestBySet = BySet.TestCase
TestByNodeName = ByNodeName.TestCase
TestWithLittleRoom = WithLittleRoom.TestCase
TestByAddress.settings = settings(max_examples=150, stateful_step_count=12, deadline=None)
TestBySet.settings = TestByNodeName.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
TestWithLittleRoom.settings = TestBySet.settings
