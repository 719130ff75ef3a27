"""Small inputs in a good packet whose body is wrong, in each of the three forms."""

from __future__ import annotations

from collections.abc import Iterator

from tests.fuzz.cases import Case, answered
from tests.fuzz.pieces import (
    LIST,
    MAP,
    MAX_NESTING,
    OBJECT,
    attribute,
    body,
    broken,
    call,
    head,
    listing,
    mapping,
    nested,
    number,
    octets,
    samples,
    text,
    tup,
)

TEXTS = {"string1", "string4"}

LOOKUPS = {
    "findObjectById": (b"id",),
    "findObjectById4Any": (b"id",),
    "findObjectById4All": (b"id",),
    "findObjectByIdInSameGroup": (b"id",),
    "findObjectByIdInSameStation": (b"id", b"sStation"),
    "findObjectByIdInSameSet": (b"id", b"setId"),
}
"""The functions that are answered, and their inputs: in TARS at their positions, in the other forms by these names."""

ODD_TEXTS = {
    "empty": b"",
    "null bytes": b"\x00" * 9,
    "not UTF-8": b"\xff\xfe\x80.\xff.\x80",
    "half a character": b"a.b.\xe4\xb8",
    "dots": b"." * 100,
    "no object": b"Test",
    "two parts": b"Test.HelloServer",
    "empty parts": b"..",
    "an address behind it": OBJECT + b"@tcp -h 1.2.3.4 -p 99999999999999999999",
    "a set behind it": OBJECT + b"#a.b.c",
    "a thousand parts": b"a." * 1000,
    "a path": b"../../etc.passwd.x",
    "a star": b"*.*.*",
    "a format": b"%s.{0}.%n",
}
"""Ids, stations and sets that are text, but nothing is called so: a question like any other, with an empty answer."""


def small_bodies() -> Iterator[Case]:
    """All of them."""
    yield from _tars()
    yield from _tup()
    yield from _json()


def _tars() -> Iterator[Case]:
    for function, inputs in LOOKUPS.items():
        encoded = function.encode()
        for position, parameter in enumerate(inputs, start=1):
            others = {at: text(at, OBJECT) for at in range(1, len(inputs) + 1) if at != position}
            for kind, data in samples(position).items():
                content = b"".join(value for _, value in sorted((others | {position: data}).items()))
                expected = answered(0 if kind in TEXTS else -1)
                yield Case(f"{function}, {parameter.decode()} as {kind}", call(1, content, function=encoded), expected)
            missing = b"".join(others.values())
            yield Case(f"{function} without {parameter.decode()}", call(1, missing, function=encoded), answered(-1))
    for name, value in ODD_TEXTS.items():
        yield Case(f"an id: {name}", call(1, text(1, value)), answered(0))
        for function in ("findObjectByIdInSameStation", "findObjectByIdInSameSet"):
            data = call(1, text(1, OBJECT) + text(2, value), function=function.encode())
            yield Case(f"{function}: {name}", data, answered(0))
    for name, data in broken(2).items():
        yield Case(f"a body with activeEp {name}", call(1, body() + data), answered(-1))
    for name, data in broken(1).items():
        yield Case(f"a body with id {name}", call(1, data), answered(-1))
    whole = body(text(1, OBJECT), listing(2, [b"\x0a\x06\x01a\x1c\x0b"]))
    after_id = len(text(1, OBJECT))
    for length in range(len(whole)):
        expected = answered(0 if length == after_id else -1)
        yield Case(f"a body cut after {length} bytes", call(1, whole[:length]), expected)
    for kind in ("lists", "map keys", "map values", "structs"):
        for depth in (MAX_NESTING, MAX_NESTING + 1, 300):
            expected = answered(-1 if depth > MAX_NESTING else 0)
            yield Case(f"{depth} {kind} in a body", call(1, body() + nested(kind, depth, 2)), expected)
    yield Case("a body of struct ends", call(1, b"\x0b" * 20), answered(-1))
    yield Case("a body with a struct end behind it", call(1, body() + b"\x0b"), answered(-1))
    yield Case("a body in TUP that is said to be TARS", call(1, tup()), answered(-1))
    yield Case("a body in JSON that is said to be TARS", call(1, b'{"id":"a.b.c"}'), answered(-1))
    yield Case("a body with its id twice", call(1, body() + text(1, b"other")), answered(0))
    yield Case("a body with return value and id", call(1, number(0, 0) + text(1, OBJECT)), answered(0))
    yield Case("a body with old lists that are none", call(1, body() + number(2, 5) + text(3, b"x")), answered(0))
    yield Case("a body with an unknown tag", call(1, body() + number(255, 1)), answered(0))


def _tup() -> Iterator[Case]:
    bad, good = answered(-1, version=3), answered(0, version=3)
    for kind, data in samples(0).items():
        expected = good if kind in TEXTS else bad
        yield Case(f"TUP, id as {kind}", call(3, tup(attribute(b"id", data))), expected)
        # The body itself is a map; its keys are text, its values bytes.
        if kind != "map":
            yield Case(f"TUP, a body of {kind}", call(3, data), bad)
        key = head(0, MAP) + number(0, 1) + data + octets(1, text(0, OBJECT))
        yield Case(f"TUP, a name of {kind}", call(3, key), bad)
    for kind, data in samples(1).items():
        yield Case(f"TUP, an attribute of {kind}", call(3, mapping(0, [(text(0, b"id"), data)])), bad)
    one_by_one = listing(1, [b"\x00" + bytes((byte,)) for byte in text(0, OBJECT)])
    yield Case("TUP, an attribute as a list of bytes", call(3, mapping(0, [(text(0, b"id"), one_by_one)])), good)
    for name, data in broken(0).items():
        yield Case(f"TUP, a body with {name}", call(3, data), bad)
        yield Case(f"TUP, behind the map: {name}", call(3, tup() + data), bad)
        yield Case(f"TUP, an id {name}", call(3, tup(attribute(b"id", data))), bad)
        yield Case(f"TUP, an id and {name}", call(3, tup(attribute(b"id", text(0, OBJECT) + data))), bad)
        other = tup(attribute(b"x", data), attribute(b"id", text(0, OBJECT)))
        yield Case(f"TUP, an attribute that nobody reads: {name}", call(3, other), good)
    whole = tup(attribute(b"id", text(0, OBJECT)))
    for length in range(len(whole)):
        yield Case(f"TUP, a body cut after {length} bytes", call(3, whole[:length]), bad)
    for kind in ("lists", "map keys", "map values", "structs"):
        for depth in (MAX_NESTING, MAX_NESTING + 1, 300):
            expected = bad if depth > MAX_NESTING else good
            deep = attribute(b"id", text(0, OBJECT) + nested(kind, depth, 1))
            yield Case(f"TUP, {depth} {kind} behind an id", call(3, tup(deep)), expected)
            yield Case(f"TUP, {depth} {kind} behind the map", call(3, tup() + nested(kind, depth, 1)), expected)
    for name, value in ODD_TEXTS.items():
        yield Case(f"TUP, an id: {name}", call(3, tup(attribute(b"id", text(0, value)))), good)
        named = tup(attribute(value, b"\xff"), attribute(b"id", text(0, OBJECT)))
        yield Case(f"TUP, an attribute's name: {name}", call(3, named), good)
    for name, content in {
        "an empty body": b"",
        "an empty map": mapping(0, []),
        "no id": tup(attribute(b"Id", text(0, OBJECT))),
        "an id under the name of the return value": tup(attribute(b"", text(0, OBJECT))),
        "an empty id": tup(attribute(b"id", b"")),
        "an id with tag 1": tup(attribute(b"id", text(1, OBJECT))),
        "a map with tag 1": mapping(1, [attribute(b"id", text(0, OBJECT))]),
        "a map of maps, as in version 2": mapping(
            0, [(text(0, b"id"), mapping(1, [(text(0, b"string"), octets(1, text(0, OBJECT)))]))]
        ),
        "a pair less than it says": head(0, MAP) + number(0, 2) + b"".join(attribute(b"id", text(0, OBJECT))),
        "a list of pairs": head(0, LIST) + number(0, 2) + b"".join(attribute(b"id", text(0, OBJECT))),
        "a body in TARS": text(1, OBJECT),
        "a body in JSON": b'{"id":"a.b.c"}',
    }.items():
        yield Case(f"TUP, {name}", call(3, content), bad)
    twice = tup(attribute(b"id", text(0, OBJECT)), attribute(b"id", number(0, 1)))
    yield Case("TUP, an id twice, the second a number", call(3, twice), good)
    twice = tup(attribute(b"id", number(0, 1)), attribute(b"id", text(0, OBJECT)))
    yield Case("TUP, an id twice, the first a number", call(3, twice), bad)


def _json() -> Iterator[Case]:
    bad, good = answered(-1, version=5), answered(0, version=5)
    for value in ("1", "1.5", "null", "true", "false", "[]", "{}", '["a.b.c"]', '{"x":1}', "-0", "1e400"):
        yield Case(f"JSON, an id of {value}", call(5, b'{"id":%s}' % value.encode()), bad)
        yield Case(f"JSON, a body of {value}", call(5, value.encode()), bad)
        beside = b'{"id":"a.b.c","activeEp":%s}' % value.encode()
        yield Case(f"JSON, an activeEp of {value}", call(5, beside), good)
    for content in (
        b"",
        b" ",
        b"{",
        b"}",
        b'"',
        b'{"id"',
        b'{"id":',
        b'{"id":}',
        b'{"id":"a.b.c"',
        b'{"id":"a.b.c}',
        b'{"id":"a.b.c"}}',
        b'{"id":"a.b.c"}{}',
        b'{"id":"a.b.c"} x',
        b'{"id":"a.b.c",}',
        b"{'id':'a.b.c'}",
        b'{id:"a.b.c"}',
        b'{"id" "a.b.c"}',
        b'["id","a.b.c"]',
        b'\xef\xbb\xbf{"id":"a.b.c"}',
        b'{"id":"a.b.c"}\x00',
        b'\x00{"id":"a.b.c"}',
        b'{"id":"a\nb"}',
        b'{"id":"a\x00b"}',
        rb'{"id":"\x"}',
        rb'{"id":"\u12"}',
        rb'{"id":"\ud800"}',
        rb'{"id":"\udbff\udbff"}',
        rb'{"id":"\udc00"}',
        b'{"id":"a.b.c","x":NaN}',
        b'{"id":"a.b.c","x":Infinity}',
        b'{"id":"a.b.c","x":-Infinity}',
        b'{"id":"a.b.c","x":01}',
        b'{"id":"a.b.c","x":+1}',
        b'{"id":"a.b.c","x":.5}',
        b'{"id":"a.b.c","x":1.}',
        b'{"id":"a.b.c","x":1e}',
        b'{"id":"a.b.c","x":0x1}',
        b'{"id":"a.b.c","x":--1}',
        b'{"id":"a.b.c","x":tru}',
        b'{"id":"a.b.c","x":[1,]}',
        b'{"id":"a.b.c","x":[1}',
        b'{"id":"a.b.c" /* */}',
        b'{"x":"a.b.c"}',
        b'{"Id":"a.b.c"}',
        b"{}",
    ):
        yield Case(f"JSON, {content.decode('latin-1')!r}", call(5, content), bad)
    for name, content in {
        "bytes that are not UTF-8": b'{"id":"\xff\xfe"}',
        "an escaped byte": rb'{"id":"\udcff"}',
        "a name that is not UTF-8": b'{"id":"a.b.c","\xff":"\x80"}',
        "a name that is half a character": rb'{"id":"a.b.c","\ud800":1}',
        "white space": b' \r\n\t{ \n"id" : "a.b.c" }\n',
        "escapes": rb'{"\u0069d":"\u0061\/\b\f\n\r\t\"\\"}',
        "a null character": rb'{"id":"\u0000"}',
        "a number of 500 digits": b'{"id":"a.b.c","x":' + b"9" * 500 + b"}",
        "a number too large": b'{"id":"a.b.c","x":1e999999}',
        "a number too small": b'{"id":"a.b.c","x":1e-999999}',
        "a fraction of 3,000 digits": b'{"id":"a.b.c","x":0.' + b"9" * 3000 + b"}",
        "a name of 3,000 characters": b'{"id":"a.b.c","' + b"x" * 3000 + b'":1}',
    }.items():
        yield Case(f"JSON, {name}", call(5, content), good)
    for digits in (501, 5000):
        yield Case(f"JSON, a number of {digits} digits", call(5, b'{"id":"a.b.c","x":' + b"9" * digits + b"}"), bad)
        yield Case(f"JSON, -1 with {digits} digits", call(5, b'{"id":"a.b.c","x":-' + b"1" * digits + b"}"), bad)
    for depth in (100, 1500):
        for name, content in {
            "arrays": b"[" * depth + b"]" * depth,
            "objects": b'{"x":' * depth + b"0" + b"}" * depth,
            "open arrays": b"[" * depth,
            "open objects": b'{"":' * depth,
        }.items():
            # How deep a member may be that nobody reads is Python's to say: more than 100, less than a frame can hold.
            if depth == 100 or name.startswith("open"):
                inside = call(5, b'{"id":"a.b.c","x":' + content + b"}")
                yield Case(f"JSON, {depth} {name} in a member", inside, bad if name.startswith("open") else good)
            yield Case(f"JSON, an id of {depth} {name}", call(5, b'{"id":' + content + b"}"), bad)
            yield Case(f"JSON, {depth} {name}", call(5, content), bad)
    for length in range(len(b'{"id":"a.b.c"}')):
        yield Case(f"JSON, a body cut after {length} bytes", call(5, b'{"id":"a.b.c"}'[:length]), bad)
    for name, odd in ODD_TEXTS.items():
        if name != "null bytes":
            yield Case(f"JSON, an id: {name}", call(5, b'{"id":"%s"}' % odd), good)
    yield Case("JSON, a body in TARS", call(5, text(1, OBJECT)), bad)
    yield Case("JSON, a body in TUP", call(5, tup()), bad)
