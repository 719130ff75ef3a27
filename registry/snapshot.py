"""The snapshot file: the last full table on disk, so that a registry that restarts during an outage serves at once.

Layout: lines of JSON. The first says what it is, its format and the checksum of all that follows; the second when it
was written and which parts it holds; each of the others is a kind and some objects of it. The file is written beside
its name, flushed to disk and renamed, so that a crash leaves the old one or the new one. Only its owner can read it:
the objects' profiles may hold passwords.

A file that can't be read, of another format or with a wrong checksum, is put aside under another name and never fatal.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from sys import intern
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from registry.model import Framework, Kind, Node, Object, Pod, PolicyText, RoutingFacts, ServantSpec, Server, Template
from registry.table import Part
from tars_protocol.settings import setting

log = logging.getLogger(__name__)

_NAME: Final = "tars-registry snapshot"
_FORMAT: Final = 1
"""Grows when the layout or the fields of the kept objects change in a way that an older release can't read."""

_CHUNK: Final = 50
"""Objects encoded at a stretch; 50 servers of 10 pods take about half a millisecond. Nothing is done to all at once:
20 MB to be put together, or to get a checksum, would hold up callers for tens of milliseconds."""

_TYPES: Final[dict[Kind, Any]] = {
    Kind.SERVER: list[Server],
    Kind.POD: list[Server],
    Kind.TEMPLATE: list[Template],
    Kind.FRAMEWORK: list[Framework],
    Kind.POLICY: list[PolicyText],
    Kind.NODE: list[Node],
}


@dataclass(frozen=True, slots=True)
class SnapshotSettings:
    """Whether, where and how often the table is kept on disk."""

    snapshot_path: Path | None = setting(
        None,
        "A file that keeps the last full table, so that a registry that restarts while the API server is away serves "
        "at once. Each replica needs its own. off for none.",
    )
    snapshot_interval: float = setting(
        60.0, "Between two writings at least; it is also written at exit.", unit="seconds", minimum=0.1
    )


class _Unreadable(Exception):
    """A file that is no snapshot that can be used."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a file holds: objects by kind, the parts that they are all of, and when it was written (Unix time)."""

    objects: Mapping[Kind, list[Object]]
    parts: frozenset[Part]
    written: float


def load(path: Path) -> Snapshot | None:
    """The snapshot in a file; None where there is none that can be used. Logs why."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        log.info("%s: no snapshot yet", path)
        return None
    except OSError as error:
        log.warning("%s: the snapshot can't be read: %s", path, error.strerror)
        return None
    try:
        return _decode(data)
    except _Unreadable as error:
        aside = path.with_name(path.name + ".aside")
        log.warning("%s: %s; it is put aside as %s", path, error, aside.name)
        try:
            path.replace(aside)
        except OSError as failure:
            log.warning("%s: can't be put aside: %s", path, failure.strerror)
        return None


class _About(msgspec.Struct):
    """The second line."""

    written: float
    parts: frozenset[Part]


def _decode(data: bytes) -> Snapshot:
    head, _, body = data.partition(b"\n")
    try:
        header = json.loads(head)
        if header["what"] != _NAME:
            raise _Unreadable("this is no snapshot")
        if header["format"] != _FORMAT:
            raise _Unreadable(f"a snapshot of format {header['format']}, this release reads {_FORMAT}")
        if header["checksum"] != _digest(body).hexdigest():
            raise _Unreadable("the checksum is wrong: the file is damaged")
        lines = io.BytesIO(body)
        about = msgspec.json.decode(lines.readline(), type=_About)
        objects: dict[Kind, list[Object]] = {kind: [] for kind in Kind}
        servants: _Servants = {}
        facts: _Facts = {}
        for line in lines:
            kind, chunk = msgspec.json.decode(line, type=tuple[Kind, msgspec.Raw])
            objects[kind] += [_shared(item, servants, facts) for item in msgspec.json.decode(chunk, type=_TYPES[kind])]
        return Snapshot(objects, about.parts, about.written)
    except (KeyError, TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise _Unreadable(f"this is no snapshot: {error}") from None


_Servants = dict[tuple[ServantSpec, ...], tuple[ServantSpec, ...]]
_Facts = dict[RoutingFacts | None, RoutingFacts | None]


def _shared(item: Object, servants: _Servants, facts: _Facts) -> Object:
    """With one text, one list of servants, for all that are alike, as the sources make them: half of the memory."""
    if not isinstance(item, Server):
        return item
    return replace(
        item,
        namespace=intern(item.namespace),
        app=intern(item.app),
        server=intern(item.server),
        sub_type=intern(item.sub_type),
        template=intern(item.template),
        subdomain=intern(item.subdomain),
        servants=servants.setdefault(item.servants, item.servants),
        pods=tuple(map(_shared_pod, item.pods)),
        routing=facts.setdefault(item.routing, item.routing),
    )


def _shared_pod(pod: Pod) -> Pod:
    return replace(
        pod,
        host_ip=intern(pod.host_ip),
        setting_state=intern(pod.setting_state),
        present_state=intern(pod.present_state),
        pid=intern(pod.pid),
        id=intern(pod.id),
    )


def _digest(data: bytes = b"") -> hashlib.blake2b:
    return hashlib.blake2b(data, digest_size=32)


def encode(objects: Mapping[Kind, Iterable[Object]], parts: Iterable[Part], written: float) -> Iterator[bytes]:
    """The lines of a file, the first of them last: it has the checksum of the others. A little work for each."""
    digest = _digest()
    about = msgspec.json.encode(_About(written, frozenset(parts)), order="deterministic") + b"\n"
    digest.update(about)
    yield about
    for kind, items in objects.items():
        waiting = list(items)
        for start in range(0, len(waiting), _CHUNK):
            line = msgspec.json.encode((kind, waiting[start : start + _CHUNK])) + b"\n"
            digest.update(line)
            yield line
    header = {"what": _NAME, "format": _FORMAT, "checksum": digest.hexdigest()}
    # Without spaces, so that there is no byte that may be another and still mean the same.
    yield json.dumps(header, separators=(",", ":")).encode() + b"\n"


def write(path: Path, lines: Iterable[bytes]) -> None:
    """Put a file in place of the old one, whole or not at all. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)  # a crash left it
    try:
        with open(temporary, "xb", opener=_for_owner) as file:  # Path.open takes no opener
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
