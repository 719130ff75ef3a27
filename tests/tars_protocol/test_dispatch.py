"""Dispatch: each kind of call gets its answer in the form of its version, and no peer can make it fail or grow."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jce import Int32, tuple_codec
from jce.schema import fields
from tars_protocol.bodies import FORMS
from tars_protocol.constants import STATUS_RESULT_CODE, STATUS_RESULT_DESC
from tars_protocol.dispatch import OTHER, Call, Dispatcher, Servant
from tars_protocol.errors import CallError
from tars_protocol.frames import frame
from tars_protocol.handlers import Refused
from tars_protocol.interface import Interface, Out, function
from tars_protocol.packets import (
    REQUEST,
    RESPONSE,
    RequestPacket,
    Response,
    decode_response,
    reply,
    request_id_span,
)
from tests.support.jce_strategies import any_bytes, field_values, mutations
from tests.tars_protocol.shared import CALLER, EVERYTHING, FEWER, KINDS, NOTHING, SERVANT, VERSIONS, Kinds, request

EMPTY = {1: b"", 3: b"\x08\x0c", 5: b"{}"}
"""A body without values, by version."""

NOT_SERVED = (2, 4, 9, 0, -1)


def answer(kinds: Kinds, data: bytes) -> bytes:
    """The response frame of a call that is answered at once."""
    found = kinds.dispatcher.handle(data, None, CALLER)
    assert isinstance(found, bytes)
    return found


def ask(kinds: Kinds, data: bytes) -> Response:
    return decode_response(answer(kinds, data))


def results(kinds: Kinds, name: str, *arguments: Any, version: int) -> tuple[Any, ...]:
    """What a call gives, seen by a client."""
    response = ask(kinds, request(name, *arguments, version=version))
    assert (response.version, response.request_id, response.code, response.description) == (version, 7, 0, "")
    return FORMS[version].decode(KINDS[name].results, response.body, 20_000)


def counted(kinds: Kinds) -> dict[tuple[str, str, int], int]:
    return dict(kinds.dispatcher.stats.answers)


@pytest.fixture
def kinds() -> Kinds:
    return Kinds()


# -- calls that work -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("value", [EVERYTHING, NOTHING], ids=["everything", "nothing"])
def test_values_of_every_kind_come_back_as_they_were(kinds: Kinds, value: Any, version: int) -> None:
    """As parameter, as return value and as output; with outputs before, between and after the inputs."""
    assert results(kinds, "echo", value, "näme", version=version) == (value, "näme", value, 4)
    (call,) = kinds.calls
    assert call.arguments == (value, "näme")
    assert (call.caller, call.key, call.function) == (CALLER, None, KINDS["echo"])


@pytest.mark.parametrize("version", VERSIONS)
@FEWER
@given(data=st.data())
def test_any_values_come_back_as_they_were(version: int, data: st.DataObject) -> None:
    given_, name = (data.draw(field_values(f)) for f in KINDS["echo"].inputs)
    try:
        body = FORMS[version].encode(KINDS["echo"].inputs, (given_, name))
    except ValueError:
        assert version == 5, "only JSON has no form for some values"
        return
    response = ask(Kinds(), request("echo", version=version, body=body))
    assert response.code == 0, response
    found = FORMS[version].decode(KINDS["echo"].results, response.body, 20_000)
    assert found == (given_, name, given_, len(name))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_void_function_without_outputs_answers_an_empty_body(kinds: Kinds, version: int) -> None:
    assert ask(kinds, request("note", "x", version=version)) == Response(version, 7, 0, "", EMPTY[version])


def test_an_answer_in_version_1_has_its_results_at_their_positions(kinds: Kinds) -> None:
    packet = RESPONSE.decode(answer(kinds, request("echo", NOTHING, "abc"))[4:])
    tags = [f.tag for f in KINDS["echo"].results]
    assert tags == [0, 1, 3, 5]
    assert packet.sBuffer == tuple_codec("by hand", KINDS["echo"].results).encode((NOTHING, "abc", NOTHING, 3))


def test_an_answer_in_version_3_is_a_request_packet_with_the_return_value_under_both_names(kinds: Kinds) -> None:
    packet = REQUEST.decode(answer(kinds, request("add", 1, 2, version=3))[4:])
    assert (packet.iVersion, packet.cPacketType, packet.iRequestId) == (3, 0, 7)
    assert (packet.sServantName, packet.sFuncName, packet.status) == (SERVANT, "add", {})
    assert packet.sBuffer == bytes.fromhex(
        "080002" + "0600" + "1d000002" + "0003" + "06087461 72735f726574" + "1d000002" + "0003"
    )


def test_an_answer_in_version_5_is_an_object_by_names(kinds: Kinds) -> None:
    packet = RESPONSE.decode(answer(kinds, request("add", 1, 2, version=5))[4:])
    assert json.loads(packet.sBuffer) == {"tars_ret": 3}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("flags", [0, 1, 0x80, 0x1FF, -1])
def test_the_message_type_of_the_call_is_repeated(kinds: Kinds, version: int, flags: int) -> None:
    """In answers and in errors."""
    for data in (
        request("add", 1, 2, version=version, iMessageType=flags),
        request("absent", body=b"", version=version, iMessageType=flags),
        request("tars_ping", body=b"", version=version, iMessageType=flags),
        request("add", 1, 2, version=version, iMessageType=flags)[:30],
    ):
        packet = answer(kinds, frame(data[4:]))[4:]
        read = REQUEST if version == 3 else RESPONSE
        assert read.decode(packet).iMessageType == flags


def test_outputs_that_a_client_sends_along_are_not_looked_at(kinds: Kinds) -> None:
    """TarsGo and Java send their old lists, at the outputs' positions."""
    codec = tuple_codec("with outputs", KINDS["echo"].inputs + KINDS["echo"].outputs)
    body = codec.encode((NOTHING, "abc", "old", EVERYTHING, 5))
    assert ask(kinds, request("echo", body=body)).code == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_a_servant_may_give_a_whole_answer_which_it_counts_itself(version: int) -> None:
    def say(call: Call) -> Any:
        return call.reply((call.arguments[0] * 2,))

    dispatcher = Dispatcher({SERVANT: Servant(KINDS, {"say": say})})
    response = dispatcher.handle(request("say", "ab", version=version), b"key", CALLER)
    assert isinstance(response, bytes)
    body = decode_response(response).body
    assert FORMS[version].decode(KINDS["say"].results, body, 100) == ("abab",)
    assert dispatcher.stats.answers == {}


# -- tars_ping -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("body", [b"", b"\x08\x0c", b"{}", b"\xff not looked at"])
def test_every_servant_answers_a_ping(kinds: Kinds, version: int, body: bytes) -> None:
    assert ask(kinds, request("tars_ping", body=body, version=version)) == Response(version, 7, 0, "", EMPTY[version])
    assert counted(kinds) == {(SERVANT, "tars_ping", 0): 1}
    assert kinds.calls == []


def test_a_ping_of_nobody_is_no_servant(kinds: Kinds) -> None:
    assert ask(kinds, request("tars_ping", body=b"", servant="nobody")).code == -4


# -- calls that the caller got wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize("version", NOT_SERVED)
@pytest.mark.parametrize("name", ["add", "tars_ping", "nobody"])
def test_a_version_that_is_not_served_is_told_in_a_response_packet(kinds: Kinds, version: int, name: str) -> None:
    packet = RESPONSE.decode(answer(kinds, request(name, body=b"", version=version))[4:])
    assert (packet.iVersion, packet.iRequestId, packet.iRet, packet.sBuffer) == (version, 7, -1, b"")
    assert packet.sResultDesc == f"iVersion {version} is not served; 1, 3, 5 are"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("servant", "name", "code", "text"),
    [
        ("no.such.Obj", "add", -4, "no servant 'no.such.Obj' here"),
        ("", "add", -4, "no servant '' here"),
        (SERVANT, "drop", -3, "no function 'drop' here"),
        (SERVANT, "absent", -3, "no function 'absent' here"),
        (SERVANT, "", -3, "no function '' here"),
        (SERVANT, "\udc80\ud7ff", -3, "no function '\\udc80\ud7ff' here"),
    ],
)
def test_what_is_not_here_is_told_by_its_code(
    kinds: Kinds, version: int, servant: str, name: str, code: int, text: str
) -> None:
    data = request(name, body=b"", servant=servant, version=version)
    response = ask(kinds, data)
    assert (response.version, response.request_id, response.code, response.body) == (version, 7, code, EMPTY[version])
    assert response.description.isprintable() or name
    assert response.description.startswith(text[:14])
    if version == 3:
        packet = REQUEST.decode(answer(kinds, data)[4:])
        assert packet.status == {STATUS_RESULT_CODE: str(code), STATUS_RESULT_DESC: response.description}
        assert (packet.sServantName, packet.sFuncName) == (servant, name)


def test_a_long_name_is_not_sent_back_whole(kinds: Kinds) -> None:
    assert len(ask(kinds, request("x" * 10_000, body=b"")).description) < 200
    assert len(ask(kinds, request("x", body=b"", servant="x" * 10_000)).description) < 200


@pytest.mark.parametrize(
    ("version", "body", "path"),
    [
        (1, "1007", "b: required field is missing"),
        (1, "160131 2001", "a: expected int32, found string1"),
        (1, "1007 2600", "b: expected int32, found string1"),
        (1, "1007 23", "b: "),
        (1, "1e", ""),
        (3, "", ""),
        (3, "080c", "a: required parameter is missing"),
        (3, "080001 060161 1d000002 0001", "b: required parameter is missing"),
        (3, "080002 060161 1d000002 0001 060162 1d0000 02 0600", "b: "),
        (3, "080002 060161 1d000003 070001 060162 1d0000 02 0001", "a: "),
        (3, "0900", ""),
        (5, b"{}".hex(), "a: required field is missing"),
        (5, b'{"a":1}'.hex(), "b: required field is missing"),
        (5, b'{"a":1,"b":"2"}'.hex(), "b: expected int, found text"),
        (5, b"[]".hex(), "expected an object, found an array"),
        (5, b"".hex(), "no JSON"),
        (5, b"{".hex(), "no JSON"),
    ],
)
def test_a_body_that_does_not_decode_is_told_with_the_parameter(
    kinds: Kinds, version: int, body: str, path: str
) -> None:
    response = ask(kinds, request("add", body=bytes.fromhex(body), version=version))
    assert (response.version, response.request_id, response.code) == (version, 7, -1)
    assert response.description.startswith(f"add: {path}"), response.description
    assert kinds.calls == []
    assert counted(kinds) == {(SERVANT, "add", -1): 1}


def test_the_path_to_a_wrong_value_is_told(kinds: Kinds) -> None:
    by_part = b'{"given":{"i8":1},"name":""}'
    assert ask(kinds, request("echo", body=by_part, version=5)).description.startswith("echo: given.i16: ")
    body = b'{"numbers":[1,2,"x"]}'
    assert ask(kinds, request("total", body=body, version=5)).description.startswith("total: numbers[2]: ")
    assert ask(kinds, request("total", body=bytes.fromhex("1900020001 0600"))).description.startswith(
        "total: numbers[1]: "
    )


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_packet_that_ends_early_is_answered_once_its_id_is_there(kinds: Kinds, cut: int) -> None:
    whole = request("add", 1, 2, iRequestId=300, iMessageType=5)
    _, end = request_id_span(whole) or (0, 0)
    data = frame(whole[4 : 4 + cut])
    if 4 + cut < end:
        with pytest.raises(Refused, match="not a request: ") as caught:
            kinds.dispatcher.handle(data, None, CALLER)
        assert caught.value.reason == "undecodable"
        assert counted(kinds) == {}
    else:
        response = ask(kinds, data)
        assert (response.version, response.request_id, response.code) == (1, 300, -1)
        assert response.description.startswith("not a request: ")
        assert counted(kinds) == {(OTHER, OTHER, -1): 1}


@pytest.mark.parametrize("field", [f for f in fields(RequestPacket) if f.required], ids=lambda f: f.name)
def test_a_packet_without_a_required_field_is_told_its_name(kinds: Kinds, field: Any) -> None:
    packet = REQUEST.decode(request("add", 1, 2)[4:])
    left = tuple(f for f in fields(RequestPacket) if f.name != field.name)
    data = frame(tuple_codec("part", left).encode(tuple(getattr(packet, f.name) for f in left)))
    if field.name == "iRequestId":
        with pytest.raises(Refused, match="iRequestId: required field is missing"):
            kinds.dispatcher.handle(data, None, CALLER)
    else:
        response = ask(kinds, data)
        assert (response.code, response.request_id) == (-1, 7)
        assert response.description.startswith(f"not a request: {field.name}: required field is missing")


@pytest.mark.parametrize("packet", ["12000111704007", "11010040 07", "1001330000000000000001 4007", "10012100014007"])
def test_a_packet_whose_header_is_too_wide_is_answered_and_no_bug(kinds: Kinds, packet: str) -> None:
    response = ask(kinds, frame(bytes.fromhex(packet)))
    assert (response.request_id, response.code) == (7, -1)
    assert kinds.dispatcher.stats.bugs == 0


@given(st.one_of(any_bytes(), mutations(request("add", 1, 2)[4:]), mutations(request("echo", NOTHING, "x")[4:])))
def test_no_bytes_are_a_bug(data: bytes) -> None:
    kinds = Kinds()
    try:
        response = kinds.dispatcher.handle(frame(data), None, CALLER)
    except Refused:
        return
    assert isinstance(response, bytes)
    if response:
        decode_response(response)
    assert kinds.dispatcher.stats.bugs == 0
    assert sum(kinds.dispatcher.stats.answers.values()) == 1


@given(st.sampled_from(VERSIONS), st.data())
def test_no_body_is_a_bug(version: int, data: st.DataObject) -> None:
    kinds = Kinds()
    good = FORMS[version].encode(KINDS["echo"].inputs, (NOTHING, "x"))
    body = data.draw(st.one_of(mutations(good), any_bytes()) if version != 5 else _damaged_json(good))
    response = ask(kinds, request("echo", body=body, version=version))
    assert response.code in (0, -1), response
    assert kinds.dispatcher.stats.bugs == 0


@st.composite
def _damaged_json(draw: st.DrawFn, good: bytes) -> bytes:
    tokens = st.sampled_from(
        [
            b"null",
            b"true",
            b"1e999",
            b"-1",
            b"NaN",
            b"1.5",
            b'"x"',
            b"[]",
            b"{}",
            b"\xff",
            b"[" * 3000,
            b"9" * 5000,
            b'"\\ud800"',
        ]
    )
    at = draw(st.integers(0, len(good)))
    return good[:at] + draw(tokens) + good[at + draw(st.integers(0, 8)) :]


# -- one-way calls -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [*VERSIONS, *NOT_SERVED])
@pytest.mark.parametrize(
    ("name", "body", "servant"),
    [
        ("tars_ping", b"", SERVANT),
        ("add", b"", "nobody"),
        ("drop", b"", SERVANT),
        ("absent", b"", SERVANT),
        ("add", b"\x01\xff", SERVANT),
        ("crash", None, SERVANT),
        ("unfit", None, SERVANT),
        ("note", None, SERVANT),
        ("fail", None, SERVANT),
    ],
)
def test_a_one_way_call_gets_nothing_whatever_comes_of_it(
    kinds: Kinds, version: int, name: str, body: bytes | None, servant: str
) -> None:
    if body is None:
        arguments = {"note": ("x",), "fail": (-9, "no")}.get(name, ())
        form = FORMS.get(version)
        body = form.encode(KINDS[name].inputs, arguments) if form else b""
    data = request(name, body=body, servant=servant, version=version, cPacketType=1)
    assert answer(kinds, data) == b""
    assert sum(kinds.dispatcher.stats.answers.values()) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_the_function_of_a_one_way_call_is_run(kinds: Kinds, version: int) -> None:
    assert answer(kinds, request("note", "heard", version=version, cPacketType=1)) == b""
    assert [call.arguments for call in kinds.calls] == [("heard",)]


def test_a_one_way_packet_that_does_not_decode_gets_nothing(kinds: Kinds) -> None:
    assert answer(kinds, frame(bytes.fromhex("1001 2001 4007"))) == b""
    assert counted(kinds) == {(OTHER, OTHER, -1): 1}


def test_a_whole_answer_is_not_sent_to_a_one_way_call() -> None:
    servant = Servant(KINDS, {"say": lambda call: reply(1, 0, b"")})
    assert Dispatcher({SERVANT: servant}).handle(request("say", "x", cPacketType=1), None, CALLER) == b""


async def test_a_one_way_call_that_takes_time_gets_nothing(kinds: Kinds) -> None:
    ends: list[tuple[int, int | Exception]] = [(1, 10), (2, KeyError("bug")), (3, CallError(-9, "busy"))]
    for n, end in ends:
        found = kinds.dispatcher.handle(request("later", n, cPacketType=1), None, CALLER)
        assert not isinstance(found, bytes)
        task = asyncio.ensure_future(found)
        await kinds.arrived.get()
        kinds.release(n, end)
        assert await task == b""
    assert counted(kinds) == {(SERVANT, "later", 0): 1, (SERVANT, "later", -99): 1, (SERVANT, "later", -9): 1}


# -- calls that end otherwise --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("code", "text"), [(-9, "too busy"), (200, ""), (-99, "文"), (-1, "\udc80")])
def test_the_code_of_a_call_error_is_the_answer(kinds: Kinds, version: int, code: int, text: str) -> None:
    data = request("fail", code, text, version=version)
    assert ask(kinds, data) == Response(version, 7, code, text, EMPTY[version])
    if version == 3:
        status = REQUEST.decode(answer(kinds, data)[4:]).status
        assert status == {STATUS_RESULT_CODE: str(code), STATUS_RESULT_DESC: text}
    assert kinds.dispatcher.stats.bugs == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_an_exception_in_a_servant_is_logged_with_its_trace_and_counted(
    kinds: Kinds, version: int, caplog: pytest.LogCaptureFixture
) -> None:
    response = ask(kinds, request("crash", version=version))
    assert response == Response(version, 7, -99, "internal error", EMPTY[version])
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert record.getMessage() == f"{SERVANT}.crash failed: a bug; the caller gets -99"
    assert "a mistake in a servant" in caplog.text
    assert (counted(kinds), kinds.dispatcher.stats.bugs) == ({(SERVANT, "crash", -99): 1}, 1)
    assert ask(kinds, request("add", 1, 2, version=version)).code == 0


UNFIT = {
    "text for a number": ("no number",),
    "nothing for a number": (None,),
    "a fraction for a number": (1.5,),
    "a number too large": (1 << 31,),
    "too few": (),
    "too many": (1, 2),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", UNFIT.values(), ids=UNFIT)
def test_results_of_the_wrong_type_are_a_bug_of_ours(
    kinds: Kinds, version: int, values: tuple[Any, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """In every form of a body alike."""
    kinds.unfit = values
    response = ask(kinds, request("unfit", version=version))
    assert (response.version, response.request_id, response.code, response.body) == (version, 7, -2, EMPTY[version])
    assert response.description.startswith("unfit: ")
    assert "results that do not fit their types" in caplog.text
    assert (counted(kinds), kinds.dispatcher.stats.bugs) == ({(SERVANT, "unfit", -2): 1}, 1)


@pytest.mark.parametrize("values", [None, [1], 7, "text"], ids=repr)
def test_something_else_than_results_is_a_bug_of_ours(values: Any, kinds: Kinds) -> None:
    kinds.unfit = values
    found = kinds.dispatcher.handle(request("unfit"), None, CALLER)
    response = found if isinstance(found, bytes) else asyncio.run(_wait(found))
    assert decode_response(response).code == -99
    assert kinds.dispatcher.stats.bugs == 1


async def _wait(found: Any) -> bytes:
    data = await found
    assert isinstance(data, bytes)
    return data


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("end", "code", "text"),
    [(41, 0, ""), (CallError(-9, "busy"), -9, "busy"), (KeyError("bug"), -99, "internal error"), (1 << 31, -2, None)],
    ids=["result", "code", "bug", "unfit"],
)
async def test_an_answer_that_takes_time_ends_in_the_same_ways(
    kinds: Kinds, version: int, end: int | Exception, code: int, text: str | None
) -> None:
    found = kinds.dispatcher.handle(request("later", 1, version=version), None, CALLER)
    assert not isinstance(found, bytes)
    task = asyncio.ensure_future(found)
    await kinds.arrived.get()
    assert counted(kinds) == {}
    kinds.release(1, end)
    response = decode_response(await task)
    assert (response.version, response.request_id, response.code) == (version, 7, code)
    assert text is None or response.description == text
    assert counted(kinds) == {(SERVANT, "later", code): 1}
    assert kinds.dispatcher.stats.bugs == (code in (-99, -2))


# -- bounds --------------------------------------------------------------------------------------------------------

LISTS = Interface(
    "Lists",
    function("count", Int32, numbers=tuple[Int32, ...]),
    function("both", Int32, numbers=tuple[Int32, ...], more=tuple[Int32, ...]),
    function("none", None, first=Out(Int32)),
)


def counting(max_values: int) -> Dispatcher:
    servant = Servant(
        LISTS,
        {
            "count": lambda call: (len(call.arguments[0]),),
            "both": lambda call: (len(call.arguments[0]) + len(call.arguments[1]),),
            "none": lambda call: (0,),
        },
    )
    return Dispatcher({"L": servant}, max_values=max_values)


def code_of(dispatcher: Dispatcher, name: str, body: bytes, version: int = 1, **header: Any) -> tuple[int, str]:
    found = dispatcher.handle(request(name, body=body, servant="L", version=version, **header), None, CALLER)
    assert isinstance(found, bytes)
    response = decode_response(found)
    return response.code, response.description


HEADER_VALUES = 7 + 3 * 3
"""Fields of a request packet; its body and its two maps count for three each."""


@pytest.mark.parametrize("version", VERSIONS)
def test_a_frame_may_have_20000_values_and_no_more(version: int) -> None:
    """Fields of the packet, of the body, and elements, all counted together."""
    dispatcher = Dispatcher(counting(20_000)._servants)
    own = HEADER_VALUES + {1: 3, 3: 3 + 4 + 3, 5: 0}[version]  # the list; the map, its key and value, the list
    most = 20_000 - own
    for count in (most, most + 1) if version != 5 else (15_000, 20_002):
        body = FORMS[version].encode(LISTS["count"].inputs, ((0,) * count,))
        code, text = code_of(dispatcher, "count", body, version)
        if count in (most, 15_000):
            assert (code, text) == (0, "")
        else:
            assert code == -1
            assert "more values than a frame may hold" in text


@pytest.mark.parametrize(("context", "code"), [(0, 0), (12, 0), (20, -1)])
@pytest.mark.parametrize("version", VERSIONS)
def test_packet_and_body_share_the_bound(version: int, context: int, code: int) -> None:
    """Pairs of the context count for two values each, and leave less for the body."""
    body = FORMS[version].encode(LISTS["count"].inputs, ((1,) * 30,))
    pairs: Mapping[str, str] = {str(n): "" for n in range(context)}
    found, text = code_of(counting(84), "count", body, version, context=pairs)
    assert (found, bool(text)) == (code, code != 0)


def test_values_of_a_tup_body_share_the_bound() -> None:
    """Each value is a buffer of its own, and could else have the whole bound for itself."""
    most = 30
    one = (1,) * most
    body = FORMS[3].encode(LISTS["both"].inputs, (one, one))
    needed = HEADER_VALUES + 3 + 2 * 4 + 2 * (3 + most)
    assert code_of(counting(needed), "both", body, 3) == (0, "")
    code, text = code_of(counting(needed - 1), "both", body, 3)
    assert code == -1
    assert text.startswith("both: more[28]: more values than a frame may hold")


def test_too_many_values_in_the_packet_itself_are_answered() -> None:
    """The request id stands before them."""
    code, text = code_of(counting(20), "count", b"", 1, context={str(n): "" for n in range(20)})
    assert code == -1
    assert "more values than a frame may hold" in text


def test_a_body_nested_too_deeply_is_answered(kinds: Kinds) -> None:
    response = ask(kinds, request("note", "x", body=bytes.fromhex("1601 78" + "2a" * 5000)))
    assert response.code == -1
    response = ask(kinds, request("note", version=5, body=b'{"text":"x","more":' + b"[" * 5000))
    assert response.code == -1


@pytest.mark.parametrize("depth", [100, 500, 900, 950, 980, 990, 1000, 2000, 15_000])
def test_nested_json_where_something_else_is_expected_is_no_bug(kinds: Kinds, depth: int) -> None:
    for body in (
        b'{"numbers":[' + b"[" * depth + b"]" * depth + b"]}",
        b'{"numbers":' + b'{"x":' * depth + b"1" + b"}" * depth + b"}",
    ):
        assert ask(kinds, request("total", version=5, body=body)).code == -1
    assert kinds.dispatcher.stats.bugs == 0


# -- counters ------------------------------------------------------------------------------------------------------


def test_no_label_of_the_counters_comes_from_a_peer(kinds: Kinds) -> None:
    for n in range(50):
        for version in (*VERSIONS, 9):
            ask(kinds, request(f"function{n}", body=b"", version=version))
            ask(kinds, request(f"function{n}", body=b"", servant=f"servant{n}", version=version))
            ask(kinds, request("tars_ping", body=b"", servant=f"servant{n}", version=version))
    assert counted(kinds) == {
        (SERVANT, OTHER, -3): 150,
        (SERVANT, OTHER, -1): 50,
        (OTHER, OTHER, -4): 300,
        (OTHER, OTHER, -1): 100,
    }


def test_every_answer_is_counted_by_servant_function_and_code(kinds: Kinds) -> None:
    for _ in range(3):
        ask(kinds, request("add", 1, 2))
    ask(kinds, request("absent", body=b""))
    assert counted(kinds) == {(SERVANT, "add", 0): 3, (SERVANT, "absent", -3): 1}
    assert [count for _, count in kinds.dispatcher.stats.seconds.cumulative()][-1] == 4


def test_time_is_counted_for_what_is_refused_too(kinds: Kinds) -> None:
    with pytest.raises(Refused):
        kinds.dispatcher.handle(frame(b"\xff"), None, CALLER)
    assert sum(kinds.dispatcher.stats.seconds.buckets) == 1


def test_a_servant_can_only_implement_what_is_declared() -> None:
    with pytest.raises(ValueError, match="Kinds has no undeclared, unknown"):
        Servant(KINDS, {"unknown": lambda call: (), "undeclared": lambda call: (), "add": lambda call: ()})
