"""The grammar of JCE, readable and executable: what :mod:`jce.reader` and the compiled codec must agree with.

Read it beside the table of types in the wire notes. It parses and builds byte by byte and without any schema, which
makes it slow and makes it a good witness: the tests hold the codec against it, and ``tars-registry decode --wire``
shows with it where each field of a buffer begins.

Only this module uses construct. Nothing that answers clients imports it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import construct
from construct import (
    Array,
    Bytes,
    Check,
    Computed,
    ConstructError,
    Container,
    ExprValidator,
    Float32b,
    Float64b,
    GreedyBytes,
    GreedyRange,
    IfThenElse,
    Int8sb,
    Int8ub,
    Int16sb,
    Int32sb,
    Int32ub,
    Int64sb,
    LazyBound,
    Prefixed,
    Rebuild,
    RepeatUntil,
    Struct,
    Switch,
    Tell,
    this,
)

from jce import schema, wire
from jce.errors import DecodeError, Reason
from jce.schema import Field, Map, Scalar, Type, Vector

ANY: Final = frozenset(range(len(wire.TYPE_NAMES)))
VALUES: Final = ANY - {wire.STRUCT_END}
COUNTS: Final = frozenset((wire.INT8, wire.INT16, wire.INT32, wire.ZERO))


# -- the grammar -------------------------------------------------------------------------------------------------
# "depth" is how many containers are open around a place. A construct Struct sees what is around it as ``this._``.


def field(types: frozenset[int], tag: int | None = None) -> Any:
    """A head and the body that it announces; ``types`` and ``tag`` are what the place allows."""
    return Struct(
        "start" / Tell,
        "depth" / Computed(this._.depth),
        # The head: tag in the high nibble, type in the low one; 15 says that the tag is in the next byte.
        "head" / Rebuild(Int8ub, lambda new: min(new.tag, 15) << 4 | new.type),
        "tag" / IfThenElse(this.head >> 4 == 15, Int8ub, Computed(this.head >> 4)),
        "type" / Computed(this.head & 15),
        Check(lambda found: found.type in types and tag in (None, found.tag)),
        "value" / LazyBound(lambda: BODY),
    )


DEEPER: Final = Computed(this._.depth + 1)
NOT_TOO_DEEP: Final = Check(this.depth <= wire.MAX_NESTING)

COUNT: Final = ExprValidator(field(COUNTS, tag=0), lambda count, _: count.value >= 0)

LIST: Final = Struct(
    "depth" / DEEPER,
    NOT_TOO_DEEP,
    "count" / Rebuild(COUNT, lambda new: integer(0, len(new["items"]))),
    "items" / Array(this.count.value, field(VALUES, tag=0)),
)

MAP: Final = Struct(
    "depth" / DEEPER,
    NOT_TOO_DEEP,
    "count" / Rebuild(COUNT, lambda new: integer(0, len(new["items"]))),
    "items"
    / Array(
        this.count.value,
        Struct("depth" / Computed(this._.depth), "key" / field(VALUES, tag=0), "value" / field(VALUES, tag=1)),
    ),
)

STRUCT: Final = Struct(
    "depth" / DEEPER,
    NOT_TOO_DEEP,
    "items" / RepeatUntil(lambda last, _, __: last.type == wire.STRUCT_END, field(ANY)),
    # The end mark has tag 0.
    Check(lambda found: found["items"][-1].tag == 0),
)

SIMPLE_LIST: Final = Struct(
    "depth" / Computed(this._.depth),
    # What the elements are: the head of an int8 with tag 0, without its body.
    "head" / Rebuild(Int8ub, 0x00),
    "tag" / IfThenElse(this.head == 0xF0, Int8ub, Computed(this.head)),
    Check(this.tag == 0),
    "count" / Rebuild(COUNT, lambda new: integer(0, len(new.data))),
    "data" / Bytes(this.count.value),
)

BODY: Final = Switch(
    this.type,
    {
        wire.INT8: Int8sb,
        wire.INT16: Int16sb,
        wire.INT32: Int32sb,
        wire.INT64: Int64sb,
        wire.FLOAT: Float32b,
        wire.DOUBLE: Float64b,
        wire.STRING1: Prefixed(Int8ub, GreedyBytes),
        wire.STRING4: Prefixed(Int32ub, GreedyBytes),
        wire.MAP: MAP,
        wire.LIST: LIST,
        wire.STRUCT_BEGIN: STRUCT,
        wire.STRUCT_END: Computed(None),
        wire.ZERO: Computed(0),
        wire.SIMPLE_LIST: SIMPLE_LIST,
    },
    default=construct.Error,
)

BUFFER: Final = Struct(
    "depth" / Computed(0),
    # GreedyRange takes fields for as long as they are well-formed; "end" is where that stopped.
    "fields" / GreedyRange(field(VALUES)),
    "end" / Tell,
)


# -- what a writer chooses ---------------------------------------------------------------------------------------


def integer(tag: int, value: int) -> Container:
    """An integer field in the narrowest type, 0 without a body."""
    if value == 0:
        return Container(tag=tag, type=wire.ZERO, value=0)
    for code, bits in ((wire.INT8, 8), (wire.INT16, 16), (wire.INT32, 32)):
        if -(1 << bits - 1) <= value < 1 << bits - 1:
            return Container(tag=tag, type=code, value=value)
    return Container(tag=tag, type=wire.INT64, value=value)


def value_field(kind: Type, tag: int, value: Any) -> Container:
    """The field for a value of a declared type, ready to be built."""
    if kind in schema.INTEGERS or kind == schema.BOOL:
        return integer(tag, int(value))
    match kind:
        case Scalar():
            if kind == schema.STRING:
                value = value.encode("utf-8", "surrogateescape")
                code = wire.STRING1 if len(value) < 256 else wire.STRING4
            elif kind == schema.BYTES:
                code, value = wire.SIMPLE_LIST, Container(tag=0, data=value)
            else:
                code = wire.FLOAT if kind == schema.FLOAT else wire.DOUBLE
            return Container(tag=tag, type=code, value=value)
        case Vector(element):
            items = [value_field(element, 0, item) for item in value]
            return Container(tag=tag, type=wire.LIST, value=Container(items=items))
        case Map(key, item):
            pairs = [Container(key=value_field(key, 0, k), value=value_field(item, 1, v)) for k, v in value.items()]
            return Container(tag=tag, type=wire.MAP, value=Container(items=pairs))
        case schema.Struct(cls):
            members = struct_fields(schema.fields(cls), [getattr(value, f.name) for f in schema.fields(cls)])
            end = Container(tag=0, type=wire.STRUCT_END, value=None)
            return Container(tag=tag, type=wire.STRUCT_BEGIN, value=Container(items=[*members, end]))
    raise AssertionError(kind)


def struct_fields(declared: Sequence[Field], values: Sequence[Any]) -> list[Container]:
    """Fields in ascending order of their tags; an optional one at its default is left out."""
    pairs = sorted(zip(declared, values, strict=True), key=lambda pair: pair[0].tag)
    return [value_field(f.type, f.tag, value) for f, value in pairs if f.required or value != f.default]


def build(declared: Sequence[Field], values: Sequence[Any]) -> bytes:
    """The bytes that the grammar gives for the values of declared fields."""
    built: bytes = BUFFER.build(Container(fields=struct_fields(declared, values)))
    return built


# -- reading without a schema ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One field as :func:`lines` shows it: offset in the buffer, containers around it, tag, type, value in short."""

    offset: int
    depth: int
    tag: int
    type: str
    value: str


def parse(data: bytes, max_values: int = wire.DEFAULT_MAX_VALUES) -> list[Container]:
    """The fields of a buffer. Raises DecodeError where it is not well-formed or over a limit."""
    found = BUFFER.parse(data)
    if found.end != len(data):
        raise DecodeError(Reason.MALFORMED, f"no well-formed field ({_why(data, found.end)})", found.end)
    if sum(wire.COSTS[node.type] for node in walk(found.fields)) > max_values:
        raise DecodeError(Reason.LIMIT, "more values than a frame may hold", 0)
    return list(found.fields)


def lines(data: bytes) -> Iterator[Line]:
    """Each field of a buffer in order, down to where it stops being well-formed."""
    for node in walk(BUFFER.parse(data).fields):
        yield Line(node.start, node.depth, node.tag, wire.TYPE_NAMES[node.type], _short(node))


def walk(fields: Sequence[Container]) -> Iterator[Container]:
    """Every field of a parsed buffer, containers before what they hold; counts are no fields of their own."""
    for node in fields:
        yield node
        if node.type in (wire.LIST, wire.STRUCT_BEGIN):
            yield from walk(node.value["items"])
        elif node.type == wire.MAP:
            for pair in node.value["items"]:
                yield from walk((pair.key, pair.value))


def _why(data: bytes, offset: int) -> str:
    try:
        field(VALUES).parse(data[offset:], depth=0)
    except ConstructError as error:
        return str(error).splitlines()[-1] or type(error).__name__
    return "the end was reached"


def _short(node: Container) -> str:
    match node.type:
        case wire.STRING1 | wire.STRING4:
            return repr(node.value.decode("utf-8", "backslashreplace"))
        case wire.SIMPLE_LIST:
            return (
                f"{len(node.value.data)} bytes {node.value.data[:32].hex()}{'…' if len(node.value.data) > 32 else ''}"
            )
        case wire.LIST | wire.MAP:
            return f"{node.value.count.value} items"
        case wire.STRUCT_BEGIN | wire.STRUCT_END:
            return ""
    return str(node.value)
