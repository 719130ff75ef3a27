"""``tars-registry decode``: show what is in captured frames."""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jce import DecodeError, Reader, codec, dynamic
from jce.schema import Map, Struct, Type, Vector
from jce.schema import fields as fields_of
from registry.cli.errors import CommandError
from tars_protocol.bodies import FORMS
from tars_protocol.constants import STATUS_RESULT_CODE, MessageType, ReturnCode, Version
from tars_protocol.frames import HEADER_BYTES, MIN_FRAME_BYTES
from tars_protocol.interface import Function
from tars_protocol.interfaces import admin, query, registry, server
from tars_protocol.packets import RequestPacket, ResponsePacket

_INTERFACES = {
    query.SERVANT: query.QUERY,
    registry.SERVANT: registry.REGISTRY,
    server.SERVANT: server.SERVER,
    "AdminObj": admin.ADMIN,
}
"""By servant."""

_MAX_VALUES = 1_000_000
_MAX_DEPTH = 100
_HEX = re.compile(rb"[0-9a-fA-F\s]*")


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    command = commands.add_parser(
        "decode",
        help="show what is in captured frames",
        description="Show what is in TARS frames, given as raw bytes or as hex. Exit status 0: all of it is "
        "well-formed; 1: there was nothing; 2: something is not.",
        allow_abbrev=False,
    )
    command.add_argument("file", nargs="?", default="-", metavar="FILE", help="frames; - (default) is standard input")
    command.add_argument("--format", choices=("auto", "hex", "raw"), default="auto", help="(default: auto)")
    command.add_argument(
        "--function", metavar="NAME", help="whose answer it is: a response does not say which function was called"
    )
    command.add_argument("--wire", action="store_true", help="every field with its offset, tag and type")
    command.add_argument("--json", action="store_true", help="as JSON, one object a line for each frame")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Decode every frame; 2 if one can't be."""
    function = _function(options.function) if options.function else None
    data = _bytes_of(_read(options.file), options.format)
    if not data:
        print("tars-registry decode: nothing to decode", file=sys.stderr)
        return 1
    status = 0
    for number, (offset, frame, problem) in enumerate(_cut(data), start=1):
        shown: dict[str, Any] = {"frame": number, "offset": offset, "bytes": len(frame)}
        if problem:
            shown["error"] = problem
        else:
            shown |= _packet(frame[HEADER_BYTES:], function)
        if options.wire:
            shown["wire"] = _wire(frame[HEADER_BYTES:])
        status = 2 if "error" in shown else status
        print(json.dumps(shown, default=_json_default) if options.json else _text(shown))
    return status


def _read(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise CommandError(f"{name}: {error.strerror}") from None


def _bytes_of(data: bytes, form: str) -> bytes:
    """The raw frames."""
    if form == "raw" or (form == "auto" and not _HEX.fullmatch(data)):
        return data
    try:
        return bytes.fromhex(data.decode("ascii"))
    except (ValueError, UnicodeDecodeError) as error:
        raise CommandError(f"no hex: {error}; --format raw takes bytes as they are") from None


def _cut(data: bytes) -> Iterator[tuple[int, bytes, str]]:
    """Each frame with its offset; the last one with what is wrong, where it does not fit."""
    offset = 0
    while offset < len(data):
        length = int.from_bytes(data[offset : offset + HEADER_BYTES], "big")
        left = len(data) - offset
        if left < HEADER_BYTES or length < MIN_FRAME_BYTES or length > left:
            what = f"a frame of {length} bytes, " if left >= HEADER_BYTES else "a frame without a length, "
            yield offset, data[offset:], f"{what}{left} bytes left"
            return
        yield offset, data[offset : offset + length], ""
        offset += length


def _function(name: str) -> Function:
    for interface in _INTERFACES.values():
        if name in interface:
            return interface[name]
    known = ", ".join(sorted({name for interface in _INTERFACES.values() for name in interface}))
    raise CommandError(f"--function {name}: not known; one of {known}")


def _packet(packet: bytes, function: Function | None) -> dict[str, Any]:
    """What a packet says. Its tag 5 tells requests, whose servant is text, from responses."""
    try:
        plain = dynamic.decode(Reader(packet, _MAX_VALUES))
        if isinstance(plain.get(5), str):
            return _request(codec(RequestPacket).decode(Reader(packet, _MAX_VALUES)), function)
        return _response(codec(ResponsePacket).decode(Reader(packet, _MAX_VALUES)), function)
    except DecodeError as error:
        return {"error": str(error)}


def _request(packet: RequestPacket, answered: Function | None) -> dict[str, Any]:
    """A call; or in TUP, where both are one packet, perhaps the answer to one: whichever its body is."""
    shown = _plain(Struct(RequestPacket), packet)
    del shown["sBuffer"]
    called = _called(packet)
    readings = [("request", function.inputs) for function in called]
    if packet.iVersion == Version.TUP:
        if packet.status.get(STATUS_RESULT_CODE, "0") != "0":
            return {"kind": "TUP answer", **shown, **_body(packet.iVersion, None, packet.sBuffer)}
        answers = [("TUP answer", function.results) for function in ([answered] if answered else called)]
        readings = [*answers, *readings] if answered else [*readings, *answers]
    if not readings:
        return {"kind": "request", **shown, **_body(packet.iVersion, None, packet.sBuffer)}
    bodies = [(kind, _body(packet.iVersion, declared, packet.sBuffer)) for kind, declared in readings]
    kind, body = next((reading for reading in bodies if "error" not in reading[1]), bodies[0])
    return {"kind": kind, **shown, **body}


def _called(packet: RequestPacket) -> list[Function]:
    """The functions that a call may be of: two interfaces have a keepAlive. That of its servant comes first."""
    found = [(servant, i[packet.sFuncName]) for servant, i in _INTERFACES.items() if packet.sFuncName in i]
    return [function for _, function in sorted(found, key=lambda named: named[0] != packet.sServantName)]


def _response(packet: ResponsePacket, answered: Function | None) -> dict[str, Any]:
    shown = _plain(Struct(ResponsePacket), packet)
    del shown["sBuffer"]
    # An error carries no results.
    declared = answered.results if answered and packet.iRet == 0 else None
    body = _body(packet.iVersion, declared, packet.sBuffer) if packet.sBuffer else {}
    return {"kind": "response", **shown, **body}


def _body(version: int, declared: Any, body: bytes) -> dict[str, Any]:
    """The body by name where its function is known, by tag where not."""
    try:
        form = FORMS.get(version)
        if declared is not None and form is not None:
            values = form.decode(declared, body, _MAX_VALUES)
            named = {f.name or "return": _plain(f.type, v) for f, v in zip(declared, values, strict=True)}
            return {"body": _shown(named)}
        if version == Version.JSON:
            return {"body": _shown(json.loads(body))}
        return {"body": _shown(dynamic.decode(Reader(body, _MAX_VALUES)))}
    except (DecodeError, ValueError, RecursionError) as error:
        return {"error": f"body: {error}", "body": body}


def _shown(value: Any, depth: int = 0) -> Any:
    """A value as JSON has it: keys are text, bytes are hex, numbers that are none are their names."""
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply to be shown")
    match value:
        case dict():
            return {_key(key): _shown(item, depth + 1) for key, item in value.items()}
        case list() | tuple():
            return [_shown(item, depth + 1) for item in value]
        case bytes():
            return value.hex()
        case float() if not math.isfinite(value):
            return str(value)
    return value


def _key(key: Any) -> str:
    return key.hex() if isinstance(key, bytes) else str(key)


def _plain(kind: Type, value: Any) -> Any:
    match kind:
        case Struct(cls):
            return {field.name: _plain(field.type, getattr(value, field.name)) for field in fields_of(cls)}
        case Vector(element):
            return [_plain(element, item) for item in value]
        case Map(key, item):
            return {str(_plain(key, k)): _plain(item, v) for k, v in value.items()}
    return value


def _wire(packet: bytes) -> list[str]:
    """Each field of a packet by the grammar, and of its body where that is JCE too."""
    from jce import grammar

    shown = []
    for line in grammar.lines(packet):
        shown.append(f"{line.offset:6}  {'  ' * line.depth}tag {line.tag}  {line.type}  {line.value}".rstrip())
    try:
        grammar.parse(packet, _MAX_VALUES)
    except DecodeError as error:
        shown.append(f"{error.offset:6}  not well-formed: {error.detail}")
    return shown


def _text(shown: dict[str, Any]) -> str:
    lines = [f"frame {shown.pop('frame')} at byte {shown.pop('offset')}, {shown.pop('bytes')} bytes"]
    wire = shown.pop("wire", [])
    for name, value in shown.items():
        lines.append(f"  {name}: {_annotated(name, value)}" if name != "body" else "  body:")
        if name == "body":
            rows = value.items() if isinstance(value, dict) else [("bytes", value)]
            for key, item in rows:
                lines += _rows(f"    {key}: ", item)
    return "\n".join([*lines, *(["  wire:", *("  " + line for line in wire)] if wire else [])])


def _rows(head: str, value: Any) -> list[str]:
    """A value on one line, a list of structs on one line each."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [f"{head}{len(value)} items", *(f"      {_short(item)}" for item in value)]
    return [head + _short(value)]


def _short(value: Any) -> str:
    return json.dumps(value, default=_json_default, ensure_ascii=True)


def _annotated(name: str, value: Any) -> str:
    """A number of the packet with its name."""
    if name == "iVersion" and value in set(Version):
        return f"{value} ({Version(value).name})"
    if name == "iRet" and value in set(ReturnCode):
        return f"{value} ({ReturnCode(value).name.lower()})"
    if name == "iMessageType" and value > 0:
        return f"{value} ({MessageType(value)!r})"
    return value if name in ("kind", "error") else _short(value)


def _json_default(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)
