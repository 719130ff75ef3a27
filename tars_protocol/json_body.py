"""Bodies of JSON (version 5): an object of the parameters by name; in an answer "tars_ret" holds the return value.

A struct is an object by field name, a vector an array, bytes an array of numbers, a map an object whose keys are text.
Bytes that are not UTF-8 stay as they are on their way through a string, in both directions.
"""

from __future__ import annotations

import json
import math
import operator
import struct
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from jce import DecodeError, EncodeError, Field, Reason, schema
from jce.schema import Map, Scalar, Struct, Type, Vector

RETURN_NAME: Final = "tars_ret"

EMPTY: Final = b"{}"
"""A body without any value."""


def decode(fields: Sequence[Field], body: bytes, max_values: int) -> tuple[Any, ...]:
    """The values of these fields. Raises DecodeError, whose offset is 0 where only the parsed value is known."""
    # Commas and opening brackets bound the number of values before any is made.
    if body.count(b",") + body.count(b"[") + body.count(b"{") > max_values:
        raise DecodeError(Reason.LIMIT, "more values than a frame may hold", 0)
    try:
        value = _parse(body.decode("utf-8", "surrogateescape"))
    except DecodeError:
        raise
    except json.JSONDecodeError as error:
        raise DecodeError(Reason.MALFORMED, f"no JSON: {error.msg}", error.pos) from None
    except (ValueError, RecursionError) as error:
        raise DecodeError(Reason.LIMIT, f"no JSON that can be read: {error}", 0) from None
    return tuple(_members(fields, value))


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


_MAX_DIGITS: Final = 1_000


def _integer(text: str) -> int:
    """No type has more than 20 digits, and thousands take long to read."""
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


# Python's parser takes NaN and Infinity, which JSON has not.
_parse: Final = json.JSONDecoder(parse_constant=_no_constant, parse_int=_integer).decode


def _members(fields: Sequence[Field], value: Any) -> list[Any]:
    if not isinstance(value, dict):
        _mismatch("an object", value)
    members = []
    for field in fields:
        name = field.name or RETURN_NAME
        try:
            if name in value:
                members.append(_typed(field.type, value[name]))
            elif field.required:
                raise DecodeError(Reason.MISSING, "required field is missing", 0)
            else:
                members.append(field.default)
        except DecodeError as error:
            error.within(name)
            raise
    return members


def _typed(kind: Type, value: Any) -> Any:
    """The value of a declared type from what the parser made."""
    match kind:
        case Vector(element):
            if not isinstance(value, list):
                _mismatch("an array", value)
            return tuple(_items(element, value))
        case Map(key, item):
            if not isinstance(value, dict):
                _mismatch("an object", value)
            return dict(zip(_items(key, map(_key_source(key), value)), _items(item, value.values()), strict=True))
        case Struct(cls):
            fields = schema.fields(cls)
            return cls(**{f.name: member for f, member in zip(fields, _members(fields, value), strict=True)})
        case Scalar():
            return _scalar(kind, value)
    raise AssertionError(kind)


def _items(kind: Type, values: Any) -> list[Any]:
    items: list[Any] = []
    try:
        for value in values:
            items.append(_typed(kind, value))
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


def _scalar(kind: Scalar, value: Any) -> Any:
    if kind in schema.INTEGERS:
        if type(value) is not int:
            _mismatch(kind.name, value)
        if not kind.minimum <= value <= kind.maximum:
            raise DecodeError(Reason.RANGE, f"{str(value)[:40]} is no {kind.name}", 0)
        return value
    if kind == schema.BOOL:
        if type(value) not in (bool, int):
            _mismatch("bool", value)
        return bool(value)
    if kind == schema.STRING:
        if not isinstance(value, str) or not _encodable(value):
            _mismatch("string", value)
        return value
    if kind == schema.BYTES:
        if not isinstance(value, list) or not all(type(byte) is int and -128 <= byte <= 255 for byte in value):
            _mismatch("an array of bytes", value)
        return bytes(byte & 0xFF for byte in value)
    if type(value) not in (int, float):
        _mismatch(kind.name, value)
    try:
        return _finite(kind, value)
    except OverflowError:
        raise DecodeError(Reason.RANGE, f"a number too large for {kind.name}", 0) from None


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
