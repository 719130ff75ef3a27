"""The files of a directory of manifests: which there are, what they hold, and how that differs from the last time.

Blocking calls only: :mod:`registry.sources.directory` runs them in a thread.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from registry.model import CUSTOM_RESOURCES, Kind, Object, ObjectKey
from registry.sources.base import Problem
from registry.sources.manifests import BrokenFile, Contents, Entry, Flaw, Reason, parse

SUFFIXES: Final = (".yaml", ".yml", ".json")

SETTLED_NS: Final = 2_000_000_000
"""A file written less than this ago may be written again without another time stamp: it is read once more."""

Stamp = tuple[int, int, int]
"""Modification time in ns, size and inode: another content has another stamp."""

Objects = Mapping[Kind, Mapping[ObjectKey, Object]]


@dataclass(frozen=True, slots=True)
class FileState:
    """What is known of a file.

    ``contents`` is its last good content, ``flaw`` why the present one is not that; ``digest`` stands for what was
    found at the last look, and ``stamp`` None asks for another look.
    """

    stamp: Stamp | None
    digest: bytes
    contents: Contents = field(default_factory=Contents)
    flaw: Flaw | None = None


Files = Mapping[str, FileState]
"""By path below the directory, in order. A folder that can't be listed stands for its files, as one with a flaw."""


def identity(root: Path) -> tuple[int, int] | None:
    """Tells a directory from another of its name; None where there is none."""
    try:
        found = root.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISDIR(found.st_mode) else None


def scan(root: Path, known: Files, max_bytes: int) -> dict[str, FileState]:
    """The files as they are now; those with the stamp that is known are not read, those of equal content not parsed.

    Raises OSError where the directory itself can't be listed.
    """
    entries, unlisted = _walk(root)
    found: dict[str, FileState] = {}
    for name, error in unlisted.items():
        text = f"this folder can't be listed: {error.strerror}"
        found[name] = _with_flaw(known.get(name), Flaw(Reason.UNREADABLE, text))
        # What is in there is not gone, as far as anyone can tell.
        found.update({file: state for file, state in known.items() if file.startswith(f"{name}/")})
    for name, entry in entries.items():
        state = _look(entry, known.get(name), max_bytes)
        if state is not None:
            found[name] = state
    return dict(sorted(found.items()))


def _walk(root: Path) -> tuple[dict[str, os.DirEntry[str]], dict[str, OSError]]:
    """The manifest files below a directory, and the folders that can't be listed.

    Links are followed, as the files of a mounted ConfigMap are links into a hidden folder; hidden names are not.
    """
    found: dict[str, os.DirEntry[str]] = {}
    unlisted: dict[str, OSError] = {}
    seen: set[tuple[int, int]] = set()
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            here = (root / folder).stat()
            if (here.st_dev, here.st_ino) in seen:
                continue  # a link to what was gone through already, or in a circle
            seen.add((here.st_dev, here.st_ino))
            with os.scandir(root / folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            if not folder:
                raise
            if not isinstance(error, FileNotFoundError):
                unlisted[folder] = error
            continue
        below: list[str] = []
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                below.append(name)
            elif name.endswith(SUFFIXES):
                found[name] = entry
        folders += reversed(below)
    return found, unlisted


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link that leads nowhere: reading it says why


def _look(entry: os.DirEntry[str], known: FileState | None, max_bytes: int) -> FileState | None:
    """The state of a file; None where there is no such file any more."""
    try:
        found = entry.stat()
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        if known is not None and known.stamp == stamp:
            return known
        if not stat.S_ISREG(found.st_mode):
            raise BrokenFile(Reason.UNREADABLE, "not a file")
        with Path(entry.path).open("rb") as file:
            data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise BrokenFile(Reason.UNREADABLE, f"longer than max_file_bytes, {max_bytes} bytes")
    except FileNotFoundError:
        if not entry.is_symlink():
            return None
        return _with_flaw(known, Flaw(Reason.UNREADABLE, "the link leads nowhere"))
    except OSError as error:
        return _with_flaw(known, Flaw(Reason.UNREADABLE, f"can't be read: {error.strerror}"))
    except BrokenFile as error:
        return _with_flaw(known, error.flaw)
    settled = stamp if abs(time.time_ns() - found.st_mtime_ns) > SETTLED_NS else None
    digest = hashlib.blake2b(data, digest_size=16).digest()
    if known is not None and known.digest == digest:
        return dataclasses.replace(known, stamp=settled)
    try:
        contents = parse(data, is_json=entry.name.endswith(".json"))
    except BrokenFile as error:
        return FileState(settled, digest, known.contents if known else Contents(), error.flaw)
    return FileState(settled, digest, contents)


def _with_flaw(known: FileState | None, flaw: Flaw) -> FileState:
    """Not read: what was known of it stays, and it is looked at again."""
    return FileState(None, flaw.text.encode(), known.contents if known else Contents(), flaw)


# ------------------------------------------------------------------------------------------- all files together


@dataclass(frozen=True, slots=True)
class Found:
    """A flaw and the file that it is in."""

    file: str
    flaw: Flaw

    def problem(self, root: Path) -> Problem:
        """As it is shown and logged."""
        # A name on disk may be no UTF-8.
        where = str(root / self.file).encode(errors="replace").decode()
        return Problem(where if self.flaw.line is None else f"{where}:{self.flaw.line}", self.flaw.text)


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory as a whole: its files, the objects in them, what could not be taken."""

    files: Files = field(default_factory=dict)
    objects: Objects = field(default_factory=lambda: {kind: {} for kind in CUSTOM_RESOURCES})
    flaws: tuple[Found, ...] = ()


def look(root: Path, known: Directory, max_bytes: int) -> Directory:
    """The directory as it is now; the very same ``known`` where nothing in it changed. Raises OSError as scan does."""
    files = scan(root, known.files, max_bytes)
    if files.keys() == known.files.keys() and all(known.files[name].digest == files[name].digest for name in files):
        return dataclasses.replace(known, files=files)
    objects: dict[Kind, dict[ObjectKey, Object]] = {kind: {} for kind in CUSTOM_RESOURCES}
    flaws: list[Found] = []
    first: dict[tuple[Kind, ObjectKey], tuple[str, Entry]] = {}
    for name, state in files.items():
        if state.flaw is None:
            flaws += [Found(name, flaw) for flaw in state.contents.flaws]
        else:
            stays = "; its last good content stays" if state.contents.entries else ""
            flaws.append(Found(name, dataclasses.replace(state.flaw, text=f"{state.flaw.text}{stays}")))
        for entry in state.contents.entries:
            there, other = first.setdefault(entry.key, (name, entry))
            kind, key = entry.key
            if other is entry:
                objects[kind][key] = entry.item
            else:
                line = "" if other.line is None else f":{other.line}"
                text = f"{kind} {key[0]}/{key[1]} is defined in {root / there}{line} already; this one is not taken"
                flaws.append(Found(name, Flaw(Reason.DUPLICATE, text, entry.line)))
    return Directory(files, objects, tuple(flaws))


def new_flaws(before: Directory, now: Directory) -> list[Found]:
    """What is wrong since the content of its file changed, or was not wrong before."""
    known = set(before.flaws)

    def digest(directory: Directory, file: str) -> bytes | None:
        state = directory.files.get(file)
        return state.digest if state else None

    return [found for found in now.flaws if found not in known or digest(before, found.file) != digest(now, found.file)]


def differences(before: Objects, now: Objects, kind: Kind) -> tuple[list[Object], list[ObjectKey]]:
    """The objects of a kind that are new or changed, and the keys of those that are gone."""
    old, new = before[kind], now[kind]
    changed = [item for key, item in new.items() if (known := old.get(key)) is not item and known != item]
    return changed, [key for key in old if key not in new]
