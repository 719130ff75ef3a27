"""A connection without I/O does no more at a stretch than it should: turns, answers under way, requests refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tars_protocol.connection import Connection
from tars_protocol.constants import RECONNECT, ReturnCode
from tars_protocol.frames import FrameReader, frame
from tars_protocol.handlers import Caller, Load, Refused, abandon, unknown
from tars_protocol.packets import NO_REPLY, decode_response, reply
from tars_protocol.refusals import RECONNECT_FRAME, overloaded, speaks
from tars_protocol.turns import Turns
from tests.tars_protocol.shared import CALLER, CUTS, ID_CORNERS, VERSIONS, bytewise, captured, pieces, request


def numbered(count: int) -> bytes:
    return b"".join(request("add", n, 0, iRequestId=n) for n in range(1, count + 1))


def ids(data: bytes) -> list[int]:
    """The request ids of some answers."""
    return [decode_response(each).request_id for each in FrameReader().feed(data)]


class Handled:
    """Answers everything, and remembers what it was asked."""

    def __init__(self) -> None:
        self.ids: list[int] = []

    def __call__(self, data: bytes, key: bytes | None, caller: Caller) -> bytes | Awaitable[bytes]:
        request_id = 1 + len(self.ids)
        self.ids.append(request_id)
        return reply(1, 0, b"").frame(request_id)


def refuse(data: bytes, key: bytes | None, caller: Caller) -> bytes:
    """Take a frame for no request."""
    raise Refused("undecodable", "no request")


class _Under:
    """An answer that never comes."""

    closed = 0

    def __await__(self) -> object:
        raise AssertionError("nobody is to wait for it")

    def close(self) -> None:
        self.closed += 1


# -- turns ---------------------------------------------------------------------------------------------------------


ONE = len(request("add", 1, 0, iRequestId=1))


class Anew(Connection):
    """A connection for which a stretch of no length begins with each read: it has time for one request."""

    def __init__(self, handled: Handled, lookup: Any = unknown) -> None:
        self.turns = Turns(0)
        super().__init__(CALLER, handled, lookup, turns=self.turns)

    def receive(self, data: bytes) -> bytes:
        self.turns.renew()
        return super().receive(data)


def test_when_its_turn_is_over_the_rest_is_held_and_goes_on_where_it_stopped() -> None:
    """What comes meanwhile waits behind it, and takes no turn of its own."""
    handled = Handled()
    connection = Anew(handled)
    assert ids(connection.receive(numbered(4))) == [1]
    assert (connection.held, len(handled.ids)) == (3 * ONE, 1)
    assert connection.receive(numbered(1)) == b""
    assert connection.held == 4 * ONE
    assert [ids(connection.receive(b"")) for _ in range(5)] == [[2], [3], [4], [5], []]
    assert connection.held == 0


def test_the_time_is_that_of_all_connections_together() -> None:
    """The second holds even what comes alone, and goes on in the next stretch."""
    turns = Turns(0)
    first, second = (Connection(CALLER, Handled(), turns=turns) for _ in range(2))
    warm = reply(1, 0, b"").frame(1)
    assert first.receive(numbered(1)) == warm
    assert second.receive(numbered(1)) == b""
    turns.renew()
    assert second.receive(b"") == warm
    assert second.receive(numbered(1)) == b""
    assert (first.held, second.held) == (0, ONE)


def test_nobody_is_decoded_for_before_those_that_wait_and_what_is_known_is_answered() -> None:
    handled = Handled()
    turns = Turns(3600)
    known = reply(1, 0, b"x")
    connection = Connection(CALLER, handled, lambda key: known if b"add" in key else None, turns=turns)
    connection.receive(numbered(1))
    turns.crowded = True
    assert ids(connection.receive(numbered(2) + request("crash") + numbered(1))) == [1, 2]
    assert (connection.held, handled.ids) == (len(request("crash")) + ONE, [])
    assert ids(connection.receive(b"")) == [1, 1], "it is their turn"
    assert (connection.held, handled.ids) == (0, [1])
    assert connection.receive(request("crash")) == b"", "one that comes alone waits too"


def test_what_a_single_look_up_answers_uses_up_nothing() -> None:
    turns = Turns(3600, answer_bytes=1000)
    connection = Connection(CALLER, Handled(), lambda key: reply(1, 0, b"x") if b"add" in key else None, turns=turns)
    connection.receive(numbered(1))
    turns.renew()
    connection.receive(numbered(1))
    assert (turns.left, turns.known_left, turns.room) == (3600, 5 * 3600, 1000)
    connection.receive(request("crash"))
    assert turns.left < 3600
    connection.receive(numbered(2))
    assert turns.known_left < 5 * 3600
    assert turns.room < 1000


def test_rows_of_known_answers_go_on_for_longer_than_what_is_to_be_decoded() -> None:
    turns = Turns(3600)
    connection = Connection(CALLER, Handled(), lambda key: reply(1, 0, b"x") if b"add" in key else None, turns=turns)
    connection.receive(numbered(1))
    turns.renew()
    turns.left = -1.0
    assert ids(connection.receive(numbered(40))) == list(range(1, 41))
    turns.renew()
    turns.known_left = -1.0
    assert ids(connection.receive(numbered(40))) == [1], "as the time of one look-up is nobody's"
    assert connection.held == len(numbered(40)) - len(numbered(1))


@pytest.mark.parametrize("count", [2, 5, 31, 100])
def test_the_answers_of_a_run_count_as_every_others(count: int) -> None:
    """In what all connections together may send in a stretch; and they end where it is used up."""
    answer = reply(1, 0, b"x" * 50)
    turns = Turns(3600, answer_bytes=1 << 20)
    connection = Connection(CALLER, Handled(), lambda key: answer, turns=turns)
    connection.receive(numbered(1))
    turns.renew()
    question = [request("add", 1, 0, iRequestId=n) for n in range(200, 200 + count)]
    connection.receive(b"".join(question))
    assert turns.room == (1 << 20) - count * len(answer.tail)
    turns.renew()
    turns.room = len(answer.tail) * (count // 2)
    assert ids(connection.receive(b"".join(question))) == list(range(200, 201 + count // 2))


@pytest.mark.parametrize("alike", [True, False], ids=["a run of one question", "others in turn"])
def test_the_clock_is_looked_at_every_few_known_answers(alike: bool) -> None:
    """Every eight where it is somebody's own time."""
    turns = Turns(3600)
    connection = Connection(CALLER, Handled(), lambda key: reply(1, 0, b"x"), turns=turns)
    connection.receive(numbered(1))
    turns.renew()
    turns.left = turns.known_left = turns.share = 0.0
    question = [request("add", 1, 0 if alike else n, iRequestId=n) for n in range(1, 101)]
    assert ids(connection.receive(b"".join(question))) == list(range(1, 33))
    assert ids(connection.receive(b"")) == list(range(33, 41))


def test_a_stretch_is_anew_once_its_first_comes_again() -> None:
    """All sockets were looked at meanwhile; so nobody needs to wait for that."""
    turns, handled = Turns(3600), Handled()
    first, second = (Connection(CALLER, handled, turns=turns) for _ in range(2))
    first.receive(numbered(1))
    turns.left = turns.known_left = -1.0
    assert second.receive(numbered(1)) == b""
    assert second.held == ONE
    assert ids(first.receive(numbered(3))) == [2, 3, 4]
    turns.left = turns.known_left = -1.0
    other = Connection(CALLER, handled, turns=turns)
    assert other.receive(numbered(1)) == b"", "the first is the first of the new stretch"


def test_one_that_comes_alone_shows_it_too() -> None:
    turns, handled = Turns(3600), Handled()
    first, second = (Connection(CALLER, handled, turns=turns) for _ in range(2))
    for each in (first, second):
        each.receive(numbered(1))
    turns.renew()
    first.receive(numbered(1))
    turns.left = -1.0
    assert second.receive(numbered(1)) == b""
    assert ids(first.receive(numbered(1))) == [4]


def test_a_read_that_may_go_on_at_once_shows_nothing() -> None:
    """A socket with much to read is read again before any other."""
    turns, handled = Turns(3600), Handled()
    much = numbered(1 + (1 << 16) // ONE)
    greedy = Connection(CALLER, handled, turns=turns, max_unsent_bytes=1 << 30)
    for data in (numbered(1), much, much):
        assert greedy.receive(data) != b""
    turns.left = turns.known_left = -1.0
    assert ids(greedy.receive(much)) == [], "it has used up the stretch"


def test_those_that_wait_come_first_also_in_a_new_stretch() -> None:
    turns = Turns(3600)
    connection = Connection(CALLER, Handled(), turns=turns)
    connection.receive(numbered(1))
    turns.crowded = True
    assert connection.receive(numbered(1)) == b""
    assert connection.held == ONE


def test_what_is_held_counts_until_it_is_answered_or_given_up() -> None:
    connection = Anew(Handled())
    connection.receive(numbered(4))
    connection.receive(numbered(2))
    assert connection.held == 5 * ONE
    connection.receive(b"")
    assert connection.held == 4 * ONE
    connection.forget()
    assert (connection.held, connection.receive(b"")) == (0, b"")


def test_what_waited_too_long_is_refused_and_what_is_known_is_answered_all_the_same() -> None:
    handled = Handled()
    known = reply(1, 0, b"x")
    connection = Anew(handled, lambda key: known if b"add" in key else None)
    connection.receive(request("crash", iRequestId=1) * 2 + numbered(2) + request("crash", iRequestId=3))
    assert connection.held
    connection.late = True
    out = b"".join(connection.receive(b"") for _ in range(3))
    answers = [decode_response(each) for each in FrameReader().feed(out)]
    assert [(each.request_id, each.code) for each in answers] == [(1, -9), (1, 0), (2, 0), (3, -9)]
    assert answers[0].description == "too many requests wait to be decoded: ask again"
    assert (connection.turns.refused, len(handled.ids)) == (2, 1)


def test_garbage_that_waited_too_long_ends_the_connection_and_what_wants_no_answer_gets_none() -> None:
    connection = Anew(Handled())
    connection.receive(request("crash") + request("note", "x", cPacketType=1) + frame(b"\xff\xff") + numbered(1))
    connection.late = True
    assert [connection.receive(b"") for _ in range(3)] == [b""] * 3
    assert str(connection.error) == "not a request"
    assert connection.held == 0


@pytest.mark.parametrize("one_way", [True, False])
def test_of_what_is_known_by_its_bytes_so_much_is_answered_as_there_is_time_for(one_way: bool) -> None:
    """Thousands of them in one read take time as well, also where none of them is answered."""
    asked: list[bytes] = []

    def lookup(key: bytes) -> Any:
        asked.append(key)
        return NO_REPLY if one_way else reply(1, 0, b"x")

    connection = Anew(Handled(), lookup)
    connection.receive(numbered(1))
    asked.clear()
    out = connection.receive(numbered(500))
    assert 16 <= len(asked) < 100
    while connection.held:
        out += connection.receive(b"")
    assert ids(out) == ([] if one_way else list(range(1, 501)))
    assert len(asked) == 500


def test_of_bytes_that_are_no_requests_none_are_cut_that_are_not_looked_at() -> None:
    """Five bytes each: to cut them all would take as long as thousands of answers."""
    connection = Anew(Handled())
    tiny = b"\x00\x00\x00\x05\x4c"
    connection.receive(tiny * 50_000)
    assert connection.taken < 100 * len(tiny)
    connection.receive(b"")
    assert connection.taken < 200 * len(tiny)


@given(CUTS)
def test_turns_change_no_answer_however_the_bytes_come(cuts: list[int]) -> None:
    stream = numbered(9)
    for cut in (pieces(stream, cuts), bytewise(stream)):
        connection = Anew(Handled())
        out = b"".join(map(connection.receive, cut))
        while connection.held:
            out += connection.receive(b"")
        assert ids(out) == list(range(1, 10))


def test_garbage_behind_what_is_held_ends_the_connection_when_its_turn_comes() -> None:
    connection = Anew(Handled())
    assert ids(connection.receive(numbered(2) + bytes(4))) == [1]
    assert connection.error is None
    assert ids(connection.receive(b"")) == [2]
    assert connection.receive(b"") == b""
    assert connection.error is not None


# -- answers under way ---------------------------------------------------------------------------------------------


def test_with_as_many_under_way_as_may_be_the_rest_is_held() -> None:
    load = Load(100)
    under: list[Any] = [_Under() for _ in range(5)]
    answers = iter(under)
    connection = Connection(CALLER, lambda *_: next(answers), max_outstanding=3, load=load)
    assert connection.receive(numbered(5)) == b""
    assert (connection.pending, connection.outstanding, connection.held) == (under[:3], 3, 2 * ONE)
    assert (connection.full, load.in_flight) == (True, 3)
    connection.pending.clear()
    connection.answered()
    assert not connection.full
    connection.receive(b"")
    assert (connection.pending, connection.outstanding, connection.held) == (under[3:4], 3, ONE)
    for _ in range(3):
        connection.answered()
    assert (connection.outstanding, load.in_flight, load.full) == (0, 0, False)


async def test_what_is_given_up_is_closed_or_cancelled() -> None:
    async def never() -> bytes:
        raise AssertionError("it is not to begin")

    abandon(never())
    future = asyncio.get_running_loop().create_future()
    abandon(future)
    assert future.cancelled()
    under = _Under()
    abandon(under)  # type: ignore[arg-type]
    assert under.closed == 1


# -- what is refused undecoded -------------------------------------------------------------------------------------


def test_each_frame_is_asked_for_once_and_those_above_are_refused_in_their_turn() -> None:
    asked: list[int] = []

    def admit() -> bool:
        asked.append(1)
        return len(asked) <= 2

    handled = Handled()
    connection = Anew(handled)
    connection.limit_rate(admit)
    out = connection.receive(numbered(4))
    assert len(asked) == 1
    while connection.held:
        out += connection.receive(b"")
    assert [(each.request_id, each.code) for each in map(decode_response, FrameReader().feed(out))] == [
        (1, 0),
        (2, 0),
        (3, ReturnCode.OVERLOAD),
        (4, ReturnCode.OVERLOAD),
    ]
    assert len(asked) == 4
    connection.receive(numbered(1)[:10])
    assert len(asked) == 4
    connection.receive(numbered(1)[10:])
    assert len(asked) == 5
    connection.limit_rate(None)
    connection.receive(numbered(5))
    assert len(asked) == 5


def test_one_that_was_let_in_and_then_had_to_wait_is_not_asked_for_again() -> None:
    asked: list[int] = []

    def admit() -> bool:
        asked.append(1)
        return True

    turns = Turns(3600)
    connection = Connection(CALLER, Handled(), turns=turns)
    connection.limit_rate(admit)
    turns.crowded = True
    assert connection.receive(numbered(2)) == b""
    assert len(asked) == 1
    assert ids(connection.receive(b"")) == [1, 2]
    assert len(asked) == 2


def test_a_refusal_waits_for_its_turn_too_and_is_counted_once() -> None:
    """It takes as long as an answer that has to be decoded: an enforced rate must not make things worse."""
    asked: list[int] = []

    def admit() -> bool:
        asked.append(1)
        return False

    turns = Turns(0)
    connection = Connection(CALLER, Handled(), turns=turns)
    connection.limit_rate(admit)
    turns.left = turns.known_left = -1.0  # others have used up the stretch
    assert connection.receive(numbered(1)) == b""
    assert (connection.held, len(asked)) == (ONE, 1)
    assert decode_response(connection.receive(b"")).code == ReturnCode.OVERLOAD
    assert (connection.held, len(asked)) == (0, 1)


def test_what_was_said_of_a_frame_that_waits_is_forgotten_with_the_limit() -> None:
    turns = Turns(3600)
    connection = Connection(CALLER, Handled(), turns=turns)
    turns.crowded = True
    connection.receive(numbered(1))
    connection.receive(b"")
    connection.limit_rate(lambda: False)
    turns.crowded = False
    assert decode_response(connection.receive(numbered(1))).code == ReturnCode.OVERLOAD


def test_answers_before_bytes_that_are_no_request_are_taken_off_what_may_be_answered() -> None:
    turns = Turns(3600, answer_bytes=1_000_000)
    known = reply(1, 0, bytes(20_000))
    connection = Connection(CALLER, refuse, lambda key: known if b"add" in key else None, turns=turns)
    assert len(connection.receive(numbered(10) + request("crash"))) > 200_000
    assert connection.error is not None
    assert turns.room < 800_000


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("request_id", ID_CORNERS)
def test_a_refusal_is_an_answer_of_the_caller_s_kind(version: int, request_id: int) -> None:
    asked = request("add", 1, 2, version=version, iRequestId=request_id, iMessageType=0x80)
    answer = overloaded(asked, "too much")
    assert answer
    got = decode_response(answer)
    assert (got.version, got.request_id, got.code, got.description) == (version, request_id, -9, "too much")


@pytest.mark.parametrize("line", captured("client-request"))
def test_every_captured_request_can_be_refused_and_tells_its_version(line: dict[str, Any]) -> None:
    data = bytes.fromhex(line["request_hex"])
    assert speaks(data) == line["iVersion"]
    answer = overloaded(data, "too much")
    if line["cPacketType"] == 1:
        assert answer == b""
        return
    assert answer
    assert decode_response(answer).version == line["iVersion"]


@given(st.binary(max_size=40))
def test_whatever_bytes_are_refused_there_is_an_answer_or_none(data: bytes) -> None:
    answer = overloaded(frame(b"\x00" + data), "too much")
    assert answer is None or answer == b"" or decode_response(answer).code == ReturnCode.OVERLOAD


def test_who_wants_no_answer_gets_no_refusal() -> None:
    assert overloaded(request("note", "x", cPacketType=1), "too much") == b""


def test_the_version_is_that_of_the_first_request() -> None:
    connection = Connection(CALLER, Handled())
    assert connection.version is None
    whole = request("add", 1, 2, version=5)
    connection.receive(whole[:7])
    assert connection.version is None
    connection.receive(whole[7:] + request("add", 1, 2, version=1))
    assert connection.version == 5


def test_the_last_word_is_what_tarsgo_takes_for_it() -> None:
    """As its own servers push it: a response with request id 0, marked as normal, in TARS."""
    got = decode_response(RECONNECT_FRAME)
    assert (got.version, got.request_id, got.code, got.description, got.body) == (1, 0, 0, RECONNECT, b"")
