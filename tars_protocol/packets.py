"""The two packets that go over TARS connections, and what can be said of one without decoding it.

Source: RequestF.tars. Names are those of the interface file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from struct import Struct
from typing import Any, Final, NamedTuple

from jce import DecodeError, Field, Int8, Int16, Int32, Reader, Reason, codec, field, struct, tuple_codec
from jce import wire as jce_wire
from jce.schema import fields as fields_of
from tars_protocol.constants import STATUS_RESULT_CODE, STATUS_RESULT_DESC, PacketType, Version
from tars_protocol.frames import HEADER_BYTES, frame


@struct
class RequestPacket:
    """A call: what a client sends, and in TUP also what it gets back."""

    iVersion: Int16 = field(1)
    cPacketType: Int8 = field(2, default=0)
    iMessageType: Int32 = field(3, default=0)
    iRequestId: Int32 = field(4)
    sServantName: str = field(5)
    sFuncName: str = field(6)
    sBuffer: bytes = field(7)
    iTimeout: Int32 = field(8, default=0)
    context: Mapping[str, str] = field(9, default={})
    status: Mapping[str, str] = field(10, default={})


@struct
class ResponsePacket:
    """An answer in TARS and JSON."""

    iVersion: Int16 = field(1)
    cPacketType: Int8 = field(2)
    iRequestId: Int32 = field(3)
    iMessageType: Int32 = field(4)
    iRet: Int32 = field(5)
    sBuffer: bytes = field(6)
    status: Mapping[str, str] = field(7)
    sResultDesc: str = field(8, default="")
    context: Mapping[str, str] = field(9, default={})


REQUEST: Final = codec(RequestPacket)
RESPONSE: Final = codec(ResponsePacket)


_REQUEST_IN_FULL: Final = tuple_codec(
    "RequestPacket", tuple(Field(f.tag, f.name, f.type) for f in fields_of(RequestPacket))
)
"""A request with no field left out, which is how every known client writes it."""


def encode_request(packet: RequestPacket) -> bytes:
    """The frame of a call. Raises EncodeError."""
    return frame(_REQUEST_IN_FULL.encode(tuple(getattr(packet, f.name) for f in _REQUEST_IN_FULL.fields)))


class Response(NamedTuple):
    """An answer, in whichever packet its version puts it."""

    version: int
    request_id: int
    code: int
    description: str
    body: bytes


def decode_response(data: bytes, max_values: int = jce_wire.DEFAULT_MAX_VALUES) -> Response:
    """The answer in a frame. Raises DecodeError."""
    packet = data[HEADER_BYTES:]
    head = Reader(packet, max_values)
    # Tag 5 is text in a RequestPacket (the servant) and a number in a ResponsePacket (the code).
    if head.seek(5, 0) and head.type in (jce_wire.STRING1, jce_wire.STRING4):
        tup = REQUEST.decode(Reader(packet, max_values))
        code = tup.status.get(STATUS_RESULT_CODE, "0")
        if not re.fullmatch("-?[0-9]{1,10}", code):
            raise DecodeError(Reason.MISMATCH, f"{STATUS_RESULT_CODE} {code[:20]!r} is no number", 0)
        description = tup.status.get(STATUS_RESULT_DESC, "")
        return Response(tup.iVersion, tup.iRequestId, int(code), description, tup.sBuffer)
    packed = RESPONSE.decode(Reader(packet, max_values))
    return Response(packed.iVersion, packed.iRequestId, packed.iRet, packed.sResultDesc, packed.sBuffer)


# The start of a frame up to the request id, as every known client writes it. The id must be in its narrowest form,
# which the response then repeats as it is; anything else takes the longer way through the decoder. The servant's name
# must follow, so that the bytes around the id tell where it was: else a request with cPacketType 1 before the id and
# one with the same field, there of no meaning, behind it would be alike without their ids.
#
# Each alternative here is what takes least: an empty one instead of "?", dots instead of a number of them. The head of
# the id's value is looked at from behind, so that the value is one group whatever its width.
_BEFORE_ID: Final = rb"""
    (?: \x10. | \x1c | \x11.. )                 # 1 iVersion
    (?: \x2c | \x20. | )                        # 2 cPacketType
    (?: \x3c | \x30. | \x31.. | \x32.... | )    # 3 iMessageType
"""
_ID: Final = rb"""
    [\x40\x41\x42\x4c]                          # 4 iRequestId, of
    ( (?<=\x42)                                 #   32 bits,
        (?: [^\x00\xff]... | \x00(?: [^\x00].. | \x00[\x80-\xff]. ) | \xff(?: [^\xff].. | \xff[\x00-\x7f]. ) )
    | (?<=\x41)                                 #   16 bits,
        (?: [^\x00\xff]. | \x00[\x80-\xff] | \xff[\x00-\x7f] )
    | (?<=\x40) [^\x00]                         #   8 bits,
    | (?<=\x4c)                                 #   none, for 0
    )
"""

split_request: Final = re.compile(
    rb".... (" + _BEFORE_ID + rb")" + _ID + rb"( [\x56\x57] .* )", re.VERBOSE | re.DOTALL
).match
"""Of a frame three groups: all between its length and the head of its request id, the id's value, all behind it.

The width of the value (0, 1, 2 or 4 bytes) tells its type. None where the frame does not start as clients write it.
"""


def request_id_span(data: bytes) -> tuple[int, int] | None:
    """Where the value of a request's id is in its frame: start and end, the head byte before them not included.

    None where the frame does not start as clients write it.
    """
    match = split_request(data)
    return None if match is None else match.span(2)


SERVANT_HEADS: Final = b"\x56\x57"
"""What the servant's name starts with: of up to 255 bytes, or of more."""

KEY_ID: Final = b"\x4c"
"""An id of 0. It stands for that of the caller in what a request is known by, so that none is alike with its id at
another place: there is but one way to split what has it."""

_ID_HEADS: Final = {0: b"\x4c", 1: b"\x40", 2: b"\x41", 4: b"\x42"}
_NARROWEST: Final = {
    1: (b"\x00", b"\xff\xff"),
    2: (b"\x00\x7f", b"\xff\x80"),
    4: (b"\x00\x00\x7f\xff", b"\xff\xff\x80\x00"),
}
"""Between which bytes the values are, by width, that have no narrower form."""


Layout = tuple[int, Callable[..., tuple[int, bytes, bytes]], bytes, bytes, bytes]
"""Where requests have their id that start with the same bytes as one that was split: a caller's nearly always do.

``size``, ``unpack``, ``head``, ``low``, ``high``: such a frame is longer than ``size`` bytes; ``unpack`` gives its
length, what it starts with, which is ``head``, and the id's value, which is between ``low`` and ``high``; what follows
at ``size`` is the servant's name (:data:`SERVANT_HEADS`). To take it apart so costs half of what it takes to split it.
A plain tuple, as Python takes those apart fastest.
"""


@lru_cache(256)
def layout_of(before: bytes, width: int) -> Layout:
    """For requests that have ``before`` their id, whose value has ``width`` bytes, as split_request gives them.

    They are shared: there are as many as kinds of clients, and a few more for whoever makes some up.
    """
    head = before + _ID_HEADS[width]
    parts = Struct(f">I{len(head)}s{width}s")
    # No value is between the two of id 0: a caller starts with it and goes on to others.
    low, high = _NARROWEST.get(width, (b"", b""))
    return parts.size, parts.unpack_from, head, low, high


_TRAILER: Final = tuple_codec("RequestPacket behind sBuffer", tuple(f for f in fields_of(RequestPacket) if f.tag > 7))

_FUNCTION_HEAD: Final = 0x66
_BODY_HEAD: Final = 0x7D
_LENGTHS: Final = {jce_wire.INT8: 1, jce_wire.INT16: 2, jce_wire.INT32: 4}
_TIME_OUTS: Final = {0x8C: 1, 0x80: 2, 0x81: 3, 0x82: 5}
"""Bytes of iTimeout, by its head."""
_MAP_HEADS: Final = b"\x98\xa8"
_KEY_HEAD: Final = 0x06
_VALUE_HEAD: Final = 0x16
_MOST_INT8: Final = 127


def trailer_at(data: bytes, id_end: int) -> int | None:
    """Where, in the frame of a request, what a call's meaning does not depend on begins: time-out, context and status.

    ``id_end`` is the end of :func:`request_id_span`. None where the fields between them are not exactly servant,
    function and body, as every known client writes them. That they are well-formed only a decoder can tell.
    """
    try:
        if data[id_end] != SERVANT_HEADS[0]:
            return None
        at = id_end + 2 + data[id_end + 1]
        if data[at] != _FUNCTION_HEAD:
            return None
        at += 2 + data[at + 1]
        if data[at] != _BODY_HEAD or data[at + 1] != jce_wire.INT8:
            return None
        kind = data[at + 2]
        if kind == jce_wire.INT8 and data[at + 3] <= _MOST_INT8:
            # As nearly all are; the rest of this function takes twice as long for them.
            at += 4 + data[at + 3]
            return at if at <= len(data) else None
        at += 3
    except IndexError:
        return None
    if kind != jce_wire.ZERO:
        width = _LENGTHS.get(kind)
        if width is None:
            return None
        length = int.from_bytes(data[at : at + width], "big", signed=True)
        if length < 0:
            return None
        at += width + length
    return at if at <= len(data) else None


def trailer_fits(data: bytes, at: int) -> bool:
    """True where a request ends well with the bytes of its frame from ``at`` on, see :func:`trailer_at`.

    Values are not counted: give it frames only that can't hold more than they may.
    """
    return _trailer_as_usual(data, at) or _trailer_decodes(data[at:])


def _trailer_as_usual(data: bytes, at: int) -> bool:
    """True where the three fields are written as every known client does: in order, with short strings.

    Nothing is built of them, which takes a fifth of the time. Strings may hold any bytes.
    """
    try:
        at += _TIME_OUTS[data[at]]
        for head in _MAP_HEADS:
            if data[at] != head:
                return False
            if data[at + 1] == jce_wire.ZERO:
                at += 2
                continue
            count = data[at + 2]
            if data[at + 1] != jce_wire.INT8 or count > _MOST_INT8:
                return False
            at += 3
            while count:
                count -= 1
                if data[at] != _KEY_HEAD:
                    return False
                at += 2 + data[at + 1]
                if data[at] != _VALUE_HEAD:
                    return False
                at += 2 + data[at + 1]
    except (IndexError, KeyError):
        return False
    return at == len(data)


def _trailer_decodes(trailer: bytes) -> bool:
    try:
        _TRAILER.decode(Reader(trailer, max(jce_wire.COSTS) * len(trailer)))
    except DecodeError:
        return False
    return True


class Identity(NamedTuple):
    """What must be known of a request to refuse it."""

    version: int
    packet_type: int
    message_type: int
    request_id: int


_MAX_VALUES_TO_ID: Final = 1_000
"""Values up to the request id of a packet that does not decode: clients write four, and all are read a second time."""


def identify(data: bytes) -> Identity | None:
    """Who asks, of a packet (without its length) that does not decode; None where its request id can't be read."""
    known = [int(Version.TARS), int(PacketType.NORMAL), 0]
    try:
        reader = Reader(data, _MAX_VALUES_TO_ID)
        for tag, widest in ((1, jce_wire.INT16), (2, jce_wire.INT8), (3, jce_wire.INT32)):
            # A value that is too wide for its field can't be repeated in an answer either.
            if reader.seek(tag, 0) and (reader.type <= widest or reader.type == jce_wire.ZERO):
                known[tag - 1] = reader.int32()
        if not reader.seek(4, 0):
            return None
        return Identity(known[0], known[1], known[2], reader.last_int32())
    except DecodeError:
        return None


class Reply:
    """A response frame but for its request id, so that one serves every caller of a question.

    ``heads`` is what comes before the id's value, by the width of that value in bytes (0, 1, 2, 4; 3 is unused);
    empty where nothing is sent at all, which is what a one-way call gets. ``tail`` is what comes after.
    """

    __slots__ = ("heads", "tail")

    def __init__(self, heads: tuple[bytes, ...], tail: bytes) -> None:
        self.heads = heads
        self.tail = tail

    def given(self, times: int) -> None:
        """It was sent again, so many times, without being looked up each time."""

    def frame_for(self, request_id: bytes) -> bytes:
        """The whole frame for the value of a request id as it stands in its frame; empty where nothing is sent."""
        return self.heads[len(request_id)] + request_id + self.tail if self.heads else b""

    def frame(self, request_id: int) -> bytes:
        """The whole frame for a request id; empty where nothing is sent."""
        if not self.heads:
            return b""
        if request_id == 0:
            return self.heads[0] + self.tail
        width = next(width for width in (1, 2, 4) if -(1 << width * 8 - 1) <= request_id < 1 << width * 8 - 1)
        return self.heads[width] + request_id.to_bytes(width, "big", signed=True) + self.tail

    @property
    def size(self) -> int:
        """Bytes that it holds and shares with no other."""
        return len(self.tail)


NO_REPLY: Final = Reply((), b"")
"""What a one-way call gets."""


class _Template:
    """The fields of a packet around its request id."""

    def __init__(self, name: str, fields: tuple[Field, ...]) -> None:
        at = next(index for index, f in enumerate(fields) if f.name == "iRequestId")
        self._before = tuple_codec(f"{name} up to iRequestId", fields[:at])
        self._after = tuple_codec(f"{name} from iRequestId", fields[at + 1 :])
        self._id_tag = fields[at].tag << 4

    def fill(self, before: tuple[Any, ...], after: tuple[Any, ...]) -> Reply:
        tail = self._after.encode(after)
        return Reply(_heads(self._before.encode(before), self._id_tag, len(tail)), tail)


@lru_cache(4096)
def _heads(start: bytes, id_tag: int, behind: int) -> tuple[bytes, ...]:
    """``Reply.heads`` of frames that have these bytes before their id and so many behind it.

    Those of one length share them: ten thousand answers that are asked for in turn then have less to be fetched from
    main memory, and take less of it.
    """
    heads = [b""] * 5
    for width, kind in ((0, jce_wire.ZERO), (1, jce_wire.INT8), (2, jce_wire.INT16), (4, jce_wire.INT32)):
        length = HEADER_BYTES + len(start) + 1 + width + behind
        heads[width] = length.to_bytes(HEADER_BYTES, "big") + start + bytes((id_tag | kind,))
    return tuple(heads)


_RESPONSE_TEMPLATE: Final = _Template("ResponsePacket", fields_of(ResponsePacket))
_TUP_TEMPLATE: Final = _Template("RequestPacket", _REQUEST_IN_FULL.fields)


def reply(
    version: int,
    message_type: int,
    body: bytes,
    *,
    code: int = 0,
    description: str = "",
    servant: str = "",
    function: str = "",
) -> Reply:
    """The response to a call of this version: a ResponsePacket, or in TUP a RequestPacket again.

    ``servant`` and ``function`` are repeated in TUP only. Raises EncodeError.
    """
    if version == Version.TUP:
        status = {STATUS_RESULT_CODE: str(code), STATUS_RESULT_DESC: description} if code else {}
        return _TUP_TEMPLATE.fill((version, 0, message_type), (servant, function, body, 0, {}, status))
    return _RESPONSE_TEMPLATE.fill((version, 0), (message_type, code, body, {}, description, {}))
