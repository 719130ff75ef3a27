"""Builders for what a table holds, strategies for it, and a registry without sockets.

:class:`Served` puts table, answers, servant and dispatcher together as the service does; a :class:`Peer` is one
connection to it, driven with bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from hypothesis import strategies as st

from jce import Reader
from registry.alike import Alike
from registry.answers import Answers, SelfAddress
from registry.cache import CacheLimits
from registry.model import (
    Framework,
    Kind,
    Node,
    Object,
    Pod,
    PolicyText,
    RoutingFacts,
    ServantSpec,
    Server,
    Template,
    Upstream,
)
from registry.routing.callers import CallerGroup
from registry.routing.hosts import Naming
from registry.routing.select import Endpoint, Lookup
from registry.servants.query import query_servant
from registry.table import TableStore
from tars_protocol.bodies import FORMS
from tars_protocol.connection import Connection
from tars_protocol.constants import Version
from tars_protocol.dispatch import Dispatcher
from tars_protocol.frames import HEADER_BYTES
from tars_protocol.handlers import Caller
from tars_protocol.interfaces.query import QUERY, SERVANT, EndpointF
from tars_protocol.packets import REQUEST, RESPONSE, RequestPacket, decode_response, encode_request

VERSIONS: Final = tuple(Version)
LOOKUPS: Final = tuple(Lookup)

NAMESPACE: Final = "tars"

KINDS: Final = (Kind.SERVER, Kind.TEMPLATE, Kind.FRAMEWORK)
"""The kinds that a directory of manifests hands over."""

# -- objects -----------------------------------------------------------------------------------------------------


def pod(name: str, *, active: bool = True, ip: str = "10.1.0.1", host_ip: str = "192.168.0.1") -> Pod:
    """A pod that serves, or one that is still starting."""
    return Pod(
        name, pod_ip=ip, host_ip=host_ip, setting_state="Active", present_state="Active" if active else "Activating"
    )


def pods(object_name: str, active: int, inactive: int = 0) -> tuple[Pod, ...]:
    """So many pods of a StatefulSet, the active ones first."""
    return tuple(
        pod(f"{object_name}-{number}", active=number < active, ip=f"10.1.{number >> 8}.{number & 255}")
        for number in range(active + inactive)
    )


def server(
    app: str = "Test",
    server_name: str = "HelloServer",
    *,
    name: str | None = None,
    namespace: str = NAMESPACE,
    servants: Sequence[ServantSpec] = (ServantSpec("HelloObj", 10_000, timeout=3_000),),
    pods: Sequence[Pod] = (),
    host_ports: Mapping[str, int] | None = None,
    routing: RoutingFacts | None = None,
) -> Server:
    """A server. Its object is named as the controller names it unless ``name`` says otherwise."""
    return Server(
        namespace,
        f"{app}-{server_name}".lower() if name is None else name,
        app=app,
        server=server_name,
        servants=tuple(servants),
        host_ports=host_ports or {},
        pods=tuple(sorted(pods, key=lambda p: p.order)),
        routing=routing,
    )


def hello(active: int = 2, inactive: int = 1) -> Server:
    """Test.HelloServer with so many pods."""
    return server(pods=pods("test-helloserver", active, inactive))


HELLO: Final = "Test.HelloServer.HelloObj"


def framework(up_chain: Mapping[str, Sequence[Upstream]], name: str = "tars-framework") -> Framework:
    """The framework's configuration with this up-chain."""
    return Framework(NAMESPACE, name, {key: tuple(value) for key, value in up_chain.items()})


def filled_store(*objects: Object, synced: bool = True) -> TableStore:
    """A store that was handed these objects."""
    store = TableStore()
    for item in objects:
        store.upsert(item)
    if synced:
        sync(store)
    return store


def sync(store: TableStore) -> None:
    """Tell a store that it was handed everything."""
    for kind in KINDS:
        store.synced(kind)


# -- a registry without sockets ----------------------------------------------------------------------------------


def request(
    function: str,
    *arguments: Any,
    version: int = Version.TARS,
    body: bytes | None = None,
    **header: Any,
) -> bytes:
    """The frame of a call to QueryObj; ``header`` are fields of its packet, ``body`` stands for encoded arguments."""
    if body is None:
        body = FORMS[version].encode(QUERY[function].inputs, arguments)
    fields: dict[str, Any] = {
        "iVersion": version,
        "iRequestId": 1,
        "sServantName": SERVANT,
        "sFuncName": str(function),
        "sBuffer": body,
        "iTimeout": 3_000,
    }
    return encode_request(RequestPacket(**fields | header))


def arguments_of(lookup: Lookup, object_id: str, argument: str | None = None) -> tuple[str, ...]:
    """The inputs of a look-up: the id, and a station or set where it takes one."""
    if lookup is Lookup.SAME_STATION:
        return object_id, "sz" if argument is None else argument
    if lookup is Lookup.SAME_SET:
        return object_id, "name.area.1" if argument is None else argument
    return (object_id,)


class Lists(tuple[int, tuple[EndpointF, ...], tuple[EndpointF, ...]]):
    """What a look-up answers: its return value, active and inactive endpoints (none, for findObjectById)."""

    __slots__ = ()

    @property
    def hosts(self) -> tuple[list[str], list[str]]:
        """Hosts of the active and of the inactive ones."""
        return [e.host for e in self[1]], [e.host for e in self[2]]


def read_lists(lookup: Lookup, frame: bytes) -> Lists:
    """The endpoint lists in an answer that must be a success."""
    response = decode_response(frame)
    assert (response.code, response.description) == (0, "")
    values = FORMS[response.version].decode(QUERY[lookup].results, response.body, 1_000_000)
    return Lists((0, values[0], ())) if lookup is Lookup.ACTIVE else Lists(values)


def read_packet(frame: bytes) -> dict[str, Any]:
    """Every field of an answer's packet, the body among them."""
    assert int.from_bytes(frame[:HEADER_BYTES], "big") == len(frame)
    packet = frame[HEADER_BYTES:]
    if decode_response(frame).version == Version.TUP:
        tup = REQUEST.decode(Reader(packet))
        return {name: getattr(tup, name) for name in RequestPacket.__annotations__}
    plain = RESPONSE.decode(Reader(packet))
    return {name: getattr(plain, name) for name in type(plain).__annotations__}


def endpoint_f(endpoint: Endpoint) -> EndpointF:
    """An endpoint as it is sent."""
    marks = endpoint.marks
    return EndpointF(
        host=endpoint.host,
        port=endpoint.port,
        timeout=endpoint.timeout,
        istcp=1 if endpoint.is_tcp else 0,
        grid=0,
        groupworkid=marks.group_work,
        grouprealid=marks.group_real,
        setId=marks.set_id,
        weight=marks.weight,
        weightType=marks.weight_type,
    )


class Peer:
    """One connection to a registry."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def send(self, frame: bytes) -> bytes:
        """What comes back for a frame, the connection still being good."""
        answer = self.connection.receive(frame)
        assert self.connection.error is None
        assert not self.connection.pending
        return answer

    def ask(self, lookup: Lookup, object_id: str = HELLO, argument: str | None = None, **header: Any) -> Lists:
        """Ask a question that must be answered with a success."""
        return read_lists(lookup, self.send(request(lookup, *arguments_of(lookup, object_id, argument), **header)))


class Served:
    """A registry without sockets, as the service puts it together."""

    def __init__(
        self,
        *objects: Object,
        synced: bool = True,
        naming: Naming | None = None,
        self_address: SelfAddress | None = None,
        limits: CacheLimits | None = None,
        caller_group: CallerGroup = CallerGroup.ADDRESS,
    ) -> None:
        self.store = filled_store(*objects, synced=synced)
        self.naming = naming or Naming()
        self.self_address = self_address or SelfAddress()
        self.answers = Answers(
            self.store, naming=naming, self_address=self_address, limits=limits, caller_group=caller_group
        )
        self.dispatcher = Dispatcher({SERVANT: query_servant(self.answers)})
        self.alike = Alike(self.answers, self.dispatcher)

    def connect(self, local: str = "127.0.0.1", peer: str = "10.9.9.9") -> Peer:
        """A caller that came in on the address ``local``."""
        caller = Caller(peer, 40_000, local, 17_890)
        scope = self.answers.scope(caller)
        return Peer(Connection(caller, self.alike.handle, self.answers.cache.lookup, self.alike.answer, scope=scope))


# -- strategies: a small world, so that things meet ---------------------------------------------------------------

APPS: Final = ("Alpha", "ALPHA", "beta")
SERVERS: Final = ("One", "one", "Two-X")
OBJECT_NAMES: Final = ("alpha-one", "alpha-two-x", "beta-one", "other")
NAMESPACES: Final = ("a", "b")
SERVANTS: Final = ("Obj", "EchoObj")

small_pods = st.builds(
    Pod,
    name=st.sampled_from(("alpha-one-0", "alpha-one-2", "alpha-one-10", "other-x7k2p", "other-0")),
    pod_ip=st.sampled_from(("", "10.0.0.1", "10.0.0.2")),
    host_ip=st.sampled_from(("", "192.168.0.1")),
    setting_state=st.sampled_from(("Active", "Inactive")),
    present_state=st.sampled_from(("Active", "Activating", "")),
)

small_servants = st.lists(
    st.builds(ServantSpec, name=st.sampled_from(SERVANTS), port=st.integers(1, 3), is_tcp=st.booleans()),
    max_size=2,
    unique_by=lambda s: s.name,
).map(tuple)

small_servers = st.builds(
    Server,
    namespace=st.sampled_from(NAMESPACES),
    name=st.sampled_from(OBJECT_NAMES),
    app=st.sampled_from(("", *APPS)),
    server=st.sampled_from(("", *SERVERS)),
    servants=small_servants,
    host_ports=st.dictionaries(st.sampled_from(SERVANTS), st.integers(1, 3), max_size=1),
    pods=st.lists(small_pods, max_size=4, unique_by=lambda p: p.name).map(
        lambda found: tuple(sorted(found, key=lambda p: p.order))
    ),
)

small_facts = st.builds(
    RoutingFacts,
    set_id=st.sampled_from(("", "n.a.1", "n.a.2", "n.a.*", "n.b.1", "m.a.1")),
    weight=st.sampled_from((None, 0, 50)),
    flow_off=st.booleans(),
    grouping=st.sampled_from((None, True)),
)

small_routed_servers = st.builds(
    lambda found, facts: msgspec.structs.replace(found, routing=facts), small_servers, st.none() | small_facts
)

small_policy_texts = st.builds(
    PolicyText, namespace=st.sampled_from(NAMESPACES), name=st.sampled_from(("p", "q")), text=st.sampled_from(("", "x"))
)

small_nodes = st.builds(
    Node,
    name=st.sampled_from(("node-1", "node-2")),
    addresses=st.sampled_from((("192.168.0.1",), ("192.168.0.2", "fd00::2"), ())),
    zone=st.sampled_from(("", "zone-a", "zone-b")),
    region=st.sampled_from(("", "region-1")),
)

small_templates = st.builds(
    Template,
    namespace=st.sampled_from(NAMESPACES),
    name=st.sampled_from(("t1", "t2")),
    content=st.sampled_from(("", "<tars>\n</tars>")),
)

small_ids = st.one_of(
    st.builds(
        "{}.{}.{}{}".format,
        st.sampled_from((*APPS, "gamma")),
        st.sampled_from((*SERVERS, "none")),
        st.sampled_from((*SERVANTS, "obj")),
        st.sampled_from(("", "", "", "@tcp -h 1.2.3.4 -p 1", "#sz")),
    ),
    st.sampled_from(
        ("", "Alpha.One", "Alpha..Obj", "a.b.c.d", "tars.tarsregistry.QueryObj", "tars.tarsregistry.Other")
    ),
)

small_upstreams = st.builds(
    Upstream, host=st.sampled_from(("up1", "up2")), port=st.integers(1, 2), is_tcp=st.booleans()
)

small_frameworks = st.builds(
    Framework,
    namespace=st.sampled_from(NAMESPACES),
    name=st.just("tars-framework"),
    up_chain=st.dictionaries(
        st.sampled_from(("default", "gamma.none.Obj", "Alpha.One.Obj", "beta.none.EchoObj")),
        st.lists(small_upstreams, max_size=2).map(tuple),
        max_size=3,
    ),
)
