"""The three forms in which the body of a call and of its answer come, one for each version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

from jce import Codec, EncodeError, Field, Reader, tuple_codec
from tars_protocol import json_body, tup
from tars_protocol.constants import Version


@dataclass(frozen=True, slots=True)
class Form:
    """How bodies of one version are read and written.

    ``decode(fields, body, max_values)`` gives a value for each field (the inputs of a function, or its results) and
    raises DecodeError; ``encode(fields, values)`` raises EncodeError. ``empty`` is a body without values.
    """

    decode: Callable[[tuple[Field, ...], bytes, int], tuple[Any, ...]]
    encode: Callable[[tuple[Field, ...], Sequence[Any]], bytes]
    empty: bytes


@cache
def _tars_codec(fields: tuple[Field, ...]) -> Codec[tuple[Any, ...]]:
    named = tuple(replace(field, name=field.name or "return") for field in fields)
    return tuple_codec(", ".join(field.name for field in named), named)


def _decode_tars(fields: tuple[Field, ...], body: bytes, max_values: int) -> tuple[Any, ...]:
    return _tars_codec(fields).decode(Reader(body, max_values))


def _encode_tars(fields: tuple[Field, ...], values: Sequence[Any]) -> bytes:
    if len(values) != len(fields):
        raise EncodeError(f"{len(values)} values for {len(fields)} parameters")
    return _tars_codec(fields).encode(tuple(values))


FORMS: Final = {
    Version.TARS.value: Form(_decode_tars, _encode_tars, b""),
    Version.TUP.value: Form(tup.decode, tup.encode, tup.EMPTY),
    Version.JSON.value: Form(json_body.decode, json_body.encode, json_body.EMPTY),
}
"""The form for each ``iVersion`` that is served."""
