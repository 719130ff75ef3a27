"""Bodies of JSON: what is taken and what is refused, each with its place; nothing that Python's parser adds to JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jce import DecodeError, Double, EncodeError, Float, Int8, Int32, Int64, Reason, SchemaError, UInt32, struct
from jce import field as declared
from jce.schema import Field, type_of
from tars_protocol import json_body
from tars_protocol.interfaces.query import QUERY, EndpointF
from tars_protocol.packets import decode_response
from tests.support import golden
from tests.support.jce_strategies import field_values
from tests.tars_protocol.shared import EVERYTHING, KINDS, NOTHING, Everything, Part

LIMIT = 20_000


@struct
class Noted:
    id: Int32 = declared(0)
    notes: Mapping[str, str] = declared(1, default={})


def label(value: Any) -> str:
    """What a parameter is called: a type by its name in the interface files."""
    try:
        return str(type_of(value))
    except SchemaError:
        return repr(value)[:30]


def field(annotation: Any) -> tuple[Field, ...]:
    """One parameter, v."""
    return (Field(1, "v", type_of(annotation)),)


def decode(annotation: Any, text: str | bytes, limit: int = LIMIT) -> Any:
    body = text.encode() if isinstance(text, str) else text
    return json_body.decode(field(annotation), b'{"v":' + body + b"}", limit)[0]


def encode(annotation: Any, value: Any) -> bytes:
    return json_body.encode(field(annotation), (value,))


def refusal(annotation: Any, text: str | bytes, limit: int = LIMIT) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        decode(annotation, text, limit)
    return caught.value


def responses() -> list[Any]:
    """Captured answers of real servers in JSON, with code 0."""
    found = []
    for n, line in enumerate(golden.lines("server-response")):
        if line["response_hex"] and line["request_hex"][8:12] == "1005":
            response = decode_response(bytes.fromhex(line["response_hex"]))
            assert (response.version, response.code) == (5, 0)
            found.append(pytest.param(line["func"], response.body, id=f"{n}-{line['client']}-{line['func']}"))
    return found


# -- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "body"), responses())
def test_answers_of_real_servers_decode(name: str, body: bytes) -> None:
    code, active, inactive = json_body.decode(QUERY[name].results, body, LIMIT)
    ends = [EndpointF(host="127.0.0.1", port=port, timeout=60_000, istcp=1, grid=0) for port in (18100, 18101)]
    assert (code, active, inactive) == (0, tuple(ends), ())


def test_there_are_answers_of_real_servers_to_decode() -> None:
    assert len(responses()) == 2


@pytest.mark.parametrize("value", [EVERYTHING, NOTHING], ids=["everything", "nothing"])
def test_values_of_every_kind_come_back(value: Any) -> None:
    assert decode(Everything, json_body.encode(field(Everything), (value,))[5:-1]) == value


@given(st.data())
def test_any_value_comes_back_or_has_no_form(data: st.DataObject) -> None:
    (declared,) = field(Everything)
    value = data.draw(field_values(declared))
    try:
        body = json_body.encode((declared,), (value,))
    except EncodeError:
        assert not all(map(math.isfinite, (value.real, value.wide)))
        return
    assert json_body.decode((declared,), body, LIMIT) == (value,)
    json.loads(body.decode("utf-8", "surrogateescape"), parse_constant=pytest.fail)


def test_an_object_has_no_spaces_and_text_as_it_is() -> None:
    assert json_body.encode(KINDS["say"].inputs, ("注",)) == '{"text":"注"}'.encode()
    assert json_body.encode(KINDS["add"].results, (3,)) == b'{"tars_ret":3}'
    assert json_body.EMPTY == b"{}" == json_body.encode((), ())


def test_a_struct_is_an_object_whose_optional_fields_may_be_missing() -> None:
    assert encode(Part, Part(id=1)) == b'{"v":{"id":1,"label":""}}'
    assert decode(Part, '{"id":1}') == Part(id=1)
    assert decode(Part, '{"label":"x","more":[1,{}],"id":1}') == Part(id=1, label="x")


@pytest.mark.parametrize("raw", [b"\xff", b"a\x80b", b"\xed\xa0\x80", b"\xc3", b"\xf0\x9f"])
def test_bytes_that_are_not_utf8_come_back_unchanged(raw: bytes) -> None:
    text = decode(str, b'"' + raw + b'"')
    assert encode(str, text) == b'{"v":"' + raw + b'"}'
    assert decode(Mapping[str, str], b'{"' + raw + b'":"' + raw + b'"}') == {text: text}


def test_bytes_are_an_array_of_numbers_signed_or_not() -> None:
    assert encode(bytes, b"\x00\x7f\x80\xff") == b'{"v":[0,127,128,255]}'
    assert decode(bytes, "[0,127,128,255,-1,-128]") == b"\x00\x7f\x80\xff\xff\x80"
    assert decode(bytes, "[]") == b""
    for wrong in ("[256]", "[-129]", "[1.0]", "[true]", "[null]", '["a"]', '"AAEC"', "{}", "null", "[[]]"):
        assert refusal(bytes, wrong).path == "v"


def test_keys_of_a_map_are_text() -> None:
    assert encode(Mapping[Int32, str], {-1: "a", 0: "b"}) == b'{"v":{"-1":"a","0":"b"}}'
    assert decode(Mapping[Int32, str], '{"-1":"a","0":"b"}') == {-1: "a", 0: "b"}
    assert decode(Mapping[bool, str], '{"true":"a","false":"b"}') == {True: "a", False: "b"}
    assert decode(Mapping[str, Int32], '{"1":1,"":2}') == {"1": 1, "": 2}
    assert encode(Mapping[Part, Int32], {Part(id=1, label='"'): 2}) == (
        b'{"v":{"{\\"id\\":1,\\"label\\":\\"\\\\\\"\\"}":2}}'
    )
    assert decode(Mapping[Part, Int32], r'{"{\"id\":1}":2}') == {Part(id=1): 2}


@pytest.mark.parametrize(
    "key", ["x", "", "1.0", "1e0", "01", "+1", "0x1", " ", "NaN", "null", "true", "[1]", "2147483648", "[" * 5000]
)
def test_a_key_that_is_no_number_is_refused(key: str) -> None:
    error = refusal(Mapping[Int32, str], json.dumps({"0": "ok", key: "x"}))
    assert error.path == "v[1]"
    assert error.reason in (Reason.MISMATCH, Reason.RANGE)


# -- numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("annotation", [Double, Float, Int32, str], ids=label)
def test_constants_that_json_has_not_are_refused(annotation: Any, text: str) -> None:
    error = refusal(annotation, text)
    assert (error.reason, str(error)) == (Reason.MALFORMED, f"no JSON: {text} (at byte 0)")


def test_they_are_text_where_they_are_quoted() -> None:
    assert decode(str, '"NaN"') == "NaN"


@pytest.mark.parametrize("text", ["1e400", "-1e400", "1" + "0" * 400, "1e999999999"])
def test_a_number_too_large_for_a_double_is_refused(text: str) -> None:
    error = refusal(Double, text)
    assert (error.reason, error.path) == (Reason.RANGE, "v")
    assert len(str(error)) < 100


def test_a_number_too_large_for_a_float_is_refused() -> None:
    assert decode(Float, "3.4e38") == 3.4e38
    assert decode(Double, "3.5e38") == 3.5e38
    assert (refusal(Float, "3.5e38").reason, refusal(Float, "-1e300").reason) == (Reason.RANGE, Reason.RANGE)


@pytest.mark.parametrize(
    ("annotation", "least", "most"),
    [
        (Int8, -128, 127),
        (Int32, -(1 << 31), (1 << 31) - 1),
        (Int64, -(1 << 63), (1 << 63) - 1),
        (UInt32, 0, (1 << 32) - 1),
    ],
    ids=["int8", "int32", "int64", "uint32"],
)
def test_integers_are_held_against_their_type(annotation: Any, least: int, most: int) -> None:
    assert (decode(annotation, str(least)), decode(annotation, str(most))) == (least, most)
    for wrong in (least - 1, most + 1, 10**100):
        error = refusal(annotation, str(wrong))
        assert (error.reason, error.path) == (Reason.RANGE, "v")
    for wrong_type in ("1.0", "1e2", "true", '"1"', "null", "[1]", "{}"):
        assert refusal(annotation, wrong_type).reason is Reason.MISMATCH


@pytest.mark.parametrize("digits", [4000, 4299, 4300, 4301, 5000, 500_000])
def test_a_number_of_thousands_of_digits_is_refused_shortly(digits: int) -> None:
    """Python reads no more than 4,300 digits, for the time that takes; and no error may be that long."""
    for annotation in (Int32, Double, str, bytes, bool):
        for text in ("9" * digits, "-" + "9" * digits, "[" + "9" * digits + "]"):
            if annotation is bool and text[0] != "[" and digits <= 4300:
                continue
            assert len(str(refusal(annotation, text))) < 200


def test_zero_may_be_negative() -> None:
    assert math.copysign(1, decode(Double, "-0.0")) == -1
    assert decode(Int32, "-0") == 0


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "text", "path", "detail"),
    [
        (Int32, '"1"', "v", "expected int, found text"),
        (Int32, "true", "v", "expected int, found True"),
        (Double, "true", "v", "expected double, found True"),
        (Double, '"1"', "v", "expected double, found text"),
        (bool, '"true"', "v", "expected bool, found text"),
        (bool, "1.0", "v", "expected bool, found 1.0"),
        (str, "1", "v", "expected string, found 1"),
        (str, "null", "v", "expected string, found null"),
        (str, "{}", "v", "expected string, found an object"),
        (tuple[str, ...], "{}", "v", "expected an array, found an object"),
        (tuple[str, ...], '"ab"', "v", "expected an array, found text"),
        (tuple[str, ...], '["a",1]', "v[1]", "expected string, found 1"),
        (Mapping[str, str], "[]", "v", "expected an object, found an array"),
        (Mapping[str, str], '{"a":"b","c":1}', "v[1]", "expected string, found 1"),
        (Part, "[]", "v", "expected an object, found an array"),
        (Part, "{}", "v.id", "required field is missing"),
        (Part, '{"id":null}', "v.id", "expected int, found null"),
        (Part, '{"id":1,"label":[]}', "v.label", "expected string, found an array"),
        (tuple[Part, ...], '[{"id":1},{"id":2,"label":3}]', "v[1].label", "expected string, found 3"),
        (Mapping[str, tuple[Part, ...]], '{"a":[],"b":[{}]}', "v[1][0].id", "required field is missing"),
    ],
)
def test_a_wrong_type_is_told_with_its_place(annotation: Any, text: str, path: str, detail: str) -> None:
    error = refusal(annotation, text)
    assert (error.path, error.detail) == (path, detail)


def test_a_bool_may_come_as_a_number() -> None:
    assert (decode(bool, "true"), decode(bool, "0"), decode(bool, "2")) == (True, False, True)


@pytest.mark.parametrize(
    "body", ["", "{", "}", '{"v":}', '{"v":1,}', "{'v':1}", '{"v":1}x', '{"v":01}', "{v:1}", "\ufeff{}", '{"v":"\n"}']
)
def test_what_is_no_json_is_refused_with_the_offset(body: str) -> None:
    with pytest.raises(DecodeError) as caught:
        json_body.decode(field(Int32), body.encode(), LIMIT)
    assert caught.value.reason is Reason.MALFORMED
    assert 0 <= caught.value.offset <= len(body.encode())
    assert str(caught.value).startswith("no JSON: ")


@pytest.mark.parametrize("body", ["[]", "1", "null", '"v"', "true"])
def test_a_body_that_is_no_object_is_refused(body: str) -> None:
    with pytest.raises(DecodeError, match=r"^expected an object, found "):
        json_body.decode(field(Int32), body.encode(), LIMIT)


@pytest.mark.parametrize("escaped", [r'"\ud800"', r'"a\udbffb"', r'"\ude00\ud83d"', r'"\udc00"', r'"\udc7f"'])
def test_an_escaped_half_of_a_character_is_refused(escaped: str) -> None:
    """It has no bytes; only what stands for a byte that is not UTF-8 has."""
    assert refusal(str, escaped).path == "v"
    assert refusal(Mapping[str, str], f'{{{escaped}:"x"}}').path == "v[0]"
    assert decode(str, r'"😀"') == "😀"


@pytest.mark.parametrize("depth", [10, 100, 900, 950, 980, 1000, 2000, 19_000])
@pytest.mark.parametrize(
    "annotation", [Int32, str, bytes, bool, Double, Part, Mapping[str, str], tuple[Int32, ...]], ids=label
)
def test_deep_nesting_is_refused_however_deep(annotation: Any, depth: int) -> None:
    for text in ("[" * depth + "]" * depth, '{"":' * depth + "1" + "}" * depth, "[" * depth):
        refusal(annotation, text)


@pytest.mark.parametrize(
    ("text", "annotation"),
    [
        ("[" + ",".join("0" * 100) + "]", tuple[Int32, ...]),
        ("{" + ",".join(f'"{n}":0' for n in range(100)) + "}", Mapping[str, Int32]),
    ],
)
def test_the_number_of_values_is_bounded_before_any_is_made(text: str, annotation: Any) -> None:
    assert len(decode(annotation, text, 105)) == 100
    assert refusal(annotation, text, 104).reason is Reason.LIMIT


def test_containers_without_commas_count_too() -> None:
    """For three values each, as on the wire."""
    nested = "[" * 60 + "]" * 60
    assert refusal(str, nested, 183).reason is Reason.MISMATCH
    assert refusal(str, nested, 182).reason is Reason.LIMIT


# -- what has no form ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Int32, "1"),
        (Int32, 1.0),
        (Int32, None),
        (Int32, 1 << 31),
        (UInt32, -1),
        (Double, "1"),
        (Double, math.nan),
        (Double, math.inf),
        (Double, 10**400),
        (Float, 1e300),
        (str, 1),
        (str, b"x"),
        (str, None),
        (bytes, "x"),
        (bytes, [1]),
        (bytes, None),
        (Part, None),
        (Part, {"id": 1}),
        (tuple[Int32, ...], 1),
        (tuple[Int32, ...], ("x",)),
        (Mapping[str, Int32], ()),
        (Mapping[str, Int32], {1: 1}),
        (Mapping[Int32, Int32], {"x": 1}),
    ],
    ids=label,
)
def test_a_value_that_does_not_fit_its_type_is_not_written(annotation: Any, value: Any) -> None:
    with pytest.raises(EncodeError, match=r"^v: "):
        encode(annotation, value)


def test_text_without_bytes_is_not_written() -> None:
    with pytest.raises(EncodeError, match="surrogates not allowed"):
        encode(str, "\ud800")


def test_a_bool_is_written_as_the_wire_takes_it() -> None:
    assert (encode(bool, True), encode(bool, 2), encode(bool, 0)) == (b'{"v":true}', b'{"v":true}', b'{"v":false}')
    assert encode(Int32, True) == b'{"v":1}'


def test_a_number_of_hundreds_of_digits_is_not_read_but_any_double_written_out_is() -> None:
    """Each would take long, and no type holds it."""
    with pytest.raises(DecodeError, match="a number of 501 digits"):
        json_body.decode((), b'{"x": ' + b"9" * 501 + b"}", 20_000)
    largest = str(int(sys.float_info.max))
    assert (len(largest), decode(Double, largest)) == (309, sys.float_info.max)


def test_a_default_that_is_a_map_is_not_shared_between_values() -> None:
    first, second = decode(tuple[Noted, ...], '[{"id":1},{"id":2}]')
    first.notes["a"] = "b"
    assert second.notes == {}
    assert decode(Noted, '{"id":3}').notes == {}
