"""What is known of the Python packages that are shipped: their metadata, their licences, what the lock says."""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from typing import Any, Final

from license_expression import ExpressionError, get_spdx_licensing

ROOT: Final = Path(__file__).resolve().parent.parent
LOCK: Final = ROOT / "requirements" / "run.txt"
OWN: Final = "tars-registry"

ALLOWED: Final = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "CC0-1.0",
        "ISC",
        "MIT",
        "MPL-2.0",  # its files alone, and only where they are changed
        "PSF-2.0",
        "Unicode-3.0",
        "Unicode-DFS-2016",
        "Unlicense",
        "Zlib",
    }
)
"""Licences under which something may be shipped beside code under BSD-3-Clause, by their SPDX names."""

SPELLINGS: Final = {"Apache 2.0": "Apache-2.0", "MIT License": "MIT"}
"""How metadata older than PEP 639 spells licences that have an SPDX name."""

CORRECTED: Final = {
    # Its metadata names one, its classifiers and licence files both: the user chooses.
    "uvloop": "MIT OR Apache-2.0",
}
"""Packages whose metadata does not say all."""


_SPDX: Final = get_spdx_licensing()


class LicenceError(Exception):
    """A licence that is not known, or not allowed."""


@dataclass(frozen=True)
class Crate:
    """A Rust package that is compiled into a wheel, as the wheel's own list of its parts (PEP 770) has it."""

    name: str
    version: str
    licence: str


@dataclass(frozen=True)
class Distribution:
    """A Python package as it is shipped. ``requires`` are names, normalised as all names here are."""

    name: str
    version: str
    licence: str
    """As an SPDX expression."""
    summary: str = ""
    requires: tuple[str, ...] = ()
    crates: tuple[Crate, ...] = field(default=())


def normalised(name: str) -> str:
    """A package's name in the one spelling that stands for all (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(path: Path = LOCK) -> dict[str, str]:
    """The version of each package in a file of pinned requirements."""
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {normalised(name): version for name, version in pins}


def licence_of(metadata: Message) -> str:
    """The licence that a package's metadata tells, as an SPDX expression.

    Raises LicenceError where it can't be told: then someone has to look, and add what was found to the tables above.
    """
    name = metadata["Name"]
    told = CORRECTED.get(normalised(name)) or metadata["License-Expression"] or metadata["License"] or ""
    told = SPELLINGS.get(told.strip(), told.strip())
    try:
        if not told:
            raise ExpressionError("nothing is said")
        return str(_SPDX.parse(told, validate=True, strict=True))
    except ExpressionError as error:
        raise LicenceError(
            f"{name} {metadata['Version']}: its metadata says {told[:60]!r}, which is no SPDX expression ({error}); "
            f"look into its licence files and add it to SPELLINGS or CORRECTED in {Path(__file__).name}"
        ) from None


def allowed(expression: str) -> bool:
    """Whether something under this licence may be shipped: all that AND joins, one of those that OR joins."""

    def holds(node: Any) -> bool:
        operator = getattr(node, "operator", "").strip()
        if operator == "AND":
            return all(map(holds, node.args))
        if operator == "OR":
            return any(map(holds, node.args))
        return str(node) in ALLOWED

    return holds(_SPDX.parse(expression, validate=True, strict=True))


def require_allowed(what: str, expression: str) -> None:
    """Raise LicenceError for a licence that may not be shipped."""
    if not allowed(expression):
        raise LicenceError(
            f"{what} is under {expression}, which is not among the licences that are shipped "
            f"({', '.join(sorted(ALLOWED))}): do without it, or say in {Path(__file__).name} why it may be"
        )


def _crates(documents: Iterable[str]) -> Iterator[Crate]:
    for document in documents:
        for part in json.loads(document).get("components", ()):
            if part.get("purl", "").startswith("pkg:cargo/"):
                choices = [
                    choice.get("expression") or choice["license"].get("id") or choice["license"].get("name", "")
                    for choice in part.get("licenses", ())
                ]
                # What Cargo's metadata once allowed instead of OR.
                licence = " AND ".join(choices).replace("/", " OR ")
                yield Crate(part["name"], part["version"], str(_SPDX.parse(licence)))


def distribution(metadata_text: str, part_lists: Iterable[str] = ()) -> Distribution:
    """Read a package's METADATA, and the lists of parts (CycloneDX) that it ships."""
    metadata = HeaderParser().parsestr(metadata_text)
    requires = {
        normalised(found[0])
        for line in metadata.get_all("Requires-Dist") or ()
        if "extra ==" not in line and (found := re.match(r"[A-Za-z0-9._-]+", line))
    }
    return Distribution(
        normalised(metadata["Name"]),
        metadata["Version"],
        licence_of(metadata),
        metadata["Summary"] or "",
        tuple(sorted(requires)),
        tuple(sorted(set(_crates(part_lists)), key=lambda crate: (crate.name, crate.version))),
    )


def from_files(files: Mapping[str, bytes]) -> list[Distribution]:
    """The packages whose ``*.dist-info`` is among these files, by path."""
    found = []
    for path, content in files.items():
        folder, _, name = path.rpartition("/")
        if folder.endswith(".dist-info") and name == "METADATA":
            part_lists = [
                text.decode()
                for other, text in files.items()
                if re.fullmatch(re.escape(folder) + r"/sboms/.*\.json", other)
            ]
            found.append(distribution(content.decode(), part_lists))
    return sorted(found, key=lambda one: one.name)


def installed(names: Iterable[str]) -> list[Distribution]:
    """The packages of these names as they are installed for this Python. Raises PackageNotFoundError."""
    files: dict[str, bytes] = {}
    for name in names:
        one = importlib.metadata.distribution(name)
        for path in one.files or ():
            text = path.as_posix()
            if re.search(r"\.dist-info/(METADATA$|sboms/)", text):
                files[text] = Path(str(one.locate_file(path))).read_bytes()
    return from_files(files)
