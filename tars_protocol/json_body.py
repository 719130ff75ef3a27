"""Bodies of JSON (version 5): an object of the parameters by name; in an answer "tars_ret" holds the return value.

A struct is an object by field name, a vector an array, bytes an array of numbers, a map an object whose keys are text.
Bytes that are not UTF-8 stay as they are on their way through a string, in both directions.
"""

from __future__ import annotations

import json
import math
import operator
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from typing import Any, Final, NoReturn

from jce import DecodeError, EncodeError, Field, Reason, schema, wire
from jce.schema import Map, Scalar, Struct, Type, Vector

RETURN_NAME: Final = "tars_ret"

EMPTY: Final = b"{}"
"""A body without any value."""


def decode(fields: Sequence[Field], body: bytes, max_values: int) -> tuple[Any, ...]:
    """The values of these fields. Raises DecodeError, whose offset is 0 where only the parsed value is known."""
    # Commas and opening brackets bound the number of values before any is made, and count for what the wire's own do.
    containers = body.count(b"[") + body.count(b"{")
    if body.count(b",") + containers * wire.COSTS[wire.STRUCT_BEGIN] > max_values:
        raise DecodeError(Reason.LIMIT, "more values than a frame may hold", 0)
    try:
        value = _parse(body.decode("utf-8", "surrogateescape"))
    except DecodeError:
        raise
    except json.JSONDecodeError as error:
        raise DecodeError(Reason.MALFORMED, f"no JSON: {error.msg}", error.pos) from None
    except (ValueError, RecursionError) as error:
        raise DecodeError(Reason.LIMIT, f"no JSON that can be read: {error}", 0) from None
    return tuple(_members(_plan(fields), value).values())


def encode(fields: Sequence[Field], values: Sequence[Any]) -> bytes:
    """The body with the values of these fields. Raises EncodeError."""
    if len(values) != len(fields):
        raise EncodeError(f"{len(values)} values for {len(fields)} parameters")
    plain = {}
    for field, value in zip(fields, values, strict=True):
        name = field.name or RETURN_NAME
        try:
            plain[name] = _plain(field.type, value)
        except (TypeError, ValueError, AttributeError, OverflowError) as cause:
            error = EncodeError(str(cause))
            error.within(name)
            raise error from cause
    try:
        text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "surrogateescape")
    except ValueError as cause:  # a number that is none, text that has no bytes
        raise EncodeError(str(cause)) from cause


def _no_constant(text: str) -> NoReturn:
    raise DecodeError(Reason.MALFORMED, f"no JSON: {text}", 0)


_MAX_DIGITS: Final = 500
"""A double may be written out in 309 digits. The time that a number takes grows with the square of its digits."""


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


# Python's parser takes NaN and Infinity, which JSON has not.
_parse: Final = json.JSONDecoder(parse_constant=_no_constant, parse_int=_integer).decode


_Read = Callable[[Any], Any]
"""From what the parser made to the value of a declared type. Raises DecodeError."""

_Plan = tuple[tuple[str, _Read, Field], ...]


def _plan(fields: Iterable[Field]) -> _Plan:
    """The name of each field, how its value is read, and the field."""
    return tuple((each.name or RETURN_NAME, _reader(each.type), each) for each in fields)


def _members(plan: _Plan, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        _mismatch("an object", value)
    members = {}
    name = ""
    try:
        for name, read, field in plan:
            if name in value:
                members[name] = read(value[name])
            elif field.required:
                raise DecodeError(Reason.MISSING, "required field is missing", 0)
            else:
                default = field.default
                members[name] = default.copy() if isinstance(default, dict) else default
    except DecodeError as error:
        error.within(name)
        raise
    return members


@cache
def _reader(kind: Type) -> _Read:
    """How a value of a declared type is read; made once, so that nothing is looked up for each of thousands."""
    match kind:
        case Vector(element):
            return partial(_vector, _reader(element))
        case Map(key, item):
            return partial(_map, _key_source(key), _reader(key), _reader(item))
        case Struct(cls):
            return partial(_struct, cls, _plan(schema.fields(cls)))
        case Scalar() if kind in schema.INTEGERS:
            return partial(_number, kind.name, kind.minimum, kind.maximum)
        case Scalar():
            return _SCALARS.get(kind) or partial(_floating, kind)
    raise AssertionError(kind)


def _vector(read: _Read, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        _mismatch("an array", value)
    return tuple(_items(read, value))


def _map(key_source: _Read, read_key: _Read, read_item: _Read, value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        _mismatch("an object", value)
    return dict(zip(_items(read_key, map(key_source, value)), _items(read_item, value.values()), strict=True))


def _struct(cls: type[Any], plan: _Plan, value: Any) -> Any:
    return cls(**_members(plan, value))


def _items(read: _Read, values: Iterable[Any]) -> list[Any]:
    items: list[Any] = []
    try:
        for value in values:
            items.append(read(value))
    except DecodeError as error:
        error.within(len(items))
        raise
    return items


def _key_source(kind: Type) -> Any:
    """How a key, which JSON has as text, becomes what its type is read from."""
    if kind == schema.STRING:
        return lambda text: text

    def parse(text: str) -> Any:
        try:
            return _parse(text)
        except (ValueError, RecursionError):
            return text

    return parse


def _number(name: str, minimum: int, maximum: int, value: Any) -> int:
    if type(value) is not int:
        _mismatch(name, value)
    if not minimum <= value <= maximum:
        raise DecodeError(Reason.RANGE, f"{str(value)[:40]} is no {name}", 0)
    return value


def _boolean(value: Any) -> bool:
    if type(value) not in (bool, int):
        _mismatch("bool", value)
    return bool(value)


def _text(value: Any) -> str:
    # Nearly all text is ASCII, which always has bytes.
    if not isinstance(value, str) or not (value.isascii() or _encodable(value)):
        _mismatch("string", value)
    return value


def _octets(value: Any) -> bytes:
    if not isinstance(value, list) or not all(type(byte) is int and -128 <= byte <= 255 for byte in value):
        _mismatch("an array of bytes", value)
    return bytes(byte & 0xFF for byte in value)


def _floating(kind: Scalar, value: Any) -> float:
    if type(value) not in (int, float):
        _mismatch(kind.name, value)
    try:
        return _finite(kind, value)
    except OverflowError:
        raise DecodeError(Reason.RANGE, f"a number too large for {kind.name}", 0) from None


_SCALARS: Final[Mapping[Type, _Read]] = {schema.BOOL: _boolean, schema.STRING: _text, schema.BYTES: _octets}


def _finite(kind: Scalar, value: float) -> float:
    """The number as its type holds it, in the wire's own form too. Raises OverflowError."""
    number = float(value)
    if not math.isfinite(number):
        raise OverflowError(f"{number} is no {kind.name}")
    if kind == schema.FLOAT:
        struct.pack(">f", number)
    return number


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _mismatch(expected: str, value: Any) -> NoReturn:
    # Not the value itself where that may be long, or nested so deeply that it can't be shown.
    found = {dict: "an object", list: "an array", str: "text", type(None): "null"}.get(type(value))
    found = found or repr(value)[:40]
    raise DecodeError(Reason.MISMATCH, f"expected {expected}, found {found}", 0)


def _plain(kind: Type, value: Any) -> Any:
    """What the serialiser takes for a value of a declared type."""
    match kind:
        case Vector(element):
            return [_plain(element, item) for item in value]
        case Map(key, item):
            return {_key_text(key, k): _plain(item, v) for k, v in value.items()}
        case Struct(cls):
            return {f.name: _plain(f.type, getattr(value, f.name)) for f in schema.fields(cls)}
        case Scalar():
            return _plain_scalar(kind, value)
    raise AssertionError(kind)


def _plain_scalar(kind: Scalar, value: Any) -> Any:
    """A value of a type without parts, held against it as the wire's own form does."""
    if kind in schema.INTEGERS:
        number = operator.index(value)
        if not kind.minimum <= number <= kind.maximum:
            raise ValueError(f"{number!r} does not fit {kind.name}")
        return number
    if kind == schema.BOOL:
        return bool(value)
    if kind == schema.STRING:
        if not isinstance(value, str):
            raise TypeError(f"expected string, found {type(value).__name__}")
        return value
    if kind == schema.BYTES:
        return list(bytes(memoryview(value)))
    if not isinstance(value, (int, float)):
        raise TypeError(f"expected {kind.name}, found {type(value).__name__}")
    return _finite(kind, value)


def _key_text(kind: Type, value: Any) -> str:
    if kind == schema.STRING:
        return str(_plain(kind, value))
    return json.dumps(_plain(kind, value), allow_nan=False, separators=(",", ":"))
