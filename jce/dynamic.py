"""Decode without a schema, for dumps: what can be told of bytes whose declaration is not known.

Types come out as the wire has them: integers as int, both floats as float, strings as str, a simple list as bytes, a
list as list, a struct as a dict by tag, a map as a dict where its keys can be keys of one and as a list of pairs where
they can't. A bool is an integer here, and a vector<byte> that came as a list of int8 is a list.
"""

from __future__ import annotations

from typing import Any

from jce import wire
from jce.reader import END, Reader


def decode(data: bytes | Reader) -> dict[int, Any]:
    """All fields of a buffer by tag; of two with one tag the first counts. Raises DecodeError."""
    reader = data if isinstance(data, Reader) else Reader(data)
    fields = _fields(reader, 0)
    reader.end_buffer()
    return fields


def _fields(reader: Reader, nesting: int) -> dict[int, Any]:
    fields: dict[int, Any] = {}
    while (tag := reader.tag) != END:
        value = _value(reader, nesting)
        fields.setdefault(tag, value)
    return fields


def _value(reader: Reader, nesting: int) -> Any:
    match reader.type:
        case wire.FLOAT:
            return reader.float32()
        case wire.DOUBLE:
            return reader.float64()
        case wire.STRING1 | wire.STRING4:
            return reader.string()
        case wire.SIMPLE_LIST:
            return reader.octets(nesting)
        case wire.LIST:
            return [_item(reader, 0, nesting + 1) for _ in range(reader.begin_list(nesting))]
        case wire.MAP:
            count = reader.begin_map(nesting)
            pairs = [(_item(reader, 0, nesting + 1), _item(reader, 1, nesting + 1)) for _ in range(count)]
            if all(isinstance(key, (int, float, str, bytes)) for key, _ in pairs):
                found: dict[Any, Any] = {}
                for key, value in pairs:
                    found.setdefault(key, value)
                return found
            return pairs
        case wire.STRUCT_BEGIN:
            reader.begin_struct(nesting)
            fields = _fields(reader, nesting + 1)
            reader.end_struct(nesting + 1)
            return fields
    return reader.int64()


def _item(reader: Reader, tag: int, nesting: int) -> Any:
    reader.item(tag)
    return _value(reader, nesting)
