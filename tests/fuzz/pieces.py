"""Bytes put together by hand, from the tables of the wire notes alone, so that no mistake of the codec is repeated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

MAX_FRAME_BYTES: Final = 1 << 20
"""The default of ``max_frame_bytes``."""

MAX_VALUES: Final = 20_000
"""The default of ``max_values``: a list, map, struct or simple list counts for three, all else for one."""

MAX_NESTING: Final = 16

SERVANT: Final = b"tars.tarsregistry.QueryObj"
REGISTRY_SERVANT: Final = b"tars.tarsregistry.RegistryObj"
FUNCTION: Final = b"findObjectById4Any"
OBJECT: Final = b"Test.HelloServer.HelloObj"
REQUEST_ID: Final = 7

INT8, INT16, INT32, INT64, FLOAT, DOUBLE, STRING1, STRING4, MAP, LIST, STRUCT, STRUCT_END, ZERO, SIMPLE_LIST = range(14)

NAMES: Final = (
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


# -- fields --------------------------------------------------------------------------------------------------------


def head(tag: int, code: int, *, wide: bool = False) -> bytes:
    """A head of one byte, or of two where the tag needs them or ``wide`` asks for them."""
    return bytes((0xF0 | code, tag)) if tag > 14 or wide else bytes((tag << 4 | code,))


def number(tag: int, value: int) -> bytes:
    """An integer in the narrowest type that holds it."""
    if value == 0:
        return head(tag, ZERO)
    for code, width in ((INT8, 1), (INT16, 2), (INT32, 4)):
        if -(1 << 8 * width - 1) <= value < 1 << 8 * width - 1:
            return head(tag, code) + value.to_bytes(width, "big", signed=True)
    return head(tag, INT64) + value.to_bytes(8, "big", signed=True)


def text(tag: int, value: bytes) -> bytes:
    """A string in the shorter form that holds it."""
    if len(value) < 256:
        return head(tag, STRING1) + bytes((len(value),)) + value
    return head(tag, STRING4) + len(value).to_bytes(4, "big") + value


def octets(tag: int, value: bytes) -> bytes:
    """A simple list."""
    return head(tag, SIMPLE_LIST) + b"\x00" + number(0, len(value)) + value


def listing(tag: int, items: Sequence[bytes]) -> bytes:
    """A list of elements, each a field with tag 0."""
    return head(tag, LIST) + number(0, len(items)) + b"".join(items)


def mapping(tag: int, pairs: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A map of pairs: a field with tag 0, a field with tag 1."""
    return head(tag, MAP) + number(0, len(pairs)) + b"".join(key + value for key, value in pairs)


def structure(tag: int, inside: bytes = b"") -> bytes:
    """A struct with these fields."""
    return head(tag, STRUCT) + inside + b"\x0b"


def nested(kind: str, depth: int, tag: int) -> bytes:
    """So many containers of one kind, each in the one before; the innermost is empty."""
    opened = {"lists": b"\x00\x01", "map keys": b"\x00\x01", "map values": b"\x00\x01\x0c", "structs": b""}[kind]
    code = {"lists": LIST, "map keys": MAP, "map values": MAP, "structs": STRUCT}[kind]
    closed = {"lists": b"", "map keys": b"\x1c", "map values": b"", "structs": b"\x0b"}[kind]
    innermost = b"\x0b" if code == STRUCT else b"\x0c"
    inner = head(1 if kind == "map values" else 0, code)
    heads = [head(tag, code)] + [inner] * (depth - 1)
    return opened.join(heads) + innermost + closed * (depth - 1)


def samples(tag: int) -> dict[str, bytes]:
    """A well-formed field of each type. Integers are 1 and come in just that width; texts are "a"."""
    made = {
        NAMES[code]: head(tag, code) + (1).to_bytes(width, "big")
        for code, width in ((INT8, 1), (INT16, 2), (INT32, 4), (INT64, 8))
    }
    return made | {
        "float": head(tag, FLOAT) + bytes.fromhex("3f800000"),
        "double": head(tag, DOUBLE) + bytes.fromhex("3ff0000000000000"),
        "string1": text(tag, b"a"),
        "string4": head(tag, STRING4) + b"\x00\x00\x00\x01a",
        "map": mapping(tag, [(text(0, b"a"), text(1, b"a"))]),
        "list": listing(tag, [number(0, 1)]),
        "struct": structure(tag, number(0, 1)),
        "zero": head(tag, ZERO),
        "simple list": octets(tag, b"a"),
    }


def broken(tag: int) -> dict[str, bytes]:
    """Fields that are not well-formed wherever they stand and whatever follows (less than 2 GiB)."""
    huge = b"\x02\x7f\xff\xff\xff"
    counts = {
        "says 2^31-1": huge,
        "says -1": b"\x00\xff",
        "says -32768": b"\x01\x80\x00",
        "says -2^31": b"\x02\x80\x00\x00\x00",
        "says how many in an int64": b"\x03" + (1).to_bytes(8, "big"),
        "says how many in a float": b"\x04\x3f\x80\x00\x00",
        "says how many in text": b"\x06\x011",
        "says how many with tag 1": b"\x10\x01",
        "says how many in a struct": b"\x0a\x0b",
    }
    made = {
        "of type 14": head(tag, 14) + b"\x00",
        "of type 15": head(tag, 15, wide=True) + b"\x00",
        "a struct end with a tag": head(tag or 1, STRUCT_END),
        "a string that says 2 GiB": head(tag, STRING4) + b"\x7f\xff\xff\xff" + b"a" * 8,
        "a string that says 4 GiB": head(tag, STRING4) + b"\xff\xff\xff\xff" + b"a" * 8,
        "a list of a value with tag 1": head(tag, LIST) + b"\x00\x01\x1c",
        "a list that a struct end cuts short": head(tag, LIST) + b"\x00\x02\x0c\x0b",
        "a map whose key has tag 1": head(tag, MAP) + b"\x00\x01\x1c\x1c",
        "a map whose value has tag 0": head(tag, MAP) + b"\x00\x01\x0c\x0c",
        "a map that a struct end cuts short": head(tag, MAP) + b"\x00\x01\x0c\x0b",
        "a struct whose end has tag 2": head(tag, STRUCT) + b"\x0c\x2b",
        "a struct with a field of type 14": head(tag, STRUCT) + b"\x0e",
        "a simple list of int16": head(tag, SIMPLE_LIST) + b"\x01\x00\x01a",
        "a simple list of text": head(tag, SIMPLE_LIST) + b"\x06\x00\x01a",
        "a simple list whose inner head has a tag": head(tag, SIMPLE_LIST) + b"\x10\x00\x01a",
        "17 open lists": nested("lists", MAX_NESTING + 1, tag),
        "17 open structs": nested("structs", MAX_NESTING + 1, tag),
        "1,000 open structs": head(tag, STRUCT) + b"\x0a" * 999,
        "1,000 open lists": head(tag, LIST) + b"\x00\x01\x09" * 999,
    }
    for name, code, inner in (("list", LIST, b""), ("map", MAP, b""), ("simple list", SIMPLE_LIST, b"\x00")):
        made |= {f"a {name} that {lie}": head(tag, code) + inner + count for lie, count in counts.items()}
    return made


# -- packets -------------------------------------------------------------------------------------------------------


def body(*inputs: bytes) -> bytes:
    """What a call in TARS carries: by default the object that the catalogue asks for."""
    return b"".join(inputs) or text(1, OBJECT)


def attribute(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """A pair of a TUP body: a parameter's name, and its value encoded with tag 0."""
    return text(0, name), octets(1, value)


def tup(*attributes: tuple[bytes, bytes]) -> bytes:
    """A TUP body: by default the object that the catalogue asks for."""
    return mapping(0, attributes or (attribute(b"id", text(0, OBJECT)),))


JSON: Final = b'{"id":"' + OBJECT + b'"}'


def fields(
    version: int = 1,
    content: bytes | None = None,
    servant: bytes = SERVANT,
    function: bytes = FUNCTION,
    kind: int = 0,
) -> dict[int, bytes]:
    """The ten fields of a request by tag, all well-formed."""
    if content is None:
        content = {3: tup(), 5: JSON}.get(version, body())
    return {
        1: number(1, version),
        2: number(2, kind),
        3: number(3, 0),
        4: number(4, REQUEST_ID),
        5: text(5, servant),
        6: text(6, function),
        7: octets(7, content),
        8: number(8, 3000),
        9: mapping(9, [(text(0, b"PID"), text(1, b"12"))]),
        10: mapping(10, [(text(0, b"a"), text(1, b"b"))]),
    }


def frame(packet: bytes) -> bytes:
    """A packet with its length before it."""
    return (len(packet) + 4).to_bytes(4, "big") + packet


def with_fields(request: Mapping[int, bytes], **changed: bytes) -> bytes:
    """The frame of a request with other bytes in place of a field: ``f7=...``; ``b""`` leaves it out."""
    put = {int(name[1:]): data for name, data in changed.items()}
    return frame(b"".join(data for _, data in sorted((dict(request) | put).items())))


def call(
    version: int = 1,
    content: bytes | None = None,
    servant: bytes = SERVANT,
    function: bytes = FUNCTION,
    kind: int = 0,
) -> bytes:
    """The frame of a request with these values."""
    return with_fields(fields(version, content, servant, function, kind))


def filled(make: Callable[[bytes], bytes], filler: bytes) -> bytes:
    """The frame that ``make`` gives for ``filler`` over and over, as long as a frame may be."""
    # Lengths of more than 65,535 bytes all take four, so what stands around the filler is as long for every length.
    enough = filler * (MAX_FRAME_BYTES // len(filler) + 1)
    around = len(make(enough)) - len(enough)
    made = make(enough[: MAX_FRAME_BYTES - around])
    assert len(made) == MAX_FRAME_BYTES, len(made)
    return made
