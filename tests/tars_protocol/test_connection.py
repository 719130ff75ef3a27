"""One connection: the look-up and the decoder give the same bytes, and the pieces in which bytes come don't matter."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tars_protocol.connection import Connection
from tars_protocol.dispatch import Call, Dispatcher, Servant
from tars_protocol.errors import FrameError
from tars_protocol.frames import frame
from tars_protocol.handlers import Caller, Lookup, Refused, abandon, unknown
from tars_protocol.packets import KEY_ID, NO_REPLY, Reply, RequestPacket, encode_request, reply, request_id_span
from tars_protocol.turns import Turns
from tests.tars_protocol.shared import (
    CALLER,
    CUTS,
    FEWER,
    ID_CORNERS,
    KINDS,
    SERVANT,
    VERSIONS,
    Kinds,
    bytewise,
    pieces,
    request,
)
from tests.tars_protocol.test_packets import put_id, request_after, spelled_requests
from tests.tars_protocol.test_turns import refuse

BASE: dict[str, Any] = {
    "iVersion": 1,
    "cPacketType": 0,
    "iMessageType": 0,
    "iRequestId": 7,
    "sServantName": "S",
    "sFuncName": "f",
    "sBuffer": b"body",
    "iTimeout": 3000,
    "context": {},
    "status": {},
}

OTHERS: dict[str, list[Any]] = {
    "iVersion": [0, 3, 5, -1, 300],
    "cPacketType": [1, -1],
    "iMessageType": [1, 0x80, 0x100, -1, 1 << 20],
    "sServantName": ["", "T", "SS", "S" * 300],
    "sFuncName": ["", "g", "ff"],
    "sBuffer": [b"", b"bodx", b"body\x00"],
    "iTimeout": [0, 1, 60_000],
    "context": [{"k": "v"}, {"k": ""}, {"": ""}],
    "status": [{"k": "v"}, {"k": ""}, {"": ""}],
}


class Server:
    """A connection's environment that remembers: what was looked up, and what was handed over to be decoded."""

    def __init__(self, answers: dict[bytes, Reply] | None = None, scope: bytes = b"", **limits: Any) -> None:
        self.answers = answers if answers is not None else {}
        self.keys: list[bytes] = []
        self.handled: list[tuple[bytes, bytes | None, Caller]] = []
        self.connection = Connection(CALLER, self._handle, self._lookup, scope=scope, **limits)

    def _lookup(self, key: bytes) -> Reply | None:
        self.keys.append(key)
        return self.answers.get(key)

    def _handle(self, data: bytes, key: bytes | None, caller: Caller) -> bytes:
        self.handled.append((data, key, caller))
        return b"answer"


def key_of(scope: bytes = b"", **fields: Any) -> bytes:
    server = Server(scope=scope)
    server.connection.receive(encode_request(RequestPacket(**BASE | fields)))
    (key,) = server.keys
    return key


def drive(connection: Connection, parts: Iterable[bytes]) -> bytes:
    """All that is sent for these reads, as a shell drives it."""
    out = b""
    for part in parts:
        out += connection.receive(part)
        while connection.held and not connection.error:
            out += connection.receive(b"")
    return out


# -- keys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", OTHERS)
def test_every_field_but_the_request_id_is_in_the_key(field: str) -> None:
    """Each also under its default: a request with no optional field left out is how all clients write it."""
    keys = [key_of(**{field: value}) for value in [BASE[field], *OTHERS[field]]]
    assert len(set(keys)) == len(keys)


def test_the_request_id_is_not_in_the_key() -> None:
    assert {key_of(iRequestId=request_id) for request_id in ID_CORNERS} == {key_of()}


def test_the_scope_stands_before_the_key() -> None:
    assert key_of(b"group-a") == b"group-a" + key_of()
    assert key_of(b"group-a") != key_of(b"group-b")


@given(st.data())
def test_two_requests_have_one_key_only_where_they_differ_in_their_id_alone(data: st.DataObject) -> None:
    def draw() -> dict[str, Any]:
        return {name: data.draw(st.sampled_from([BASE[name], *OTHERS[name]])) for name in OTHERS}

    first, second = draw(), draw()
    ids = data.draw(st.tuples(st.sampled_from(ID_CORNERS), st.sampled_from(ID_CORNERS)))
    same = key_of(**first, iRequestId=ids[0]) == key_of(**second, iRequestId=ids[1])
    assert same == (first == second)


def test_a_frame_that_does_not_start_as_clients_write_it_has_no_key() -> None:
    server = Server()
    data = frame(bytes.fromhex("10014200000007" + "560153660166" + "7d000c"))
    assert server.connection.receive(data) == b"answer"
    assert server.keys == []
    assert server.handled == [(data, None, CALLER)]


def test_what_is_not_known_is_handed_over_with_its_key() -> None:
    server = Server(scope=b"s")
    data = request("add", 1, 2)
    assert server.connection.receive(data) == b"answer"
    assert server.handled == [(data, server.keys[0], CALLER)]


# -- hits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("message_type", [0, 0x80])
def test_a_known_answer_is_the_same_bytes_as_a_new_one(version: int, message_type: int) -> None:
    """For ids of every width, those of the question that was answered first and all others."""
    answers: dict[bytes, Reply] = {}

    def say(call: Call) -> Reply:
        assert call.key is not None
        return answers.setdefault(call.key, call.reply((call.arguments[0],)))

    keeping = Dispatcher({SERVANT: Servant(KINDS, {"say": say})})
    forgetful = Kinds()
    for request_id in ID_CORNERS:
        data = request("say", "文\udc80", version=version, iRequestId=request_id, iMessageType=message_type)
        missed = Connection(CALLER, forgetful.dispatcher.handle).receive(data)
        found = Connection(CALLER, keeping.handle, answers.get).receive(data)
        assert missed == found != b""
    assert len(answers) == 1
    assert len(forgetful.calls) == len(ID_CORNERS)


def test_a_hit_is_never_handed_over() -> None:
    data = request("add", 1, 2)
    known = reply(1, 0, b"\x00\x03")
    server = Server({key_of(sServantName="x"): known})
    server.answers[_key(data)] = known
    assert server.connection.receive(data * 3) == known.frame(7) * 3
    assert server.handled == []


def test_a_one_way_hit_is_silent() -> None:
    data = request("note", "x", cPacketType=1)
    server = Server({_key(data): NO_REPLY})
    assert server.connection.receive(data * 2) == b""
    assert server.handled == []


def test_hits_and_misses_of_one_read_are_answered_in_order() -> None:
    known, new = request("add", 1, 2), request("say", "x")
    server = Server({_key(known): reply(1, 0, b"")})
    hit = reply(1, 0, b"").frame(7)
    assert server.connection.receive(known + new + known) == hit + b"answer" + hit


# -- frames laid out as the one before them ------------------------------------------------------------------------

WRITTEN = st.one_of(
    spelled_requests(),
    st.builds(
        lambda first, request_id, name: frame(put_id((bytes.fromhex(first), bytes.fromhex(name)), request_id)),
        st.sampled_from(["1001", "10012c3c", "10012001", "1c2c3c", "1001210001", "11012c"]),
        st.sampled_from(ID_CORNERS),
        st.sampled_from(["560153", "57000000" + "0153", "2c560153", "2001560153", "4008560153", "4c"]),
    ),
    st.sampled_from(["10012c3c4007", "10012c3c410007", "10012c3c4200000007", "10012c3c42ffff8000", "10012c3c4000"]).map(
        request_after
    ),
)
"""Requests as clients write them, and some that differ from those by little."""


@FEWER
@given(st.lists(WRITTEN, min_size=1, max_size=6), st.binary(max_size=3))
def test_what_a_frame_is_known_by_does_not_depend_on_those_before_it(frames: list[bytes], scope: bytes) -> None:
    """Nor on whether it comes alone or behind others in one read."""
    alone, together, one_by_one = Server(scope=scope), Server(scope=scope), Server(scope=scope)
    for each in frames:
        alone.connection = Connection(CALLER, alone._handle, alone._lookup, scope=scope)
        alone.connection.receive(each)
        one_by_one.connection.receive(each)
    together.connection.receive(b"".join(frames))
    assert one_by_one.handled == together.handled == alone.handled


@FEWER
@given(st.lists(st.tuples(st.sampled_from(("add", "say", "note")), st.sampled_from(ID_CORNERS)), min_size=1))
def test_every_frame_gets_its_own_id_back(asked: list[tuple[str, int]]) -> None:
    """With ids of all widths, and questions that come again, in one read and alone."""
    known = {name: reply(1, 0, name.encode()) for name in ("add", "say", "note")}
    frames = [request(name, body=b"", iRequestId=request_id) for name, request_id in asked]
    answers = {_key(data): known[name] for data, (name, _) in zip(frames, asked, strict=True)}
    right = [known[name].frame(request_id) for name, request_id in asked]
    server = Server(answers)
    assert server.connection.receive(b"".join(frames)) == b"".join(right)
    assert [server.connection.receive(each) for each in frames] == right
    assert server.handled == []


class Counted(Reply):
    """Knows how often it was given without being looked up."""

    times = 0

    def given(self, times: int) -> None:
        self.times += times


@pytest.mark.parametrize("run", [1, 2, 3, 4, 5, 6, 7, 32, 33, 34, 100])
def test_a_run_of_one_question_is_looked_up_once_and_counted_each_time(run: int) -> None:
    first, second = request("add", 1, 2), request("add", 3, 4)
    shape = reply(1, 0, b"x")
    one, two = Counted(shape.heads, shape.tail), Counted(shape.heads, shape.tail)
    server = Server({_key(first): one, _key(second): two})
    server.connection.receive(first)  # the first read of a connection is looked at more closely
    for stream in (first * run + second * run, first + second, first * run):
        server.keys.clear()
        one.times = two.times = 0
        server.connection.receive(stream)
        assert one.times + two.times + len(server.keys) == len(stream) // len(first)
        assert len(server.keys) <= 2


RUNS = st.lists(
    st.tuples(
        st.sampled_from(("add", "say", "note")),
        st.integers(-140, 140) | st.sampled_from(ID_CORNERS),
        st.integers(1, 40),
    ),
    min_size=1,
    max_size=4,
)
"""Of each run its question, its first request id, how many there are."""


def _run(name: str, first: int, count: int) -> list[bytes]:
    step = 1 if first < 0 else -1
    return [request(name, body=b"", iRequestId=first + step * n) for n in range(count)]


@FEWER
@given(RUNS, st.sampled_from((0, 100, 5_000)), st.data())
def test_runs_are_answered_as_each_of_their_frames_alone(
    runs: list[tuple[str, int, int]], max_unsent: int, data: st.DataObject
) -> None:
    """Whatever stands in one byte of them, and however much may be sent at a time."""
    frames = [each for run in runs for each in _run(*run)]
    known = {"add": reply(1, 0, b"add"), "say": reply(1, 0, b"say" * 20), "note": NO_REPLY}
    answers = {_key(request(name, body=b"")): known[name] for name in known}
    spoilt = data.draw(st.integers(-1, len(frames) - 1))
    if spoilt >= 0:
        at = data.draw(st.integers(4, len(frames[spoilt]) - 1))
        frames[spoilt] = frames[spoilt][:at] + data.draw(st.binary(min_size=1, max_size=1)) + frames[spoilt][at + 1 :]
    alone, together = Server(answers), Server(answers, max_unsent_bytes=max_unsent)
    for each in (alone, together):
        each.connection.receive(request("add", body=b""))  # the first read is looked at more closely
    assert drive(together.connection, [b"".join(frames)]) == drive(alone.connection, frames)
    assert together.handled == alone.handled
    assert str(together.connection.error) == str(alone.connection.error)


@pytest.mark.parametrize("lie", [0, 4, 10, 60, 80, 200, 1 << 20, 1 << 31])
def test_a_length_that_is_a_lie_ends_a_run(lie: int) -> None:
    frames = _run("add", 1000, 20)
    server = Server({_key(frames[0]): reply(1, 0, b"x")}, max_frame_bytes=1000)
    drive(server.connection, frames[:1])
    frames[10] = lie.to_bytes(4, "big") + frames[10][4:]
    alone = Connection(CALLER, server._handle, server.answers.get, max_frame_bytes=1000)
    assert server.connection.receive(b"".join(frames)) == drive(alone, bytewise(b"".join(frames)))
    assert str(server.connection.error) == str(alone.error)
    assert server.connection.waiting == alone.waiting


@pytest.mark.parametrize(
    ("first", "wide"),
    [
        *((100, bytes((n,))) for n in (0,)),
        *((1000, n.to_bytes(2, "big", signed=True)) for n in (0, 127, -1, -128)),
        *((100_000, n.to_bytes(4, "big", signed=True)) for n in (0, 32_767, -1, -32_768)),
    ],
)
def test_an_id_that_could_be_narrower_is_decoded_also_in_a_run(first: int, wide: bytes) -> None:
    """So that the answer has it as the caller would be answered otherwise."""
    frames = _run("add", first, 9)
    server = Server({_key(frames[0]): reply(1, 0, b"x")})
    drive(server.connection, frames[:1])
    start, end = request_id_span(frames[5]) or (0, 0)
    assert end - start == len(wide)
    frames[5] = frames[5][:start] + wide + frames[5][end:]
    server.connection.receive(b"".join(frames))
    assert [data for data, _, _ in server.handled] == [frames[5]]


def test_an_answer_is_never_that_of_the_question_before() -> None:
    """Not where the one between them is laid out otherwise, and the next as that."""
    frames = [*_run("add", 1000, 1), *_run("say", 100_000, 1), *_run("add", 100_001, 1)]
    known = {name: reply(1, 0, name.encode()) for name in ("add", "say")}
    server = Server({_key(request(name, body=b"")): known[name] for name in known})
    drive(server.connection, _run("add", 1001, 1))
    right = [known[name].frame(n) for name, n in (("add", 1000), ("say", 100_000), ("add", 100_001))]
    assert server.connection.receive(b"".join(frames)) == b"".join(right)


def test_a_question_whose_answer_was_not_known_is_looked_up_again_in_the_same_read() -> None:
    server = Server()
    data = request("add", 1, 2)

    def handle(data: bytes, key: bytes | None, caller: Caller) -> bytes:
        assert key is not None
        server.answers[key] = reply(1, 0, b"known")
        return b"made"

    connection = Connection(CALLER, handle, server._lookup)
    connection.receive(request("add", 3, 4))  # the first read of a connection is looked at more closely
    known = reply(1, 0, b"known").frame(7)
    assert connection.receive(data * 3) == b"made" + known * 2


@pytest.mark.parametrize("tail", [b"", request("add", 1, 2)[:10], b"\x00\x00\x00\x01", request("add", 1, 2) * 2])
def test_what_is_behind_an_answer_that_takes_time_is_not_lost(tail: bytes) -> None:
    """Whatever the connection was like before: new, or with all as it nearly always is."""
    ends = []
    for first in (b"", request("add", 1, 2)):
        kinds = Kinds()
        connection = Connection(CALLER, kinds.dispatcher.handle, max_outstanding=1)
        connection.receive(first)
        connection.receive(request("later", 1) + tail)
        ends.append((connection.held, connection.waiting, str(connection.error), connection.calm))
        for answer in connection.pending:
            abandon(answer)
    assert ends[0] == ends[1]
    assert sum(ends[1][:2]) == len(tail) or ends[1][2] != "None"


@pytest.mark.parametrize("request_id", ID_CORNERS)
def test_a_known_question_alone_in_its_read_never_waits(request_id: int) -> None:
    """Nor does it use up what others share, however its request is laid out."""
    turns = Turns(3600, answer_bytes=1000)
    data = request("add", 1, 2, iRequestId=request_id)
    connection = Connection(CALLER, refuse, {_key(data): reply(1, 0, b"x")}.get, turns=turns)
    connection.receive(request("add", 1, 2, iRequestId=7))
    turns.crowded = True
    turns.left = turns.known_left = -1.0
    turns.room = -1
    for _ in range(2):
        assert connection.receive(data) == reply(1, 0, b"x").frame(request_id)
    assert (turns.left, turns.known_left, turns.room, connection.held) == (-1.0, -1.0, -1, 0)


def test_a_connection_is_over_also_after_a_frame_that_came_too_late() -> None:
    connection = Connection(CALLER, refuse, {_key(request("add", 1, 2)): reply(1, 0, b"x")}.get)
    connection.receive(request("add", 1, 2))
    connection.late = True
    connection.receive(frame(b"\x1c\x2c") + frame(b"\x1c\x2c"))
    assert connection.error is not None
    assert (connection.calm, connection.receive(request("add", 1, 2))) == (False, b"")


def test_another_scope_is_before_the_keys_of_the_next_read() -> None:
    server = Server(scope=b"one ")
    data = request("add", 1, 2)
    for scope in (b"one ", b"two ", b""):
        server.connection.scope = scope
        server.keys.clear()
        server.connection.receive(data)
        server.connection.receive(data)
        assert server.keys == [scope + _key(data)] * 2


def _key(data: bytes) -> bytes:
    start, end = request_id_span(data) or (0, 0)
    return data[4 : start - 1] + KEY_ID + data[end:]


# -- ends ----------------------------------------------------------------------------------------------------------


def test_a_refusal_ends_the_connection_after_the_earlier_answers() -> None:
    kinds = Kinds()
    connection = kinds.connect(CALLER)
    good = request("add", 1, 2)
    first = Kinds().connect(CALLER).receive(good)
    assert connection.receive(good + frame(b"\xff") + good) == first
    assert isinstance(connection.error, Refused)
    assert connection.error.reason == "undecodable"
    assert len(kinds.calls) == 1, "nothing behind it is run"


@pytest.mark.parametrize("last", [frame(b"\xff"), b"\x00\x00\x00\x00", b"\xff\xff\xff\xff"])
def test_nothing_more_is_taken_once_a_connection_is_over(last: bytes) -> None:
    kinds = Kinds()
    connection = kinds.connect(CALLER)
    connection.receive(last)
    error = connection.error
    assert error is not None
    assert connection.receive(request("add", 1, 2)) == b""
    assert (connection.error, kinds.calls) == (error, [])


def test_a_bad_length_ends_the_connection_after_the_earlier_answers() -> None:
    connection = Kinds().connect(CALLER)
    good = request("add", 1, 2)
    assert connection.receive(good + b"\x00\x00\x00\x04") == Kinds().connect(CALLER).receive(good)
    assert connection.error is not None
    assert connection.error.reason == "frame_too_short"


def test_the_limit_of_a_frame_is_that_of_the_connection() -> None:
    server = Server(max_frame_bytes=20)
    assert server.connection.receive(frame(b"x" * 16)) == b"answer"
    assert server.connection.receive((21).to_bytes(4, "big")) == b""
    assert server.connection.error is not None
    assert server.connection.error.reason == "frame_too_long"


def test_a_bug_in_the_handler_is_not_taken_for_the_peers_fault() -> None:
    def broken(data: bytes, key: bytes | None, caller: Caller) -> bytes:
        raise ZeroDivisionError

    connection = Connection(CALLER, broken)
    with pytest.raises(ZeroDivisionError):
        connection.receive(request("add", 1, 2))


# -- answers that take time ----------------------------------------------------------------------------------------


async def test_answers_that_are_not_ready_are_kept_aside_in_order() -> None:
    kinds = Kinds()
    connection = kinds.connect(CALLER)
    out = connection.receive(request("later", 1) + request("add", 1, 2) + request("later", 2, iRequestId=8))
    assert out == Kinds().connect(CALLER).receive(request("add", 1, 2))
    first, second = (asyncio.ensure_future(answer) for answer in connection.pending)
    assert [await kinds.arrived.get(), await kinds.arrived.get()] == [1, 2]
    kinds.release(2, 20)
    kinds.release(1, 10)
    assert await first == reply(1, 0, b"\x00\x0a").frame(7)
    assert await second == reply(1, 0, b"\x00\x14").frame(8)


def test_whoever_drives_the_connection_takes_the_pending_answers_out() -> None:
    made: list[Awaitable[bytes]] = []

    def handle(data: bytes, key: bytes | None, caller: Caller) -> Awaitable[bytes]:
        made.append(asyncio.Future(loop=loop))
        return made[-1]

    loop = asyncio.new_event_loop()
    try:
        connection = Connection(CALLER, handle)
        assert connection.receive(request("add", 1, 2) * 2) == b""
        assert connection.pending == made
        connection.pending = []
        connection.receive(request("add", 1, 2))
        assert connection.pending == made[2:]
    finally:
        loop.close()


# -- more to send than one read deserves ---------------------------------------------------------------------------


def test_frames_wait_once_there_is_much_to_send() -> None:
    """One read of small questions may ask for a thousand times its size; the rest is answered when that is sent."""
    big = reply(1, 0, b"x" * 1000)
    data = request("add", 1, 2)
    for answers in ({}, {_key(data): big}):
        server = Server(answers, max_unsent_bytes=2500)
        connection = Connection(CALLER, lambda data, key, caller: big.frame(7), server._lookup, max_unsent_bytes=2500)
        first = connection.receive(data * 10)
        assert first == big.frame(7) * 3
        assert connection.held == 7 * len(data)
        assert connection.receive(data) == b"", "what came last waits behind"
        assert connection.receive(b"") == first
        assert connection.held == 5 * len(data)
        assert connection.receive(b"") + connection.receive(b"") == big.frame(7) * 5
        assert (connection.held, connection.receive(b"")) == (0, b"")


def test_the_end_of_a_connection_waits_for_the_frames_before_it() -> None:
    big = reply(1, 0, b"x" * 1000).frame(7)
    data = request("add", 1, 2)
    connection = Connection(CALLER, lambda data, key, caller: big, max_unsent_bytes=1)
    assert connection.receive(data * 2 + b"\x00\x00\x00\x00") == big
    assert (connection.held, connection.error) == (len(data) + 4, None)
    assert connection.receive(b"") == big
    assert connection.receive(b"") == b""
    assert connection.error is not None


def test_a_refusal_drops_the_frames_behind_it() -> None:
    big = reply(1, 0, b"x" * 1000).frame(7)
    answers: list[bytes | FrameError] = [big, Refused("no", "no")]

    def handle(data: bytes, key: bytes | None, caller: Caller) -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, FrameError):
            raise answer
        return answer

    connection = Connection(CALLER, handle, max_unsent_bytes=1)
    assert connection.receive(request("add", 1, 2) * 3) == big
    assert connection.receive(b"") == b""
    assert (connection.held, connection.error is not None) == (0, True)


# -- the same however the bytes come -------------------------------------------------------------------------------

GOOD = st.one_of(
    st.builds(
        lambda a, b, i: request("add", a, b, iRequestId=i), *[st.integers(-99, 99)] * 2, st.sampled_from(ID_CORNERS)
    ),
    st.builds(lambda text, v: request("say", text, version=v), st.text(max_size=5), st.sampled_from(VERSIONS)),
    st.builds(lambda v: request("tars_ping", body=b"", version=v), st.sampled_from((1, 5, 9))),
    st.sampled_from(
        [
            request("note", "x", cPacketType=1),
            request("nobody", body=b""),
            request("add", 1, 2, servant="no.such.Obj"),
            request("add", body=b"\x16"),
            request("crash"),
            frame(bytes.fromhex("10012c3c4007")),
            frame(bytes.fromhex("0c1001400756015366016d7d000c")),
        ]
    ),
)
BAD = st.sampled_from(
    [frame(b"\xff"), frame(b"\x10\x01"), b"\x00\x00\x00\x00", b"\x00\x00\x00\x04", b"\xff\xff\xff\xff"]
)


@FEWER
@given(st.lists(GOOD, max_size=6), st.lists(st.one_of(BAD, GOOD), max_size=3), CUTS, st.sampled_from([0, 40, 1 << 18]))
def test_the_same_is_sent_however_the_bytes_come(
    good: list[bytes], rest: list[bytes], cuts: list[int], max_unsent: int
) -> None:
    """Good frames, then good and bad ones: whole, one byte at a time and cut anywhere, with and without a look-up."""
    stream = b"".join(good + rest)
    ends = []
    for parts in ([stream], bytewise(stream), list(pieces(stream, cuts))):
        for keep in (False, True):
            kinds = Kinds()
            connection = Connection(CALLER, kinds.dispatcher.handle, _keeper(keep), max_unsent_bytes=max_unsent)
            sent = drive(connection, parts)
            error = connection.error
            assert drive(connection, [] if error is None else [request("add", 1, 2)]) == b""
            end = (error.reason, str(error)) if error else connection.waiting
            ends.append((sent, end, connection.held))
    assert ends.count(ends[0]) == len(ends)


def _keeper(keep: bool) -> Lookup:
    """A look-up that knows the answer to ``note``, which is none, or nothing."""
    if not keep:
        return unknown
    known = {_key(request("note", "x", cPacketType=1)): NO_REPLY}
    return known.get
