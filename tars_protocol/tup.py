"""Bodies of TUP (version 3): a map from parameter name to the parameter's value, encoded with tag 0.

In an answer the return value stands under "" and under "tars_ret" (Go servers write both, clients look for either).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from jce import Codec, DecodeError, EncodeError, Field, Reader, Reason, tuple_codec, value_codec
from jce.schema import BYTES, STRING, Map, Type

RETURN_NAMES: Final = ("", "tars_ret")

_ATTRIBUTES: Final = value_codec(Map(STRING, BYTES))

EMPTY: Final = _ATTRIBUTES.encode(({},))
"""A body without any value."""


@cache
def _value_codec(name: str, kind: Type) -> Codec[tuple[Any, ...]]:
    """As jce.value_codec, with the parameter's own name for the errors."""
    return tuple_codec(name, (Field(0, name, kind),))


def decode(fields: Sequence[Field], body: bytes, max_values: int) -> tuple[Any, ...]:
    """The values of these fields. Raises DecodeError."""
    reader = Reader(body, max_values)
    attributes = _ATTRIBUTES.decode(reader)[0]
    return tuple(_attribute(attributes, field, reader) for field in fields)


def encode(fields: Sequence[Field], values: Sequence[Any]) -> bytes:
    """The body with the values of these fields. Raises EncodeError."""
    if len(values) != len(fields):
        raise EncodeError(f"{len(values)} values for {len(fields)} parameters")
    attributes: dict[str, bytes] = {}
    for field, value in zip(fields, values, strict=True):
        data = _value_codec(field.name or RETURN_NAMES[-1], field.type).encode((value,))
        for name in (field.name,) if field.name else RETURN_NAMES:
            attributes[name] = data
    return _ATTRIBUTES.encode((attributes,))


def _attribute(attributes: Mapping[str, bytes], field: Field, shared: Reader) -> Any:
    names = (field.name,) if field.name else RETURN_NAMES
    data = next((attributes[name] for name in names if name in attributes), None)
    if data is None:
        raise _missing(field.name or names[-1])
    # Nesting starts anew in each value; the number of values is bounded for the frame as a whole.
    reader = Reader(data, shared.budget)
    value = _value_codec(field.name or names[-1], field.type).decode(reader)[0]
    shared.budget = reader.budget
    return value


def _missing(name: str) -> DecodeError:
    error = DecodeError(Reason.MISSING, "required parameter is missing", 0)
    error.within(name)
    return error
