"""What holds for every schema, every value and every sequence of bytes.

The grammar is the oracle. It is made of other parts than the reader, the writer and the compiled code, and knows no
schema: bytes that it refuses must be refused by all, and what the codec refuses for the bytes' own sake (MALFORMED,
LIMIT) must be refused by the grammar too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

import jce
from jce import dynamic, grammar, wire
from jce.errors import DecodeError, EncodeError, Reason
from jce.reader import Reader
from jce.schema import BYTES, INT32, STRING, Field, Map, Struct, Type, Vector, fields, type_of
from tests.support.jce_strategies import (
    Case,
    annotation_of,
    any_bytes,
    cases,
    damaged_values,
    field_lists,
    field_values,
    make_struct,
    mutations,
    nested,
    spellings,
    texts,
    types,
    wrong_values,
)

SKIPPING = jce.tuple_codec("nothing", ())
OF_THE_BYTES = (Reason.MALFORMED, Reason.LIMIT)


def number_of_values(data: bytes) -> int:
    """What a well-formed buffer takes of a budget, as the grammar counts: three for what holds others, else one."""
    nodes = grammar.walk(grammar.parse(data, max_values=3 * len(data)))
    return sum(COST_OF_TYPE[wire.TYPE_NAMES[node.type]] for node in nodes)


COST_OF_TYPE = {
    **dict.fromkeys(wire.TYPE_NAMES, 1),
    **dict.fromkeys(("map", "list", "struct", "simple list"), 3),
    "struct end": 0,
}


def error_of(decode: Callable[[], object]) -> DecodeError | None:
    """The error that decoding ends in; anything but a DecodeError comes through and fails the test."""
    try:
        decode()
    except DecodeError as error:
        return error
    return None


def grammar_takes(data: bytes, max_values: int = wire.DEFAULT_MAX_VALUES) -> bool:
    error = error_of(lambda: grammar.parse(data, max_values))
    assert error is None or 0 <= error.offset <= len(data)
    return error is None


def assert_path_exists(path: str, declared: Sequence[Field]) -> None:
    """The path leads from the declared fields to something declared. It does not tell a map's keys from its values."""
    places: list[Sequence[Field] | Type] = [declared]
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        onward: list[Sequence[Field] | Type] = []
        for place in places:
            match place:
                case Vector(element) if index:
                    onward.append(element)
                case Map(key, value) if index:
                    onward += [key, value]
                case Struct(cls) if name:
                    onward += [f.type for f in fields(cls) if f.name == name]
                case Type():
                    onward += [INT32] if index and place == BYTES else []
                case _:
                    onward += [f.type for f in place if f.name == name]
        assert onward, f"{path!r} leads nowhere"
        places = onward


def refusal(case: Case, data: bytes) -> DecodeError | None:
    """Why the codec refuses the bytes, None where it takes them; checks that the error says where."""
    error = error_of(lambda: case.codec.decode(data))
    if error is not None:
        assert 0 <= error.offset <= len(data)
        assert str(error.offset) in str(error)
        assert_path_exists(error.path, case.fields)
    return error


# -- values ------------------------------------------------------------------------------------------------------


@given(cases())
def test_a_value_comes_back_as_it_was(case: Case) -> None:
    assert case.codec.decode(case.encoded) == case.values


@given(cases())
def test_the_codec_writes_what_the_grammar_builds(case: Case) -> None:
    assert case.encoded == grammar.build(case.fields, case.values)


@given(cases())
def test_what_is_written_is_well_formed_and_costs_as_many_values_as_the_grammar_counts(case: Case) -> None:
    data = case.encoded
    number = number_of_values(data)
    reader = Reader(data, max_values=number)
    case.codec.decode(reader)
    assert reader.budget == 0
    if number:
        with pytest.raises(DecodeError) as caught:
            case.codec.decode(Reader(data, number - 1))
        assert caught.value.reason is Reason.LIMIT
        assert not grammar_takes(data, number - 1)


@given(field_lists(), st.data())
def test_a_struct_is_the_tuple_of_its_fields_between_marks(declared: tuple[Field, ...], data: st.DataObject) -> None:
    """The codec of a class and the codec of parameters write and read the same fields."""
    cls = make_struct("Whole", declared)
    whole = cls(**{f.name: data.draw(field_values(f)) for f in declared})
    parts = tuple(getattr(whole, f.name) for f in declared)
    encoded = jce.codec(cls).encode(whole)

    assert encoded == jce.tuple_codec("parts", declared).encode(parts)
    assert jce.codec(cls).decode(encoded) == whole
    assert jce.value_codec(Struct(cls)).encode((whole,)) == b"\x0a" + encoded + b"\x0b"


@given(types())
def test_a_type_is_known_by_its_annotation(kind: Type) -> None:
    assert type_of(annotation_of(kind)) == kind


@given(st.one_of(texts(), st.binary(max_size=300).map(lambda data: data.decode("utf-8", "surrogateescape"))))
def test_a_string_is_written_as_the_bytes_that_it_was_read_from(text: str) -> None:
    codec = jce.value_codec(STRING)
    data = codec.encode((text,))
    assert codec.encode(codec.decode(data)) == data
    assert data.endswith(text.encode("utf-8", "surrogateescape"))


# -- other writers -----------------------------------------------------------------------------------------------


@given(st.data())
def test_every_spelling_of_a_value_is_read_as_that_value(data: st.DataObject) -> None:
    """Narrower or wider integers, long heads, defaults written out, a float for a double, bytes as a list of int8.

    Between them fields that the schema does not know, fields that were passed already and repeated ones, at any depth.
    """
    case = data.draw(cases())
    spelled = data.draw(spellings(case.fields, case.values))
    event("as we write it" if spelled == case.encoded else "spelled differently")

    assert case.codec.decode(spelled) == case.values
    assert grammar_takes(spelled)


@given(st.data())
def test_older_and_newer_schemas_read_each_other(data: st.DataObject) -> None:
    """Optional fields may come and go, in structs at any depth: what both know is read, the rest takes its default."""
    newer = data.draw(field_lists())
    older = tuple(f for f in newer if f.required or data.draw(st.booleans()))
    added = [f for f in newer if f not in older]
    old_cls, new_cls = make_struct("Older", older), make_struct("Newer", newer)
    common = {f.name: data.draw(field_values(f)) for f in older}
    old = old_cls(**common)
    new = new_cls(**common, **{f.name: data.draw(field_values(f)) for f in added})

    def around(cls: type[Any]) -> jce.Codec[Any]:
        kind = Vector(Map(STRING, Struct(cls)))
        return jce.tuple_codec("around", (Field(3, "list", kind), Field(7, "after", INT32)))

    def hold(value: Any) -> tuple[Any, int]:
        return ({"key": value}, {"key": value}), 5

    assert around(old_cls).decode(around(new_cls).encode(hold(new))) == hold(old)
    assert around(new_cls).decode(around(old_cls).encode(hold(old))) == hold(new_cls(**common))


# -- any bytes ---------------------------------------------------------------------------------------------------


@given(any_bytes(), st.one_of(st.just(wire.DEFAULT_MAX_VALUES), st.integers(0, 12)))
@example(b"\x09\x0c", 1)
@example(b"\x1d\x00\x0c", 1)
@example(nested(["list"] * wire.MAX_NESTING), 20)
@example(nested(["list"] * (wire.MAX_NESTING + 1)), 20)
def test_skipping_and_dumping_agree_with_the_grammar_on_every_buffer(data: bytes, max_values: int) -> None:
    """With no field to look for, and with none known, only the bytes decide: all three take or refuse alike."""
    well_formed = grammar_takes(data, max_values)
    event("well-formed" if well_formed else "refused")
    skipping = error_of(lambda: SKIPPING.decode(Reader(data, max_values)))
    dumping = error_of(lambda: dynamic.decode(Reader(data, max_values)))

    assert (skipping is None) == (dumping is None) == well_formed
    if skipping is not None and dumping is not None:
        assert (skipping.reason, skipping.offset) == (dumping.reason, dumping.offset)
        assert skipping.reason in OF_THE_BYTES
        assert 0 <= skipping.offset <= len(data)


@settings(max_examples=300)
@given(st.data())
def test_the_codec_and_the_grammar_agree_on_damaged_bytes(data: st.DataObject) -> None:
    case = data.draw(cases(min_size=1))
    damaged = data.draw(mutations(case.encoded))
    well_formed = grammar_takes(damaged)
    error = refusal(case, damaged)
    event(f"{'well-formed' if well_formed else 'not well-formed'}, {error.reason.name if error else 'taken'}")

    if not well_formed:
        assert error is not None
    if error is not None and error.reason in OF_THE_BYTES:
        assert not well_formed


@given(cases(), any_bytes())
def test_any_bytes_are_taken_or_refused_with_a_reason(case: Case, data: bytes) -> None:
    error = refusal(case, data)
    if error is None or error.reason not in OF_THE_BYTES:
        event("taken" if error is None else error.reason.name)
        return
    assert not grammar_takes(data)


@settings(max_examples=50)
@given(cases(depth=2))
def test_a_buffer_cut_short_is_refused_or_ends_between_fields(case: Case) -> None:
    """Every prefix: none is read past its end."""
    data = case.encoded
    starts = {node.start for node in grammar.walk(grammar.parse(data)) if node.depth == 0}
    for length in range(len(data)):
        error = refusal(case, data[:length])
        if length not in starts:
            assert error is not None
        elif error is not None:
            assert error.reason is Reason.MISSING


# -- any values --------------------------------------------------------------------------------------------------


def encoded_or_refused(codec: jce.Codec[Any], value: Any) -> None:
    try:
        data = codec.encode(value)
    except EncodeError as error:
        assert_path_exists(error.path, codec.fields)
        event("refused")
        return
    event("taken")
    codec.decode(data)


@given(st.data())
def test_a_value_that_does_not_fit_is_refused_or_still_gives_bytes_that_decode(data: st.DataObject) -> None:
    """Nothing but EncodeError comes out, with a path to the part; no wrong value becomes bytes that nobody can read."""
    case = data.draw(cases(min_size=1))
    at = data.draw(st.integers(0, len(case.fields) - 1))
    damaged = data.draw(damaged_values(case.fields[at].type, case.values[at]))
    encoded_or_refused(case.codec, (*case.values[:at], damaged, *case.values[at + 1 :]))


@given(field_lists(depth=1), wrong_values())
def test_anything_may_stand_where_the_parameters_or_the_struct_should(declared: tuple[Field, ...], value: Any) -> None:
    encoded_or_refused(jce.tuple_codec("parameters", declared), value)
    encoded_or_refused(jce.codec(make_struct("Whole", declared)), value)


# -- maps of strings, read at once -----------------------------------------------------------------------------------


class OneByOne(Reader):
    """Reads each string of a map by itself."""

    __slots__ = ()

    def texts(self, count: int, out: dict[str, str]) -> int:
        return 0


TEXTS = jce.tuple_codec("two maps", (Field(0, "first", Map(STRING, STRING)), Field(1, "second", Map(STRING, STRING))))

_short = st.binary(max_size=3).map(lambda text: bytes((len(text),)) + text)
_long = st.binary(max_size=3).map(lambda text: len(text).to_bytes(4, "big") + text)
_key = st.one_of(
    _short.map(b"\x06".__add__), _long.map(b"\x07".__add__), st.sampled_from([b"\xf6\x00\x00", b"\x16\x00"])
)
_value = st.one_of(
    _short.map(b"\x16".__add__),
    _long.map(b"\x17".__add__),
    st.sampled_from([b"\xf6\x01\x00", b"\x06\x00", b"\x10\x01"]),
)
_usual_pair = st.builds(bytes.__add__, _short.map(b"\x06".__add__), _short.map(b"\x16".__add__))
_pairs = st.lists(st.one_of(_usual_pair, _usual_pair, st.builds(bytes.__add__, _key, _value)), max_size=5)


@given(_pairs, _pairs, st.integers(-1, 1), st.binary(max_size=3), st.integers(0, 60), st.integers(1, 60))
def test_maps_of_strings_are_the_same_read_at_once_and_one_by_one(
    first: list[bytes], second: list[bytes], more: int, behind: bytes, cut: int, max_values: int
) -> None:
    """The values, what is wrong and where, and what is left of the budget; whole, cut, and with a wrong count."""
    data = b""
    for head, pairs in ((b"\x08", first), (b"\x18", second)):
        data += head + b"\x00" + bytes((max(0, len(pairs) + more),)) + b"".join(pairs)
    for each in (data + behind, data[:cut]):
        _same_at_once_and_one_by_one(each, max_values)


@pytest.mark.parametrize(
    "data",
    [
        "080004" + "060161160162" * 4 + "18000106001600",
        "080002" + "0700160006" + "1600" * 8,  # a long key whose length looks like a short pair
        "080002" + "1600" * 2 + "06001600",  # a value where a key should be
        "080001" + "06001600" + "06001600" * 2,  # more pairs than were said
    ],
)
def test_maps_of_strings_are_the_same_with_every_budget(data: str) -> None:
    for max_values in range(1, 30):
        _same_at_once_and_one_by_one(bytes.fromhex(data), max_values)


def _same_at_once_and_one_by_one(data: bytes, max_values: int) -> None:
    ends: list[object] = []
    for kind in (Reader, OneByOne):
        try:
            reader = kind(data, max_values)
            ends.append((TEXTS.decode(reader), reader.budget))
        except DecodeError as error:
            ends.append((str(error), error.offset))
    assert ends[0] == ends[1]
