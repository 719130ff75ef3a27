"""The bytes of real TARS clients and servers (tests/vectors): read as they meant them, written as they write."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

import jce
from jce import dynamic, grammar, schema, wire
from jce.errors import DecodeError, Reason
from jce.reader import Reader
from jce.schema import Field, Map, Struct, Type, Vector
from tests.support import golden
from tests.support.jce_strategies import mutations


@jce.struct
class EndpointF:
    """The struct that the codec lines hold, as its interface file has it (authType and nodeName came later)."""

    host: str = jce.field(0)
    port: jce.Int32 = jce.field(1)
    timeout: jce.Int32 = jce.field(2)
    istcp: jce.Int32 = jce.field(3)
    grid: jce.Int32 = jce.field(4)
    groupworkid: jce.Int32 = jce.field(5, default=0)
    grouprealid: jce.Int32 = jce.field(6, default=0)
    setId: str = jce.field(7, default="")
    qos: jce.Int32 = jce.field(8, default=0)
    bakFlag: jce.Int32 = jce.field(9, default=0)
    weight: jce.Int32 = jce.field(11, default=0)
    weightType: jce.Int32 = jce.field(12, default=0)


@jce.struct
class RequestPacket:
    """What a client sends."""

    iVersion: jce.Int16 = jce.field(1)
    cPacketType: jce.Int8 = jce.field(2, default=0)
    iMessageType: jce.Int32 = jce.field(3, default=0)
    iRequestId: jce.Int32 = jce.field(4)
    sServantName: str = jce.field(5)
    sFuncName: str = jce.field(6)
    sBuffer: bytes = jce.field(7)
    iTimeout: jce.Int32 = jce.field(8, default=0)
    context: Mapping[str, str] = jce.field(9, default={})
    status: Mapping[str, str] = jce.field(10, default={})


@jce.struct
class ResponsePacket:
    """What a server answers, but in TUP."""

    iVersion: jce.Int16 = jce.field(1)
    cPacketType: jce.Int8 = jce.field(2)
    iRequestId: jce.Int32 = jce.field(3)
    iMessageType: jce.Int32 = jce.field(4)
    iRet: jce.Int32 = jce.field(5)
    sBuffer: bytes = jce.field(6)
    status: Mapping[str, str] = jce.field(7)
    sResultDesc: str = jce.field(8, default="")
    context: Mapping[str, str] = jce.field(9, default={})


# -- one field each ----------------------------------------------------------------------------------------------

KINDS: dict[str, Type] = {
    "int8": schema.INT8,
    "int16": schema.INT16,
    "int32": schema.INT32,
    "int64": schema.INT64,
    "uint8": schema.UINT8,
    "uint16": schema.UINT16,
    "uint32": schema.UINT32,
    "bool": schema.BOOL,
    "float": schema.FLOAT,
    "double": schema.DOUBLE,
    "string": schema.STRING,
    "bytes": schema.BYTES,
    "struct": Struct(EndpointF),
    "list_i32": Vector(schema.INT32),
    "list_i64": Vector(schema.INT64),
    "list_s": Vector(schema.STRING),
    "list_f": Vector(schema.FLOAT),
    "list_struct": Vector(Struct(EndpointF)),
    "map_ss": Map(schema.STRING, schema.STRING),
    "map_is": Map(schema.INT32, schema.STRING),
    "map_si": Map(schema.STRING, schema.INT32),
    "map_sb": Map(schema.STRING, schema.BYTES),
    "map_sstruct": Map(schema.STRING, Struct(EndpointF)),
    "map_sli": Map(schema.STRING, Vector(schema.INT32)),
}

ENDPOINTS = {
    "zero": EndpointF(host="", port=0, timeout=0, istcp=0, grid=0),
    "min": EndpointF(host="h", port=1, timeout=3000, istcp=1, grid=0),
    "full": EndpointF(
        host="10.0.0.1",
        port=65535,
        timeout=60000,
        istcp=2,
        grid=1,
        groupworkid=3,
        grouprealid=-1,
        setId="app.sz.1",
        qos=7,
        bakFlag=1,
        weight=100,
        weightType=1,
    ),
    "edge": EndpointF(
        host="x" * 256,
        port=-1,
        timeout=128,
        istcp=0,
        grid=-129,
        groupworkid=-32769,
        grouprealid=32768,
        setId="s" * 255,
        qos=-(2**31),
        bakFlag=2**31 - 1,
        weight=-1,
        weightType=127,
    ),
}

# Lines too long to carry their value.
LONG_VALUES = {
    "string len 65536": "a" * 65536,
    "string utf8 len 255 bytes": "é" * 127 + "a",
    "string utf8 len 256 bytes": "é" * 128,
    "bytes len 255": b"\xab" * 255,
    "bytes len 256": b"\xab" * 256,
    "bytes len 32768": b"\xab" * 32768,
}


def python_value(kind: Type, text: Any) -> Any:
    """The value that a codec line writes down as text."""
    match kind:
        case Vector(element):
            return tuple(python_value(element, item) for item in text)
        case Map(key, value):
            return {python_value(key, k): python_value(value, v) for k, v in text}
        case Struct():
            return ENDPOINTS[text]
    if kind == schema.FLOAT:
        return struct.unpack(">f", struct.pack(">f", float(text)))[0]
    if kind == schema.DOUBLE:
        return float(text)
    if kind == schema.STRING:
        return text
    if kind == schema.BYTES:
        return bytes.fromhex(text)
    return bool(int(text)) if kind == schema.BOOL else int(text)


codec_lines = pytest.mark.parametrize(
    "line", [pytest.param(line, id=f"{line['func']}, {line['note']}") for line in golden.lines("codec")]
)


def spellings_of(line: dict[str, Any]) -> dict[str, bytes]:
    return {key: bytes.fromhex(value) for key, value in line.items() if key.startswith("hex")}


@codec_lines
def test_the_codec_reads_and_writes_what_real_codecs_do(line: dict[str, Any]) -> None:
    """Every spelling is read. Where they differ we write as Go: floats in full, an optional default left out."""
    kind = KINDS[line["func"]]
    declared = [Field(line["tag"], "value", kind)]
    codec = jce.tuple_codec("line", declared)
    value = LONG_VALUES[line["note"]] if line["value"] is None else python_value(kind, line["value"])
    spelled = spellings_of(line)

    assert spelled.keys() in ({"hex"}, {"hex_go", "hex_node", "hex_java"})
    for data in spelled.values():
        assert codec.decode(data) == (value,)
        assert len(grammar.parse(data)) == 1
    ours = spelled.get("hex") or spelled["hex_go"]
    assert codec.encode((value,)) == ours
    assert grammar.build(declared, [value]) == ours


# -- packets -----------------------------------------------------------------------------------------------------

request_lines = pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, id=f"{number} {line['client']}, {line['func']}")
        for number, line in enumerate(golden.lines("client-request"))
    ],
)


def by_text(value: Any) -> Any:
    """A dump as JSON writes it: tags and keys as text."""
    match value:
        case dict():
            return {str(key): by_text(item) for key, item in value.items()}
        case list():
            return [by_text(item) for item in value]
    return value


@request_lines
def test_a_request_of_a_real_client_is_read(line: dict[str, Any]) -> None:
    frame = bytes.fromhex(line["request_hex"])
    assert int.from_bytes(frame[:4], "big") == len(frame)
    packet = jce.codec(RequestPacket).decode(frame[4:])
    same = ("iVersion", "cPacketType", "iMessageType", "iTimeout", "context", "status")
    shown = {"servant": packet.sServantName, "func": packet.sFuncName}
    shown |= {name: getattr(packet, name) for name in same}
    assert shown == {key: line[key] for key in shown}
    assert jce.codec(RequestPacket).decode(jce.codec(RequestPacket).encode(packet)) == packet

    arguments = dynamic.decode(packet.sBuffer)
    if line["args"] is None:
        pairs = arguments[1]
        assert all(isinstance(key, dict) and isinstance(body, dict) for key, body in pairs)
    else:
        assert by_text(arguments) == line["args"]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, id=f"{number} {line['client']}, {line['func']}")
        for number, line in enumerate(golden.lines("server-response"))
        # Garbage and versions that nobody knows are answered with less than a packet.
        if line["response_hex"] and line["func"] != "(raw)" and not line["note"].startswith("unknown version")
    ],
)
def test_a_response_of_a_real_server_is_read(line: dict[str, Any]) -> None:
    """An answer in TUP is a request packet again, where field 5 is the servant's name."""
    data = bytes.fromhex(line["response_hex"])[4:]
    codec: jce.Codec[Any] = jce.codec(RequestPacket if isinstance(dynamic.decode(data)[5], str) else ResponsePacket)
    packet = codec.decode(data)
    assert codec.decode(codec.encode(packet)) == packet
    if packet.iVersion == 1:
        for tag, value in dynamic.decode(packet.sBuffer).items():
            if isinstance(value, list):
                answer = jce.tuple_codec("answer", [Field(tag, "endpoints", Vector(Struct(EndpointF)))])
                (endpoints,) = answer.decode(packet.sBuffer)
                assert [(found.host, found.port) for found in endpoints] == [(dump[0], dump[1]) for dump in value]
                assert answer.decode(answer.encode((endpoints,))) == (endpoints,)


PACKETS = [
    bytes.fromhex(line[key])[4:]
    for line in golden.lines()
    for key in ("request_hex", "response_hex")
    if line.get(key) and line.get("func") != "(raw)"
]


def test_every_packet_is_well_formed_for_every_reader() -> None:
    assert len(PACKETS) > 100
    for packet in PACKETS:
        fields = grammar.parse(packet)
        assert dynamic.decode(packet).keys() == {node.tag for node in fields}
        reader = Reader(packet)
        jce.tuple_codec("nothing", ()).decode(reader)
        values = sum(wire.COSTS[node.type] for node in grammar.walk(fields))
        assert reader.budget == wire.DEFAULT_MAX_VALUES - values


def error_of(decode: Callable[[], object]) -> DecodeError | None:
    """The error that decoding ends in; anything but a DecodeError comes through and fails the test."""
    try:
        decode()
    except DecodeError as error:
        return error
    return None


def test_every_packet_cut_short_is_refused_without_surprise() -> None:
    """Or taken, where only optional fields are cut off."""
    for packet in sorted(set(PACKETS), key=len)[-5:]:
        for length in range(len(packet)):
            error = error_of(lambda data=packet[:length]: jce.codec(RequestPacket).decode(data))  # type: ignore[misc]
            assert error is None or 0 <= error.offset <= length


@given(st.sampled_from(sorted(set(PACKETS))).flatmap(mutations))
def test_the_codec_and_the_grammar_agree_on_damaged_packets(packet: bytes) -> None:
    well_formed = error_of(lambda: grammar.parse(packet)) is None
    error = error_of(lambda: jce.codec(RequestPacket).decode(packet))
    event(f"{'well-formed' if well_formed else 'not well-formed'}, {error.reason.name if error else 'taken'}")

    if not well_formed:
        assert error is not None
    if error is not None and error.reason in (Reason.MALFORMED, Reason.LIMIT):
        assert not well_formed
