"""The cursor: what it takes, what it refuses and where, and what it spends on it."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

import jce
from jce import dynamic, grammar, schema, wire
from jce.errors import DecodeError, Reason
from jce.reader import END, Reader
from jce.schema import Field, Map, Type, Vector
from tests.jce.corners import MALFORMED, WELL_FORMED
from tests.support.jce_strategies import CONTAINERS, WIDEST, codes_for, head, integer, nested

SKIPPING = jce.tuple_codec("nothing", ())

Decode = Callable[[bytes | Reader], object]

# Both look at bytes without knowing what they should be: a rule about the bytes alone must hold in both.
SCHEMALESS: dict[str, Decode] = {"skipping": SKIPPING.decode, "dumping": dynamic.decode}

schemaless = pytest.mark.parametrize("decode", SCHEMALESS.values(), ids=SCHEMALESS.keys())


@jce.struct
class Empty:
    """A struct without fields: all that it holds is skipped."""


@jce.struct
class Late:
    """A struct with one field, so that something may be skipped on the way to it."""

    last: jce.Int8 = jce.field(9, default=0)


def refusal(decode: Decode, data: bytes | Reader) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        decode(data)
    return caught.value


def value_of(kind: Type, data: bytes) -> Any:
    """One field of tag 0 as this type."""
    return jce.value_codec(kind).decode(data)[0]


# -- scalars -----------------------------------------------------------------------------------------------------

INTEGER_TYPES = [*schema.INTEGERS, schema.BOOL]
CODES = [wire.ZERO, wire.INT8, wire.INT16, wire.INT32, wire.INT64]


@pytest.mark.parametrize("code", CODES, ids=lambda code: wire.TYPE_NAMES[code])
@pytest.mark.parametrize("kind", INTEGER_TYPES, ids=str)
def test_an_integer_may_be_narrower_than_declared_and_not_wider(kind: schema.Scalar, code: int) -> None:
    """Unsigned ones are carried in the next wider signed type, so that much may come."""
    value = 0 if code == wire.ZERO else 1
    data = integer(0, value, code)
    if code == wire.ZERO or code <= WIDEST[kind]:
        assert value_of(kind, data) == value
    else:
        error = refusal(jce.value_codec(kind).decode, data)
        assert (error.reason, error.offset, error.path) == (Reason.MISMATCH, 0, "value")


@pytest.mark.parametrize("kind", [schema.INT8, schema.INT16, schema.INT32, schema.INT64], ids=str)
def test_signed_integers_reach_from_end_to_end(kind: schema.Scalar) -> None:
    for value in (kind.minimum, -1, 0, 1, kind.maximum):
        for code in codes_for(value, WIDEST[kind]):
            assert value_of(kind, integer(0, value, code)) == value


@pytest.mark.parametrize("kind", [schema.UINT8, schema.UINT16, schema.UINT32], ids=str)
@pytest.mark.parametrize("past", [-1, 1])
def test_an_unsigned_value_out_of_its_range_is_refused(kind: schema.Scalar, past: int) -> None:
    bound = kind.maximum if past > 0 else kind.minimum
    assert value_of(kind, integer(0, bound, WIDEST[kind])) == bound
    error = refusal(jce.value_codec(kind).decode, integer(0, bound + past, WIDEST[kind]))
    assert (error.reason, error.offset, error.path) == (Reason.RANGE, 0, "value")


@pytest.mark.parametrize(("byte", "value"), [("0c", False), ("0000", False), ("0001", True), ("00ff", True)])
def test_a_bool_is_true_unless_it_is_0(byte: str, value: bool) -> None:
    assert value_of(schema.BOOL, bytes.fromhex(byte)) is value


@pytest.mark.parametrize(
    ("kind", "data", "value"),
    [
        (schema.FLOAT, "043fc00000", 1.5),
        (schema.FLOAT, "0c", 0.0),
        (schema.FLOAT, "047f800000", float("inf")),
        (schema.DOUBLE, "053ff8000000000000", 1.5),
        (schema.DOUBLE, "043fc00000", 1.5),
        (schema.DOUBLE, "0c", 0.0),
    ],
)
def test_a_double_may_come_as_a_float_and_both_without_a_body_when_zero(kind: Type, data: str, value: float) -> None:
    found = value_of(kind, bytes.fromhex(data))
    assert found == value
    assert isinstance(found, float)


MISMATCHES = {
    "a double for a float": (schema.FLOAT, "053ff8000000000000"),
    "an integer for a float": (schema.FLOAT, "0001"),
    "an integer for a double": (schema.DOUBLE, "020000ffff"),
    "a float for an integer": (schema.INT64, "043fc00000"),
    "a string for an integer": (schema.INT32, "060131"),
    "an integer for a string": (schema.STRING, "0001"),
    "a simple list for a string": (schema.STRING, "0d00000161"),
    "zero for a string": (schema.STRING, "0c"),
    "a string for bytes": (schema.BYTES, "060161"),
    "zero for bytes": (schema.BYTES, "0c"),
    "a simple list for a list": (Vector(schema.INT32), "0d000c"),
    "a map for a list": (Vector(schema.INT32), "080c"),
    "a list for a map": (Map(schema.INT8, schema.INT8), "090c"),
    "zero for a list": (Vector(schema.INT32), "0c"),
}


@pytest.mark.parametrize(("kind", "data"), MISMATCHES.values(), ids=MISMATCHES.keys())
def test_a_field_of_another_type_is_a_mismatch(kind: Type, data: str) -> None:
    error = refusal(jce.value_codec(kind).decode, bytes.fromhex(data))
    assert (error.reason, error.offset, error.path) == (Reason.MISMATCH, 0, "value")
    SKIPPING.decode(bytes.fromhex(data))


@pytest.mark.parametrize("code", [wire.STRING1, wire.STRING4], ids=lambda code: wire.TYPE_NAMES[code])
@pytest.mark.parametrize("text", [b"", b"plain", "日本".encode(), b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"a\x00b"])
def test_a_string_takes_any_bytes_and_gives_them_back(code: int, text: bytes) -> None:
    """UTF-8 or not: a lone lead byte, an encoded surrogate, a zero byte."""
    length = bytes((len(text),)) if code == wire.STRING1 else struct.pack(">I", len(text))
    found = value_of(schema.STRING, head(0, code) + length + text)
    assert found.encode("utf-8", "surrogateescape") == text


# -- bytes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    ["0d00000300ff80", "fd00f000f0000300ff80", "0d00020000000300ff80", "0900030c00ff0080"],
    ids=["simple list", "long heads", "wide count", "list of int8"],
)
def test_bytes_come_as_a_simple_list_or_as_a_list_of_int8(data: str) -> None:
    assert value_of(schema.BYTES, bytes.fromhex(data)) == b"\x00\xff\x80"


def test_bytes_as_a_list_of_wider_integers_are_refused_at_the_element() -> None:
    error = refusal(jce.value_codec(schema.BYTES).decode, bytes.fromhex("0900020001010001"))
    assert (error.reason, error.path, error.offset) == (Reason.MISMATCH, "value[1]", 5)


def test_bytes_count_toward_the_nesting_only_where_they_come_as_a_list() -> None:
    kind: Type = schema.BYTES
    expected: Any = b"a"
    for _ in range(wire.MAX_NESTING):
        kind, expected = Vector(kind), (expected,)
    levels = ["list"] * wire.MAX_NESTING
    assert value_of(kind, nested(levels, innermost=bytes.fromhex("0d00000161"))) == expected
    error = refusal(jce.value_codec(kind).decode, nested(levels, innermost=bytes.fromhex("0900010061")))
    assert error.reason is Reason.LIMIT
    assert error.path == "value" + "[0]" * wire.MAX_NESTING


# -- what is well-formed -----------------------------------------------------------------------------------------

MARKS_TOO_MANY = ("struct end at the top", "struct end after a field", "one struct end too many")


@schemaless
@pytest.mark.parametrize("data", WELL_FORMED.values(), ids=WELL_FORMED.keys())
def test_well_formed_bytes_are_taken(decode: Decode, data: str) -> None:
    decode(bytes.fromhex(data))


@schemaless
@pytest.mark.parametrize(("data", "offset"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_bytes_are_refused_with_their_place(decode: Decode, data: str, offset: int) -> None:
    error = refusal(decode, bytes.fromhex(data))
    assert (error.reason, error.offset) == (Reason.MALFORMED, offset)


@schemaless
@pytest.mark.parametrize("container", ["struct", "list", "map by key", "map by value"])
@pytest.mark.parametrize(
    "data",
    [data for name, (data, _) in MALFORMED.items() if name not in MARKS_TOO_MANY],
    ids=[name for name in MALFORMED if name not in MARKS_TOO_MANY],
)
def test_malformed_bytes_are_refused_inside_of_containers_too(decode: Decode, container: str, data: str) -> None:
    """There the bytes after them may be taken for theirs, so that only the refusal itself is sure."""
    assert refusal(decode, nested([container], tag=7, innermost=bytes.fromhex(data))).reason is Reason.MALFORMED


def test_a_field_that_is_read_ends_where_a_field_that_is_skipped_does() -> None:
    """A stray struct end is found by a codec too that has read all that it wanted before it."""
    codec = jce.tuple_codec("one", (Field(0, "first", schema.INT32),))
    assert refusal(codec.decode, b"\x0c\x0b").reason is Reason.MALFORMED
    assert refusal(codec.decode, b"\x0c\x1e").reason is Reason.MALFORMED


OUT_OF_PLACE: dict[str, tuple[Type, str, str, int]] = {
    "an element with tag 1": (Vector(schema.INT8), "0900021c0c", "value[0]", 3),
    "a second element with tag 2": (Vector(schema.INT8), "0900020c2c", "value[1]", 4),
    "an element of an unknown type": (Vector(schema.INT8), "090001fe00", "value", 3),
    "a struct end for an element": (Vector(schema.STRING), "0900010b", "value[0]", 3),
    "a byte with tag 1": (schema.BYTES, "0900011001", "value[0]", 3),
    "a key with tag 1": (Map(schema.INT8, schema.INT8), "0800011c1c", "value[0]", 3),
    "a value with tag 0": (Map(schema.INT8, schema.INT8), "0800010c0c", "value[0]", 4),
    "a value with tag 2": (Map(schema.INT8, schema.INT8), "0800020c1c0c2c", "value[1]", 6),
    "an inner element with tag 1": (Vector(Vector(schema.INT8)), "0900020900010c0900011c", "value[1][0]", 10),
    "a list cut short": (Vector(schema.STRING), "0900020600", "value[1]", 5),
    "a map cut short": (Map(schema.STRING, schema.INT8), "0800020601611c0600", "value[1]", 9),
    "a struct cut short": (schema.Struct(Empty), "0a", "value", 1),
    "a struct that ends with a tag": (Vector(schema.Struct(Empty)), "0900010a1b", "value[0]", 4),
}


@pytest.mark.parametrize(("kind", "data", "path", "offset"), OUT_OF_PLACE.values(), ids=OUT_OF_PLACE.keys())
def test_a_part_of_a_container_that_is_out_of_place_is_refused_when_it_is_read(
    kind: Type, data: str, path: str, offset: int
) -> None:
    error = refusal(jce.value_codec(kind).decode, bytes.fromhex(data))
    assert (error.reason, error.path, error.offset) == (Reason.MALFORMED, path, offset)


# -- order -------------------------------------------------------------------------------------------------------

PAIR = jce.tuple_codec("pair", (Field(1, "a", schema.INT32, -1), Field(3, "b", schema.INT32, -1)))


@pytest.mark.parametrize(
    ("data", "pair"),
    [
        ("10013002", (1, 2)),
        ("0c100120033002f63c0161", (1, 2)),
        ("10013002300930091009", (1, 2)),
        ("1001100930023009", (1, 2)),
        ("30021001", (-1, 2)),
        ("200910013002", (-1, 2)),
        ("400910013002", (-1, -1)),
        ("f00101f00302", (1, 2)),
        ("", (-1, -1)),
    ],
    ids=[
        "in order",
        "unknown before, between and after",
        "repeated at the end",
        "repeated at once",
        "lower tag after a higher one",
        "unknown tag over the one sought",
        "unknown tag over all",
        "long heads",
        "nothing",
    ],
)
def test_fields_are_looked_for_going_forward_and_the_first_counts(data: str, pair: tuple[int, int]) -> None:
    assert PAIR.decode(bytes.fromhex(data)) == pair


def test_a_passed_tag_may_have_any_type() -> None:
    """What is not looked for is not held against its declared type."""
    assert PAIR.decode(bytes.fromhex("10013002") + nested(["map by key", "struct"], tag=1)) == (1, 2)


def test_a_tag_is_sought_over_lower_ones_only() -> None:
    reader = Reader(bytes.fromhex("1c2c4c"))
    assert not reader.seek(0, 0)
    assert reader.tag == 1
    assert not reader.seek(3, 0)
    assert reader.tag == 4
    assert reader.seek(4, 0)
    assert reader.int32() == 0
    assert not reader.seek(255, 0)
    assert reader.tag == END


def test_the_last_integer_is_read_without_a_look_at_what_follows() -> None:
    """So the request id of a packet can be told even where the rest of it can't be read."""
    reader = Reader(bytes.fromhex("1c4005") + b"\xff\xff")
    assert reader.seek(4, 0)
    assert reader.last_int32() == 5
    reader = Reader(bytes.fromhex("4300000000000000ff"))
    with pytest.raises(DecodeError, match="expected int32, found int64"):
        reader.last_int32()


# -- nesting -----------------------------------------------------------------------------------------------------


@schemaless
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("inner", ["struct", "list", "map by key", "map by value"])
def test_sixteen_containers_may_be_open_and_not_seventeen(decode: Decode, container: str, inner: str) -> None:
    """Of one kind or of two in turns; the error is at the container that is one too many."""
    levels = [container, inner] * (wire.MAX_NESTING // 2)
    decode(nested(levels, tag=9))
    error = refusal(decode, nested([*levels, container], tag=9))
    one, other = (nested(levels, tag=9, innermost=byte) for byte in (b"\x00", b"\xff"))
    innermost = next(at for at in range(len(one)) if one[at] != other[at])
    assert (error.reason, error.offset) == (Reason.LIMIT, innermost)


@schemaless
@pytest.mark.parametrize("empty", [b"\x0a\x0b", b"\x09\x0c", b"\x08\x0c"], ids=["struct", "list", "map"])
def test_an_empty_container_counts_toward_the_nesting(decode: Decode, empty: bytes) -> None:
    decode(nested(["struct"] * (wire.MAX_NESTING - 1), innermost=empty))
    data = nested(["struct"] * wire.MAX_NESTING, innermost=empty)
    error = refusal(decode, data)
    assert (error.reason, error.offset) == (Reason.LIMIT, wire.MAX_NESTING)


@schemaless
def test_a_simple_list_is_no_container(decode: Decode) -> None:
    decode(nested(["list"] * wire.MAX_NESTING, innermost=b"\x0d\x00\x0c"))


AROUND: dict[str, tuple[Callable[[Type], Type], list[str]]] = {
    "in a struct": (lambda inner: inner, []),
    "in a list": (Vector, ["list"]),
    "in the key of a map": (lambda inner: Map(inner, schema.INT8), ["map by key"]),
    "in the value of a map": (lambda inner: Map(schema.INT8, inner), ["map by value"]),
    "in a list in a map": (lambda inner: Map(schema.INT8, Vector(inner)), ["map by value", "list"]),
}


@pytest.mark.parametrize("skipped", CONTAINERS)
@pytest.mark.parametrize("cls", [Empty, Late])
@pytest.mark.parametrize(("kind", "levels"), AROUND.values(), ids=AROUND.keys())
def test_a_skipped_field_is_as_deep_as_where_it_stands(
    kind: Callable[[Type], Type], levels: list[str], cls: type[Any], skipped: str
) -> None:
    """What is read around it and what is skipped inside of it count together."""
    codec = jce.value_codec(kind(schema.Struct(cls)))

    def buffer(more: int) -> bytes:
        inside = nested([skipped] * (wire.MAX_NESTING - 1 - len(levels) + more), tag=5)
        tag = 1 if levels[-1:] == ["map by value"] else 0
        whole = head(tag, wire.STRUCT_BEGIN) + inside + head(0, wire.STRUCT_END)
        return nested(levels, innermost=whole)

    codec.decode(buffer(0))
    assert refusal(codec.decode, buffer(1)).reason is Reason.LIMIT


@pytest.mark.parametrize(("kind", "levels"), AROUND.values(), ids=AROUND.keys())
def test_bytes_as_a_list_are_as_deep_as_where_they_stand(kind: Callable[[Type], Type], levels: list[str]) -> None:
    """A declared type is never too deep itself; bytes may come as one container more than they count for."""
    deepest: Type = schema.BYTES
    for _ in range(wire.MAX_NESTING - len(levels)):
        deepest = Vector(deepest)
    codec = jce.value_codec(kind(deepest))
    all_levels = levels + ["list"] * (wire.MAX_NESTING - len(levels))
    codec.decode(nested(all_levels, innermost=b"\x0d\x00\x0c"))
    assert refusal(codec.decode, nested(all_levels, innermost=b"\x09\x0c")).reason is Reason.LIMIT


@schemaless
def test_a_hundred_thousand_struct_begins_are_no_matter(decode: Decode) -> None:
    """Nothing recurses into them: the seventeenth is refused."""
    error = refusal(decode, b"\x0a" * 100_000)
    assert (error.reason, error.offset) == (Reason.LIMIT, wire.MAX_NESTING)


@schemaless
@pytest.mark.parametrize("data", [b"\x0a\x0b" * 50_000, b"\x0c" * 100_000, b"\x09\x0c" * 50_000], ids=bytes.hex)
def test_many_values_beside_each_other_need_only_a_budget(decode: Decode, data: bytes) -> None:
    decode(Reader(data[:12_000], max_values=20_000))
    decode(Reader(data, max_values=150_000))
    assert refusal(decode, data).reason is Reason.LIMIT


# -- budget ------------------------------------------------------------------------------------------------------

COSTS = {
    "nothing": ("", 0),
    "a field": ("0c", 1),
    "a string": ("060161", 1),
    "a simple list": ("0d00000161", 3),
    "an empty list": ("090c", 3),
    "a list of two": ("0900020c0c", 5),
    "an empty map": ("080c", 3),
    "a map of a pair": ("0800010c1c", 5),
    "an empty struct": ("0a0b", 3),
    "a struct of two": ("0a0c1c0b", 5),
    "two structs": ("0a0b1a0b", 6),
    "a list of bytes": ("0900020d000c0d000c", 9),
    "a list in a list": ("090001090c", 6),
}


@schemaless
@pytest.mark.parametrize(("data", "cost"), COSTS.values(), ids=COSTS.keys())
def test_a_value_costs_one_and_a_container_three_whatever_they_take_to_write(
    decode: Decode, data: str, cost: int
) -> None:
    """Counts, the inner head of a simple list and the ends of structs are free, also on the last that is left."""
    reader = Reader(bytes.fromhex(data), max_values=cost)
    decode(reader)
    assert reader.budget == 0
    grammar.parse(bytes.fromhex(data), max_values=cost)


@schemaless
@pytest.mark.parametrize(("data", "cost"), [pair for pair in COSTS.values() if pair[1]])
def test_one_value_over_the_budget_is_refused(decode: Decode, data: str, cost: int) -> None:
    def run(data: bytes | Reader) -> object:
        assert isinstance(data, bytes)
        return decode(Reader(data, max_values=cost - 1))

    assert refusal(run, bytes.fromhex(data)).reason is Reason.LIMIT


def test_the_default_budget_holds_twenty_thousand_values() -> None:
    SKIPPING.decode(b"\x0c" * wire.DEFAULT_MAX_VALUES)
    error = refusal(SKIPPING.decode, b"\x0c" * (wire.DEFAULT_MAX_VALUES + 1))
    assert (error.reason, error.offset) == (Reason.LIMIT, wire.DEFAULT_MAX_VALUES)


def test_several_buffers_can_share_a_budget() -> None:
    first = Reader(b"\x0c\x1c", max_values=5)
    SKIPPING.decode(first)
    second = Reader(b"\x0c\x1c\x2c", max_values=first.budget)
    SKIPPING.decode(second)
    assert second.budget == 0


# -- memory ------------------------------------------------------------------------------------------------------

LIES = {
    "string of 4 GiB": (schema.STRING, "07ffffffff" + "61" * 8),
    "string of 2 GiB": (schema.STRING, "077fffffff" + "61" * 8),
    "bytes of 2 GiB": (schema.BYTES, "0d00027fffffff" + "61" * 8),
    "bytes as a list of 2^31": (schema.BYTES, "09027fffffff" + "0c" * 8),
    "list of 2^31": (Vector(schema.INT32), "09027fffffff" + "0c" * 8),
    "map of 2^31": (Map(schema.INT32, schema.INT32), "08027fffffff" + "0c1c" * 8),
}


@pytest.mark.parametrize(("kind", "data"), LIES.values(), ids=LIES.keys())
def test_a_lying_length_takes_no_memory(kind: Type, data: str) -> None:
    """Read, skipped and dumped: the length is held against the bytes that remain before anything is made of it."""
    buffer = bytes.fromhex(data)
    codec = jce.value_codec(kind)
    tracemalloc.start()
    try:
        for decode in (codec.decode, *SCHEMALESS.values()):
            assert refusal(decode, buffer).reason is Reason.MALFORMED
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000
