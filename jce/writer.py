"""What the compiled encoders put into the buffer: each function appends one field.

``heads`` is the field's head for every type, made once by :func:`heads` when a schema is compiled.
"""

from __future__ import annotations

import struct
from typing import Final

from jce import wire

_int16 = struct.Struct(">h").pack
_int32 = struct.Struct(">i").pack
_int64 = struct.Struct(">q").pack
_uint32 = struct.Struct(">I").pack
_float = struct.Struct(">f").pack
_double = struct.Struct(">d").pack

Heads = tuple[bytes, ...]

STRUCT_END: Final = bytes((wire.STRUCT_END,))
"""The mark after the last field of a struct."""


def heads(tag: int) -> Heads:
    """The head of a field with this tag, by type code."""
    if tag < 15:
        return tuple(bytes((tag << 4 | code,)) for code in range(len(wire.TYPE_NAMES)))
    return tuple(bytes((0xF0 | code, tag)) for code in range(len(wire.TYPE_NAMES)))


_COUNT = heads(0)
_OCTETS = _COUNT[wire.INT8]


def put_int(out: bytearray, heads: Heads, value: int) -> None:
    """An integer in the narrowest type that holds it, 0 without a body."""
    if value == 0:
        out += heads[wire.ZERO]
    elif -0x80 <= value <= 0x7F:
        out += heads[wire.INT8]
        out.append(value & 0xFF)
    elif -0x8000 <= value <= 0x7FFF:
        out += heads[wire.INT16] + _int16(value)
    elif -0x8000_0000 <= value <= 0x7FFF_FFFF:
        out += heads[wire.INT32] + _int32(value)
    else:
        out += heads[wire.INT64] + _int64(value)


def put_float32(out: bytearray, heads: Heads, value: float) -> None:
    """A float of 32 bits, in full even when it is 0 (as Go, Java and C++ write it)."""
    out += heads[wire.FLOAT] + _float(value)


def put_float64(out: bytearray, heads: Heads, value: float) -> None:
    """A float of 64 bits, in full even when it is 0."""
    out += heads[wire.DOUBLE] + _double(value)


def put_string(out: bytearray, heads: Heads, value: str) -> None:
    """A string as UTF-8; lone surrogates from the decoder become the bytes that they came from."""
    data = value.encode("utf-8", "surrogateescape")
    length = len(data)
    if length <= 0xFF:
        out += heads[wire.STRING1]
        out.append(length)
    else:
        out += heads[wire.STRING4] + _uint32(length)
    out += data


def put_octets(out: bytearray, heads: Heads, value: bytes) -> None:
    """A vector<byte> as a simple list."""
    if type(value) is not bytes:
        value = bytes(memoryview(value))  # of wide elements, say: len() counts those and not the bytes
    out += heads[wire.SIMPLE_LIST] + _OCTETS
    put_int(out, _COUNT, len(value))
    out += value


def put_count(out: bytearray, head: bytes, count: int) -> None:
    """The head of a list or map and its count."""
    out += head
    put_int(out, _COUNT, count)
