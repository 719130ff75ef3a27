"""Hypothesis strategies for the codec: schemas with values that fit them, bytes of every kind, values of no kind.

Three sources of bytes, from the tamest to the wildest:

- ``spellings(declared, values)``: what another TARS writer may send for these values. Wider integers, long heads,
  defaults written out, fields that the schema does not know; every one must decode to the same values.
- ``wire_buffers()``: well-formed fields that follow no schema.
- ``mutations(data)``: any of them, damaged.

The bytes are put together here and not by the writer or the grammar under test.
"""

from __future__ import annotations

import array
import dataclasses
import datetime as dt
import decimal
import fractions
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

from hypothesis import strategies as st

import jce
from jce import grammar, schema, wire
from jce.schema import Field, Map, Scalar, Struct, Type, Vector

FIXED_WIDTHS: Final = {wire.INT8: 1, wire.INT16: 2, wire.INT32: 4, wire.INT64: 8, wire.FLOAT: 4, wire.DOUBLE: 8}
"""Body length by type code, of the types that have one of fixed length."""

SCALARS: Final = (*schema.INTEGERS, schema.BOOL, schema.FLOAT, schema.DOUBLE, schema.STRING, schema.BYTES)

WIDEST: Final = {
    schema.INT8: wire.INT8,
    schema.INT16: wire.INT16,
    schema.INT32: wire.INT32,
    schema.INT64: wire.INT64,
    schema.UINT8: wire.INT16,
    schema.UINT16: wire.INT32,
    schema.UINT32: wire.INT64,
    schema.BOOL: wire.INT8,
}
"""The widest integer type that a reader of each declared type accepts."""

TAGS: Final = st.one_of(st.sampled_from((0, 1, 14, 15, 16, 255)), st.integers(0, wire.MAX_TAG))

# Names that the compiled code also uses, so that a clash would show.
NAMES: Final = (
    "r",
    "out",
    "value",
    "make",
    "at",
    "v",
    "v0",
    "key",
    "item",
    "items",
    "index",
    "count",
    "END",
    "nesting",
    "self",
    "cls",
    "fields",
    "host",
    "é",
)


# -- bytes, by hand ----------------------------------------------------------------------------------------------


def head(tag: int, code: int, *, long: bool = False) -> bytes:
    """A head; ``long`` takes the two-byte form for a tag that does not need it."""
    return bytes((0xF0 | code, tag)) if long or tag >= 15 else bytes((tag << 4 | code,))


def integer(tag: int, value: int, code: int, *, long: bool = False) -> bytes:
    """An integer field of exactly this type."""
    body = b"" if code == wire.ZERO else value.to_bytes(FIXED_WIDTHS[code], "big", signed=True)
    return head(tag, code, long=long) + body


def codes_for(value: int, widest: int = wire.INT64) -> list[int]:
    """The type codes that can carry an integer, up to ``widest``."""
    codes = [code for code in range(widest + 1) if -(1 << 8 * (1 << code) - 1) <= value < 1 << 8 * (1 << code) - 1]
    return [wire.ZERO, *codes] if value == 0 else codes


def count(value: int) -> bytes:
    """The count of a list, map or simple list, as the writer spells it."""
    return integer(0, value, codes_for(value, wire.INT32)[0])


@st.composite
def counts(draw: st.DrawFn, value: int) -> bytes:
    """The same in any type that a reader accepts."""
    return integer(0, value, draw(st.sampled_from(codes_for(value, wire.INT32))), long=draw(st.booleans()))


@st.composite
def wire_values(draw: st.DrawFn, tag: int, depth: int = 2) -> bytes:
    """One well-formed field of any type, holding at most ``depth`` containers in each other."""
    code = draw(st.sampled_from([code for code in range(14) if code != wire.STRUCT_END]))
    if depth == 0 and code in (wire.MAP, wire.LIST, wire.STRUCT_BEGIN):
        code = wire.ZERO
    out = head(tag, code, long=draw(st.booleans()))
    if code in FIXED_WIDTHS:
        width = FIXED_WIDTHS[code]
        out += draw(st.binary(min_size=width, max_size=width))
    elif code == wire.STRING1:
        text = draw(st.binary(max_size=6))
        out += bytes((len(text),)) + text
    elif code == wire.STRING4:
        text = draw(st.binary(max_size=6))
        out += struct.pack(">I", len(text)) + text
    elif code == wire.SIMPLE_LIST:
        data = draw(st.binary(max_size=6))
        out += head(0, wire.INT8, long=draw(st.booleans())) + draw(counts(len(data))) + data
    elif code == wire.LIST:
        length = draw(st.integers(0, 3))
        out += draw(counts(length)) + b"".join(draw(wire_values(0, depth - 1)) for _ in range(length))
    elif code == wire.MAP:
        length = draw(st.integers(0, 2))
        out += draw(counts(length))
        for _ in range(length):
            out += draw(wire_values(0, depth - 1)) + draw(wire_values(1, depth - 1))
    elif code == wire.STRUCT_BEGIN:
        for inner in draw(st.lists(TAGS, max_size=3)):
            out += draw(wire_values(inner, depth - 1))
        out += head(0, wire.STRUCT_END, long=draw(st.booleans()))
    return out


@st.composite
def wire_buffers(draw: st.DrawFn) -> bytes:
    """Well-formed fields that follow no schema: any types, tags in any order and more than once."""
    return b"".join(draw(wire_values(tag)) for tag in draw(st.lists(TAGS, max_size=5)))


CONTAINERS: Final = ("struct", "list", "map by key", "map by value")


def wrap(inner: bytes, container: str, tag: int = 0) -> bytes:
    """A container whose only part is ``inner``: a field with tag 0, or with tag 1 in a "map by value"."""
    match container:
        case "struct":
            return head(tag, wire.STRUCT_BEGIN) + inner + head(0, wire.STRUCT_END)
        case "list":
            return head(tag, wire.LIST) + count(1) + inner
        case "map by key":
            return head(tag, wire.MAP) + count(1) + inner + head(1, wire.ZERO)
        case "map by value":
            return head(tag, wire.MAP) + count(1) + head(0, wire.ZERO) + inner
    raise AssertionError(container)


def nested(containers: Sequence[str], tag: int = 0, innermost: bytes | None = None) -> bytes:
    """Containers in each other, the first outermost and with this tag."""
    levels = list(containers)
    tags = [tag, *(1 if around == "map by value" else 0 for around in levels)]
    data = head(tags[-1], wire.ZERO) if innermost is None else innermost
    for container, own in zip(reversed(levels), reversed(tags[:-1]), strict=True):
        data = wrap(data, container, own)
    return data


def deep_buffers() -> st.SearchStrategy[bytes]:
    """Containers nested about as deeply as is allowed: some just over it."""
    levels = st.lists(st.sampled_from(CONTAINERS), min_size=wire.MAX_NESTING - 2, max_size=wire.MAX_NESTING + 2)
    return st.builds(nested, levels, TAGS)


# -- schemas and values that fit them ----------------------------------------------------------------------------


def annotation_of(kind: Type) -> Any:
    """The Python annotation that stands for a type: the inverse of ``schema.type_of``."""
    match kind:
        case Scalar():
            plain = {schema.BOOL: bool, schema.STRING: str, schema.BYTES: bytes}
            if kind in plain:
                return plain[kind]
            return Annotated[float if kind in (schema.FLOAT, schema.DOUBLE) else int, kind]
        case Vector(element):
            return tuple[annotation_of(element), ...]  # type: ignore[misc]  # made while running
        case Map(key, value):
            return Mapping[annotation_of(key), annotation_of(value)]  # type: ignore[misc]
        case Struct(cls):
            return cls
    raise AssertionError(kind)


def make_struct(name: str, declared: Sequence[Field]) -> type[Any]:
    """A struct as if it were written down: a class with annotations, given to ``jce.struct``."""
    body: dict[str, Any] = {"__annotations__": {f.name: annotation_of(f.type) for f in declared}}
    body |= {f.name: jce.field(f.tag) if f.required else jce.field(f.tag, default=f.default) for f in declared}
    return jce.struct(type(name, (), body))


def texts() -> st.SearchStrategy[str]:
    """Strings: unicode, bytes that are not UTF-8, and lengths around the end of string1."""
    return st.one_of(
        st.text(max_size=8),
        st.binary(max_size=8).map(lambda data: data.decode("utf-8", "surrogateescape")),
        st.builds(lambda length, text: text * length, st.integers(250, 260), st.sampled_from(("a", "é", "\udcff"))),
    )


def integers(kind: Scalar) -> st.SearchStrategy[int]:
    """Integers of a declared type, more often where the width on the wire changes."""
    edges = {
        edge + step for bits in (0, 7, 8, 15, 16, 31, 32, 63) for edge in (1 << bits, -1 << bits) for step in (-1, 0)
    }
    fitting = sorted(edge for edge in edges if kind.minimum <= edge <= kind.maximum)
    return st.one_of(st.sampled_from(fitting), st.integers(kind.minimum, kind.maximum))


def values(kind: Type) -> st.SearchStrategy[Any]:
    """Values of a declared type. Never NaN, so that what comes back can be compared."""
    match kind:
        case Scalar():
            if kind in schema.INTEGERS:
                return integers(kind)
            if kind == schema.BOOL:
                return st.booleans()
            if kind == schema.FLOAT:
                return st.floats(width=32, allow_nan=False)
            if kind == schema.DOUBLE:
                return st.floats(allow_nan=False)
            return texts() if kind == schema.STRING else st.binary(max_size=8)
        case Vector(element):
            return st.lists(values(element), max_size=3).map(tuple)
        case Map(key, value):
            return st.dictionaries(values(key), values(value), max_size=3)
        case Struct(cls):
            return st.builds(cls, **{f.name: field_values(f) for f in schema.fields(cls)})
    raise AssertionError(kind)


def field_values(declared: Field) -> st.SearchStrategy[Any]:
    """Values of a field, the default often among them."""
    if declared.required:
        return values(declared.type)
    return st.one_of(st.just(declared.default), values(declared.type))


@st.composite
def types(draw: st.DrawFn, depth: int = 3, key: bool = False) -> Type:
    """Types of the wire, opening at most ``depth`` containers; ``key`` leaves out what can't be a map's key."""
    form = draw(st.sampled_from(("scalar", "scalar", "vector", "struct", "map"))) if depth else "scalar"
    if form == "map" and not key:
        return Map(draw(types(depth - 1, key=True)), draw(types(depth - 1)))
    if form == "vector":
        return Vector(draw(types(depth - 1, key)))
    if form == "struct":
        return Struct(make_struct("Made", draw(field_lists(depth - 1, key, max_size=3))))
    return draw(st.sampled_from(SCALARS))


@st.composite
def field_lists(
    draw: st.DrawFn, depth: int = 3, key: bool = False, min_size: int = 0, max_size: int = 5
) -> tuple[Field, ...]:
    """Fields of a struct, or parameters of a function, in any order of their tags; about half of them optional."""
    tags = draw(st.lists(TAGS, min_size=min_size, max_size=max_size, unique=True))
    names = draw(st.permutations(NAMES))
    declared = []
    for tag, name in zip(tags, names, strict=False):
        kind = draw(types(depth, key))
        if draw(st.booleans()):
            declared.append(Field(tag, name, kind, draw(values(kind))))
        else:
            declared.append(Field(tag, name, kind))
    return tuple(declared)


@dataclasses.dataclass(frozen=True)
class Case:
    """Declared fields and a value for each, in the order declared."""

    fields: tuple[Field, ...]
    values: tuple[Any, ...]

    @property
    def codec(self) -> jce.Codec[tuple[Any, ...]]:
        return jce.tuple_codec("case", self.fields)

    @property
    def encoded(self) -> bytes:
        return self.codec.encode(self.values)

    def __repr__(self) -> str:
        """What is needed to write the case down as an example: structs are shown by their fields."""
        return f"Case(fields={_shown(self.fields)}, values={self.values!r})"


def _shown(declared: Sequence[Field]) -> str:
    def show(kind: Type) -> str:
        match kind:
            case Vector(element):
                return f"Vector({show(element)})"
            case Map(key, value):
                return f"Map({show(key)}, {show(value)})"
            case Struct(cls):
                return f"Struct{_shown(schema.fields(cls))}"
        return str(kind)

    parts = (f"{f.tag} {f.name} {show(f.type)}{'' if f.required else f' = {f.default!r}'}" for f in declared)
    return f"[{', '.join(parts)}]"


@st.composite
def cases(draw: st.DrawFn, depth: int = 3, min_size: int = 0) -> Case:
    """A schema and values that fit it."""
    declared = draw(field_lists(depth, min_size=min_size))
    return Case(declared, tuple(draw(field_values(f)) for f in declared))


# -- what another writer may send --------------------------------------------------------------------------------


class _Speller:
    """Puts a value into bytes with every freedom that a writer has."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw

    def flip(self) -> bool:
        return self.draw(st.booleans())

    def head(self, tag: int, code: int) -> bytes:
        return head(tag, code, long=self.flip())

    def integer(self, tag: int, value: int, widest: int) -> bytes:
        code = self.draw(st.sampled_from(codes_for(value, widest)))
        return self.head(tag, code) + integer(0, value, code)[1:]

    def count(self, value: int) -> bytes:
        return self.integer(0, value, wire.INT32)

    def value(self, kind: Type, tag: int, value: Any) -> bytes:
        match kind:
            case Scalar():
                return self.scalar(kind, tag, value)
            case Vector(element):
                items = b"".join(self.value(element, 0, item) for item in value)
                return self.head(tag, wire.LIST) + self.count(len(value)) + items
            case Map(key, item):
                pairs = [self.value(key, 0, k) + self.value(item, 1, v) for k, v in value.items()]
                if pairs and self.flip():
                    # Of two pairs with one key the first counts.
                    repeated = self.draw(st.sampled_from(list(value)))
                    pairs.append(self.value(key, 0, repeated) + self.value(item, 1, self.draw(values(item))))
                return self.head(tag, wire.MAP) + self.count(len(pairs)) + b"".join(pairs)
            case Struct(cls):
                declared = schema.fields(cls)
                members = self.fields(declared, [getattr(value, f.name) for f in declared])
                return self.head(tag, wire.STRUCT_BEGIN) + members + self.head(0, wire.STRUCT_END)
        raise AssertionError(kind)

    def scalar(self, kind: Scalar, tag: int, value: Any) -> bytes:
        if kind in WIDEST:
            return self.integer(tag, int(value), WIDEST[kind])
        if kind in (schema.FLOAT, schema.DOUBLE):
            options = [self.head(tag, wire.FLOAT) + struct.pack(">f", value)] if _is_float32(value) else []
            if kind == schema.DOUBLE:
                options.append(self.head(tag, wire.DOUBLE) + struct.pack(">d", value))
            if value == 0:
                options.append(self.head(tag, wire.ZERO))
            return self.draw(st.sampled_from(options))
        if kind == schema.STRING:
            data: bytes = value.encode("utf-8", "surrogateescape")
            if len(data) < 256 and self.flip():
                return self.head(tag, wire.STRING1) + bytes((len(data),)) + data
            return self.head(tag, wire.STRING4) + struct.pack(">I", len(data)) + data
        data = value
        if self.flip():
            return self.head(tag, wire.SIMPLE_LIST) + self.head(0, wire.INT8) + self.count(len(data)) + data
        items = b"".join(self.integer(0, byte - 256 if byte > 127 else byte, wire.INT8) for byte in data)
        return self.head(tag, wire.LIST) + self.count(len(data)) + items

    def fields(self, declared: Sequence[Field], given: Sequence[Any]) -> bytes:
        known = {f.tag for f in declared}
        written = [
            (f, value)
            for f, value in sorted(zip(declared, given, strict=True), key=lambda pair: pair[0].tag)
            if f.required or value != f.default or self.flip()
        ]
        out = b""
        last = -1
        for f, value in written:
            out += self.noise(known, last, f.tag) + self.value(f.type, f.tag, value)
            last = f.tag
        return out + self.noise(known, last, wire.MAX_TAG + 1)

    def noise(self, known: set[int], last: int, before: int) -> bytes:
        """Fields that a reader skips between two that it reads: with tags unknown to it, and with tags passed."""
        if self.draw(st.integers(0, 3)):
            return b""
        tags = [tag for tag in range(before) if tag not in known or tag <= last]
        tags += range(before, last + 1)
        if not tags:
            return b""
        return b"".join(self.draw(wire_values(tag)) for tag in self.draw(st.lists(st.sampled_from(tags), max_size=2)))


def _is_float32(value: float) -> bool:
    try:
        return bool(struct.unpack(">f", struct.pack(">f", value))[0] == value)
    except OverflowError:
        return False


@st.composite
def spellings(draw: st.DrawFn, declared: Sequence[Field], given: Sequence[Any]) -> bytes:
    """Bytes that another writer may send for these values."""
    return _Speller(draw).fields(declared, given)


# -- damage ------------------------------------------------------------------------------------------------------

_TELLING = bytes((0x00, 0x01, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x1B, 0x7F, 0x80, 0xF0, 0xFA, 0xFB, 0xFF, 0x06, 0x08, 0x09))
"""Bytes that mean much: marks, containers, the ends of ranges, unknown types."""


def _nodes(data: bytes) -> list[Any]:
    return list(grammar.walk(grammar.BUFFER.parse(data).fields))


def _body(data: bytes, start: int) -> int:
    return start + (2 if data[start] >> 4 == 15 else 1)


def _lengths(data: bytes) -> Iterator[tuple[int, int, bool]]:
    """Where the lengths of a buffer stand: start, end, and whether it is the field of a count."""
    for node in _nodes(data):
        body = _body(data, node.start)
        if node.type == wire.STRING1:
            yield body, body + 1, False
        elif node.type == wire.STRING4:
            yield body, body + 4, False
        elif node.type in (wire.LIST, wire.MAP, wire.SIMPLE_LIST):
            counted = node.value.count
            start = _body(data, counted.start)
            yield counted.start, start + FIXED_WIDTHS.get(counted.type, 0), True


def _truncate(draw: st.DrawFn, data: bytes) -> bytes:
    return data[: draw(st.integers(0, len(data)))]


def _flip_bit(draw: st.DrawFn, data: bytes) -> bytes:
    bit = draw(st.integers(0, max(8 * len(data) - 1, 0)))
    return bytes(byte ^ (1 << bit % 8 if index == bit // 8 else 0) for index, byte in enumerate(data))


def _set_byte(draw: st.DrawFn, data: bytes) -> bytes:
    at = draw(st.integers(0, len(data)))
    return data[:at] + bytes((draw(st.sampled_from(_TELLING)),)) + data[at + 1 :]


def _insert(draw: st.DrawFn, data: bytes) -> bytes:
    at = draw(st.integers(0, len(data)))
    return data[:at] + draw(st.one_of(st.binary(min_size=1, max_size=4), TAGS.flatmap(wire_values))) + data[at:]


def _delete(draw: st.DrawFn, data: bytes) -> bytes:
    at = draw(st.integers(0, len(data)))
    return data[:at] + data[at + draw(st.integers(1, 8)) :]


def _splice(draw: st.DrawFn, data: bytes) -> bytes:
    other = draw(st.one_of(st.just(data), wire_buffers(), deep_buffers()))
    return data[: draw(st.integers(0, len(data)))] + other[draw(st.integers(0, len(other))) :]


def _change_head(draw: st.DrawFn, data: bytes) -> bytes:
    nodes = _nodes(data)
    if not nodes:
        return _flip_bit(draw, data)
    node = draw(st.sampled_from(nodes))
    tag, code = (draw(TAGS), node.type) if draw(st.booleans()) else (node.tag, draw(st.integers(0, 15)))
    return data[: node.start] + head(tag, code, long=draw(st.booleans())) + data[_body(data, node.start) :]


def _lie(draw: st.DrawFn, data: bytes) -> bytes:
    lengths = list(_lengths(data))
    if not lengths:
        return _flip_bit(draw, data)
    start, end, is_count = draw(st.sampled_from(lengths))
    if is_count:
        lie = draw(st.one_of(st.integers(-2, 12), st.sampled_from((127, 128, 65535, 2**31 - 1, -(2**31), 2**31))))
        told = integer(draw(st.sampled_from((0, 0, 0, 1, 15))), lie, draw(st.sampled_from(codes_for(lie))))
    else:
        width = end - start
        lie = draw(st.one_of(st.integers(0, 12), st.just((1 << 8 * width) - 1), st.just((1 << 8 * width - 1) - 1)))
        told = lie.to_bytes(width, "big")
    return data[:start] + told + data[end:]


_DAMAGES: Final[tuple[Callable[[st.DrawFn, bytes], bytes], ...]] = (
    _lie,
    _change_head,
    _truncate,
    _flip_bit,
    _set_byte,
    _insert,
    _delete,
    _splice,
)


@st.composite
def mutations(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes with one to three damages; by chance they may still be well-formed."""
    for damage in draw(st.lists(st.sampled_from(_DAMAGES), min_size=1, max_size=3)):
        data = damage(draw, data)
    return data


def any_bytes() -> st.SearchStrategy[bytes]:
    """Bytes of every kind: well-formed, too deep, damaged, random."""
    formed = st.one_of(wire_buffers(), deep_buffers(), cases(depth=2).map(lambda case: case.encoded))
    return st.one_of(formed, formed.flatmap(mutations), st.binary(max_size=24))


# -- values of no kind -------------------------------------------------------------------------------------------

_ODD: Final = (
    None,
    object(),
    int,
    -0.0,
    float("nan"),
    float("inf"),
    1e300,
    1j,
    10**400,
    -(2**63) - 1,
    decimal.Decimal("NaN"),
    decimal.Decimal("sNaN"),
    decimal.Decimal("1e999999"),
    decimal.Decimal(300),
    fractions.Fraction(1, 3),
    dt.date(2020, 2, 2),
    "\ud800",
    bytearray(b"ab"),
    memoryview(b"abcd")[::2],
    array.array("I", [1, 2]),
    range(3),
    slice(1, 2),
    frozenset((1, 2)),
    wire,
)


def wrong_values() -> st.SearchStrategy[Any]:
    """Python values of any type: most of them fit no declared one."""
    leaves = st.one_of(
        st.sampled_from(_ODD),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters(), max_size=4),
        st.binary(max_size=4),
        st.just(()).map(iter),
    )
    keys = st.one_of(st.none(), st.integers(), st.text(max_size=3), st.binary(max_size=3))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=3).map(tuple),
            st.dictionaries(keys, inner, max_size=3),
        ),
        max_leaves=4,
    )


@st.composite
def damaged_values(draw: st.DrawFn, kind: Type, value: Any) -> Any:
    """A value with some part of it, at any depth, replaced by one of :func:`wrong_values`."""
    deeper = draw(st.booleans())
    match kind:
        case Vector(element) if value and deeper:
            at = draw(st.integers(0, len(value) - 1))
            return (*value[:at], draw(damaged_values(element, value[at])), *value[at + 1 :])
        case Map(_, item) if value and deeper:
            key = draw(st.sampled_from(list(value)))
            return value | {key: draw(damaged_values(item, value[key]))}
        case Struct(cls) if schema.fields(cls) and deeper:
            f = draw(st.sampled_from(schema.fields(cls)))
            return dataclasses.replace(value, **{f.name: draw(damaged_values(f.type, getattr(value, f.name)))})
    return draw(wrong_values())
