"""What is known of the Debian packages in an image that has no dpkg: the entries that image/root_files.py kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.parser import HeaderParser
from typing import Final

STATUS: Final = "var/lib/dpkg/status.d/"
OS_RELEASE: Final = "usr/lib/os-release"


@dataclass(frozen=True)
class Package:
    """A Debian package of which files are in the image."""

    name: str
    version: str
    architecture: str
    source: str
    """The source package that it is built from: what security notices name."""
    source_version: str
    summary: str
    depends: tuple[str, ...]
    licences: tuple[str, ...]
    """Short names of the licences in its copyright file, where that is written for machines."""


def copyright_path(name: str) -> str:
    """Where the copyright file of a package is."""
    return f"usr/share/doc/{name}/copyright"


def wanted(path: str) -> bool:
    """Whether a file of an image tells something of its Debian packages."""
    return path.startswith(STATUS) or path == OS_RELEASE or bool(re.fullmatch(copyright_path("[^/]+"), path))


def packages(files: Mapping[str, bytes]) -> list[Package]:
    """The packages that have an entry among these files, by path."""
    found = []
    for path, content in sorted(files.items()):
        if not path.startswith(STATUS):
            continue
        entry = HeaderParser().parsestr(content.decode())
        name, version = entry["Package"], entry["Version"]
        # "Source: name" or "Source: name (version)", left out where both are the package's own.
        source, _, source_version = (entry["Source"] or name).partition(" ")
        depends = re.split(r"[,|]", ", ".join(filter(None, (entry["Depends"], entry["Pre-Depends"]))))
        names = {re.split(r"[ (:]", one.strip())[0] for one in depends}
        found.append(
            Package(
                name,
                version,
                entry["Architecture"],
                source,
                source_version.strip("()") or version,
                entry["Description"].partition("\n")[0],
                tuple(sorted(names - {""})),
                _licences(files[copyright_path(name)].decode()),
            )
        )
    return found


def release(files: Mapping[str, bytes]) -> str:
    """Which Debian it is: ``debian-12``."""
    values = dict(line.split("=", 1) for line in files[OS_RELEASE].decode().splitlines() if "=" in line)
    return f"{values['ID']}-{values['VERSION_ID']}".replace('"', "")


def _licences(copyright_text: str) -> tuple[str, ...]:
    if "copyright-format/1.0" not in copyright_text.partition("\n\n")[0]:
        return ()
    names = re.findall(r"^License:[ \t]*(\S.*)$", copyright_text, re.MULTILINE)
    return tuple(sorted({name.strip() for name in names}))
