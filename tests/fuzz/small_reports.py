"""Small inputs to the port of tarsnodes, in a good packet whose body is wrong, in each of the three forms."""

from __future__ import annotations

from collections.abc import Iterator

from tests.fuzz.cases import Case, Expected, answered
from tests.fuzz.pieces import (
    MAX_NESTING,
    REGISTRY_SERVANT,
    attribute,
    broken,
    call,
    nested,
    number,
    samples,
    text,
    tup,
)
from tests.fuzz.small_bodies import ODD_TEXTS, TEXTS

FUNCTIONS = {
    "getServerDescriptor": (b"serverApp", b"serverName"),
    "updateServerState": (b"podName", b"settingState", b"presentState"),
}
"""What a tarsnode asks and reports, and the inputs, all of them text."""

GOOD = {
    b"serverApp": b"Test",
    b"serverName": b"HelloServer",
    b"podName": b"hello-0",
    b"settingState": b"active",
    b"presentState": b"active",
}

BAD_IN = {1: answered(-1), 3: answered(-1, version=3), 5: answered(-1, version=5)}
REFUSED_IN = {1: answered(-99), 3: answered(-99, version=3), 5: answered(-99, version=5)}
GOOD_IN = {1: answered(0), 3: answered(0, version=3), 5: answered(0, version=5)}

NO_STATE = {"not UTF-8", "half a character", "dots", "a thousand parts", "a path"}
"""Of the odd texts, those that no state may be: no UTF-8, longer than 64 characters, with a slash."""


def _odd(name: bytes, kind: str, version: int) -> Expected:
    """What comes of an odd text: no pod can be called by any of them; a server that nobody knows has no adapters."""
    refused = name == b"podName" or (name.endswith(b"State") and kind in NO_STATE)
    return (REFUSED_IN if refused else GOOD_IN)[version]


def small_reports() -> Iterator[Case]:
    """All of them."""
    for function, names in FUNCTIONS.items():
        yield from _tars(function, names)
        yield from _tup(function, names)
        yield from _json(function, names)


def _case(name: str, function: str, content: bytes, expected: Expected, version: int = 1) -> Case:
    data = call(version, content, servant=REGISTRY_SERVANT, function=function.encode())
    return Case(f"{function}, {name}", data, expected, port="registry")


def _tars(function: str, names: tuple[bytes, ...]) -> Iterator[Case]:
    bad, good = BAD_IN[1], GOOD_IN[1]
    whole = {at: text(at, GOOD[name]) for at, name in enumerate(names, start=1)}

    def joined(changed: dict[int, bytes]) -> bytes:
        return b"".join(data for _, data in sorted((whole | changed).items()))

    for at, name in enumerate(names, start=1):
        for kind, data in samples(at).items():
            yield _case(f"{name.decode()} as {kind}", function, joined({at: data}), good if kind in TEXTS else bad)
        for kind, data in broken(at).items():
            yield _case(f"{name.decode()} {kind}", function, joined({at: data}), bad)
        for kind, value in ODD_TEXTS.items():
            yield _case(f"{name.decode()}: {kind}", function, joined({at: text(at, value)}), _odd(name, kind, 1))
        yield _case(f"without {name.decode()}", function, joined({at: b""}), bad)
    sent = joined({})
    whole_fields = {len(joined(dict.fromkeys(range(at, len(names) + 1), b""))) for at in range(1, len(names) + 1)}
    for length in range(len(sent)):
        cut = "between fields" if length in whole_fields else "within a field"
        yield _case(f"a body cut after {length} bytes, {cut}", function, sent[:length], bad)
    for kind in ("lists", "map keys", "map values", "structs"):
        for depth in (MAX_NESTING, MAX_NESTING + 1, 300):
            deep = sent + nested(kind, depth, len(names) + 1)
            yield _case(f"{depth} {kind} behind the inputs", function, deep, bad if depth > MAX_NESTING else good)
    yield _case("an unknown tag", function, sent + number(255, 1), good)
    yield _case("a struct end behind the inputs", function, sent + b"\x0b", bad)
    yield _case("a body in TUP that is said to be TARS", function, tup(), bad)
    yield _case("a body in JSON that is said to be TARS", function, b"{}", bad)


def _tup(function: str, names: tuple[bytes, ...]) -> Iterator[Case]:
    bad, good = BAD_IN[3], GOOD_IN[3]
    whole = {name: text(0, GOOD[name]) for name in names}

    def joined(changed: dict[bytes, bytes]) -> bytes:
        return tup(*(attribute(name, data) for name, data in (whole | changed).items()))

    for name in names:
        for kind, data in samples(0).items():
            expected = good if kind in TEXTS else bad
            yield _case(f"TUP, {name.decode()} as {kind}", function, joined({name: data}), expected, 3)
        for kind, data in broken(0).items():
            yield _case(f"TUP, {name.decode()} {kind}", function, joined({name: data}), bad, 3)
        for kind, value in ODD_TEXTS.items():
            yield _case(
                f"TUP, {name.decode()}: {kind}", function, joined({name: text(0, value)}), _odd(name, kind, 3), 3
            )
        others = tup(*(attribute(other, data) for other, data in whole.items() if other != name))
        yield _case(f"TUP, without {name.decode()}", function, others, bad, 3)
    sent = joined({})
    for length in range(len(sent)):
        yield _case(f"TUP, a body cut after {length} bytes", function, sent[:length], bad, 3)


def _json(function: str, names: tuple[bytes, ...]) -> Iterator[Case]:
    bad = BAD_IN[5]
    whole = {name: b'"' + GOOD[name] + b'"' for name in names}

    def joined(changed: dict[bytes, bytes]) -> bytes:
        return b"{" + b",".join(b'"%s":%s' % member for member in (whole | changed).items()) + b"}"

    for name in names:
        for value in (b"1", b"1.5", b"null", b"true", b"[]", b"{}", b'["a"]', b"", b"-", b'"', rb'"\x"', b"tru"):
            shown = value.decode() or "nothing"
            yield _case(f"JSON, {name.decode()} of {shown}", function, joined({name: value}), bad, 5)
        for kind, odd in ODD_TEXTS.items():
            if kind != "null bytes":
                sent = joined({name: b'"' + odd + b'"'})
                yield _case(f"JSON, {name.decode()}: {kind}", function, sent, _odd(name, kind, 5), 5)
        others = b",".join(b'"%s":%s' % member for member in whole.items() if member[0] != name)
        yield _case(f"JSON, without {name.decode()}", function, b"{" + others + b"}", bad, 5)
    sent = joined({})
    for length in range(len(sent)):
        yield _case(f"JSON, a body cut after {length} bytes", function, sent[:length], bad, 5)
