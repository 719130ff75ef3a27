"""Inputs as long as a frame may be: what spends the whole budget of values, or bytes without end, in every place."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.fuzz.cases import NOT_A_REQUEST, TOO_LONG, Case, Expected, answered
from tests.fuzz.pieces import (
    DOUBLE,
    FLOAT,
    INT64,
    LIST,
    MAP,
    MAX_FRAME_BYTES,
    MAX_NESTING,
    MAX_VALUES,
    OBJECT,
    REGISTRY_SERVANT,
    SIMPLE_LIST,
    STRING4,
    STRUCT,
    ZERO,
    attribute,
    body,
    broken,
    call,
    fields,
    filled,
    frame,
    head,
    mapping,
    nested,
    number,
    octets,
    samples,
    text,
    tup,
    with_fields,
)

CONTAINER_COST = 3
PACKET_COST = 7 + CONTAINER_COST * 3 + 2 * 2
"""Of the ten fields of the catalogue's requests: three containers, and a pair in each of the two maps."""

NOT_UTF8 = b"\xff"


def units(tag: int) -> dict[str, tuple[bytes, int]]:
    """What costs the most for its bytes, of each kind: a field, and how many values it counts for."""
    made = {f"a sample {name}": (data, _cost(name)) for name, data in samples(tag).items()}
    wide_count = b"\xf2\x00\x00\x00\x00\x00"
    for name, code in (("list", LIST), ("map", MAP)):
        made[f"an empty {name}"] = head(tag, code) + b"\x0c", CONTAINER_COST
        made[f"an empty {name} at length"] = head(tag, code, wide=True) + wide_count, CONTAINER_COST
    made["an empty struct"] = head(tag, STRUCT) + b"\x0b", CONTAINER_COST
    made["an empty struct at length"] = head(tag, STRUCT, wide=True) + b"\xfb\x00", CONTAINER_COST
    made["an empty simple list"] = head(tag, SIMPLE_LIST) + b"\x00\x0c", CONTAINER_COST
    made["an empty simple list at length"] = (
        head(tag, SIMPLE_LIST, wide=True) + b"\xf0\x00" + wide_count,
        CONTAINER_COST,
    )
    made["an empty string at length"] = head(tag, STRING4, wide=True) + b"\x00\x00\x00\x00", 1
    for name, code, width in (("zero", ZERO, 0), ("long", INT64, 8), ("float", FLOAT, 4), ("double", DOUBLE, 8)):
        made[f"a {name} with a head of two bytes"] = head(tag, code, wide=True) + b"\x00" * width, 1
    for kind in ("lists", "map keys", "map values", "structs"):
        fillers = {"map keys": 1, "map values": 1}.get(kind, 0) * (MAX_NESTING - 2)
        made[f"15 nested {kind}"] = nested(kind, MAX_NESTING - 1, tag), CONTAINER_COST * (MAX_NESTING - 1) + fillers
    return made


def _cost(name: str) -> int:
    return {"map": CONTAINER_COST + 2, "list": CONTAINER_COST + 1, "struct": CONTAINER_COST + 1}.get(
        name, CONTAINER_COST if name == "simple list" else 1
    )


def full_frames() -> Iterator[Case]:
    """All of them."""
    yield from _endless()
    yield from _all_values()
    yield from _long_texts()
    yield from _tup()
    yield from _json()
    yield from _lies()


def _endless() -> Iterator[Case]:
    """One unit after another until the frame is full: many times the budget."""
    for name, (unit, _) in units(0).items():
        made = filled(lambda filler: with_fields(fields(), f0=filler), unit)
        yield Case(f"full of {name}, before the request id", made, NOT_A_REQUEST)
    for name, (unit, _) in units(2).items():
        for place, make in {
            "in a body": lambda filler: call(1, body() + filler),
            "behind the fields": lambda filler: with_fields(fields(), f11=filler),
        }.items():
            yield Case(f"full of {name}, {place}", filled(make, unit), answered(-1))
    for name, (unit, _) in units(0).items():
        made = filled(lambda filler, unit=unit: call(1, _list_of(filler, len(filler) // len(unit))), unit)  # type: ignore[misc]
        yield Case(f"full of {name}, in a list", made, answered(-1))
    for name, byte in {"0a": b"\x0a", "0b": b"\x0b", "ff": b"\xff", "0c": b"\x0c", "00": b"\x00"}.items():
        yield Case(f"a packet full of {name}", filled(frame, byte), NOT_A_REQUEST)
    yield Case("a question, then a mebibyte of 47", call() + b"G" * MAX_FRAME_BYTES, Expected((0,), TOO_LONG.closed))


def _list_of(elements: bytes, count: int) -> bytes:
    return body() + head(2, LIST) + b"\x02" + count.to_bytes(4, "big") + elements


def _all_values() -> Iterator[Case]:
    """Exactly as many values as a frame may hold, and one more; the rest of the frame is one text, or many."""
    for name, (unit, cost) in units(0).items():
        for more in (0, 1):
            left = MAX_VALUES - PACKET_COST - 1 - CONTAINER_COST - 1 + more
            count, rest = divmod(left, cost)

            def make(filler: bytes, unit: bytes = unit, count: int = count, rest: int = rest) -> bytes:
                content = _list_of(unit * count + b"\x0c" * rest, count + rest)
                return call(1, content + head(3, STRING4) + len(filler).to_bytes(4, "big") + filler)

            much = "as many as may be" if not more else "one too many"
            made = filled(make, NOT_UTF8) if len(unit) * count < MAX_FRAME_BYTES - 80_000 else make(b"")
            yield Case(f"{name}, {much}", made, answered(-1 if more else 0))
    for tag, name in ((9, "context"), (10, "status")):
        for more in (0, 1):
            count = (MAX_VALUES - PACKET_COST - 1 + 2) // 2 + more
            for filler_name, filler in {"short": b"", "long": b"v" * 80, "not UTF-8": NOT_UTF8 * 80}.items():
                pairs = [(text(0, b"%d" % n), text(1, filler)) for n in range(count)]
                made = with_fields(fields(), **{f"f{tag}": mapping(tag, pairs)})
                much = "as many as may be" if not more else "one too many"
                yield Case(f"{name} with {filler_name} values, {much}", made, answered(-1 if more else 0))
            same = [(text(0, b"k"), head(1, ZERO))] * count
            made = with_fields(fields(), **{f"f{tag}": mapping(tag, same)})
            yield Case(f"{name} of numbers, {count} pairs", made, answered(-1))
    for count in (1_000, 19_000, 30_000):
        elements = head(7, LIST) + number(0, count) + b"\x00\x01" * count
        code = answered(-1)
        yield Case(f"sBuffer as a list of {count} bytes", with_fields(fields(), f7=elements), code)
    # What is wrong behind its request id is answered, where that is found without reading thousands of values again.
    for count, expected in ((900, answered(-1)), (19_900, NOT_A_REQUEST)):
        for name, unit in {"zeros": b"\x0c", "empty strings": head(0, STRING4, wide=True) + b"\x00" * 4}.items():
            before = with_fields(fields(), f0=unit * count, f7=b"")
            yield Case(f"{count} {name} before the request id, and no sBuffer", before, expected)
            between = fields() | {3: number(3, 0) + unit * count, 7: b""}
            made = frame(b"".join(between.values()))
            yield Case(f"{count} {name} just before the request id, and no sBuffer", made, expected)
            good = with_fields(fields(), f0=unit * count)
            yield Case(f"{count} {name} before the request id", good, answered(0))


def _long_texts() -> Iterator[Case]:
    """One text that fills the frame, wherever there is text."""
    fillers = {
        "ASCII": b"a",
        "dots": b".",
        "not UTF-8": NOT_UTF8,
        "Chinese": "表".encode(),
        "mixed": b"\xff\xe8\xa1\xa8a",
    }
    for name, filler in fillers.items():
        for version in (1, 3, 5):
            made = filled(lambda value, version=version: call(version, servant=value), filler)  # type: ignore[misc]
            yield Case(f"v{version}, a servant's name of {name}", made, answered(-4, version=version))
            made = filled(lambda value, version=version: call(version, function=value), filler)  # type: ignore[misc]
            yield Case(f"v{version}, a function's name of {name}", made, answered(-3, version=version))
        yield Case(f"an id of {name}", filled(lambda value: call(1, text(1, value)), filler), answered(0))
        for function in (b"findObjectByIdInSameStation", b"findObjectByIdInSameSet"):
            made = filled(
                lambda value, function=function: call(1, text(1, OBJECT) + text(2, value), function=function),  # type: ignore[misc]
                filler,
            )
            yield Case(f"{function.decode()} with {name}", made, answered(0))
        made = filled(lambda value: call(3, tup(attribute(b"id", text(0, value)))), filler)
        yield Case(f"TUP, an id of {name}", made, answered(0, version=3))
        named = filled(lambda value: call(3, tup(attribute(value, b""), attribute(b"id", text(0, OBJECT)))), filler)
        yield Case(f"TUP, an attribute's name of {name}", named, answered(0, version=3))
        for tag, where in ((9, "context"), (10, "status")):
            made = filled(
                lambda value, tag=tag: with_fields(
                    fields(), **{f"f{tag}": mapping(tag, [(text(0, b"k"), text(1, value))])}
                ),  # type: ignore[misc]
                filler,
            )
            yield Case(f"{where} with a value of {name}", made, answered(0))
    for version in (1, 3, 5):
        made = filled(lambda value, version=version: call(version, value, REGISTRY_SERVANT, b"getServers"), b"\xff")  # type: ignore[misc]
        yield Case(f"v{version}, getServers with a body of ff", made, answered(-3, version=version), "registry")
        made = filled(lambda value, version=version: call(version, value, function=b"tars_ping"), b"\xff")  # type: ignore[misc]
        yield Case(f"v{version}, tars_ping with a body of ff", made, answered(0, version=version))
        made = filled(lambda value, version=version: call(version, value), b"\xff")  # type: ignore[misc]
        yield Case(f"v{version}, a body of ff", made, answered(-1, version=version))
        made = filled(lambda value, version=version: call(version, value, kind=1), b"\x0c")  # type: ignore[misc]
        yield Case(f"v{version}, one-way with a body of 0c", made, Expected())


def _tup() -> Iterator[Case]:
    bad, good = answered(-1, version=3), answered(0, version=3)
    each = 1 + CONTAINER_COST
    most = (MAX_VALUES - PACKET_COST - CONTAINER_COST - 1) // each
    for name, value in {"empty": b"", "long": b"\x0c" * 180, "not UTF-8": NOT_UTF8 * 180}.items():
        for more in (0, 1):
            others = [attribute(b"%d" % n, value) for n in range(most - 1 + more)]
            made = call(3, tup(*others, attribute(b"id", text(0, OBJECT))))
            much = "as many as may be" if not more else "one too many"
            yield Case(f"TUP, {name} attributes, {much}", made, bad if more else good)
    names = [attribute(NOT_UTF8 * 200 + b"%d" % n, b"") for n in range(most - 1)]
    yield Case("TUP, names that are not UTF-8", call(3, tup(*names, attribute(b"id", text(0, OBJECT)))), good)
    many = [attribute(b"%d" % n, b"") for n in range(50_000)]
    yield Case("TUP, 50,000 attributes", call(3, tup(*many)), bad)
    lists = [(text(0, b"%d" % n), head(1, LIST) + b"\x0c") for n in range(most - 1)]
    yield Case("TUP, attributes as empty lists", call(3, mapping(0, [*lists, attribute(b"id", text(0, OBJECT))])), good)
    for count in (15_000, 19_800, 100_000):
        octets_list = [(text(0, b"x"), head(1, LIST) + number(0, count) + b"\x00\x41" * count)]
        made = call(3, mapping(0, [*octets_list, attribute(b"id", text(0, OBJECT))]))
        yield Case(f"TUP, an attribute as a list of {count} bytes", made, good if count < 19_900 else bad)
    for name, (unit, _) in units(2).items():
        made = filled(lambda filler: call(3, tup(attribute(b"id", text(0, OBJECT) + filler))), unit)
        yield Case(f"TUP, an id and full of {name}", made, bad)
    made = filled(lambda filler: call(3, tup(attribute(b"x", filler), attribute(b"id", text(0, OBJECT)))), b"\xff")
    yield Case("TUP, an attribute of ff that nobody reads", made, good)
    made = filled(lambda filler: call(3, octets(0, filler)), b"\x0c")
    yield Case("TUP, a body of bytes", made, bad)


def _json() -> Iterator[Case]:
    bad, good = answered(-1, version=5), answered(0, version=5)

    def member(filler: bytes) -> bytes:
        return call(5, b'{"id":"a.b.c","x":' + filler + b"}")

    def quoted(filler: bytes) -> bytes:
        return member(b'"' + filler + b'"')

    def an_id(filler: bytes) -> bytes:
        return call(5, b'{"id":"' + filler + b'"}')

    full: dict[str, tuple[Callable[[bytes], bytes], bytes, Expected]] = {
        "brackets": (member, b"[", bad),
        "braces": (member, b'{"":', bad),
        "colons": (member, b":", bad),
        "commas": (member, b",", bad),
        "digits": (member, b"9", bad),
        "digits of a fraction": (lambda filler: member(b"0." + filler), b"9", good),
        "digits of a power": (lambda filler: member(b"1e" + filler), b"9", good),
        "digits before a point": (lambda filler: member(filler + b".5"), b"9", good),
        "minus signs": (member, b"-", bad),
        "zeros": (member, b"0", bad),
        "white space before a number": (lambda filler: member(filler + b"1"), b" ", good),
        "line breaks, then nothing": (member, b"\n", bad),
        "line breaks, then a letter": (lambda filler: member(filler + b"x"), b"\n", bad),
        "text without an end": (lambda filler: call(5, b'{"id":"' + filler), b"a", bad),
        "nulls": (lambda filler: call(5, filler), b"\x00", bad),
        "empty numbers": (lambda filler: member(b"[" + filler + b"0]"), b"1,", bad),
        "long numbers": (lambda filler: member(b"[" + filler + b"0]"), b"9" * 499 + b",", good),
        "longest numbers": (lambda filler: member(b"[" + filler + b"0]"), b"9" * 500 + b",", good),
        "fractions": (
            lambda filler: member(b"[" + filler + b"0]"),
            b"1.2345678901234567890123456789012345678901234e-300,",
            bad,
        ),
        "long fractions": (lambda filler: member(b"[" + filler + b"0]"), b"8." + b"8" * 760 + b"e-300,", good),
    }
    for name, filler in {
        "escapes": b"\\n",
        "escaped quotes": b'\\"',
        "letters and escapes": b"a\\n",
        "escaped characters": b"\\u8868",
        "escaped pairs": b"\\ud83d\\ude00",
        "escaped bytes": b"\\udcff",
        "bytes that are not UTF-8": NOT_UTF8,
        "Chinese": "表".encode(),
        "mixed text": b"\xff\xe8\xa1\xa8a",
    }.items():
        full[f"{name} in a member"] = (quoted, filler, good)
        full[f"{name} in an id"] = (an_id, filler, good)
        full[f"{name} in a name"] = (lambda value: call(5, b'{"id":"a.b.c","' + value + b'":0}'), filler, good)
    full["halves of characters in a member"] = (quoted, b"\\ud800", good)
    full["halves of characters in an id"] = (an_id, b"\\ud800", bad)
    full["line breaks in an id"] = (an_id, b"\n", bad)
    for name, (make, filler, expected) in full.items():
        # A unit that is cut makes a text of half an escape: what is over is left out.
        yield Case(f"JSON, {name}", _whole_units(make, filler), expected)
    members: dict[str, Callable[[int], bytes]] = {
        "one name": lambda n: b'"a":0',
        "many names": lambda n: b'"%d":0' % n,
        "long names": lambda n: b'"%045d":0' % n,
        "names that are not UTF-8": lambda n: b'"' + NOT_UTF8 * 40 + b'%d":0' % n,
        "numbers": lambda n: b'"%d":%d' % (n, n << 40),
        "texts that are not UTF-8": lambda n: b'"%d":"' % n + NOT_UTF8 * 35 + b'"',
    }
    most = MAX_VALUES - PACKET_COST - CONTAINER_COST
    for name, make_member in members.items():
        for more in (0, 1):
            content = b'{"id":"a.b.c"' + b"".join(b"," + make_member(n) for n in range(most + more)) + b"}"
            much = "as many as may be" if not more else "one too many"
            yield Case(f"JSON, {name}, {much}", call(5, content), bad if more else good)
    for name, element, cost in (
        ("objects", b"{}", 4),
        ("arrays", b"[]", 4),
        ("members", b'{"a":0}', 4),
        ("nulls", b"null", 1),
    ):
        count = (most - CONTAINER_COST) // cost - 1
        for number_of in (count, 3 * count):
            content = b'{"id":"a.b.c","x":[' + b",".join([element] * number_of) + b"]}"
            yield Case(f"JSON, {number_of} {name}", call(5, content), good if number_of == count else bad)
    for depth in (5_000, 6_000, 100_000):
        for name, content in {"arrays": b"[" * depth, "objects": b'{"":' * depth}.items():
            yield Case(f"JSON, {depth} open {name}", member(content), bad)
            yield Case(f"JSON, an id of {depth} open {name}", call(5, b'{"id":' + content), bad)


def _whole_units(make: Callable[[bytes], bytes], unit: bytes) -> bytes:
    around = len(make(unit * 70_000)) - len(unit) * 70_000
    return make(unit * ((MAX_FRAME_BYTES - around) // len(unit)))


def _lies() -> Iterator[Case]:
    """What is wrong in a small frame is as wrong before a mebibyte."""
    for name, data in broken(2).items():
        made = filled(lambda filler, data=data: call(1, body() + data + filler), b"\x0c")  # type: ignore[misc]
        yield Case(f"a long body with activeEp {name}", made, answered(-1))
    for name, data in broken(0).items():
        made = filled(lambda filler, data=data: with_fields(fields(), f0=data, f11=octets(11, filler)), b"\x00")  # type: ignore[misc]
        yield Case(f"a long packet, before its request id: {name}", made, NOT_A_REQUEST)
