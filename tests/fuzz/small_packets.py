"""Small inputs that are wrong in the stream or in the packet, whatever the body's form is."""

from __future__ import annotations

from collections.abc import Iterator

from tests.fuzz.cases import NOT_A_REQUEST, SILENT, TOO_LONG, TOO_SHORT, Case, Expected, answered
from tests.fuzz.pieces import (
    INT8,
    MAX_FRAME_BYTES,
    MAX_NESTING,
    OBJECT,
    REGISTRY_SERVANT,
    SERVANT,
    broken,
    call,
    fields,
    frame,
    head,
    mapping,
    nested,
    number,
    octets,
    samples,
    structure,
    text,
    with_fields,
)

INTEGERS = {"int8", "int16", "int32", "int64", "zero"}
TEXTS = {"string1", "string4"}

FIELDS = {
    1: "iVersion",
    2: "cPacketType",
    3: "iMessageType",
    4: "iRequestId",
    5: "sServantName",
    6: "sFuncName",
    7: "sBuffer",
    8: "iTimeout",
    9: "context",
    10: "status",
}
REQUIRED = {1, 4, 5, 6, 7}


def small_packets() -> Iterator[Case]:
    """All of them."""
    yield from _stream()
    yield from _types()
    yield from _broken()
    yield from _cut_short()
    yield from _order()
    yield from _nesting()
    yield from _values()
    yield from _names()
    yield from _maps()


def _stream() -> Iterator[Case]:
    good = call()
    for length in (0, 1, 3, 4):
        yield Case(f"a frame of {length} bytes", length.to_bytes(4, "big"), TOO_SHORT)
        yield Case(
            f"a good question, then a frame of {length}", good + length.to_bytes(4, "big") + good, _then(TOO_SHORT)
        )
    for length in (MAX_FRAME_BYTES + 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
        yield Case(f"a frame of {length} bytes", length.to_bytes(4, "big") + good, TOO_LONG)
        yield Case(f"a good question, then a frame of {length}", good + length.to_bytes(4, "big"), _then(TOO_LONG))
    for name, data in {
        "HTTP": b"GET / HTTP/1.1\r\nHost: registry\r\n\r\n",
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "a TLS hello": bytes.fromhex("16030100a5010000a10303") + b"\x5a" * 155,
        "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
        "Redis": b"*1\r\n$4\r\nPING\r\n",
        "a frame whose length is written the other way round": len(good).to_bytes(4, "little") + good[4:],
    }.items():
        yield Case(f"{name} instead of a frame", data, TOO_LONG)
    for name, packet in {
        "one byte 0": b"\x00",
        "a byte ff": b"\xff",
        "ff over and over": b"\xff" * 100,
        "zeros": b"\x0c" * 100,
        "nulls": b"\x00" * 100,
        "an empty struct": b"\x0a\x0b",
        "a struct end": b"\x0b",
        "struct begins": b"\x0a" * 100,
        "text": b"findObjectById4Any",
        "the request as a struct": structure(0, good[4:]),
        "an answer": number(1, 1) + number(2, 0) + number(3, 7) + number(4, 0) + number(5, 0) + octets(6, b""),
    }.items():
        # An answer has a request id, but where a request has its flags; tag 4 there is its flags.
        expected = answered(-1, request_id=0) if name == "an answer" else NOT_A_REQUEST
        yield Case(f"a packet of {name}", frame(packet), expected)
    # The inner length reads as two int8 with tag 0, which nobody looks for.
    yield Case("a frame in a frame", frame(good), answered(0))
    yield Case("three questions, the second broken", good + with_fields(fields(), f7=b"") + good, answered(0, -1, 0))
    yield Case("a question and garbage", good + frame(b"\xff") + good, _then(NOT_A_REQUEST))
    yield Case("a frame that is one byte longer than its question", frame(good[4:] + b"\x00"), answered(-1))
    shorter = (len(good) - 1).to_bytes(4, "big") + good[4:]
    yield Case("a frame that is one byte shorter than its question", shorter, answered(-1))
    yield Case("half a frame", good[: len(good) // 2], SILENT)
    yield Case("half a length", good[:2], SILENT)
    yield Case("an announced frame that does not come", MAX_FRAME_BYTES.to_bytes(4, "big"), SILENT)


def _then(ending: Expected) -> Expected:
    return Expected((0,), ending.closed)


def _types() -> Iterator[Case]:
    """Every field as every type, with a body that is well-formed."""
    for tag, name in FIELDS.items():
        for kind, data in samples(tag).items():
            yield Case(f"{name} as {kind}", with_fields(fields(), **{f"f{tag}": data}), _of_type(tag, kind))
        for code in (14, 15):
            expected = NOT_A_REQUEST if tag <= 4 else answered(-1)
            yield Case(f"{name} of type {code}", with_fields(fields(), **{f"f{tag}": head(tag, code)}), expected)


def _of_type(tag: int, kind: str) -> Expected:
    taken = {1: {"int8", "int16"}, 2: {"int8", "zero"}, 5: TEXTS, 6: TEXTS, 9: {"map"}, 10: {"map"}}
    if tag == 4:
        if kind == "zero":
            return answered(0, request_id=0)
        return answered(0, request_id=1) if kind in {"int8", "int16", "int32"} else NOT_A_REQUEST
    if kind == "zero" and tag == 1:
        return answered(-1, version=0)
    if tag == 7 or kind not in taken.get(tag, INTEGERS - {"int64"}):
        return answered(-1)
    if tag == 2:
        return answered(0) if kind == "zero" else SILENT
    return answered({5: -4, 6: -3}.get(tag, 0))


def _broken() -> Iterator[Case]:
    """Fields that are not well-formed, where nobody looks for them and where a field should be."""
    for name, data in broken(0).items():
        yield Case(f"before the request id: {name}", with_fields(fields(), f0=data), NOT_A_REQUEST)
    for name, data in broken(4).items():
        yield Case(f"iRequestId: {name}", with_fields(fields(), f4=data), NOT_A_REQUEST)
    for tag in (5, 7, 9):
        for name, data in broken(tag).items():
            yield Case(f"{FIELDS[tag]}: {name}", with_fields(fields(), **{f"f{tag}": data}), answered(-1))
    for tag in (11, 200):
        for name, data in broken(tag).items():
            yield Case(f"behind all fields, tag {tag}: {name}", with_fields(fields(), f11=data), answered(-1))


def _cut_short() -> Iterator[Case]:
    """A packet that ends at each of its bytes. It is a question again once only optional fields are missing."""
    given = fields()
    ends, end = {}, 0
    for tag, data in given.items():
        end += len(data)
        ends[end] = tag
    whole = b"".join(given.values())
    after_id = next(end for end, tag in ends.items() if tag == 4)
    for length in range(1, len(whole)):
        if length < after_id:
            expected = NOT_A_REQUEST
        else:
            expected = answered(0 if ends.get(length, 0) >= 7 else -1)
        yield Case(f"a packet cut after {length} bytes", frame(whole[:length]), expected)


def _order() -> Iterator[Case]:
    """Fields left out, twice, and in other places: looked for going forward, and of two the first counts."""
    for tag, name in FIELDS.items():
        expected = answered(-1 if tag in REQUIRED else 0)
        left_out = with_fields(fields(), **{f"f{tag}": b""})
        yield Case(f"without {name}", left_out, NOT_A_REQUEST if tag == 4 else expected)
        twice = with_fields(fields(), **{f"f{tag}": fields()[tag] + samples(tag)["struct"]})
        yield Case(f"{name} twice, the second a struct", twice, answered(0))
        struct_first = with_fields(fields(), **{f"f{tag}": samples(tag)["struct"] + fields()[tag]})
        yield Case(f"{name} twice, the first a struct", struct_first, NOT_A_REQUEST if tag == 4 else answered(-1))
        wide = head(tag, fields()[tag][0] & 15, wide=True) + fields()[tag][1:]
        yield Case(f"{name} with a head of two bytes", with_fields(fields(), **{f"f{tag}": wide}), answered(0))
    given = fields()
    swaps = {
        (4, 5): NOT_A_REQUEST,
        (1, 10): NOT_A_REQUEST,
        (1, 4): answered(-1),
        (6, 7): answered(-1),
        (9, 10): answered(0),
    }
    for (first, second), expected in swaps.items():
        swapped = given | {first: given[second], second: given[first]}
        yield Case(f"{FIELDS[first]} and {FIELDS[second]} swapped", frame(b"".join(swapped.values())), expected)
    yield Case("all fields in descending order", frame(b"".join(reversed(given.values()))), NOT_A_REQUEST)


def _nesting() -> Iterator[Case]:
    for kind in ("lists", "map keys", "map values", "structs"):
        for depth in (MAX_NESTING, MAX_NESTING + 1, 300):
            deep = depth > MAX_NESTING
            before = with_fields(fields(), f0=nested(kind, depth, 0))
            yield Case(f"{depth} {kind} before the request id", before, NOT_A_REQUEST if deep else answered(0))
            for tag in (11, 255):
                behind = with_fields(fields(), f11=nested(kind, depth, tag))
                yield Case(f"{depth} {kind} in tag {tag}", behind, answered(-1 if deep else 0))


def _values() -> Iterator[Case]:
    """Well-formed packets with values that nobody has or serves."""
    for version in (-32768, -128, -1, 0, 2, 4, 6, 7, 127, 128, 255, 32767):
        for kind, expected in ((0, answered(-1, version=version)), (1, SILENT)):
            one_way = ", one-way" if kind else ""
            yield Case(f"iVersion {version}{one_way}", call(version, body_of(version), kind=kind), expected)
    for kind in (-128, -1, 2, 127):
        yield Case(f"cPacketType {kind}", call(kind=kind), answered(0))
    for request_id in (-(1 << 31), -32769, -129, -1, 128, 40_000, (1 << 31) - 1):
        changed = with_fields(fields(), f4=number(4, request_id))
        yield Case(f"iRequestId {request_id}", changed, answered(0, request_id=request_id))
        broken_off = with_fields(fields(), f4=number(4, request_id), f7=b"")
        yield Case(f"iRequestId {request_id} without sBuffer", broken_off, answered(-1, request_id=request_id))
    for odd in (-(1 << 31), -1, (1 << 31) - 1):
        yield Case(f"iMessageType {odd}", with_fields(fields(), f3=number(3, odd)), answered(0))
        yield Case(f"iTimeout {odd}", with_fields(fields(), f8=number(8, odd)), answered(0))
    yield Case("iVersion in an int16 that an int8 holds", with_fields(fields(), f1=b"\x11\x00\x01"), answered(0))
    # The byte reads as an int16 with tag 0, which takes cPacketType and iMessageType with it: they have defaults.
    yield Case("iVersion with one byte too many", with_fields(fields(), f1=head(1, INT8) + b"\x01\x01"), answered(0))


def _names() -> Iterator[Case]:
    """Servants and functions that are not there, or not served; one-way calls get nothing whatever is wrong."""
    names = {
        "empty": b"",
        "null bytes": b"\x00" * 8,
        "not UTF-8": b"\xff\xfe\x80",
        "half a character": b"\xe4\xb8",
        "a surrogate": b"\xed\xa0\x80",
        "an overlong form": b"\xc0\xaf",
        "a line break": b"a\r\nb",
        "two hundred characters": b"x" * 200,
        "a format": b"%s%n{0}",
        "another spelling": SERVANT.upper(),
    }
    for version in (1, 3, 5):
        for name, value in names.items():
            unknown = answered(-4, version=version)
            yield Case(f"v{version}, a servant's name: {name}", call(version, servant=value), unknown)
            unknown = answered(-3, version=version)
            yield Case(f"v{version}, a function's name: {name}", call(version, function=value), unknown)
    for version in (1, 3, 5):
        for function in ("findObjectNodeName", "registerChange", "registerQuery", "getLocker"):
            expected = answered(-3, version=version)
            yield Case(f"v{version}, {function}", call(version, function=function.encode()), expected)
        yield Case(
            f"v{version}, tars_ping with a body that is none",
            call(version, b"\xff" * 9, function=b"tars_ping"),
            answered(0, version=version),
        )
        no_body = call(version, b"\xff" * 9, kind=1)
        yield Case(f"v{version}, one-way with a body that is none", no_body, SILENT)
        yield Case(f"v{version}, one-way, unknown servant", call(version, servant=b"x", kind=1), SILENT)
        yield Case(f"v{version}, one-way, unknown function", call(version, function=b"x", kind=1), SILENT)
    yield Case("one-way, without sBuffer", with_fields(fields(kind=1), f7=b""), SILENT)
    for version in (1, 3, 5):
        for function in ("getServers", "destroyNode", "reportNode", "updateServerBatch", "getFrameworkKey"):
            made = call(version, b"\xff" * 9, REGISTRY_SERVANT, function.encode())
            yield Case(f"v{version}, {function} of the registry", made, answered(-3, version=version), "registry")
        made = call(version, servant=SERVANT)
        yield Case(f"v{version}, a query at the registry's port", made, answered(-4, version=version), "registry")


def body_of(version: int) -> bytes:
    """A body for a version that has no form of its own."""
    return text(1, OBJECT) if version % 2 else b""


def _maps() -> Iterator[Case]:
    """Context and status with keys and values of every type."""
    for tag in (9, 10):
        for kind, key in samples(0).items():
            expected = answered(0 if kind in TEXTS else -1)
            changed = with_fields(fields(), **{f"f{tag}": mapping(tag, [(key, text(1, b"v"))])})
            yield Case(f"{FIELDS[tag]} with a key of {kind}", changed, expected)
        for kind, value in samples(1).items():
            expected = answered(0 if kind in TEXTS else -1)
            changed = with_fields(fields(), **{f"f{tag}": mapping(tag, [(text(0, b"k"), value)])})
            yield Case(f"{FIELDS[tag]} with a value of {kind}", changed, expected)
        for name, pairs in {
            "one key twice": [(b"k", b"1"), (b"k", b"2")],
            "empty texts": [(b"", b"")],
            "texts that are not UTF-8": [(b"\xff", b"\xfe"), (b"\x80", b"")],
            "TARS_SETNAME that is none": [(b"TARS_SETNAME", b"..\xff")],
            "a result code": [(b"STATUS_RESULT_CODE", b"-1")],
        }.items():
            data = mapping(tag, [(text(0, key), text(1, value)) for key, value in pairs])
            yield Case(f"{FIELDS[tag]} with {name}", with_fields(fields(), **{f"f{tag}": data}), answered(0))
        short = head(tag, 8) + number(0, 2) + text(0, b"k") + text(1, b"v")
        yield Case(
            f"{FIELDS[tag]} with a pair less than it says", with_fields(fields(), **{f"f{tag}": short}), answered(-1)
        )
