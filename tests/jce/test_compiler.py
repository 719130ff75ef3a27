"""Compiled codecs: what they choose when they write, and how they say what is wrong."""

from __future__ import annotations

import array
import decimal
import linecache
import math
import struct
import traceback
from collections.abc import Mapping
from typing import Any

import pytest

import jce
from jce import schema, wire
from jce.errors import DecodeError, EncodeError, JceError, Reason
from jce.reader import Reader
from jce.schema import Field, Map, Struct, Type, Vector


@jce.struct
class Endpoint:
    """A struct as the interface files have them."""

    host: str = jce.field(0)
    port: jce.Int32 = jce.field(1)
    weight: jce.UInt8 = jce.field(4, default=0)
    setId: str = jce.field(7, default="")


@jce.struct
class Reply:
    """Containers in each other, to tell paths in."""

    active: tuple[Endpoint, ...] = jce.field(0)
    by_name: Mapping[str, tuple[Endpoint, ...]] = jce.field(1, default={})
    raw: bytes = jce.field(2, default=b"")
    grid: tuple[tuple[jce.Int8, ...], ...] = jce.field(3, default=())


def encoding_error(codec: jce.Codec[Any], value: Any) -> EncodeError:
    with pytest.raises(EncodeError) as caught:
        codec.encode(value)
    return caught.value


def decoding_error(codec: jce.Codec[Any], data: str) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        codec.decode(bytes.fromhex(data))
    return caught.value


# -- codecs ------------------------------------------------------------------------------------------------------


def test_the_codec_of_a_struct_is_made_once() -> None:
    assert jce.codec(Endpoint) is jce.codec(Endpoint)
    assert jce.codec(Endpoint).fields == schema.fields(Endpoint)
    assert jce.value_codec(Vector(schema.INT8)) is jce.value_codec(Vector(schema.INT8))


def test_parameters_come_and_go_in_the_order_given() -> None:
    """On the wire they stand in the order of their tags."""
    codec = jce.tuple_codec("call", [Field(2, "b", schema.STRING), Field(1, "a", schema.INT8)])
    assert codec.encode(("x", 5)).hex() == "1005260178"
    assert codec.decode(bytes.fromhex("1005260178")) == ("x", 5)


def test_no_parameters_are_an_empty_tuple() -> None:
    codec = jce.tuple_codec("call", [])
    assert codec.encode(()) == b""
    assert codec.decode(b"") == ()
    assert codec.decode(b"\x0c\x1c") == ()


def test_a_buffer_is_read_to_its_end() -> None:
    """All of it must be well-formed, also after the last field that is wanted."""
    codec = jce.tuple_codec("call", [Field(0, "a", schema.INT8)])
    assert codec.decode(bytes.fromhex("000160")[:2]) == (1,)
    assert decoding_error(codec, "000160").reason is Reason.MALFORMED


def test_a_reader_at_its_start_can_be_given_to_bound_the_values() -> None:
    codec = jce.codec(Endpoint)
    data = codec.encode(Endpoint(host="h", port=1))
    reader = Reader(data, max_values=10)
    assert codec.decode(reader) == Endpoint(host="h", port=1)
    assert reader.budget == 8


@pytest.mark.parametrize(
    "name", ["r", "out", "value", "make", "at", "v", "v0", "END", "nesting", "error", "self", "DecodeError"]
)
def test_a_field_may_have_any_name(name: str) -> None:
    """Also one that the compiled code uses itself."""
    cls: type[Any] = jce.struct(type("Named", (), {"__annotations__": {name: jce.Int8}, name: jce.field(0)}))
    codec = jce.codec(cls)
    assert codec.decode(codec.encode(cls(**{name: 5}))) == cls(**{name: 5})
    with pytest.raises(EncodeError, match=rf"^{name}: 500 does not fit byte$"):
        codec.encode(cls(**{name: 500}))


def test_structs_of_one_name_are_kept_apart() -> None:
    def make(kind: Any) -> Any:
        return jce.struct(type("Same", (), {"__annotations__": {"a": kind}, "a": jce.field(0)}))

    texts, numbers = make(str), make(jce.Int8)
    assert jce.codec(texts).encode(texts(a="x")).hex() == "060178"
    assert jce.codec(numbers).encode(numbers(a=1)).hex() == "0001"
    assert jce.value_codec(Struct(texts)).encode((texts(a="x"),)).hex() == "0a0601780b"
    assert jce.value_codec(Struct(numbers)).encode((numbers(a=1),)).hex() == "0a00010b"


# -- optional fields ---------------------------------------------------------------------------------------------


def test_an_optional_field_at_its_default_is_left_out() -> None:
    assert jce.codec(Endpoint).encode(Endpoint(host="", port=0)).hex() == "06001c"
    assert jce.codec(Endpoint).encode(Endpoint(host="", port=0, weight=1, setId="s")).hex() == "06001c4001760173"


def test_an_optional_field_may_be_written_at_its_default() -> None:
    assert jce.codec(Endpoint).decode(bytes.fromhex("06001c4c7600")) == Endpoint(host="", port=0)


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        (schema.INT32, 7),
        (schema.BOOL, True),
        (schema.DOUBLE, 1.5),
        (schema.STRING, "tars"),
        (schema.BYTES, b"\x00"),
        (Vector(schema.INT8), (1, 2)),
        (Map(schema.STRING, schema.INT8), {"a": 1}),
        (Struct(Endpoint), Endpoint(host="h", port=1)),
    ],
    ids=str,
)
def test_a_default_may_be_of_any_type(kind: Type, default: Any) -> None:
    codec = jce.tuple_codec("call", [Field(3, "a", kind, default)])
    assert codec.encode((default,)) == b""
    assert codec.decode(b"") == (default,)
    assert codec.decode(jce.tuple_codec("call", [Field(3, "a", kind)]).encode((default,))) == (default,)


def test_a_map_taken_from_the_default_can_be_changed_without_harm() -> None:
    codec = jce.tuple_codec("call", [Field(0, "a", Map(schema.STRING, schema.INT8), {"a": 1})])
    codec.decode(b"")[0]["b"] = 2
    assert codec.decode(b"") == ({"a": 1},)


@pytest.mark.parametrize("tag", [0, 1, 14, 15, 255])
def test_a_missing_required_field_is_an_error_whatever_its_tag(tag: int) -> None:
    codec = jce.tuple_codec("call", [Field(tag, "a", schema.INT8), Field(100, "b", schema.INT8)])
    error = decoding_error(codec, "f06405")
    assert (error.reason, error.path) == (Reason.MISSING, "a")


def test_a_missing_required_field_is_named_with_its_place() -> None:
    error = decoding_error(jce.codec(Endpoint), "0600")
    assert (error.reason, error.path, error.offset) == (Reason.MISSING, "port", 2)
    assert str(error) == "port: required field is missing (at byte 2)"

    error = decoding_error(jce.codec(Reply), "0900020a06016810010b0a06000b")
    assert (error.reason, error.path, error.offset) == (Reason.MISSING, "active[1].port", 13)


# -- what is written ---------------------------------------------------------------------------------------------


def test_of_two_pairs_with_one_key_the_first_counts() -> None:
    """Also where the keys are spelled differently: 1 in eight and in sixteen bits."""
    codec = jce.value_codec(Map(schema.INT32, schema.STRING))
    assert codec.decode(bytes.fromhex("0800020001160161010001160162")) == ({1: "a"},)


def test_a_map_may_be_keyed_by_structs_and_vectors() -> None:
    kind = Map(Struct(Endpoint), Map(Vector(schema.INT8), schema.BOOL))
    value = {Endpoint(host="a", port=1): {(1, 2): True, (): False}}
    codec = jce.value_codec(kind)
    assert codec.decode(codec.encode((value,))) == (value,)


@pytest.mark.parametrize("kind", [schema.FLOAT, schema.DOUBLE], ids=str)
def test_nan_and_the_sign_of_zero_are_kept(kind: Type) -> None:
    codec = jce.value_codec(kind)
    assert math.isnan(codec.decode(codec.encode((math.nan,)))[0])
    assert math.copysign(1, codec.decode(codec.encode((-0.0,)))[0]) == -1


@pytest.mark.parametrize(("value", "data"), [(False, "0c"), (True, "0001"), (0, "0c"), (5, "0001"), (300, "0001")])
def test_a_bool_is_written_as_0_or_1(value: Any, data: str) -> None:
    assert jce.value_codec(schema.BOOL).encode((value,)).hex() == data


@pytest.mark.parametrize(
    "value",
    [bytearray(b"abcd"), memoryview(b"abcd"), memoryview(b"axbxcxdx")[::2]],
    ids=["a bytearray", "a view", "every other byte"],
)
def test_bytes_may_be_any_buffer(value: Any) -> None:
    assert jce.value_codec(schema.BYTES).encode((value,)).hex() == "0d000004" + b"abcd".hex()


def test_the_bytes_of_wide_elements_are_counted_as_bytes() -> None:
    assert jce.value_codec(schema.BYTES).encode((array.array("H", [1, 2]),)).hex().startswith("0d000004")


# -- values that do not fit --------------------------------------------------------------------------------------

UNFIT: dict[str, tuple[Type, Any]] = {
    "an integer too large": (schema.INT8, 128),
    "an integer too small": (schema.INT64, -(2**63) - 1),
    "a negative unsigned": (schema.UINT32, -1),
    "an unsigned too large": (schema.UINT16, 65536),
    "an integer too large to print": (schema.INT32, 10**5000),
    "None for an integer": (schema.INT32, None),
    "text for an integer": (schema.INT32, "1"),
    "a fraction for an integer": (schema.INT32, 1.5),
    "a large fraction for an integer": (schema.INT32, 300.0),
    "NaN for an integer": (schema.INT32, math.nan),
    "a decimal NaN for an integer": (schema.INT32, decimal.Decimal("NaN")),
    "a signalling NaN for an integer": (schema.INT32, decimal.Decimal("sNaN")),
    "None for a float": (schema.FLOAT, None),
    "text for a float": (schema.DOUBLE, "1"),
    "a float too large": (schema.FLOAT, 1e39),
    "an integer too large for a double": (schema.DOUBLE, 10**400),
    "bytes for a string": (schema.STRING, b"x"),
    "None for a string": (schema.STRING, None),
    "a surrogate that stands for no byte": (schema.STRING, "\ud800"),
    "text for bytes": (schema.BYTES, "x"),
    "an integer for bytes": (schema.BYTES, 5),
    "a list for bytes": (schema.BYTES, [1, 2]),
    "None for a vector": (Vector(schema.INT8), None),
    "an iterator for a vector": (Vector(schema.INT8), iter(())),
    "a list for a map": (Map(schema.STRING, schema.STRING), []),
    "None for a struct": (Struct(Endpoint), None),
    "a dict for a struct": (Struct(Endpoint), {"host": "", "port": 0}),
}


@pytest.mark.parametrize(("kind", "value"), UNFIT.values(), ids=UNFIT.keys())
def test_a_value_that_does_not_fit_is_refused_with_its_path(kind: Type, value: Any) -> None:
    """At the top, and inside of each container."""
    assert encoding_error(jce.value_codec(kind), (value,)).path.startswith("value")
    assert encoding_error(jce.value_codec(Vector(kind)), ((value,),)).path.startswith("value[0]")
    assert encoding_error(jce.value_codec(Map(schema.INT8, kind)), ({1: value},)).path.startswith("value[0]")


def test_an_optional_value_that_does_not_fit_is_refused_too() -> None:
    codec = jce.tuple_codec("call", [Field(0, "a", schema.INT32, 0)])
    for value in (None, decimal.Decimal("sNaN"), "0"):
        assert encoding_error(codec, (value,)).path == "a"


@pytest.mark.parametrize("values", [(), (1, 2, 3), None, 5, iter(())], ids=["0", "3", "None", "5", "an iterator"])
def test_another_number_of_parameters_is_refused(values: Any) -> None:
    codec = jce.tuple_codec("call", [Field(0, "a", schema.INT8), Field(1, "b", schema.INT8)])
    error = encoding_error(codec, values)
    assert error.path == ""
    assert error.__cause__ is not None


def test_a_mapping_with_a_wrong_key_is_refused() -> None:
    assert encoding_error(jce.value_codec(Map(schema.STRING, schema.INT8)), ({"a": 1, 5: 1},)).path == "value[1]"


# -- paths -------------------------------------------------------------------------------------------------------

GOOD = Endpoint(host="h", port=1)
BAD = Endpoint(host="h", port=2**31)

ENCODE_PATHS = [
    (Reply(active=(GOOD, BAD)), "active[1].port"),
    (Reply(active=(), by_name={"a": (), "b": (GOOD, GOOD, BAD)}), "by_name[1][2].port"),
    (Reply(active=(), raw="no"), "raw"),  # type: ignore[arg-type]
    (Reply(active=(), grid=((), (1, 2, 300))), "grid[1][2]"),
    (Reply(active=(), grid=((), 5)), "grid[1]"),  # type: ignore[arg-type]
    (Reply(active=5), "active"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("value", "path"), ENCODE_PATHS, ids=[path for _, path in ENCODE_PATHS])
def test_an_encode_error_tells_the_path(value: Reply, path: str) -> None:
    error = encoding_error(jce.codec(Reply), value)
    assert error.path == path
    assert str(error) == f"{path}: {error.detail}"


DECODE_PATHS = {
    "active": ("0c", Reason.MISMATCH, 0),
    "active[0]": ("0900010c", Reason.MISMATCH, 3),
    "active[1].host": ("090002" + "0a06001c0b" + "0a00010b", Reason.MISMATCH, 9),
    "active[0].weight": ("090001" + "0a06001c4101000b", Reason.RANGE, 7),
    "active[0].setId": ("090001" + "0a06001c76ff610b", Reason.MALFORMED, 7),
    "by_name[0]": ("090c" + "1800010c1900", Reason.MISMATCH, 5),
    "by_name[1][0].port": ("090c" + "180002" + "0600190c" + "0601611900010a06000b", Reason.MISSING, 18),
    "raw[2]": ("090c" + "2900030c0c060161", Reason.MISMATCH, 7),
    "grid[1][0]": ("090c" + "390002" + "090c" + "0900010100ff0c", Reason.MISMATCH, 10),
}


@pytest.mark.parametrize(("path", "expected"), DECODE_PATHS.items(), ids=DECODE_PATHS.keys())
def test_a_decode_error_tells_the_path_and_the_offset(path: str, expected: tuple[str, Reason, int]) -> None:
    data, reason, offset = expected
    error = decoding_error(jce.codec(Reply), data)
    assert (error.path, error.reason, error.offset) == (path, reason, offset)
    assert str(error) == f"{path}: {error.detail} (at byte {offset})"


def test_an_error_outside_of_what_is_wanted_has_an_offset_only() -> None:
    error = decoding_error(jce.codec(Reply), "090c" + "f30f")
    assert (error.path, error.offset) == ("", 2)
    assert str(error) == f"{error.detail} (at byte 2)"


def test_errors_are_value_errors_of_one_family() -> None:
    assert issubclass(DecodeError, JceError)
    assert issubclass(EncodeError, JceError)
    assert issubclass(JceError, ValueError)


# -- debugging ---------------------------------------------------------------------------------------------------


def test_a_traceback_shows_the_compiled_source() -> None:
    error = decoding_error(jce.codec(Reply), "0900010a06000b")
    shown = "".join(traceback.format_exception(error))
    assert 'Reply>", line' in shown
    assert "v0 = vector" in shown
    assert "raise r.missing()" in shown

    shown = "".join(traceback.format_exception(encoding_error(jce.codec(Endpoint), Endpoint(host=b"", port=0))))  # type: ignore[arg-type]
    assert "put_string(out, " in shown


def test_the_compiled_source_stays_when_the_line_cache_is_checked() -> None:
    jce.codec(Endpoint)
    linecache.checkcache()
    assert any(name.startswith("<jce codec ") and name.endswith(": Endpoint>") for name in linecache.cache)


# -- heads -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "head"), [(0, "00"), (1, "10"), (14, "e0"), (15, "f00f"), (16, "f010"), (254, "f0fe"), (255, "f0ff")]
)
@pytest.mark.parametrize(
    ("kind", "code", "value", "body"),
    [
        (schema.INT8, wire.INT8, 5, "05"),
        (schema.INT8, wire.ZERO, 0, ""),
        (schema.STRING, wire.STRING1, "x", "0178"),
        (schema.BYTES, wire.SIMPLE_LIST, b"x", "00000178"),
        (Vector(schema.INT8), wire.LIST, (0,), "00010c"),
        (Map(schema.INT8, schema.INT8), wire.MAP, {0: 0}, "00010c1c"),
        (Struct(Endpoint), wire.STRUCT_BEGIN, GOOD, "06016810010b"),
    ],
    ids=["int8", "zero", "string", "bytes", "vector", "map", "struct"],
)
def test_a_tag_from_15_on_takes_a_byte_of_its_own(
    tag: int, head: str, kind: Type, code: int, value: Any, body: str
) -> None:
    codec = jce.tuple_codec("call", [Field(tag, "a", kind)])
    first, *rest = bytes.fromhex(head)
    data = bytes((first | code, *rest)) + bytes.fromhex(body)
    assert codec.encode((value,)) == data
    assert codec.decode(data) == (value,)


def test_the_length_of_a_string_of_many_bytes_takes_four() -> None:
    data = jce.value_codec(schema.STRING).encode(("é" * 128,))
    assert data == b"\x07" + struct.pack(">I", 256) + "é".encode() * 128
