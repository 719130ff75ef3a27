"""Answers to real frames: right for each version, right after each change, within their limits.

Everything goes through a connection and a dispatcher, as the bytes of a caller do. What is kept must never show: the
state machine at the end compares every answer with one made afresh.
"""

from __future__ import annotations

import gc
import logging
import random
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

import registry.answers
from registry.answers import SelfAddress
from registry.cache import CacheLimits
from registry.model import Kind, Object, ServantSpec, Server, Template, Upstream
from registry.routing.hosts import EndpointHost, Naming
from registry.routing.select import Endpoint, Lookup, Question, Selection, parse_id, select
from tars_protocol.bodies import FORMS
from tars_protocol.connection import Connection
from tars_protocol.constants import PacketType, ReturnCode, Version
from tars_protocol.interfaces.query import QUERY, SERVANT
from tars_protocol.packets import decode_response
from tars_protocol.turns import Turns
from tests.support import golden
from tests.support.tables import (
    HELLO,
    KINDS,
    LOOKUPS,
    NAMESPACES,
    OBJECT_NAMES,
    VERSIONS,
    Lists,
    Peer,
    Served,
    arguments_of,
    endpoint_f,
    framework,
    hello,
    pods,
    read_lists,
    read_packet,
    request,
    server,
    small_frameworks,
    small_ids,
    small_servers,
    small_templates,
    sync,
)

OWN = "tars.tarsregistry.QueryObj"
ACTIVE_HOSTS = ["test-helloserver-0.test-helloserver", "test-helloserver-1.test-helloserver"]
INACTIVE_HOSTS = ["test-helloserver-2.test-helloserver"]

both = pytest.mark.parametrize(("lookup", "version"), list(product(LOOKUPS, VERSIONS)))


def question(lookup: Lookup, object_id: str = HELLO, argument: str | None = None, **header: Any) -> bytes:
    return request(lookup, *arguments_of(lookup, object_id, argument), **header)


def no_decoding(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on every request must be a hit."""

    def refuse(*_: object) -> bytes:
        raise AssertionError("a hit was decoded")

    monkeypatch.setattr(served.dispatcher, "_handle", refuse)


# -- each function in each version -----------------------------------------------------------------------------------


@both
def test_every_look_up_is_answered_in_every_version(lookup: Lookup, version: Version) -> None:
    """R8: findObjectById gives the active list, the others return 0, the active and the inactive list."""
    served = Served(hello())
    peer = served.connect()
    for _ in range(2):  # Made, then kept.
        frame = peer.send(question(lookup, version=version, iRequestId=7))
        packet = read_packet(frame)
        assert (packet["iVersion"], packet["cPacketType"], packet["iRequestId"]) == (version, 0, 7)
        found = read_lists(lookup, frame)
        assert found[0] == 0
        assert found.hosts == (ACTIVE_HOSTS, [] if lookup is Lookup.ACTIVE else INACTIVE_HOSTS)
        assert {(e.port, e.timeout, e.istcp, e.grid, e.weightType, e.authType) for e in found[1] + found[2]} == {
            (10_000, 3_000, 1, 0, 0, 0)
        }
        if version is Version.TUP:
            assert (packet["sServantName"], packet["sFuncName"], packet["status"]) == (SERVANT, lookup, {})
        else:
            assert (packet["iRet"], packet["sResultDesc"], packet["status"]) == (0, "", {})


@both
def test_an_unknown_object_is_a_readable_empty_success(lookup: Lookup, version: Version) -> None:
    """Never an empty body with iRet 0: a Java client would not survive it."""
    frame = Served().connect().send(question(lookup, "Nobody.Server.Obj", version=version))
    assert decode_response(frame).body
    assert read_lists(lookup, frame) == (0, (), ())


@both
def test_an_unknown_object_is_answered_from_the_up_chain(lookup: Lookup, version: Version) -> None:
    up = framework({"default": [Upstream("up", 3, timeout=60_000, is_tcp=False)]})
    found = Served(up).connect().ask(lookup, "Nobody.Server.Obj", version=version)
    assert [(e.host, e.port, e.timeout, e.istcp) for e in found[1]] == [("up", 3, 60_000, 0)]
    assert found[2] == ()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("set_id", ["", "n", "*.a.1", "n.*.1", "n..1"])
def test_a_set_that_can_be_none_is_refused_in_every_version(version: Version, set_id: str) -> None:
    """By the function's own return value: an iRet would make C++ clients leave this address."""
    found = Served(hello()).connect().ask(Lookup.SAME_SET, HELLO, set_id, version=version)
    assert found == (-1, (), ())


def test_the_requests_of_real_clients_are_answered() -> None:
    """Every captured request to a registry, out parameters and contexts and all; the second time without decoding."""
    captured = [line for line in golden.lines("client-request") if line["servant"] == SERVANT]
    served = Served(hello())
    peer = served.connect()
    assert len(captured) > 20
    for line in captured:
        frame = bytes.fromhex(line["request_hex"])
        first = peer.send(frame)
        decoded = served.answers.stats.decoded
        assert peer.send(frame) == first
        assert served.answers.stats.decoded == decoded
        found = read_lists(Lookup(line["func"]), first)
        if line["args"]["1"] == HELLO:
            assert found.hosts[0] == ACTIVE_HOSTS


# -- rule 6: before everything was handed over -----------------------------------------------------------------------


@both
@pytest.mark.parametrize("object_id", [HELLO, "Nobody.Server.Obj", "no id"])
def test_before_the_table_is_synchronised_nothing_is_called_empty(
    lookup: Lookup, version: Version, object_id: str
) -> None:
    """-1 with empty lists, or -99 where there is no return value to say it with; then, for the same bytes, the truth.

    So a client that refreshes keeps what it had.
    """
    served = Served(hello(), synced=False)
    peer = served.connect()
    frame = question(lookup, object_id, version=version)
    for _ in range(2):
        answer = decode_response(peer.send(frame))
        assert answer.version == version
        if lookup is Lookup.ACTIVE:
            assert answer.code == ReturnCode.UNKNOWN
            assert "not synchronised" in answer.description
            assert answer.body == FORMS[version].empty
        else:
            assert (answer.code, answer.description) == (0, "")
            assert FORMS[version].decode(QUERY[lookup].results, answer.body, 99) == (-1, (), ())
    for kind in KINDS:
        assert not served.store.table.synced
        served.store.synced(kind)
    assert read_lists(lookup, peer.send(frame)).hosts[0] == (ACTIVE_HOSTS if object_id == HELLO else [])
    assert served.answers.stats.decoded == 1, "the same bytes must not be decoded again for that"


def test_the_two_kinds_of_not_synchronised_and_all_results_are_counted() -> None:
    served = Served(hello(), synced=False)
    peer = served.connect()
    for lookup in (Lookup.ACTIVE, Lookup.ANY, Lookup.ANY):
        peer.send(question(lookup))
    sync(served.store)
    peer.ask(Lookup.ANY)
    peer.ask(Lookup.ANY, "Nobody.Server.Obj")
    peer.ask(Lookup.SAME_SET, HELLO, "bad")
    counts = {key: tally.count for key, tally in served.answers.tallies.items()}
    assert counts == {
        (Lookup.ACTIVE, "not_synchronised"): 1,
        (Lookup.ANY, "not_synchronised"): 2,
        (Lookup.ANY, "found"): 1,
        (Lookup.ANY, "empty"): 1,
        (Lookup.SAME_SET, "refused"): 1,
    }


# -- rule 2: the registry itself -------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("synced", [False, True])
@pytest.mark.parametrize(
    ("object_id", "port"),
    [
        (OWN, 17_890),
        ("TARS.TarsRegistry.QueryObj@tcp -h x", 17_890),
        ("tars.tarsregistry.RegistryObj", 17_891),
        ("tars.tarsregistry.Registry", 17_891),
    ],
)
def test_the_registry_knows_itself_at_all_times(
    lookup: Lookup, version: Version, synced: bool, object_id: str, port: int
) -> None:
    """R7."""
    served = Served(synced=synced, self_address=SelfAddress("tars-tarsregistry"))
    found = served.connect().ask(lookup, object_id, version=version)
    assert found[0] == 0
    assert [(e.host, e.port, e.timeout, e.istcp) for e in found[1]] == [("tars-tarsregistry", port, 6_000, 1)]
    assert found[2] == ()


@pytest.mark.parametrize(
    "object_id", ["tars.tarsregistry.queryobj", "tars.tarsregistry.OtherObj", "tars.registry.QueryObj"]
)
def test_only_its_own_three_objects_are_the_registry_itself(object_id: str) -> None:
    assert Served().connect().ask(Lookup.ANY, object_id) == (0, (), ())


def test_its_ports_are_those_that_it_listens_on() -> None:
    peer = Served(self_address=SelfAddress("me", 1, 2)).connect()
    assert [peer.ask(Lookup.ANY, f"tars.tarsregistry.{name}")[1][0].port for name in ("QueryObj", "Registry")] == [1, 2]


@both
@pytest.mark.parametrize("synced", [False, True])
def test_each_caller_gets_the_address_that_it_reached(lookup: Lookup, version: Version, synced: bool) -> None:
    """Callers who came in on different addresses never get each other's, in whatever order they ask."""
    served = Served(synced=synced)
    locals_ = ["10.0.0.1", "10.0.0.11", "fd00::1", "::1", "10.0.0.1"]
    peers = [(local, served.connect(local, peer=f"10.9.0.{number}")) for number, local in enumerate(locals_)]
    frame = question(lookup, OWN, version=version)
    for _ in range(3):
        for local, peer in [*peers, *reversed(peers)]:
            assert read_lists(lookup, peer.send(frame)).hosts[0] == [local]
    assert served.answers.stats.decoded == len(set(locals_)), "callers at one address share an answer"


def test_callers_of_a_registry_with_a_name_share_all_answers() -> None:
    served = Served(hello(), self_address=SelfAddress("tars-tarsregistry"))
    frame = question(Lookup.ANY, OWN)
    for local in ("10.0.0.1", "10.0.0.2"):
        assert read_lists(Lookup.ANY, served.connect(local).send(frame)).hosts[0] == ["tars-tarsregistry"]
    assert served.answers.stats.decoded == 1


def test_the_address_of_a_caller_stands_in_no_other_answer() -> None:
    """So those are shared by their question even where their raw keys are not."""
    served = Served(hello())
    for local in ("10.0.0.1", "10.0.0.2"):
        assert served.connect(local).ask(Lookup.ANY).hosts[0] == ACTIVE_HOSTS
    assert served.answers.stats.computed == 1


# -- everything that an answer depends on ----------------------------------------------------------------------------

Variant = tuple[str, bytes]
"""An address that a caller reached, and what it sends."""


IDS = (
    "Test.HelloServer.OtherObj",
    "test.helloserver.HelloObj",
    f"{HELLO}@x",
    f"{HELLO}#y",
    "Test.Other.Obj",
    "Up.Server.Obj",
    "UP.Server.Obj",
    "no id",
    "",
    "\udc80.\udcff.x",
    "Ünï.cödé.Obj",
    "tars.tarsregistry.Registry",
)


def variants() -> dict[str, Variant]:
    """Requests that differ from each other in one thing, some in things that the answer does not depend on."""
    here = "127.0.0.1"
    found: dict[str, Variant] = {}
    for version in VERSIONS:
        found[f"version {version}"] = here, question(Lookup.ANY, version=version)
        found[f"empty body, {version}"] = here, request(Lookup.ANY, version=version, body=b"")
        for flags in (0, 1, 0x80, 0x100, -1, 1 << 30):
            found[f"flags {flags}, {version}"] = here, question(Lookup.ANY, version=version, iMessageType=flags)
        for kind in (1, 2, -1):
            found[f"packet type {kind}, {version}"] = here, question(Lookup.ANY, version=version, cPacketType=kind)
        for lookup in LOOKUPS:
            found[f"{lookup}, {version}"] = here, question(lookup, version=version)
            found[f"one-way {lookup}, {version}"] = here, question(lookup, version=version, cPacketType=1)
            found[f"own {lookup}, {version}"] = here, question(lookup, OWN, version=version)
    for number in (0, 2, 4, 127, 128, -1, 32_767):
        found[f"version {number}"] = here, question(Lookup.ANY, iVersion=number)
    body = FORMS[1].encode(QUERY[Lookup.ANY].inputs, (HELLO,))
    found["body of another version"] = here, request(Lookup.ANY, version=3, body=body)
    for name in ("", "tars.tarsregistry.queryobj", "tars.tarsregistry.RegistryObj", "x"):
        found[f"servant {name!r}"] = here, question(Lookup.ANY, sServantName=name)
    for name in ("", "tars_ping", "findobjectbyid", "findObjectByIdX", "registerChange", "getLocker"):
        found[f"function {name!r}"] = here, question(Lookup.ANY, sFuncName=name)
    found["one-way ping"] = here, question(Lookup.ANY, sFuncName="tars_ping", cPacketType=1)
    for milliseconds in (0, 1, 60_000, -1):
        found[f"time-out {milliseconds}"] = here, question(Lookup.ANY, iTimeout=milliseconds)
    header: dict[str, Any]
    for field in ("context", "status"):
        for content in ({"node_name": "10.0.0.1"}, {"node_name": "10.0.0.2"}, {"TARS_SETNAME": "n.a.1"}):
            header = {field: content}
            found[f"{field} {content}"] = here, question(Lookup.ANY, **header)
    for object_id in IDS:
        for lookup in (Lookup.ACTIVE, Lookup.ALL):
            found[f"{lookup} of {object_id!r}"] = here, question(lookup, object_id)
    for argument in ("n.a.1", "n.a.*", "n.a.2", "bad", "*.a.1", ""):
        for lookup in (Lookup.SAME_SET, Lookup.SAME_STATION):
            found[f"{lookup} {argument!r}"] = here, question(lookup, HELLO, argument)
    old = FORMS[1].encode(QUERY[Lookup.ANY].inputs, (HELLO,)) + bytes.fromhex("290c390c")
    found["empty old lists"] = here, request(Lookup.ANY, body=old)
    found["more bytes than parameters"] = here, request(Lookup.ANY, body=body + b"\xf6\xff\x01x")
    for local in ("10.0.0.1", "10.0.0.11", "fd00::1"):
        found[f"own, reached {local}"] = local, question(Lookup.ANY, OWN)
        found[f"reached {local}"] = local, question(Lookup.ANY)
    return found


VARIANTS = variants()
WORLD: tuple[Object, ...] = (
    hello(),
    framework({"Up.Server.Obj": [Upstream("up-exact", 3)], "default": [Upstream("up-default", 3)]}),
)


def test_whatever_was_asked_before_the_answer_is_that_of_a_fresh_registry() -> None:
    """Each thing that a request holds is varied; no answer leaks from one variant into another."""
    cold = {name: Served(*WORLD).connect(local).send(frame) for name, (local, frame) in VARIANTS.items()}
    names = list(VARIANTS)
    for seed in range(6):
        warm = Served(*WORLD)
        peers = {local: warm.connect(local) for local, _ in VARIANTS.values()}
        for _ in range(2):
            random.Random(seed).shuffle(names)
            for name in names:
                local, frame = VARIANTS[name]
                assert peers[local].send(frame) == cold[name], name


def test_the_answer_follows_what_it_depends_on() -> None:
    """The fresh answers of the test above do differ where they must, and only there."""
    cold = {name: Served(*WORLD).connect(local).send(frame) for name, (local, frame) in VARIANTS.items()}
    one, three = cold["version 1"], cold[f"{Lookup.SAME_SET}, 1"]
    same_as_one = {
        "version 1",
        "flags 0, 1",
        "packet type 2, 1",
        "packet type -1, 1",
        *(f"{lookup}, 1" for lookup in (Lookup.ANY, Lookup.ALL, Lookup.SAME_GROUP)),
        *(name for name in cold if name.startswith(("time-out", "context", "status", "reached"))),
        *(f"{Lookup.ALL} of {text!r}" for text in ("test.helloserver.HelloObj", f"{HELLO}@x", f"{HELLO}#y")),
        "empty old lists",
        "more bytes than parameters",
    }
    # Their lists stand one position further on.
    same_as_three = {
        *(f"{lookup}, 1" for lookup in (Lookup.SAME_STATION, Lookup.SAME_SET)),
        *(f"{Lookup.SAME_STATION} {text!r}" for text in ("n.a.1", "n.a.*", "n.a.2", "bad", "*.a.1", "")),
        *(f"{Lookup.SAME_SET} {text!r}" for text in ("n.a.1", "n.a.*", "n.a.2")),
    }
    assert one != three
    assert {name for name, answer in cold.items() if answer == one} == same_as_one
    assert {name for name, answer in cold.items() if answer == three} == same_as_three
    assert {name for name, answer in cold.items() if not answer} == {
        name for name in cold if name.startswith(("one-way", "packet type 1,"))
    }
    own = [cold[f"own, reached {local}"] for local in ("10.0.0.1", "10.0.0.11", "fd00::1")]
    assert len({*own, cold["own findObjectById4Any, 1"]}) == 4


@both
def test_the_request_id_alone_changes_nothing_but_itself(
    lookup: Lookup, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any id finds the same kept answer, whatever its width on the wire."""
    served = Served(hello())
    peer = served.connect()
    base = read_packet(peer.send(question(lookup, version=version, iRequestId=1)))
    no_decoding(served, monkeypatch)
    for number in (0, 1, -1, 127, 128, -128, -129, 32_767, 32_768, -32_768, -32_769, 2**31 - 1, -(2**31)):
        packet = read_packet(peer.send(question(lookup, version=version, iRequestId=number)))
        assert packet == base | {"iRequestId": number}


@pytest.mark.parametrize("spelt", ["410005", "4200000005", "f00405", "4000", "410000"], ids=str)
def test_a_request_id_that_is_spelt_otherwise_is_answered_all_the_same(spelt: str) -> None:
    """Wider than it needs to be, or with a long head: no key, so each such frame is decoded, and nothing is kept."""
    served = Served(hello())
    peer = served.connect()
    plain = question(Lookup.ANY, iRequestId=5)
    packet = plain[4:].replace(b"\x40\x05", bytes.fromhex(spelt), 1)
    frame = (len(packet) + 4).to_bytes(4, "big") + packet
    number = 5 if "5" in spelt else 0
    for _ in range(2):
        answer = peer.send(frame)
        assert read_packet(answer)["iRequestId"] == number
        assert read_lists(Lookup.ANY, answer).hosts[0] == ACTIVE_HOSTS
    assert (served.answers.stats.decoded, served.answers.cache.entries) == (2, 0)


def reordered(lookup: Lookup, moved: bytes, **header: Any) -> bytes:
    """A frame with one more field, of a tag below that of the request id, behind it: unknown there, so skipped."""
    packet = question(lookup, iRequestId=5, **header)[4:]
    head, rest = packet.split(b"\x40\x05", 1)
    assert head == b"\x10\x01\x2c\x3c"
    packet = b"\x10\x01\x40\x05" + moved + rest
    return (len(packet) + 4).to_bytes(4, "big") + packet


@pytest.mark.parametrize(
    ("moved", "honest"),
    [
        pytest.param(b"\x20\x01\x3c", {"cPacketType": 1}, id="packet type"),
        pytest.param(b"\x2c\x30\x7f", {"iMessageType": 127}, id="message type"),
        pytest.param(b"\x2c\x31\x01\x00", {"iMessageType": 256}, id="wide message type"),
    ],
)
@pytest.mark.parametrize("hostile_first", [True, False])
def test_fields_that_are_out_of_place_share_no_key_with_those_in_place(
    moved: bytes, honest: dict[str, Any], hostile_first: bool
) -> None:
    """Else one caller decides what another gets: an answer to its one-way call, or another's flags."""
    frames = [reordered(Lookup.ANY, moved), question(Lookup.ANY, iRequestId=5, **honest)]
    fresh = [Served(hello()).connect().send(frame) for frame in frames]
    assert fresh[0] != fresh[1]
    served = Served(hello())
    for index in (0, 1) if hostile_first else (1, 0):
        assert served.connect().send(frames[index]) == fresh[index]


def test_one_byte_at_a_time_gives_the_same_answers() -> None:
    frames = [frame for local, frame in VARIANTS.values() if local == "127.0.0.1"]
    whole, bytewise = Served(*WORLD).connect(), Served(*WORLD).connect()
    together = whole.send(b"".join(frames))
    assert together == b"".join(bytewise.send(bytes([byte])) for byte in b"".join(frames))
    assert together == Served(*WORLD).connect().send(b"".join(frames))


# -- changes ---------------------------------------------------------------------------------------------------------


@both
def test_each_change_of_a_server_is_in_the_next_answer(lookup: Lookup, version: Version) -> None:
    """R12, R18: pods come and go, states and ports change, the server goes and the up-chain takes over."""
    served = Served(hello(2, 0))
    peer = served.connect()

    def active() -> list[tuple[str, int]]:
        return [(e.host.partition(".")[0], e.port) for e in peer.ask(lookup, version=version)[1]]

    assert active() == [("test-helloserver-0", 10_000), ("test-helloserver-1", 10_000)]
    served.store.upsert(hello(1, 1))
    assert active() == [("test-helloserver-0", 10_000)]
    served.store.upsert(replace(hello(1), servants=(ServantSpec("HelloObj", 7),)))
    assert active() == [("test-helloserver-0", 7)]
    served.store.upsert(server(name="second", pods=pods("second", 1)))
    assert active() == [("second-0", 10_000), ("test-helloserver-0", 7)]
    served.store.delete(Kind.SERVER, ("tars", "second"))
    served.store.delete(Kind.SERVER, ("tars", "test-helloserver"))
    assert active() == []
    served.store.upsert(framework({"default": [Upstream("up", 3)]}))
    assert active() == [("up", 3)]
    served.store.upsert(framework({HELLO: [Upstream("exact", 3)]}))
    assert active() == [("exact", 3)]
    served.store.delete(Kind.FRAMEWORK, ("tars", "tars-framework"))
    assert active() == []
    served.store.upsert(hello(2, 0))
    assert len(active()) == 2
    assert served.answers.stats.decoded == 1, "one frame, one decoding, however often the answer changed"


def test_a_change_of_one_server_costs_only_its_own_answers() -> None:
    others = [server("Other", f"Server{number}", pods=pods(f"other-server{number}", 2)) for number in range(20)]
    served = Served(hello(), *others)
    peer = served.connect()

    def ask_all() -> int:
        before = served.answers.stats.computed
        for version in VERSIONS:
            peer.ask(Lookup.ANY, version=version)
            for number in range(20):
                peer.ask(Lookup.ANY, f"Other.Server{number}.HelloObj", version=version)
        return served.answers.stats.computed - before

    assert ask_all() == 3 * 21
    assert ask_all() == 0
    served.store.upsert(hello(1, 0))
    assert ask_all() == 3
    served.store.upsert(hello(1, 0))
    served.store.upsert(Template("tars", "tars.default", content="x"))
    assert ask_all() == 0
    served.store.replace(Kind.SERVER, [hello(1, 0), *others[:-1], server("Other", "Server19")])
    assert ask_all() == 3
    served.store.upsert(framework({"default": [Upstream("up", 1)]}))
    assert ask_all() == 3 * 21


def with_old_lists(number: int) -> bytes:
    """The question of a caller that sends along what it has."""
    old = (endpoint_f(Endpoint(f"10.0.0.{number}", 1, 3_000, is_tcp=True)),)
    body = FORMS[1].encode(QUERY[Lookup.ALL].inputs, (HELLO,)) + FORMS[1].encode(
        QUERY[Lookup.ALL].results[1:], (old, ())
    )
    return request(Lookup.ALL, body=body)


def test_callers_bytes_differ_but_a_question_is_computed_once() -> None:
    """Old endpoint lists make other raw keys of one question."""
    served = Served(hello())
    peer = served.connect()
    for number in range(50):
        peer.send(with_old_lists(number))
    assert (served.answers.stats.computed, served.answers.stats.decoded, served.answers.stats.misses) == (1, 50, 50)
    for number in range(50):
        peer.send(with_old_lists(number))
    assert (served.answers.stats.computed, served.answers.stats.decoded, served.answers.stats.misses) == (1, 50, 50)


def test_an_answer_that_has_to_be_made_again_is_not_made_by_a_look_up_and_not_decoded() -> None:
    """It takes a thousand times as long as a look-up, so that it has to wait for its turn as every other request."""
    served = Served(hello())
    peer = served.connect()
    peer.send(with_old_lists(1))
    key = next(iter(served.answers.cache._young.raw))
    served.store.upsert(hello(1, 0))
    computed = served.answers.stats.computed
    assert served.answers.cache.lookup(key) is None
    assert (served.answers.stats.computed, served.answers.tallies[Lookup.ALL, "found"].count) == (computed, 1)
    turns = Turns(3600)
    turns.crowded = True
    caller, scope = peer.connection.caller, peer.connection.scope
    connection = Connection(
        caller, served.alike.handle, served.answers.cache.lookup, served.alike.answer, scope=scope, turns=turns
    )
    assert connection.receive(with_old_lists(1)) == b""
    assert read_lists(Lookup.ALL, connection.receive(b""))[1:] == (tuple(peer.ask(Lookup.ALL)[1]), ())
    stats = served.answers.stats
    assert (stats.computed, stats.decoded, stats.misses) == (computed + 1, 2, 2), "the second is that of `ask`"
    assert served.answers.cache.lookup(key) is not None


def test_a_server_without_names_is_answered_by_its_objects_name_and_followed() -> None:
    """Any hyphen of the object's name may be where app ends and server begins."""
    nameless = Server("tars", "a-b-c", servants=hello().servants)
    served = Served(nameless)
    peer = served.connect()
    ids = ("A.B-C.HelloObj", "a-b.C.HelloObj")
    for count in (0, 1, 2, 0):
        served.store.upsert(replace(nameless, pods=pods("a-b-c", count)))
        assert [len(peer.ask(Lookup.ANY, object_id)[1]) for object_id in ids] == [count, count]
    served.store.upsert(replace(nameless, app="A", server="B-C", pods=pods("a-b-c", 3)))
    assert [len(peer.ask(Lookup.ANY, object_id)[1]) for object_id in ids] == [3, 0]
    served.store.delete(Kind.SERVER, ("tars", "a-b-c"))
    assert [len(peer.ask(Lookup.ANY, object_id)[1]) for object_id in ids] == [0, 0]


# -- one-way ---------------------------------------------------------------------------------------------------------


@both
def test_a_one_way_call_is_answered_with_nothing_the_first_time_and_as_a_hit(
    lookup: Lookup, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the table is synchronised, after it, and after a change; its two-way twin is another answer."""
    served = Served(hello(), synced=False)
    peer = served.connect()
    silent = question(lookup, version=version, cPacketType=PacketType.ONE_WAY)
    assert peer.send(silent) == b""
    assert peer.send(question(lookup, version=version)) != b""
    no_decoding(served, monkeypatch)
    assert peer.send(silent) == b""
    sync(served.store)
    served.store.upsert(hello(1, 0))
    assert peer.send(silent + question(lookup, version=version) + silent) == peer.send(
        question(lookup, version=version)
    )


# -- bugs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("warm", [False, True])
def test_a_look_up_that_fails_is_answered_and_the_next_one_is_right(
    version: Version, warm: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """-99, counted, its trace in the log; never an old answer, and nothing broken is kept."""
    served = Served(hello())
    peer = served.connect()
    frame = question(Lookup.ANY, version=version)
    if warm:
        peer.send(frame)
        served.store.upsert(hello(1, 0))

    def fail(*_: object) -> Selection:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(registry.answers, "select", fail)
        for number in range(1, 4):
            answer = decode_response(peer.send(frame))
            assert (answer.code, answer.description) == (ReturnCode.UNKNOWN, "internal error")
            assert served.dispatcher.stats.bugs == number
    assert "ZeroDivisionError" in caplog.text
    found = peer.ask(Lookup.ANY, version=version)
    assert len(found[1]) == (1 if warm else 2)
    bytes_then = served.answers.cache.bytes
    assert peer.ask(Lookup.ANY, version=version) == found
    assert served.answers.cache.bytes == bytes_then
    assert served.dispatcher.stats.bugs == 3


def test_an_endpoint_that_does_not_fit_its_types_fails_alone() -> None:
    """The source checks ranges; were one missed, it takes down the answers of that servant and nothing else."""
    served = Served(hello(), server("Bad", "Server", servants=[ServantSpec("Obj", 2**31)], pods=pods("bad-server", 1)))
    peer = served.connect()
    assert decode_response(peer.send(question(Lookup.ANY, "Bad.Server.Obj"))).code == ReturnCode.UNKNOWN
    assert peer.ask(Lookup.ANY).hosts[0] == ACTIVE_HOSTS


# -- limits ----------------------------------------------------------------------------------------------------------


def within(served: Served, limits: CacheLimits) -> None:
    assert served.answers.cache.bytes <= limits.cache_bytes
    assert served.answers.cache.entries <= limits.cache_entries
    counted_exactly(served)


def counted_exactly(served: Served) -> None:
    """What was kept last is counted as what it is now, each entry once."""
    young = served.answers.cache._young
    entries = sum(len(key) + registry.cache._RAW_OVERHEAD for key in young.raw)
    assert young.bytes == entries + sum(answer.cost for answer in young.answers.values())


@pytest.mark.parametrize(
    "limits",
    [
        CacheLimits(cache_bytes=50_000),
        CacheLimits(cache_entries=40),
        CacheLimits(cache_bytes=20_000, cache_entries=13),
        CacheLimits(cache_bytes=4_000),
        CacheLimits(cache_entries=4),
        CacheLimits(cache_entries=3),
        CacheLimits(cache_entries=0),
        CacheLimits(cache_bytes=0),
    ],
    ids=str,
)
def test_random_distinct_requests_stay_within_the_limits(limits: CacheLimits) -> None:
    """Whatever the limits are, none included, every answer is right."""
    served = Served(hello(), server("Big", "Server", pods=pods("big-server", 60)), limits=limits)
    peer = served.connect()
    source = random.Random(1)
    ids = [HELLO, "Big.Server.HelloObj", *(f"Nobody.Server{n}.Obj" for n in range(30))]
    counts = {HELLO: 2, "Big.Server.HelloObj": 60}
    for number in range(1_500):
        object_id = source.choice(ids)
        pad = {"pad": "x" * source.choice((0, 1, 10, 300, 3_000)), "n": str(source.randrange(200))}
        found = peer.ask(source.choice(LOOKUPS), object_id, version=source.choice(VERSIONS), context=pad)
        assert len(found[1]) == counts.get(object_id, 0), number
        within(served, limits)


def test_answers_that_grow_stay_within_the_limits() -> None:
    """While the table fills, small answers become large ones: hits alone must not take more than there is."""
    limits = CacheLimits(cache_bytes=60_000)
    names = [f"Server{number}" for number in range(12)]
    served = Served(*(server("Test", name) for name in names), limits=limits)
    peer = served.connect()
    frames = [question(Lookup.ANY, f"Test.{name}.HelloObj") for name in names]
    for count in (0, 1, 40, 300, 40, 1):
        for name in names:
            served.store.upsert(server("Test", name, pods=pods(f"test-{name.lower()}", count)))
        for _ in range(2):
            for frame in frames:
                assert len(read_lists(Lookup.ANY, peer.send(frame))[1]) == count
                counted_exactly(served)
                # The answer that was just made may stand over the limit until the next one is.
                assert served.answers.cache.bytes <= limits.cache_bytes + len(peer.send(frame)) + 1_500


def test_an_answer_that_grows_is_counted_as_what_it_becomes() -> None:
    served = Served(hello(1, 0))
    peer = served.connect()
    frame = question(Lookup.ANY)
    before = len(peer.send(frame)), served.answers.cache.bytes
    for count in (300, 2):
        served.store.upsert(hello(count, 0))
        after = len(peer.send(frame)), served.answers.cache.bytes
        grown = after[0] - before[0]
        assert after[1] - before[1] == pytest.approx(grown, abs=20)
        counted_exactly(served)


def test_an_answer_that_could_not_be_made_once_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look-up fails, the longer way through the dispatcher works: the key was there before."""
    served = Served(hello())
    peer = served.connect()
    peer.ask(Lookup.ANY)
    served.store.upsert(hello(2, 0))
    calls = iter((True, False))

    def fail_once(*arguments: Any) -> Selection:
        if next(calls):
            raise ZeroDivisionError("a bug")
        return select(*arguments)

    monkeypatch.setattr(registry.answers, "select", fail_once)
    assert peer.ask(Lookup.ANY).hosts == (ACTIVE_HOSTS, [])
    assert served.answers.cache.entries == 3, "the answer, and two keys: of the request and of its call alone"
    counted_exactly(served)


def test_what_is_asked_for_again_and_again_stays() -> None:
    """A stream of questions that are asked once does not push it out."""
    served = Served(hello(), limits=CacheLimits(cache_entries=40))
    peer = served.connect()
    peer.ask(Lookup.ANY)
    for number in range(300):
        peer.ask(Lookup.ANY, f"Nobody.Server{number}.Obj")
        peer.ask(Lookup.ANY)
    assert served.answers.stats.decoded == 301
    assert served.answers.cache.dropped > 400


def test_a_request_larger_than_the_cache_is_answered_and_not_kept() -> None:
    served = Served(hello(), limits=CacheLimits(cache_bytes=8_000))
    peer = served.connect()
    for _ in range(2):
        assert peer.ask(Lookup.ANY, context={"x": "y" * 10_000}).hosts[0] == ACTIVE_HOSTS
    assert (served.answers.cache.entries, served.answers.stats.decoded) == (0, 2)


def _many_callers(number: int) -> bytes:
    return question(Lookup.ANY, context={"node_name": f"10.0.{number >> 8}.{number & 255}"})


def _many_objects(number: int) -> bytes:
    return question(Lookup.ANY, f"Nobody.Server{number}.Obj")


def _many_sets(number: int) -> bytes:
    return question(Lookup.SAME_SET, HELLO, f"name.area.{number}", version=Version.TUP)


def _long_ids(number: int) -> bytes:
    return question(Lookup.ANY, f"App{number}.{'s' * 20_000}.Obj")


def _long_ids_that_are_none(number: int) -> bytes:
    return question(Lookup.ANY, f"App{number}.{'s' * 20_000}")


def _long_wide_ids(number: int) -> bytes:
    """Text outside of Latin-1 takes two or four bytes a character in memory, however few on the wire."""
    return question(Lookup.ANY, f"App{number}😀.{'s' * 20_000}.Obj")


def _long_wide_sets(number: int) -> bytes:
    return question(Lookup.SAME_SET, HELLO, f"{number}😀.{'s' * 20_000}.1")


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (_many_callers, 3_000),
        (_many_objects, 3_000),
        (_many_sets, 1_000),
        (_long_ids, 50),
        (_long_ids_that_are_none, 50),
        (_long_wide_ids, 50),
        (_long_wide_sets, 50),
    ],
)
def test_the_estimate_of_memory_is_good_within_a_factor_of_two(make: Callable[[int], bytes], count: int) -> None:
    """Else the limit in bytes is none: what a peer can choose must be counted as it is in memory."""
    served = Served(hello(10, 5))
    peer = served.connect()
    for number in range(20):
        peer.send(make(number))
    # What differs in its context alone is kept when it comes a second time.
    frames = [make(number) for number in range(20, count + 20)] * 2
    gc.collect()
    counted = served.answers.cache.bytes
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for frame in frames:
            peer.send(frame)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    counted = served.answers.cache.bytes - counted
    assert taken / 2 <= counted <= taken * 2, f"counted {counted}, taken {taken}"


def test_questions_about_nothing_leave_nothing_behind() -> None:
    """Ids by the thousand that no server has: what ties answers to servers goes with the answers."""
    served = Served(hello(), limits=CacheLimits(cache_entries=100))
    peer = served.connect()
    for number in range(5_000):
        peer.ask(Lookup.ANY, f"Nobody{number}.Server.Obj")
        assert len(served.answers._cells) <= 101
    assert served.answers.tallies.keys() == {(Lookup.ANY, "empty")}


def test_what_is_dropped_is_given_back_a_few_entries_at_a_time() -> None:
    """A hundred thousand at once would hold everybody up; all are gone before the next are dropped."""
    served = Served(hello(), limits=CacheLimits(cache_entries=4_000))
    peer = served.connect()
    cache, cells = served.answers.cache, served.answers._cells
    steps = []
    for number in range(5_000):
        dropped, alive = cache.dropped, len(cells)
        peer.ask(Lookup.ANY, f"Nobody{number}.Server.Obj")
        steps.append(alive + 1 - len(cells))
        if cache.dropped != dropped:
            assert steps[-1] < 10
            assert len(cache._dropped) <= 2
    assert cache.dropped >= 6_000
    assert max(steps) == 8
    assert len(cells) <= 2_001


def test_requests_that_are_forgotten_are_given_back_a_few_at_a_time_too() -> None:
    served = Served(hello())
    peer = served.connect()
    for number in range(100):
        peer.ask(Lookup.ANY, f"Nobody{number}.Server.Obj")
    cache = served.answers.cache
    cache.forget_requests()
    assert (cache.entries, sum(map(len, cache._dropped))) == (100, 200), "two keys of each: the request, its call alone"
    peer.ask(Lookup.ANY, "Nobody.Server.Obj")
    assert 180 < sum(map(len, cache._dropped)) < 200
    for number in range(20):
        peer.ask(Lookup.ANY, f"Nobody{number}.Server.Obj")
    assert cache._dropped == []


@pytest.fixture
def small() -> Iterator[Served]:
    served = Served(hello(), limits=CacheLimits(cache_entries=8))
    yield served
    within(served, CacheLimits(cache_entries=8))


def test_an_answer_that_was_dropped_and_is_made_again_follows_changes(small: Served) -> None:
    """Dropped, changed, asked again; changed, dropped, asked again: in any order the answer is that of the table."""
    peer = small.connect()
    source = random.Random(2)
    count = 2
    for number in range(600):
        match source.randrange(3):
            case 0:
                count = source.randrange(5)
                small.store.upsert(hello(count, 0))
            case 1:
                peer.ask(Lookup.ANY, f"Nobody.Server{number}.Obj")
        assert len(peer.ask(source.choice(LOOKUPS), context={"n": str(source.randrange(4))})[1]) == count


# -- never a stale answer --------------------------------------------------------------------------------------------

LOCALS = ("10.0.0.1", "10.0.0.11", "::1")


class Followed(RuleBasedStateMachine):
    """Random requests of several callers between random changes; each answer compared with one made afresh."""

    served: Served
    peers: dict[str, Peer]
    limits: CacheLimits
    grown: bool

    @initialize(
        limits=st.builds(
            CacheLimits,
            cache_bytes=st.sampled_from((0, 3_000, 8_000, 20_000, 1 << 20)),
            cache_entries=st.sampled_from((0, 4, 7, 12, 1_000)),
        ),
        self_host=st.sampled_from(("", "tars-tarsregistry")),
        mode=st.sampled_from(EndpointHost),
        servers=st.lists(small_servers, max_size=4),
        synced=st.booleans(),
    )
    def begin(
        self, limits: CacheLimits, self_host: str, mode: EndpointHost, servers: list[Server], synced: bool
    ) -> None:
        self.limits = limits
        self.served = Served(
            *servers, synced=synced, naming=Naming(mode), self_address=SelfAddress(self_host), limits=limits
        )
        self.peers = {local: self.served.connect(local) for local in LOCALS}
        self.number = 0

    # Changes.

    @rule(item=st.one_of(small_servers, small_servers, small_frameworks, small_templates))
    def upsert(self, item: Object) -> None:
        self.served.store.upsert(item)

    @rule(kind=st.sampled_from(KINDS), namespace=st.sampled_from(NAMESPACES), name=st.sampled_from(OBJECT_NAMES))
    def delete(self, kind: Kind, namespace: str, name: str) -> None:
        self.served.store.delete(kind, (namespace, "tars-framework" if kind is Kind.FRAMEWORK else name))

    @rule(servers=st.lists(small_servers, max_size=4))
    def replace(self, servers: list[Server]) -> None:
        self.served.store.replace(Kind.SERVER, servers)

    @precondition(lambda self: not self.served.store.table.synced)
    @rule()
    def sync(self) -> None:
        sync(self.served.store)

    # Requests.

    @rule(
        local=st.sampled_from(LOCALS),
        lookup=st.sampled_from(LOOKUPS),
        object_id=small_ids,
        argument=st.sampled_from(("n.a.1", "n.a.*", "bad")),
        version=st.sampled_from(VERSIONS),
        packet_type=st.sampled_from((0, 0, 0, 1)),
        flags=st.sampled_from((0, 0, 0x80)),
        pad=st.sampled_from(("", "1", "2", "x" * 400)),
        repeats=st.integers(1, 2),
    )
    def ask(
        self,
        local: str,
        lookup: Lookup,
        object_id: str,
        argument: str,
        version: Version,
        packet_type: int,
        flags: int,
        pad: str,
        repeats: int,
    ) -> None:
        for _ in range(repeats):
            self.number += 1
            frame = question(
                lookup,
                object_id,
                argument,
                version=version,
                cPacketType=packet_type,
                iMessageType=flags,
                iRequestId=self.number,
                context={"pad": pad},
            )
            answer = self.peers[local].send(frame)
            if packet_type == PacketType.ONE_WAY:
                assert answer == b""
                continue
            packet = read_packet(answer)
            assert (packet["iVersion"], packet["iRequestId"], packet["iMessageType"]) == (version, self.number, flags)
            selection = self.fresh(local, lookup, object_id, argument)
            if selection is None:
                assert decode_response(answer).code == ReturnCode.UNKNOWN
                continue
            expected = (
                selection.ret,
                tuple(map(endpoint_f, selection.active)),
                () if lookup is Lookup.ACTIVE else tuple(map(endpoint_f, selection.inactive)),
            )
            assert read_lists(lookup, answer) == Lists(expected)

    def fresh(self, local: str, lookup: Lookup, object_id: str, argument: str) -> Selection | None:
        """The answer as of now, with nothing kept; None for the error before there is one."""
        name = parse_id(object_id)
        if name is not None and name.text == OWN:
            host = self.served.self_address.host or local
            return Selection(active=(Endpoint(host, 17_890, 6_000, is_tcp=True),))
        table = self.served.store.table
        if not table.synced:
            return None if lookup is Lookup.ACTIVE else Selection(ret=-1)
        rest = argument if len(arguments_of(lookup, object_id)) > 1 else ""
        return select(table, self.served.naming, Question(lookup, name, rest))

    @invariant()
    def stays_within_its_limits(self) -> None:
        if hasattr(self, "served"):
            assert self.served.answers.cache.entries <= self.limits.cache_entries
            # The answer that was made last may stand over the limit.
            assert self.served.answers.cache.bytes <= self.limits.cache_bytes + 3_000
            assert self.served.dispatcher.stats.bugs == 0
            counted_exactly(self.served)


TestNeverStale = Followed.TestCase
TestNeverStale.settings = settings(
    max_examples=120, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow]
)
