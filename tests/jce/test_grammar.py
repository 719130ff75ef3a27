"""The grammar by itself: what it takes, builds and shows. That the codec agrees with it is in test_properties."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import jce
from jce import grammar, schema, wire
from jce.errors import DecodeError, Reason
from jce.schema import Field, Map, Struct, Type, Vector
from tests.jce.corners import MALFORMED, WELL_FORMED
from tests.support.jce_strategies import CONTAINERS, nested


@jce.struct
class Point:
    """A struct with an optional field and a tag that takes a long head."""

    x: jce.Int32 = jce.field(0)
    label: str = jce.field(1, default="none")
    far: jce.UInt8 = jce.field(15)


@pytest.mark.parametrize("data", WELL_FORMED.values(), ids=WELL_FORMED.keys())
def test_well_formed_bytes_are_taken(data: str) -> None:
    grammar.parse(bytes.fromhex(data))


@pytest.mark.parametrize("data", [data for data, _ in MALFORMED.values()], ids=MALFORMED.keys())
def test_malformed_bytes_are_refused(data: str) -> None:
    with pytest.raises(DecodeError) as caught:
        grammar.parse(bytes.fromhex(data))
    assert caught.value.reason is Reason.MALFORMED


@pytest.mark.parametrize("container", CONTAINERS)
def test_sixteen_containers_may_be_open_and_not_seventeen(container: str) -> None:
    grammar.parse(nested([container] * wire.MAX_NESTING))
    with pytest.raises(DecodeError):
        grammar.parse(nested([container] * (wire.MAX_NESTING + 1)))


def test_the_error_is_at_the_top_level_field_and_says_what_was_wrong() -> None:
    with pytest.raises(DecodeError, match=r"no well-formed field \(.+\) \(at byte 2\)"):
        grammar.parse(bytes.fromhex("0c1c2a0e0b"))


def test_values_over_the_budget_are_refused() -> None:
    data = nested(["list", "struct"])
    assert len(grammar.parse(data, max_values=7)) == 1
    with pytest.raises(DecodeError) as caught:
        grammar.parse(data, max_values=6)
    assert caught.value.reason is Reason.LIMIT


BUILT: dict[str, tuple[Type, Any, str]] = {
    "zero": (schema.INT32, 0, "0c"),
    "int8 at its end": (schema.INT32, -128, "0080"),
    "int16": (schema.INT32, 128, "010080"),
    "int32": (schema.INT64, -32769, "02ffff7fff"),
    "int64": (schema.UINT32, 0xFFFFFFFF, "0300000000ffffffff"),
    "false": (schema.BOOL, False, "0c"),
    "true": (schema.BOOL, True, "0001"),
    "float zero in full": (schema.FLOAT, 0.0, "0400000000"),
    "double zero in full": (schema.DOUBLE, 0.0, "050000000000000000"),
    "double minus zero": (schema.DOUBLE, -0.0, "058000000000000000"),
    "string": (schema.STRING, "é", "0602c3a9"),
    "string that is not UTF-8": (schema.STRING, "\udcff", "0601ff"),
    "string of 255 bytes": (schema.STRING, "a" * 255, "06ff" + "61" * 255),
    "string of 256 bytes": (schema.STRING, "a" * 256, "0700000100" + "61" * 256),
    "bytes": (schema.BYTES, b"\x00\xff", "0d00000200ff"),
    "empty vector": (Vector(schema.INT8), (), "090c"),
    "vector": (Vector(schema.INT8), (0, 5), "0900020c0005"),
    "map": (Map(schema.STRING, schema.INT8), {"a": 1}, "08000106016110" + "01"),
    "struct with its default left out": (Struct(Point), Point(x=0, far=255), "0a0cf10f00ff0b"),
    "struct with all": (Struct(Point), Point(x=1, label="", far=0), "0a00011600fc0f0b"),
}


@pytest.mark.parametrize(("kind", "value", "data"), BUILT.values(), ids=BUILT.keys())
def test_it_builds_what_a_writer_chooses(kind: Type, value: Any, data: str) -> None:
    assert grammar.build([Field(0, "value", kind)], [value]).hex() == data
    assert jce.value_codec(kind).encode((value,)).hex() == data


def test_it_builds_fields_in_the_order_of_their_tags() -> None:
    declared = [Field(14, "b", schema.INT8), Field(0, "a", schema.INT8), Field(16, "c", schema.INT8, 7)]
    assert grammar.build(declared, [1, 2, 7]).hex() == "0002e001"


def test_lines_tell_where_each_field_begins() -> None:
    data = bytes.fromhex("0a00011602c3a9f10f00ff0b" + "1800010c1d000001ff")
    shown = [(line.offset, line.depth, line.tag, line.type, line.value) for line in grammar.lines(data)]
    assert shown == [
        (0, 0, 0, "struct", ""),
        (1, 1, 0, "int8", "1"),
        (3, 1, 1, "string1", "'é'"),
        (7, 1, 15, "int16", "255"),
        (11, 1, 0, "struct end", ""),
        (12, 0, 1, "map", "1 items"),
        (15, 1, 0, "zero", "0"),
        (16, 1, 1, "simple list", "1 bytes ff"),
    ]


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("0602ff41", r"'\\xffA'"),
        ("0d000021" + "ab" * 33, "33 bytes " + "ab" * 32 + "…"),
        ("0d000020" + "ab" * 32, "32 bytes " + "ab" * 32),
        ("090c", "0 items"),
        ("043fc00000", "1.5"),
    ],
)
def test_lines_show_values_in_short(data: str, value: str) -> None:
    (line,) = grammar.lines(bytes.fromhex(data))
    assert line.value == value


def test_lines_end_where_a_buffer_stops_being_well_formed() -> None:
    assert [line.offset for line in grammar.lines(bytes.fromhex("0c1c2e3c"))] == [0, 1]


def test_the_codec_does_not_need_construct() -> None:
    """The grammar is a witness and a tool: nothing that the codec imports brings it in."""
    program = "import sys, jce, jce.dynamic; sys.exit('construct' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2]).returncode == 0
