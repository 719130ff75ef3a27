"""How structs are declared: once, as typed Python classes, from which everything else is made.

    @struct
    class EndpointF:
        host: str = field(0)
        port: Int32 = field(1)
        setId: str = field(7, default="")

gives a frozen class with slots and keyword arguments. A field without a default is required on the wire; one with a
default is optional: left out by the writer when it equals the default, and taken from it by the reader.

Annotations: ``Int8 Int16 Int32 Int64 UInt8 UInt16 UInt32 Float Double``, ``bool``, ``str``, ``bytes``, another struct,
``tuple[X, ...]`` for vector<X>, ``Mapping[K, V]`` for map<K, V>.
"""

from __future__ import annotations

import dataclasses
import enum
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar, dataclass_transform

from jce import wire
from jce.errors import SchemaError


class Type:
    """A type of the wire, as declared. Compared by value, so that codecs can be kept by type."""

    __slots__ = ()

    @property
    def depth(self) -> int:
        """How many containers a value of this type opens at most, itself included."""
        return 0


@dataclasses.dataclass(frozen=True, slots=True)
class Scalar(Type):
    """A type without parts. ``name`` is that of the interface files; ``minimum`` and ``maximum`` bound integers."""

    name: str
    minimum: int = 0
    maximum: int = 0

    def __str__(self) -> str:
        return self.name


@dataclasses.dataclass(frozen=True, slots=True)
class Vector(Type):
    """vector<element>; in Python a tuple."""

    element: Type

    @property
    def depth(self) -> int:
        """One more than its elements."""
        return 1 + self.element.depth

    def __str__(self) -> str:
        return f"vector<{self.element}>"


@dataclasses.dataclass(frozen=True, slots=True)
class Map(Type):
    """map<key, value>; in Python a dict. Of pairs with one key the first counts, as in the C++ runtime."""

    key: Type
    value: Type

    @property
    def depth(self) -> int:
        """One more than the deeper of key and value."""
        return 1 + max(self.key.depth, self.value.depth)

    def __str__(self) -> str:
        return f"map<{self.key}, {self.value}>"


@dataclasses.dataclass(frozen=True, slots=True)
class Struct(Type):
    """A declared struct, by its class."""

    cls: type[Any]

    @property
    def depth(self) -> int:
        """One more than its deepest field."""
        return 1 + max((field.type.depth for field in fields(self.cls)), default=0)

    def __str__(self) -> str:
        return self.cls.__name__


INT8: Final = Scalar("byte", -(1 << 7), (1 << 7) - 1)
INT16: Final = Scalar("short", -(1 << 15), (1 << 15) - 1)
INT32: Final = Scalar("int", -(1 << 31), (1 << 31) - 1)
INT64: Final = Scalar("long", -(1 << 63), (1 << 63) - 1)
UINT8: Final = Scalar("unsigned byte", 0, (1 << 8) - 1)
UINT16: Final = Scalar("unsigned short", 0, (1 << 16) - 1)
UINT32: Final = Scalar("unsigned int", 0, (1 << 32) - 1)
BOOL: Final = Scalar("bool")
FLOAT: Final = Scalar("float")
DOUBLE: Final = Scalar("double")
STRING: Final = Scalar("string")
BYTES: Final = Scalar("vector<byte>")
"""Bytes: counts no level of nesting where it comes as a simple list, one where it comes as a list."""

INTEGERS: Final = (INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32)

Int8 = Annotated[int, INT8]
Int16 = Annotated[int, INT16]
Int32 = Annotated[int, INT32]
Int64 = Annotated[int, INT64]
UInt8 = Annotated[int, UINT8]
UInt16 = Annotated[int, UINT16]
UInt32 = Annotated[int, UINT32]
Float = Annotated[float, FLOAT]
Double = Annotated[float, DOUBLE]


class _Default(enum.Enum):
    REQUIRED = enum.auto()


# Not dataclasses.MISSING: as the default of Field.default that would make the argument mandatory.
REQUIRED: Final = _Default.REQUIRED
"""The default of a field that has none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field of a struct, or one parameter of a function. ``default`` is REQUIRED where there is none."""

    tag: int
    name: str
    type: Type
    default: Any = REQUIRED

    @property
    def required(self) -> bool:
        """True where the wire must have it."""
        return self.default is REQUIRED


@dataclasses.dataclass(frozen=True, slots=True)
class _Spec:
    tag: int
    default: Any


def field(tag: int, *, default: Any = REQUIRED) -> Any:
    """Declare a field of a struct: its tag (0 to 255) and, where it is optional, its default."""
    return _Spec(tag, default)


_S = TypeVar("_S")
_FIELDS = "__jce_fields__"


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def struct(cls: type[_S]) -> type[_S]:
    """Make a declared class a struct: frozen, with slots, and known to the codec. Raises SchemaError."""
    for base in cls.__mro__[1:]:
        if is_struct(base):
            raise SchemaError(
                f"{cls.__name__}: a struct can't extend another ({base.__name__}); the wire has no such form"
            )
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise SchemaError(f"{cls.__name__}: {error}; a struct can only hold types declared before it") from None
    declared: list[Field] = []
    for name in cls.__annotations__:
        spec = cls.__dict__.get(name)
        if not isinstance(spec, _Spec):
            raise SchemaError(f"{cls.__name__}.{name}: declare its tag: {name}: ... = field(TAG)")
        declared.append(Field(spec.tag, name, type_of(hints[name], f"{cls.__name__}.{name}"), spec.default))
        if spec.default is REQUIRED:
            delattr(cls, name)
        elif isinstance(spec.default, dict):
            setattr(cls, name, dataclasses.field(default_factory=spec.default.copy))
        elif type(spec.default).__hash__ is None:
            raise SchemaError(f"{cls.__name__}.{name}: {spec.default!r} can't be a default; vectors are tuples")
        else:
            setattr(cls, name, spec.default)
    checked = in_tag_order(declared, cls.__name__)
    made = dataclasses.dataclass(frozen=True, slots=True, kw_only=True)(cls)
    setattr(made, _FIELDS, checked)
    return made


def in_tag_order(declared: typing.Iterable[Field], owner: str) -> tuple[Field, ...]:
    """Fields sorted by tag. Raises SchemaError for a tag out of range or used twice, or for nesting over the limit."""
    ordered = tuple(sorted(declared, key=lambda field: field.tag))
    for index, field_ in enumerate(ordered):
        if not 0 <= field_.tag <= wire.MAX_TAG:
            raise SchemaError(f"{owner}.{field_.name}: tag {field_.tag} is not within 0 to {wire.MAX_TAG}")
        if index and ordered[index - 1].tag == field_.tag:
            raise SchemaError(f"{owner}: {ordered[index - 1].name} and {field_.name} both have tag {field_.tag}")
        if field_.type.depth > wire.MAX_NESTING:
            raise SchemaError(f"{owner}.{field_.name}: nested deeper than {wire.MAX_NESTING}")
    return ordered


def is_struct(cls: object) -> bool:
    """True for a class made by :func:`struct`."""
    return isinstance(cls, type) and _FIELDS in cls.__dict__


def fields(cls: type[Any]) -> tuple[Field, ...]:
    """The fields of a struct in tag order."""
    found: tuple[Field, ...] = getattr(cls, _FIELDS)
    return found


def type_of(annotation: Any, where: str = "annotation") -> Type:
    """The wire type that a Python annotation stands for. Raises SchemaError for one that the wire has not."""
    for plain, scalar in ((bool, BOOL), (str, STRING), (bytes, BYTES)):
        if annotation is plain:
            return scalar
    if is_struct(annotation):
        return Struct(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        for extra in arguments[1:]:
            if isinstance(extra, Type):
                return extra
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return Vector(type_of(arguments[0], where))
    if origin in (dict, Mapping) and len(arguments) == 2:
        key = type_of(arguments[0], where)
        if _holds_map(key):
            raise SchemaError(f"{where}: a map can't be the key of a map")
        return Map(key, type_of(arguments[1], where))
    raise SchemaError(
        f"{where}: {annotation!r} has no form on the wire; use Int8 to Int64, UInt8 to UInt32, Float, Double, bool, "
        "str, bytes, a struct, tuple[X, ...] or Mapping[K, V]"
    )


def _holds_map(kind: Type) -> bool:
    match kind:
        case Map():
            return True
        case Vector(element):
            return _holds_map(element)
        case Struct(cls):
            return any(_holds_map(field_.type) for field_ in fields(cls))
    return False
