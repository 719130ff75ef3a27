"""Packets: the bytes that real clients send and take, and what is said of a packet without decoding it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from jce import DecodeError, EncodeError, Reason, tuple_codec
from jce.schema import fields
from tars_protocol.constants import STATUS_RESULT_CODE, STATUS_RESULT_DESC
from tars_protocol.frames import frame
from tars_protocol.packets import (
    NO_REPLY,
    REQUEST,
    RESPONSE,
    Identity,
    Reply,
    RequestPacket,
    Response,
    ResponsePacket,
    decode_response,
    encode_request,
    identify,
    reply,
    request_id_span,
    split_request,
    trailer_at,
    trailer_fits,
)
from tests.support import golden
from tests.support.jce_strategies import any_bytes, field_values, integer, mutations, spellings, texts
from tests.tars_protocol.shared import FEWER, ID_CORNERS, captured

REQUEST_IDS = st.one_of(st.sampled_from(ID_CORNERS), st.integers(-(1 << 31), (1 << 31) - 1))
REQUEST_FIELDS = fields(RequestPacket)
ID_AT = 3
"""Index of iRequestId among the fields of a request."""


@st.composite
def requests(draw: st.DrawFn) -> RequestPacket:
    """Any request that the wire can hold, with ids at the ends of every width more often than chance has it."""
    values: dict[str, Any] = {f.name: draw(field_values(f)) for f in REQUEST_FIELDS}
    return RequestPacket(**values | {"iRequestId": draw(REQUEST_IDS)})


@st.composite
def spelled_requests(draw: st.DrawFn) -> bytes:
    """The frame of a request as any writer may put it: wide integers, long heads, unknown and repeated fields."""
    packet = draw(requests())
    return frame(draw(spellings(REQUEST_FIELDS, values_of(packet))))


def values_of(packet: RequestPacket) -> Sequence[Any]:
    return [getattr(packet, f.name) for f in REQUEST_FIELDS]


def without_id(packet: RequestPacket) -> list[Any]:
    return [value for index, value in enumerate(values_of(packet)) if index != ID_AT]


def id_width(request_id: int) -> int:
    """Bytes of the narrowest form."""
    return next(
        width
        for width in (0, 1, 2, 4)
        if -(1 << 8 * width) <= 2 * request_id < 1 << 8 * width and (request_id or not width)
    )


def put_id(around: tuple[bytes, bytes], request_id: int) -> bytes:
    """A packet around an id."""
    start, end = around
    return start + integer(4, request_id, {0: 12, 1: 0, 2: 1, 4: 2}[id_width(request_id)]) + end


def request_after(first: str, rest: str = "56015366016d7d000c") -> bytes:
    """A frame by hand: some fields, then servant "S", function "m" and an empty body."""
    return frame(bytes.fromhex(first + rest))


# -- requests as real clients write them ---------------------------------------------------------------------------


@pytest.mark.parametrize("line", captured("client-request"))
def test_a_captured_request_decodes_and_encodes_to_the_same_bytes(line: dict[str, Any]) -> None:
    captured = bytes.fromhex(line["request_hex"])
    packet = REQUEST.decode(captured[4:])
    assert packet.sServantName == line["servant"]
    assert packet.sFuncName == line["func"]
    for name in ("iVersion", "cPacketType", "iMessageType", "iTimeout", "context", "status"):
        assert getattr(packet, name) == line[name]
    assert encode_request(packet) == captured
    assert request_id_span(captured) is not None, "every real client must be able to hit the cache"


def test_a_request_is_written_with_no_field_left_out() -> None:
    """As all known clients do; some servers do not take a request without its optional fields."""
    packet = RequestPacket(iVersion=1, iRequestId=0, sServantName="S", sFuncName="m", sBuffer=b"")
    assert encode_request(packet) == frame(bytes.fromhex("10012c3c4c56015366016d7d000c8c980ca80c"))


@given(requests())
def test_a_request_comes_back_as_it_was(packet: RequestPacket) -> None:
    assert REQUEST.decode(encode_request(packet)[4:]) == packet


def test_a_request_that_does_not_fit_its_types_is_no_frame() -> None:
    packet = RequestPacket(iVersion=1, iRequestId=1 << 31, sServantName="S", sFuncName="m", sBuffer=b"")
    with pytest.raises(EncodeError, match="iRequestId"):
        encode_request(packet)


@pytest.mark.parametrize("missing", ["iVersion", "iRequestId", "sServantName", "sFuncName", "sBuffer"])
def test_a_request_without_a_required_field_is_refused_by_its_name(missing: str) -> None:
    packet = RequestPacket(iVersion=1, iRequestId=7, sServantName="S", sFuncName="m", sBuffer=b"")
    left = tuple(f for f in REQUEST_FIELDS if f.name != missing)
    data = tuple_codec("part", left).encode(tuple(getattr(packet, f.name) for f in left))
    with pytest.raises(DecodeError) as caught:
        REQUEST.decode(data)
    assert (caught.value.reason, caught.value.path) == (Reason.MISSING, missing)


def test_the_other_fields_of_a_request_may_be_missing() -> None:
    assert REQUEST.decode(bytes.fromhex("1001400756015366016d7d000c")) == RequestPacket(
        iVersion=1, iRequestId=7, sServantName="S", sFuncName="m", sBuffer=b""
    )


# -- responses of real servers -------------------------------------------------------------------------------------

RESPONSES = [line for kind in ("server-response", "tup") for line in golden.lines(kind) if line["response_hex"]]


def test_every_captured_response_decodes_but_the_two_that_stop_after_the_version() -> None:
    refused = []
    for line in RESPONSES:
        try:
            response = decode_response(bytes.fromhex(line["response_hex"]))
        except DecodeError as error:
            refused.append((line["client"], line["note"].partition(" (")[0], error.reason, error.path))
        else:
            assert -99 <= response.code <= 1
    assert refused == [
        ("tarsjava-server", "unknown version 9", Reason.MISSING, "iRequestId"),
        ("tarsjava-server", "garbage body", Reason.MISSING, "iRequestId"),
    ]


def test_the_code_of_a_tup_response_is_in_its_status() -> None:
    (line,) = [
        line for line in golden.lines("server-response") if line["func"] == "noSuchFunction" and "TUP" in line["note"]
    ]
    assert decode_response(bytes.fromhex(line["response_hex"])) == Response(3, 7, -3, "", b"\x08\x0c")


@pytest.mark.parametrize("code", ["", "x", "1x", " 1", "+1", "1_0", "٣", "--1", "9" * 11, "-"])
def test_a_tup_response_whose_code_is_no_number_is_undecodable(code: str) -> None:
    packet = RequestPacket(
        iVersion=3, iRequestId=7, sServantName="", sFuncName="", sBuffer=b"", status={STATUS_RESULT_CODE: code}
    )
    with pytest.raises(DecodeError, match="is no number"):
        decode_response(encode_request(packet))


@given(any_bytes())
def test_undecodable_responses_are_one_kind_of_error(data: bytes) -> None:
    try:
        decode_response(frame(data))
    except DecodeError:
        return


# -- where the request id is ---------------------------------------------------------------------------------------


@given(requests())
def test_the_id_of_a_request_as_clients_write_it_is_found(packet: RequestPacket) -> None:
    """Exactly where it is: with the id of another request in its place the packet is otherwise the same."""
    data = encode_request(packet)
    span = request_id_span(data)
    assert span is not None
    start, end = span
    assert int.from_bytes(data[start:end], "big", signed=True) == packet.iRequestId
    assert end - start == id_width(packet.iRequestId)
    assert data[start - 1] >> 4 == 4
    for other in ID_CORNERS:
        changed = REQUEST.decode(put_id((data[4 : start - 1], data[end:]), other))
        assert changed.iRequestId == other
        assert without_id(changed) == without_id(packet)


@FEWER
@given(spelled_requests())
@example(request_after("10012c3c4007"))
@example(request_after("1c2c3c4c"))
@example(request_after("11000120003200000000420000ffff"))
@example(request_after("0c10014007"))
@example(request_after("10014007200156015366016d"))
def test_where_an_id_is_found_the_decoder_finds_the_same(data: bytes) -> None:
    """However it is written: either there is no short way, or it gives what the long way gives."""
    packet = REQUEST.decode(data[4:])
    assert identify(data[4:]) == Identity(packet.iVersion, packet.cPacketType, packet.iMessageType, packet.iRequestId)
    span = request_id_span(data)
    event(f"found: {span is not None}")
    if span is None:
        return
    start, end = span
    assert int.from_bytes(data[start:end], "big", signed=True) == packet.iRequestId
    assert end - start == id_width(packet.iRequestId), "what is repeated in the answer must be the narrowest form"
    for other in (0, 1, -129, 1 << 30):
        changed = REQUEST.decode(put_id((data[4 : start - 1], data[end:]), other))
        assert (changed.iRequestId, without_id(changed)) == (other, without_id(packet))


@pytest.mark.parametrize(
    ("first", "why"),
    [
        ("1001" + "4000", "0 in a byte"),
        ("1001" + "410007", "7 in two bytes"),
        ("1001" + "41007f", "127 in two bytes"),
        ("1001" + "41ff80", "-128 in two bytes"),
        ("1001" + "4200000007", "7 in four bytes"),
        ("1001" + "4200007fff", "32767 in four bytes"),
        ("1001" + "42ffff8000", "-32768 in four bytes"),
        ("1001" + "f00407", "a head of two bytes"),
        ("f00101" + "4007", "a version with a head of two bytes"),
        ("0c1001" + "4007", "an unknown field before the version"),
        ("10012c2c" + "4007", "a field that comes twice"),
        ("10013c2c" + "4007", "fields that are not in order"),
        ("10012c3c3c" + "4007", "a field that comes twice, later"),
        ("2c3c" + "4007", "no version"),
        ("100121000a" + "4007", "a packet type of two bytes"),
        ("10014007" + "2001", "a field before the servant's name that has no meaning there"),
        ("10014007" + "4008", "an id that comes twice"),
    ],
)
def test_an_id_that_is_written_otherwise_has_no_short_way(first: str, why: str) -> None:
    assert request_id_span(request_after(first)) is None, why


@pytest.mark.parametrize("request_id", ID_CORNERS)
def test_ids_of_every_width_have_a_short_way(request_id: int) -> None:
    data = frame(put_id((bytes.fromhex("10012c3c"), bytes.fromhex("56015366016d7d000c")), request_id))
    start, end = request_id_span(data) or (0, 0)
    assert (start, end) == (9, 9 + id_width(request_id))


@given(requests(), REQUEST_IDS)
def test_two_frames_alike_without_their_ids_mean_the_same(packet: RequestPacket, request_id: int) -> None:
    """An id moved to another place must not give the key of a request that means something else.

    Else ``10 01 20 01 | id | …``, a one-way call, and ``10 01 | id | 20 01 …``, where the packet type comes too late to
    count, would share a cached answer, and one caller could spoil what others get.
    """
    data = encode_request(packet)
    start, end = request_id_span(data) or (0, 0)
    key = data[4 : start - 1] + data[end:]
    for at in range(24):
        moved = frame(put_id((key[:at], key[at:]), request_id))
        span = request_id_span(moved)
        if span is not None and moved[4 : span[0] - 1] + moved[span[1] :] == key:
            assert without_id(REQUEST.decode(moved[4:])) == without_id(packet)


def test_a_one_way_call_and_a_normal_one_never_share_their_bytes_around_the_id() -> None:
    one_way, normal = request_after("1001" + "2001" + "4007"), request_after("1001" + "4007" + "2001")
    assert REQUEST.decode(one_way[4:]).cPacketType == 1
    assert REQUEST.decode(normal[4:]).cPacketType == 0
    assert request_id_span(one_way) is not None
    assert request_id_span(normal) is None


@given(any_bytes())
def test_looking_for_the_id_never_fails(data: bytes) -> None:
    request_id_span(frame(data))
    identify(data)


@given(requests(), st.binary(max_size=20), st.binary(max_size=20))
def test_a_request_is_split_within_its_frame_and_around_its_id(
    packet: RequestPacket, before: bytes, behind: bytes
) -> None:
    """Whatever stands before and behind it in what was read."""
    data = encode_request(packet)
    start, end = request_id_span(data) or (0, 0)
    found = split_request(before + data + behind, len(before), len(before) + len(data))
    assert found is not None
    assert found.groups() == (data[4 : start - 1], data[start:end], data[end:])


@FEWER
@given(spelled_requests(), st.integers(0, 40))
def test_a_frame_that_ends_early_is_not_split_with_bytes_of_the_next(data: bytes, cut: int) -> None:
    alone, within = split_request(data[:cut]), split_request(data, 0, cut)
    assert (alone is None) == (within is None)
    assert alone is None or within is None or alone.groups() == within.groups()


# -- what follows a request's body ------------------------------------------------------------------------------------

TEXTS = st.dictionaries(texts(), texts(), max_size=3)


@given(requests(), TEXTS, TEXTS)
def test_what_clients_write_behind_the_body_fits(
    packet: RequestPacket, context: dict[str, str], status: dict[str, str]
) -> None:
    data = encode_request(replace(packet, sServantName="S", sFuncName="f", context=context, status=status))
    at = trailer_at(data, (request_id_span(data) or (0, 0))[1])
    assert at is not None
    assert trailer_fits(data, at)


@FEWER
@given(requests(), TEXTS, st.data())
def test_what_follows_the_body_fits_where_the_decoder_takes_it(
    packet: RequestPacket, context: dict[str, str], data: st.DataObject
) -> None:
    whole = encode_request(replace(packet, sServantName="S", sFuncName="f", context=context))
    at = trailer_at(whole, (request_id_span(whole) or (0, 0))[1])
    assert at is not None
    changed = whole[:at] + data.draw(mutations(whole[at:]))
    try:
        REQUEST.decode(changed[4:])
        fits = True
    except DecodeError:
        fits = False
    event(f"fits: {fits}")
    assert trailer_fits(changed, at) == fits


# -- who asks, of a packet that does not decode --------------------------------------------------------------------


@given(requests(), st.data())
def test_who_asks_is_known_of_a_cut_packet_once_its_id_is_whole(packet: RequestPacket, data: st.DataObject) -> None:
    whole = encode_request(packet)
    end = (request_id_span(whole) or (0, 0))[1] - 4
    known = Identity(packet.iVersion, packet.cPacketType, packet.iMessageType, packet.iRequestId)
    cut = data.draw(st.integers(0, len(whole) - 4))
    assert identify(whole[4 : 4 + cut]) == (known if cut >= end else None)


@FEWER
@given(spelled_requests().flatmap(lambda data: mutations(data[4:])))
def test_who_asks_can_always_be_answered(data: bytes) -> None:
    """Whatever it says of itself fits the fields of a response."""
    known = identify(data)
    if known is not None:
        answer = reply(known.version, known.message_type, b"", code=-1, description="no")
        assert decode_response(answer.frame(known.request_id)).request_id == known.request_id


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        ("1001 4007", Identity(1, 0, 0, 7)),
        ("4007", Identity(1, 0, 0, 7)),
        ("0c 1005 2001 3010 4c", Identity(5, 1, 16, 0)),
        ("1003 4007 5a", Identity(3, 0, 0, 7)),
        ("1003 1005 4007", Identity(3, 0, 0, 7)),
        ("1200011170 4007", Identity(1, 0, 0, 7)),
        ("1001 210001 4007", Identity(1, 0, 0, 7)),
        ("160131 4007", Identity(1, 0, 0, 7)),
        ("1001 3300000000000000ff 4007", Identity(1, 0, 0, 7)),
        ("1001", None),
        ("1001 41", None),
        ("1001 4100", None),
        ("1001 430000000000000007", None),
        ("1001 460137", None),
        ("1001 560153", None),
        ("1001 0e 4007", None),
        ("", None),
    ],
    ids=str,
)
def test_what_can_be_read_before_the_id_counts_and_the_rest_takes_its_default(
    packet: str, expected: Identity | None
) -> None:
    """Of two fields the first counts; a value too wide for its field could not be repeated in an answer."""
    assert identify(bytes.fromhex(packet)) == expected


class Zeros(bytes):
    """Bytes that are shown by their number."""

    def __repr__(self) -> str:
        return f"Zeros({len(self)})"


# -- answers that serve every caller -------------------------------------------------------------------------------

MESSAGE_TYPES = st.integers(-(1 << 31), (1 << 31) - 1)
BODIES = st.one_of(st.binary(max_size=20), st.sampled_from((0, 127, 128, 255, 256, 70_000)).map(Zeros))


@given(
    REQUEST_IDS, st.sampled_from([1, 5, 2, 9, -1]), MESSAGE_TYPES, st.sampled_from([0, -1, -99, 200]), BODIES, texts()
)
def test_a_reply_is_the_response_packet(
    request_id: int, version: int, message_type: int, code: int, body: bytes, description: str
) -> None:
    answer = reply(version, message_type, body, code=code, description=description, servant="S", function="f")
    expected = ResponsePacket(
        iVersion=version,
        cPacketType=0,
        iRequestId=request_id,
        iMessageType=message_type,
        iRet=code,
        sBuffer=body,
        status={},
        sResultDesc=description,
    )
    assert answer.frame(request_id) == frame(RESPONSE.encode(expected))
    assert decode_response(answer.frame(request_id)) == Response(version, request_id, code, description, body)


@given(REQUEST_IDS, MESSAGE_TYPES, BODIES, texts())
def test_a_tup_reply_is_a_request_packet(request_id: int, message_type: int, body: bytes, description: str) -> None:
    answer = reply(3, message_type, body, code=-3, description=description, servant="S.T.U", function="f")
    packet = RequestPacket(
        iVersion=3,
        iMessageType=message_type,
        iRequestId=request_id,
        sServantName="S.T.U",
        sFuncName="f",
        sBuffer=body,
        status={STATUS_RESULT_CODE: "-3", STATUS_RESULT_DESC: description},
    )
    assert answer.frame(request_id) == encode_request(packet)
    assert decode_response(answer.frame(request_id)) == Response(3, request_id, -3, description, body)


def test_a_tup_reply_without_an_error_has_an_empty_status() -> None:
    packet = REQUEST.decode(reply(3, 0, b"x", description="not shown").frame(7)[4:])
    assert packet.status == {}


@pytest.mark.parametrize("version", [1, 3, 5])
@pytest.mark.parametrize("request_id", ID_CORNERS)
def test_the_parts_of_a_reply_around_the_bytes_of_an_id_are_its_frame(version: int, request_id: int) -> None:
    """How the hot path puts an answer together, without knowing the number."""
    answer = reply(version, 0, b"body", servant="S", function="f")
    width = id_width(request_id)
    raw = request_id.to_bytes(width, "big", signed=True) if width else b""
    assert answer.heads[width] + raw + answer.tail == answer.frame(request_id)
    assert answer.size == len(answer.tail)


@pytest.mark.parametrize("version", [1, 3, 5])
def test_answers_of_one_length_share_what_stands_before_the_id(version: int) -> None:
    one, other, longer = (reply(version, 0, body, servant="S", function="f") for body in (b"body", b"ydob", b"bodies"))
    assert one.heads is other.heads
    assert one.heads != longer.heads


def test_a_reply_that_is_none_gives_no_bytes() -> None:
    assert NO_REPLY.frame(7) == Reply((), b"").frame(-1) == b""
    assert NO_REPLY.size == 0
