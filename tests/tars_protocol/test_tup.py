"""Bodies of TUP: a map from names to values, each encoded on its own."""

from __future__ import annotations

from typing import Any

import pytest

from jce import DecodeError, EncodeError, Reason
from tars_protocol import tup
from tars_protocol.bodies import FORMS
from tars_protocol.interfaces.query import QUERY, EndpointF
from tars_protocol.packets import REQUEST, decode_response
from tests.support import golden
from tests.tars_protocol.shared import EVERYTHING, KINDS, NOTHING, captured

ADD = KINDS["add"]


def attributes(*pairs: tuple[bytes, bytes]) -> bytes:
    """A body by hand."""
    out = bytes((0x08, 0x00, len(pairs)))
    for name, value in pairs:
        out += bytes((0x06, len(name))) + name + bytes((0x1D, 0x00, 0x00, len(value))) + value
    return out


def responses(kind: str) -> list[Any]:
    """Captured answers in TUP version 3 with code 0 to functions of QueryF."""
    found = []
    for n, line in enumerate(golden.lines(kind)):
        if not line["response_hex"] or line["func"] not in QUERY:
            continue
        data = bytes.fromhex(line["response_hex"])
        if data[5] != 3:
            continue
        response = decode_response(data)
        if (response.version, response.code) == (3, 0):
            found.append(pytest.param(line["func"], response.body, id=f"{n}-{line['client']}-{line['func']}"))
    return found


@pytest.mark.parametrize(("name", "body"), responses("server-response") + responses("tup"))
def test_answers_of_real_servers_decode(name: str, body: bytes) -> None:
    """Go has the return value under both names, Java under the empty one; neither keeps an order."""
    values = FORMS[3].decode(QUERY[name].results, body, 20_000)
    lists = [value for value in values if isinstance(value, tuple)]
    assert lists
    assert values[0] == 0 or name == "findObjectById"
    for endpoints in lists:
        assert all(isinstance(endpoint, EndpointF) and endpoint.timeout == 60_000 for endpoint in endpoints)
    assert any(lists)


def test_there_are_answers_of_real_servers_to_decode() -> None:
    assert (len(responses("server-response")), len(responses("tup"))) == (3, 1)


@pytest.mark.parametrize("line", [line for line in captured("tup") if "version 3" in line.values[0]["note"]])
def test_a_captured_request_decodes(line: dict[str, Any]) -> None:
    packet = REQUEST.decode(bytes.fromhex(line["request_hex"])[4:])
    if packet.sFuncName in QUERY:
        found = tup.decode(QUERY[packet.sFuncName].inputs, packet.sBuffer, 20_000)
        assert found == ("Test.HelloServer.HelloObj",)
    else:
        assert packet.sBuffer == tup.EMPTY


def test_an_empty_body_is_an_empty_map() -> None:
    assert tup.EMPTY == b"\x08\x0c" == tup.encode((), ())


def test_each_value_stands_under_its_name_encoded_with_tag_0() -> None:
    assert tup.encode(ADD.inputs, (1, 0)) == attributes((b"a", b"\x00\x01"), (b"b", b"\x0c"))


def test_a_return_value_stands_under_both_names() -> None:
    assert tup.encode(ADD.results, (3,)) == attributes((b"", b"\x00\x03"), (b"tars_ret", b"\x00\x03"))


@pytest.mark.parametrize("name", [b"", b"tars_ret"])
def test_a_return_value_is_found_under_either_name(name: bytes) -> None:
    assert tup.decode(ADD.results, attributes((b"x", b"\xff"), (name, b"\x00\x03")), 100) == (3,)


@pytest.mark.parametrize("value", [EVERYTHING, NOTHING], ids=["everything", "nothing"])
def test_values_of_every_kind_come_back(value: Any) -> None:
    inputs = KINDS["echo"].inputs
    assert tup.decode(inputs, tup.encode(inputs, (value, "é")), 20_000) == (value, "é")


def test_the_order_of_names_and_unknown_ones_do_not_matter() -> None:
    body = attributes((b"b", b"\x00\x02"), (b"\xff", b"\xff no value"), (b"a", b"\x00\x01"))
    assert tup.decode(ADD.inputs, body, 100) == (1, 2)


def test_of_two_values_with_one_name_the_first_counts() -> None:
    body = attributes((b"a", b"\x00\x01"), (b"b", b"\x00\x02"), (b"a", b"\x00\x09"))
    assert tup.decode(ADD.inputs, body, 100) == (1, 2)


def test_a_value_of_an_input_is_not_looked_for_under_the_names_of_a_return_value() -> None:
    with pytest.raises(DecodeError) as caught:
        tup.decode(ADD.inputs, attributes((b"", b"\x00\x01"), (b"tars_ret", b"\x00\x01")), 100)
    assert (caught.value.reason, caught.value.path) == (Reason.MISSING, "a")


@pytest.mark.parametrize(
    ("value", "reason", "text"),
    [
        (b"", Reason.MISSING, "a: required field is missing (at byte 0)"),
        (b"\x10\x01", Reason.MISSING, "a: required field is missing"),
        (b"\x06\x00", Reason.MISMATCH, "a: expected int32, found string1 (at byte 0)"),
        (b"\x01\x00", Reason.MALFORMED, "a: truncated integer (at byte 0)"),
        (b"\x00\x01\x1e", Reason.MALFORMED, "a"),
    ],
)
def test_a_value_that_does_not_decode_is_told_by_its_name(value: bytes, reason: Reason, text: str) -> None:
    with pytest.raises(DecodeError) as caught:
        tup.decode(ADD.inputs, attributes((b"a", value), (b"b", b"\x0c")), 100)
    assert caught.value.reason is reason
    assert str(caught.value).startswith(text)


def test_a_missing_return_value_is_told_by_a_name_that_can_be_read() -> None:
    with pytest.raises(DecodeError, match=r"^tars_ret: required parameter is missing"):
        tup.decode(ADD.results, tup.EMPTY, 100)
    with pytest.raises(DecodeError, match=r"^tars_ret: expected int32"):
        tup.decode(ADD.results, attributes((b"", b"\x06\x00")), 100)


@pytest.mark.parametrize("values", [(), (1,), (1, 2, 3)])
def test_another_number_of_values_than_declared_does_not_encode(values: tuple[int, ...]) -> None:
    for form in FORMS.values():
        with pytest.raises(EncodeError, match=f"{len(values)} values for 2 parameters"):
            form.encode(ADD.inputs, values)
    with pytest.raises(EncodeError):
        FORMS[1].encode((), (1,))


def test_a_value_that_does_not_fit_is_told_by_its_name() -> None:
    for form in FORMS.values():
        with pytest.raises(EncodeError, match=r"^b: "):
            form.encode(ADD.inputs, (1, "x"))


def test_the_name_of_a_return_value_in_an_error_is_one_that_can_be_read() -> None:
    for form in FORMS.values():
        with pytest.raises(EncodeError, match=r"^(return|tars_ret): "):
            form.encode(ADD.results, ("x",))


def test_a_map_with_typed_values_as_older_versions_send_it_is_refused() -> None:
    """Version 2 has a map from name to a map from type to value."""
    (line, *_) = [line for line in golden.lines("tup") if "version 2" in line["note"]]
    packet = REQUEST.decode(bytes.fromhex(line["request_hex"])[4:])
    with pytest.raises(DecodeError, match=r"expected vector<byte>, found map"):
        tup.decode(QUERY["findObjectById4Any"].inputs, packet.sBuffer, 20_000)
