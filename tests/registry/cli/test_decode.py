"""``tars-registry decode``: captured frames, damaged frames, and what else people hand it."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jce import Double, Int64, codec, field, struct, value_codec
from jce.schema import BYTES, INT32, STRING, Map
from registry.cli import main
from registry.routing.select import Lookup
from tars_protocol.bodies import FORMS
from tars_protocol.frames import frame
from tars_protocol.interfaces import registry
from tars_protocol.packets import RequestPacket, ResponsePacket, encode_request
from tests.support import golden
from tests.support.jce_strategies import mutations
from tests.support.tables import HELLO, LOOKUPS, VERSIONS, Served, arguments_of, hello, request

Decode = Callable[..., tuple[int, str]]

REQUESTS = golden.lines("client-request")
ANSWERS = [line for line in golden.lines("server-response") if line["response_hex"]]


@pytest.fixture
def decode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Decode:
    """Run the command on these bytes in a file: its exit status and standard output."""

    def run(data: bytes | str, *options: str) -> tuple[int, str]:
        path = tmp_path / "frames"
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        status = main(["decode", str(path), *options])
        return status, capsys.readouterr().out

    return run


def objects(text: str) -> list[dict[str, Any]]:
    """Every line as JSON, as the strictest reader takes it."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def call(version: int = 1, function: str = "other", body: bytes = b"", **header: Any) -> bytes:
    fields: dict[str, Any] = {
        "iVersion": version,
        "iRequestId": 1,
        "sServantName": "A.B.C",
        "sFuncName": function,
        "sBuffer": body,
    }
    return encode_request(RequestPacket(**fields | {"sServantName": "A.B.C"} | header))


def answer(version: int = 1, body: bytes = b"", **header: Any) -> bytes:
    fields: dict[str, Any] = {"iVersion": version, "cPacketType": 0, "iRequestId": 1, "iMessageType": 0, "iRet": 0}
    fields |= {"sBuffer": body, "status": {}}
    return frame(codec(ResponsePacket).encode(ResponsePacket(**fields | header)))


# -- captured frames -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", range(len(REQUESTS)))
def test_captured_requests_are_shown_as_they_were_meant(index: int, decode: Decode) -> None:
    line = REQUESTS[index]
    status, out = decode(line["request_hex"], "--json")
    (shown,) = objects(out)
    assert status == 0
    assert (shown["kind"], shown["frame"], shown["offset"]) == ("request", 1, 0)
    assert shown["bytes"] == len(line["request_hex"]) // 2
    assert (shown["sServantName"], shown["sFuncName"]) == (line["servant"], line["func"])
    for name in ("iVersion", "cPacketType", "iMessageType", "iTimeout", "context", "status"):
        assert shown[name] == line[name]
    if line["to"] == "registry":
        assert shown["body"]["id"] == line["args"]["1"]
    text_status, text = decode(line["request_hex"])
    assert text_status == 0
    assert text.startswith(f"frame 1 at byte 0, {shown['bytes']} bytes\n  kind: request\n")
    assert line["func"] in text


@pytest.mark.parametrize("index", range(len(ANSWERS)))
@pytest.mark.parametrize("named", [False, True])
def test_captured_answers_are_shown(index: int, named: bool, decode: Decode) -> None:
    """By name with --function, else by tag. What a server answers to something odd may not fit its function."""
    line = ANSWERS[index]
    options = ["--function", line["func"]] if named and line["func"].startswith("findObject") else []
    status, out = decode(line["response_hex"], "--json", *options)
    (shown,) = objects(out)
    if "kind" not in shown:  # To some bytes real servers answer with what is no packet.
        assert (status, shown["error"].partition(":")[0]) == (2, "iRequestId")
        return
    assert status == 0
    if shown["iVersion"] == 3:
        # TarsGo repeats neither servant nor function, so that nothing tells its answer from a call.
        assert shown["kind"] == ("TUP answer" if options or shown["sFuncName"] else "request")
    if options and shown["iVersion"] in (1, 3, 5) and shown.get("iRet", 0) == 0:
        assert set(shown.get("body", {})) <= {"return", "activeEp", "inactiveEp", "0"}


def test_functions_of_one_name_are_told_apart_by_their_servant(decode: Decode) -> None:
    """keepAlive and reportVersion are of a server to its tarsnode, and of a tarsnode to the registry."""
    of_node = registry.REGISTRY["reportVersion"].inputs
    to_registry = FORMS[1].encode(of_node, ("App", "Server", "node", "1.0"))
    for servant, names in (
        ("tars.tarsregistry.RegistryObj", ["app", "serverName", "nodeName", "version"]),
        ("tars.tarsnode.ServerObj", ["app", "serverName", "version"]),
    ):
        _, out = decode(call(1, "reportVersion", to_registry, sServantName=servant), "--json")
        assert list(objects(out)[0]["body"]) == names


@pytest.mark.parametrize("version", VERSIONS)
def test_an_error_needs_no_results(version: int, decode: Decode) -> None:
    """With --function too: the body of an error is empty, and that is well-formed."""
    served = Served(synced=False)
    error = served.connect().send(request(Lookup.ACTIVE, HELLO, version=version))
    status, out = decode(error, "--json", "--function", "findObjectById")
    (shown,) = objects(out)
    assert status == 0
    assert "not synchronised" in (shown["status"]["STATUS_RESULT_DESC"] if version == 3 else shown["sResultDesc"])


@pytest.mark.parametrize("index", range(len(golden.lines("tup"))))
def test_captured_tup_is_shown(index: int, decode: Decode) -> None:
    line = golden.lines("tup")[index]
    for name in ("request_hex", "response_hex"):
        if line.get(name):
            status, out = decode(line[name], "--json")
            (shown,) = objects(out)
            assert shown["iVersion"] in (2, 3)
            if shown["iVersion"] == 3:
                assert status == 0
                assert shown["kind"] in ("request", "TUP answer")


def test_what_a_stopping_server_pushes_is_shown(decode: Decode) -> None:
    for line in golden.lines("server-push"):
        _, out = decode(line["response_hex"], "--json")
        (shown,) = objects(out)
        assert (shown["kind"], shown["iRequestId"], shown["sResultDesc"]) == ("response", 0, "_reconnect_")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("lookup", LOOKUPS)
def test_our_own_answers_are_shown_by_name(lookup: Lookup, version: int, decode: Decode) -> None:
    """In TARS, TUP and JSON alike, both in a stream and alone."""
    question = request(lookup, *arguments_of(lookup, HELLO), version=version)
    reply = Served(hello()).connect().send(question)
    status, out = decode(question + reply, "--json", "--function", lookup)
    asked, answered = objects(out)
    assert status == 0
    assert answered["kind"] == ("TUP answer" if version == 3 else "response")
    assert answered["offset"] == len(question)
    lists = ["return"] if lookup is Lookup.ACTIVE else ["activeEp", "inactiveEp"]
    assert [len(answered["body"][name]) for name in lists] == [2, 1][: len(lists)]
    assert answered["body"][lists[0]][0]["host"] == "test-helloserver-0.test-helloserver"
    assert (asked["kind"], asked["body"]["id"]) == ("request", HELLO)


# -- what stands for what --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (call(version=1), "iVersion: 1 (TARS)"),
        (call(version=5, body=b"{}"), "iVersion: 5 (JSON)"),
        (call(version=77), "iVersion: 77\n"),
        (call(iMessageType=0x81), "iMessageType: 129 (<MessageType.HASH|SET_NAME: 129>)"),
        (call(iMessageType=1 << 20), "iMessageType: 1048576 (<MessageType"),
        (call(iMessageType=-1), "iMessageType: -1\n"),
        (answer(iRet=-99, sResultDesc="oh"), "iRet: -99 (unknown)"),
        (answer(iRet=-4), "iRet: -4 (no_servant)"),
        (answer(iRet=7), "iRet: 7\n"),
        (answer(body=value_codec(INT32).encode((5,))), '    0: 5\n'),
    ],
)  # fmt: skip
def test_numbers_are_shown_with_their_names(packet: bytes, expected: str, decode: Decode) -> None:
    status, out = decode(packet)
    assert status == 0
    assert expected in out


def test_lists_of_structs_take_a_line_each(decode: Decode) -> None:
    reply = Served(hello()).connect().send(request(Lookup.ANY, HELLO))
    _, out = decode(reply, "--function", "findObjectById4Any")
    lines = out.splitlines()
    at = lines.index("    activeEp: 2 items")
    assert '"host": "test-helloserver-0.test-helloserver"' in lines[at + 1]
    assert lines[at + 3].startswith("    inactiveEp: 1 items")


def test_every_field_is_shown_on_the_wire(decode: Decode) -> None:
    question = request(Lookup.ANY, HELLO)
    status, out = decode(question, "--wire", "--json")
    (shown,) = objects(out)
    assert status == 0
    assert [line.split()[1:3] for line in shown["wire"][:4]] == [["tag", str(tag)] for tag in (1, 2, 3, 4)]
    assert any("'findObjectById4Any'" in line for line in shown["wire"])
    _, text = decode(question, "--wire")
    assert text.split("  wire:\n")[1].splitlines() == ["  " + line for line in shown["wire"]]


def test_a_damaged_packet_is_shown_on_the_wire_down_to_where_it_breaks(decode: Decode) -> None:
    broken = frame(request(Lookup.ANY, HELLO)[4:-12])
    status, out = decode(broken, "--wire", "--json")
    (shown,) = objects(out)
    assert status == 2
    assert "at byte" in shown["error"]
    assert len(shown["wire"]) > 4
    assert "not well-formed: " in shown["wire"][-1]


# -- odd values ------------------------------------------------------------------------------------------------------


@struct
class Odd:
    """Values that JSON has no form for."""

    big: Int64 = field(0)
    number: Double = field(1)
    raw: bytes = field(2)
    text: str = field(3)


def odd(number: float) -> bytes:
    return codec(Odd).encode(Odd(big=2**63 - 1, number=number, raw=b"\xff\x00", text="\udcff\x1b[31m"))


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    "body",
    [
        *(odd(number) for number in (1.5, NAN, INFINITY, -INFINITY)),
        value_codec(Map(BYTES, STRING)).encode(({b"\xff\x01": "x"},)),
        value_codec(Map(BYTES, BYTES)).encode(({b"": b"", b"a": b"\x00"},)),
        value_codec(Map(STRING, Map(BYTES, INT32))).encode(({"\udc80": {b"k": 1}},)),
        bytes.fromhex("0800010a0b160178"),
        bytes.fromhex("080001050000000000000000160178"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("options", [[], ["--json"], ["--wire"], ["--json", "--wire"]])
def test_any_value_of_the_wire_can_be_shown(body: bytes, options: Sequence[str], decode: Decode) -> None:
    """Keys that are bytes or structs, numbers that are none, text that is no UTF-8."""
    for packet in (call(body=body), answer(body=body)):
        status, out = decode(packet, *options)
        assert status == 0
        assert all(line.isprintable() for line in out.splitlines())
        if "--json" in options:
            objects(out)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"a": [1, {"b": null}]}', 0),
        (b"[1, 2]", 0),
        (b'"\\ud800"', 0),
        (b"NaN", 0),
        (b"1e999", 0),
        (b"", 2),
        (b"{", 2),
        (b"\xff", 2),
        (b"[" * 50 + b"]" * 50, 0),
        (b"[" * 200 + b"]" * 200, 2),
        (b"[" * 200_000, 2),
        (b'{"a":' * 200_000, 2),
        (b"9" * 10_000, 2),
    ],
    ids=lambda value: f"{len(value)}-{repr(value)[:20]}" if isinstance(value, bytes) else str(value),
)  # fmt: skip
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_json_body_is_shown_or_told_to_be_none(
    body: bytes, status: int, options: Sequence[str], decode: Decode
) -> None:
    found, out = decode(call(version=5, body=body), *options)
    assert found == status
    if options:
        (shown,) = objects(out)
        assert shown.get("error", "").startswith("body: " if status else "")


def test_a_json_body_of_a_known_function_is_shown_by_its_parameters(decode: Decode) -> None:
    _, out = decode(request(Lookup.SAME_SET, HELLO, "n.a.1", version=5), "--json")
    assert objects(out)[0]["body"] == {"id": HELLO, "setId": "n.a.1"}


def test_an_error_in_tup_is_known_for_an_answer(decode: Decode) -> None:
    status = {"STATUS_RESULT_CODE": "-3", "STATUS_RESULT_DESC": "no"}
    (shown,) = objects(decode(call(version=3, body=b"\x08\x0c", status=status), "--json")[1])
    assert (shown["kind"], shown["status"]) == ("TUP answer", status)


@pytest.mark.parametrize("version", [1, 3, 5])
def test_a_body_that_does_not_fit_its_function_is_shown_as_bytes(version: int, decode: Decode) -> None:
    status, out = decode(call(version=version, function="findObjectById", body=b"\x16\x7fab"), "--json")
    (shown,) = objects(out)
    assert status == 2
    assert shown["error"].startswith("body: ")
    assert shown["body"] == "167f6162"
    assert 'bytes: "167f6162"' in decode(call(version=version, function="findObjectById", body=b"\x16\x7fab"))[1]


# -- hex or raw ------------------------------------------------------------------------------------------------------


def test_hex_and_raw_frames_are_told_apart(decode: Decode) -> None:
    data = request(Lookup.ANY, HELLO) * 2
    spaced = "\n".join(data.hex(" ")[at : at + 48] for at in range(0, 3 * len(data), 48))
    expected = decode(data)
    assert expected[0] == 0
    for form in (data.hex(), data.hex().upper(), spaced, f"\n\t {data.hex()}\r\n", "\f\v" + data.hex(" ", 2)):
        assert decode(form) == expected
        assert decode(form, "--format", "hex") == expected
    assert decode(data, "--format", "raw") == expected


@pytest.mark.parametrize("text", ["0000000", "zz", "00 0 0", "0x00000005", "00,00"])
def test_what_is_no_hex_is_told(text: str, decode: Decode, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text(text)
    assert main(["decode", str(path), "--format", "hex"]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.startswith("tars-registry decode: no hex: ")
    assert len(found.err.splitlines()) == 1


@pytest.mark.parametrize("data", [b"", b" \n\t", b"\r\n"])
def test_nothing_is_status_one(data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    assert main(["decode", str(path)]) == 1
    found = capsys.readouterr()
    assert (found.out, found.err) == ("", "tars-registry decode: nothing to decode\n")


def test_standard_input_is_read_where_no_file_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for options in ([], ["-"]):
        stdin = io.TextIOWrapper(io.BytesIO(request(Lookup.ANY, HELLO)))
        monkeypatch.setattr(sys, "stdin", stdin)
        assert main(["decode", *options]) == 0
        assert "kind: request" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["none", "."])
def test_a_file_that_can_not_be_read_is_told(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    assert main(["decode", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"tars-registry decode: {path}: ")


def test_an_unknown_function_is_told_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", "--function", "nope", "none"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("tars-registry decode: --function nope: not known; one of ")
    assert "findObjectById4Any" in err


# -- damage ----------------------------------------------------------------------------------------------------------

GOOD = request(Lookup.ANY, HELLO)


@pytest.mark.parametrize(
    ("tail", "bytes_left"),
    [
        (b"\x00", 1),
        (b"\x00\x00\x00", 3),
        (GOOD[:-1], len(GOOD) - 1),
        (b"\x00\x00\x00\x04", 4),
        (b"\xff\xff\xff\xffx", 5),
        (b"\x00" * 8, 8),
        (b"\x00\x00\x00\x06x", 5),
    ],
)
def test_what_comes_before_a_broken_frame_is_shown(tail: bytes, bytes_left: int, decode: Decode) -> None:
    status, out = decode(GOOD + tail, "--json", "--format", "raw")
    good, bad = objects(out)
    assert status == 2
    assert good["kind"] == "request"
    assert (bad["frame"], bad["offset"], bad["bytes"]) == (2, len(GOOD), bytes_left)
    assert f"{bytes_left} bytes left" in bad["error"]


def test_a_packet_that_is_none_does_not_hide_the_next(decode: Decode) -> None:
    status, out = decode(frame(b"\xff\xff") + GOOD + frame(b"\x0c") + GOOD, "--json")
    assert status == 2
    assert [shown.get("kind", "error") for shown in objects(out)] == ["error", "request", "error", "request"]


FRAMES = [line["request_hex"] for line in REQUESTS] + [line["response_hex"] for line in ANSWERS]
OPTIONS: tuple[list[str], ...] = ([], ["--json"], ["--wire"], ["--json", "--wire", "--function=getServerDescriptor"])


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    data=st.data(),
    options=st.sampled_from(([], ["--json"], ["--wire"], ["--json", "--wire", "--function=getServerDescriptor"])),
)
def test_damaged_frames_never_end_in_a_trace(data: st.DataObject, options: Sequence[str], decode: Decode) -> None:
    """Captured frames with bytes changed, cut out and put in, their length still right; and anything at all."""
    source = data.draw(
        st.sampled_from([line["request_hex"] for line in REQUESTS] + [line["response_hex"] for line in ANSWERS])
    )
    packet = data.draw(st.one_of(mutations(bytes.fromhex(source)[4:]), st.binary(max_size=60)))
    for stream in (frame(packet), packet):
        status, out = decode(stream, "--format=raw", *options)
        assert status in (0, 1, 2)
        assert all(line.isprintable() for line in out.splitlines())
        if "--json" in options:
            objects(out)
