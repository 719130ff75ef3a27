"""Requests that differ in their context alone: one call decoded, each request looked at, and nothing that shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jce.writer import heads, put_int
from registry.alike import Seen
from registry.cache import CacheLimits
from registry.routing.select import Lookup
from tars_protocol.connection import Connection
from tars_protocol.constants import PacketType, Version
from tars_protocol.frames import FrameReader, frame
from tars_protocol.handlers import Caller
from tars_protocol.packets import request_id_span, trailer_at
from tars_protocol.turns import Turns
from tests.support.tables import HELLO, LOOKUPS, VERSIONS, Served, arguments_of, hello, request

EMPTY_MAPS = b"\x98\x0c\xa8\x0c"
"""No context and no status."""


def call(lookup: Lookup, version: int) -> bytes:
    """A frame without what stands behind its body."""
    whole = request(lookup, *arguments_of(lookup, HELLO), version=version)
    span = request_id_span(whole)
    assert span is not None
    at = trailer_at(whole, span[1])
    assert at is not None
    return whole[4:at]


def node(number: int) -> dict[str, str]:
    return {"node_name": f"10.0.0.{number}"}


@pytest.mark.parametrize("lookup", LOOKUPS)
@pytest.mark.parametrize("version", VERSIONS)
def test_one_call_is_decoded_for_all_contexts(lookup: Lookup, version: Version) -> None:
    served = Served(hello())
    peer = served.connect()
    answers = [peer.ask(lookup, version=version, context=node(number), iTimeout=number) for number in range(20)]
    assert len(set(answers)) == 1
    assert served.answers.stats.decoded == 1
    assert served.answers.tallies[lookup, "found"].count == 20


def test_a_context_is_kept_when_it_comes_a_second_time() -> None:
    """What never comes again takes no place of what does."""
    served = Served(hello())
    peer = served.connect()
    peer.ask(Lookup.ANY)
    before = served.answers.cache.entries
    for number in range(20):
        peer.ask(Lookup.ANY, context=node(number))
    assert served.answers.cache.entries == before
    for _ in range(2):
        for number in range(20):
            peer.ask(Lookup.ANY, context=node(number))
    assert served.answers.cache.entries == before + 20
    misses = served.answers.stats.misses
    peer.ask(Lookup.ANY, context=node(0))
    assert served.answers.stats.misses == misses


def test_a_request_that_waits_for_its_turn_is_missed_once() -> None:
    """It is looked up before it is held, and again when its turn has come."""
    served = Served(hello())
    turns = Turns(0)
    peer = Connection(
        Caller("10.0.0.1", 4000, "10.0.0.9", 17890),
        served.alike.handle,
        served.answers.cache.lookup,
        served.alike.answer,
        turns=turns,
    )
    asked = [request(Lookup.ANY, HELLO, iTimeout=number) for number in range(1, 6)]
    out = peer.receive(b"".join(asked))
    while peer.held:
        turns.renew()
        out += peer.receive(b"")
    assert len(FrameReader().feed(out)) == 5
    assert served.answers.stats.misses == 5


def test_an_answer_to_a_new_context_follows_changes() -> None:
    served = Served(hello(2, 1))
    peer = served.connect()
    assert len(peer.ask(Lookup.ANY, context=node(1)).hosts[0]) == 2
    served.store.upsert(hello(1, 0))
    assert len(peer.ask(Lookup.ANY, context=node(2)).hosts[0]) == 1


def test_each_caller_gets_its_own_request_id_and_the_one_way_none() -> None:
    served = Served(hello())
    peer = served.connect()
    for number, wanted in enumerate((0, 1, -1, 128, 40_000, 1 << 30)):
        assert peer.send(request(Lookup.ANY, HELLO, iRequestId=wanted)) == peer.send(
            request(Lookup.ANY, HELLO, iRequestId=wanted, context=node(number))
        )
    for number in range(3):
        silent = request(Lookup.ANY, HELLO, cPacketType=PacketType.ONE_WAY, context=node(number))
        assert peer.send(silent) == b""
    assert served.answers.stats.decoded == 2


def test_own_objects_are_where_each_caller_reached_the_registry() -> None:
    served = Served(hello())
    for number, local in enumerate(("10.0.0.1", "10.0.0.2", "10.0.0.1")):
        found = served.connect(local).ask(Lookup.ANY, "tars.tarsregistry.QueryObj", context=node(number))
        assert found.hosts[0] == [local]


def test_a_cache_that_keeps_nothing_decodes_everything() -> None:
    served = Served(hello(), limits=CacheLimits(cache_entries=0))
    peer = served.connect()
    for number in range(3):
        assert peer.ask(Lookup.ANY, context=node(number)).hosts[0]
    assert (served.answers.stats.decoded, served.answers.cache.entries) == (3, 0)


def test_a_frame_that_may_be_over_the_budget_of_values_is_decoded() -> None:
    served = Served(hello())
    peer = served.connect()
    peer.ask(Lookup.ANY)
    served.dispatcher.max_values = 2_000
    peer.ask(Lookup.ANY, context={"x": "y" * 400})
    assert served.answers.stats.decoded == 1
    served.dispatcher.max_values = 1_000
    peer.ask(Lookup.ANY, context={"x": "z" * 400})
    assert served.answers.stats.decoded == 2


# -- whatever stands behind the body ---------------------------------------------------------------------------------

small_text = st.text("ab\xe4\U0001f600", max_size=3)
texts = small_text.map(str.encode) | st.binary(max_size=4)


@st.composite
def maps(draw: st.DrawFn, tag: int) -> bytes:
    """A map of text to text with that tag, whose text may be none; or with a count that lies."""
    pairs = draw(st.lists(st.tuples(texts, texts), max_size=3))
    out = bytearray(heads(tag)[8])
    put_int(out, heads(0), draw(st.sampled_from((len(pairs),) * 6 + (len(pairs) + 1, 0, -1, 100))))
    for pair in pairs:
        for at, text in enumerate(pair):
            out += heads(at)[6] + bytes((len(text),)) + text
    return bytes(out)


@st.composite
def trailers(draw: st.DrawFn) -> bytes:
    """Fields behind a body: those of a request, some left out or twice or in any order, others among them, cut off."""
    time_out = st.integers(-(1 << 63), (1 << 63) - 1).map(_time_out)
    other = st.sampled_from(
        (b"\xb0\x01", b"\xf6\xff\x01x", b"\x10\x03", b"\x4c", b"\x7d\x00\x0c", b"\xba\x0b", b"\x0b")
    )
    fields = draw(st.lists(time_out | maps(9) | maps(10) | other | st.binary(max_size=3), max_size=4))
    if draw(st.booleans()):
        fields.sort(key=lambda each: each[0] >> 4 if each else 0)
    whole = b"".join(fields)
    return whole[: draw(st.integers(0, len(whole)))] if draw(st.integers(0, 3)) == 0 else whole


def _time_out(number: int) -> bytes:
    out = bytearray()
    put_int(out, heads(8), number)
    return bytes(out)


@given(st.sampled_from(LOOKUPS), st.sampled_from(VERSIONS), st.lists(trailers(), min_size=1, max_size=4))
def test_whatever_follows_a_call_is_answered_as_if_nothing_were_known(
    lookup: Lookup, version: Version, behind: list[bytes]
) -> None:
    """The same bytes, or the same end of the connection, as where every request is decoded whole."""
    knows = Served(hello())
    start = call(lookup, version)
    assert knows.connect().send(frame(start + EMPTY_MAPS))
    for trailer in (*behind, *behind, *behind):
        asked = frame(start + trailer)
        fresh = Served(hello()).connect().connection
        known = knows.connect().connection
        assert known.receive(asked) == fresh.receive(asked)
        assert str(known.error) == str(fresh.error)


# -- Seen ------------------------------------------------------------------------------------------------------------


def test_what_came_before_is_known() -> None:
    seen = Seen()
    keys = [b"%d" % number for number in range(1_000)]
    assert not any(map(seen.before, keys))
    # Those that share a slot push each other out.
    assert sum(map(seen.before, keys)) > 950
