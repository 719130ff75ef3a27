"""What a JCE byte means: type codes, field widths and the bounds every reader keeps.

A JCE value is a *field*: a head (tag and type), then a body that the type tells the length of. The head is one byte,
tag in the high nibble and type in the low one; the nibble 15 says that the tag is in a second byte.

Source: the public TARS protocol description and the bytes that TarsGo, @tars/stream and tars-core put out.
"""

from __future__ import annotations

from typing import Final

INT8: Final = 0
INT16: Final = 1
INT32: Final = 2
INT64: Final = 3
FLOAT: Final = 4
DOUBLE: Final = 5
STRING1: Final = 6
STRING4: Final = 7
MAP: Final = 8
LIST: Final = 9
STRUCT_BEGIN: Final = 10
STRUCT_END: Final = 11
ZERO: Final = 12
SIMPLE_LIST: Final = 13

TYPE_NAMES: Final = (
    "int8",
    "int16",
    "int32",
    "int64",
    "float",
    "double",
    "string1",
    "string4",
    "map",
    "list",
    "struct",
    "struct end",
    "zero",
    "simple list",
)
"""Name of each type code, by code."""

COSTS: Final = (1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 3, 0, 1, 3)
"""How many values each type counts for in the budget of a frame, by code. A container, however empty, takes about three
times as long to read as a number or a short string; the mark at a struct's end is part of the struct."""

MAX_TAG: Final = 255
"""The largest tag that fits the second head byte."""

MAX_NESTING: Final = 16
"""Structs, lists and maps that may be open at once in one buffer. The deepest public interface needs four."""

DEFAULT_MAX_VALUES: Final = 20_000
"""Values (fields, elements, keys) that one frame may hold, counted by ``COSTS``. 500 endpoints of 14 fields need 8,500;
a mebibyte of one-byte elements would be a million, and each costs as much to read as an honest field."""
