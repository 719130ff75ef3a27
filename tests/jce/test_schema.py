"""How structs are declared, and which declarations are refused."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Annotated, Any

import pytest

import jce
from jce import schema, wire
from jce.errors import SchemaError
from jce.schema import Field, Map, Struct, Type, Vector


@jce.struct
class Point:
    """Two numbers, declared against the order of their tags."""

    y: jce.Int32 = jce.field(1, default=0)
    x: jce.Int32 = jce.field(0)


@jce.struct
class Line:
    """One of everything that can be inside of a struct."""

    ends: tuple[Point, ...] = jce.field(0)
    labels: Mapping[str, bytes] = jce.field(1, default={})
    origin: Point = jce.field(2, default=Point(x=0))


def declare(**annotations: Any) -> type[Any]:
    """A struct with these annotations and ascending tags."""
    specs = {name: jce.field(tag) for tag, name in enumerate(annotations)}
    return jce.struct(type("Declared", (), {"__annotations__": annotations, **specs}))


# -- structs -----------------------------------------------------------------------------------------------------


def test_a_struct_is_frozen_and_has_slots() -> None:
    point = Point(x=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        object.__setattr__(point, "z", 2)
    assert not hasattr(point, "__dict__")


def test_a_struct_takes_keywords_only_and_needs_what_the_wire_needs() -> None:
    with pytest.raises(TypeError, match="positional"):
        Point(1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'x'"):
        Point()  # type: ignore[call-arg]
    assert Point(x=1) == Point(x=1, y=0)


def test_a_struct_can_be_hashed_and_compared_by_its_values() -> None:
    assert {Point(x=1): "a"}[Point(x=1, y=0)] == "a"
    assert Point(x=1) != Point(x=2)


def test_the_default_of_a_map_is_not_shared() -> None:
    """Neither by what is made in Python nor with the declaration."""
    first, second = Line(ends=()), Line(ends=())
    assert first.labels == second.labels == {}
    assert first.labels is not second.labels
    first.labels["a"] = b""  # type: ignore[index]
    assert Line(ends=()).labels == {}
    assert jce.codec(Line).decode(b"\x09\x0c").labels == {}


def test_fields_are_known_in_the_order_of_their_tags() -> None:
    assert schema.fields(Point) == (Field(0, "x", schema.INT32), Field(1, "y", schema.INT32, 0))
    assert [f.required for f in schema.fields(Line)] == [True, False, False]


def test_a_struct_may_be_empty() -> None:
    assert schema.fields(declare()) == ()


def test_only_declared_classes_are_structs() -> None:
    assert schema.is_struct(Point)
    assert not schema.is_struct(Point(x=0))
    assert not schema.is_struct(int)
    assert not schema.is_struct(type("Child", (Point,), {}))


def test_a_field_is_required_unless_it_has_a_default() -> None:
    assert Field(0, "a", schema.INT8).required
    assert not Field(0, "a", schema.INT8, 0).required
    assert not Field(0, "a", schema.INT8, None).required


# -- types -------------------------------------------------------------------------------------------------------

TYPES: list[tuple[Any, Type, str, int]] = [
    (jce.Int8, schema.INT8, "byte", 0),
    (jce.Int16, schema.INT16, "short", 0),
    (jce.Int32, schema.INT32, "int", 0),
    (jce.Int64, schema.INT64, "long", 0),
    (jce.UInt8, schema.UINT8, "unsigned byte", 0),
    (jce.UInt16, schema.UINT16, "unsigned short", 0),
    (jce.UInt32, schema.UINT32, "unsigned int", 0),
    (jce.Float, schema.FLOAT, "float", 0),
    (jce.Double, schema.DOUBLE, "double", 0),
    (bool, schema.BOOL, "bool", 0),
    (str, schema.STRING, "string", 0),
    (bytes, schema.BYTES, "vector<byte>", 0),
    (Point, Struct(Point), "Point", 1),
    (Line, Struct(Line), "Line", 3),
    (tuple[str, ...], Vector(schema.STRING), "vector<string>", 1),
    (Mapping[str, bytes], Map(schema.STRING, schema.BYTES), "map<string, vector<byte>>", 1),
    (dict[Point, str], Map(Struct(Point), schema.STRING), "map<Point, string>", 2),
    (Mapping[tuple[jce.Int8, ...], str], Map(Vector(schema.INT8), schema.STRING), "map<vector<byte>, string>", 2),
    (Mapping[str, tuple[Line, ...]], Map(schema.STRING, Vector(Struct(Line))), "map<string, vector<Line>>", 5),
]


@pytest.mark.parametrize(("annotation", "kind", "text", "depth"), TYPES, ids=[text for _, _, text, _ in TYPES])
def test_an_annotation_stands_for_a_type(annotation: Any, kind: Type, text: str, depth: int) -> None:
    found = schema.type_of(annotation)
    assert (found, str(found), found.depth) == (kind, text, depth)
    assert hash(found) == hash(kind)


NO_TYPES: list[Any] = [
    int,
    float,
    object,
    None,
    type(None),
    Any,
    list[str],
    set[str],
    tuple[str],
    tuple[str, str],
    tuple,
    dict,
    Mapping,
    typing.Mapping,
    typing.Dict,  # noqa: UP006
    typing.Tuple,  # noqa: UP006
    str | None,
    Annotated[int, "wide"],
    "jce.Int8",
    dataclasses.make_dataclass("Plain", ["x"]),
]


@pytest.mark.parametrize("annotation", NO_TYPES, ids=repr)
def test_an_annotation_that_the_wire_has_not_is_refused(annotation: Any) -> None:
    with pytest.raises(SchemaError, match=r"^where: .* has no form on the wire; use "):
        schema.type_of(annotation, "where")


@pytest.mark.parametrize(
    "annotation",
    [
        Mapping[Mapping[str, str], str],
        Mapping[tuple[Mapping[str, str], ...], str],
        Mapping[Line, str],
        Mapping[str, Mapping[Line, str]],
        tuple[Mapping[tuple[Line, ...], str], ...],
    ],
    ids=repr,
)
def test_a_map_can_not_be_the_key_of_a_map(annotation: Any) -> None:
    """Nor anything that holds one: a dict can't be hashed."""
    with pytest.raises(SchemaError, match="a map can't be the key of a map"):
        declare(m=annotation)


# -- declarations that make no sense -----------------------------------------------------------------------------


def test_a_tag_can_not_be_used_twice() -> None:
    with pytest.raises(SchemaError, match=r"Twice: a and b both have tag 3"):

        @jce.struct
        class Twice:
            a: jce.Int8 = jce.field(3)
            c: jce.Int8 = jce.field(0)
            b: jce.Int8 = jce.field(3)


@pytest.mark.parametrize("tag", [-1, 256, 1000])
def test_a_tag_must_fit_its_byte(tag: int) -> None:
    with pytest.raises(SchemaError, match=rf"Wide\.a: tag {tag} is not within 0 to 255"):

        @jce.struct
        class Wide:
            a: jce.Int8 = jce.field(tag)

    with pytest.raises(SchemaError, match=rf"call\.a: tag {tag} is not"):
        jce.tuple_codec("call", [Field(tag, "a", schema.INT8)])


@pytest.mark.parametrize("default", [dataclasses.MISSING, 0])
def test_a_member_must_declare_its_tag(default: Any) -> None:
    body: dict[str, Any] = {"__annotations__": {"a": jce.Int8}}
    if default is not dataclasses.MISSING:
        body["a"] = default
    with pytest.raises(SchemaError, match=r"Untagged\.a: declare its tag: a: \.\.\. = field\(TAG\)"):
        jce.struct(type("Untagged", (), body))


def test_a_plain_int_is_refused_by_its_name() -> None:
    with pytest.raises(SchemaError, match=r"Plain\.a: <class 'int'> has no form on the wire; use Int8"):

        @jce.struct
        class Plain:
            a: int = jce.field(0)


def test_a_struct_can_not_hold_itself() -> None:
    """The wire could carry it, but neither the nesting nor the compiled code would have an end."""
    with pytest.raises(SchemaError, match="a struct can only hold types declared before it"):

        @jce.struct
        class Tree:
            children: tuple[Tree, ...] = jce.field(0)


def test_a_struct_can_not_extend_another() -> None:
    """Its codec would not know the inherited fields."""
    with pytest.raises(SchemaError, match=r"Point3: a struct can't extend another \(Point\)"):

        @jce.struct
        class Point3(Point):
            z: jce.Int32 = jce.field(2)


@pytest.mark.parametrize("default", [[], set(), bytearray()], ids=repr)
def test_a_default_that_can_change_is_refused(default: Any) -> None:
    with pytest.raises(SchemaError, match=r"Shared\.a: .* can't be a default"):

        @jce.struct
        class Shared:
            a: tuple[jce.Int8, ...] = jce.field(0, default=default)


def test_sixteen_levels_can_be_declared_and_not_seventeen() -> None:
    kind: Type = schema.INT8
    for _ in range(wire.MAX_NESTING):
        kind = Vector(kind)
    jce.tuple_codec("deep", [Field(0, "a", kind)])
    jce.value_codec(kind)
    with pytest.raises(SchemaError, match=r"deeper\.a: nested deeper than 16"):
        jce.tuple_codec("deeper", [Field(0, "a", Vector(kind))])

    cls = declare(x=jce.Int8)
    for _ in range(wire.MAX_NESTING):
        cls = declare(inner=cls)
    with pytest.raises(SchemaError, match=r"Declared\.inner: nested deeper than 16"):
        declare(inner=cls)


def test_a_schema_error_is_a_type_error_and_no_value_error() -> None:
    """It is a mistake in the program, which no handler of bad bytes should catch."""
    assert issubclass(SchemaError, TypeError)
    assert not issubclass(SchemaError, ValueError)
