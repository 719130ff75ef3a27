"""Which module may import what, read off the sources.

import-linter (see pyproject.toml) checks the layers, and the same rules on our packages. This also refuses a
third-party package that has no place in the table below.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("jce", "tars_protocol", "registry")

# Where each may be imported: a module, or a package with all that is in it. The codec stays within the
# standard library but for its grammar; the event loop and the network stay in the shells.
ALLOWED = {
    "aiohttp": ("registry.kube", "registry.admin", "registry.cli"),
    "asyncio": (
        "tars_protocol.aio",
        "registry.kube",
        "registry.sources",
        "registry.servants",
        "registry.admin",
        "registry.app",
        "registry.cli",
    ),
    "construct": ("jce.grammar",),
    "kubernetes_asyncio": ("registry.kube",),
    "msgspec": ("tars_protocol", "registry"),
    "prometheus_client": ("registry.admin",),
    "uvloop": ("registry.app", "registry.cli"),
    "watchfiles": ("registry.sources",),
    "yaml": ("registry",),
}


class Import(NamedTuple):
    """One name that a file imports: where it stands and the top-level package it asks for."""

    path: Path
    line: int
    importer: str
    package: str


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, root: Path) -> Iterator[Import]:
    importer = module_name(path, root)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # A relative import stays within the importer's own package.
            names = [node.module] if node.module and not node.level else []
        else:
            continue
        for name in names:
            yield Import(path.relative_to(root), node.lineno, importer, name.partition(".")[0])


def imports_of_packages(root: Path) -> list[Import]:
    return [
        found
        for package in PACKAGES
        for path in sorted((root / package).rglob("*.py"))
        for found in imports_of(path, root)
    ]


def broken_rules(imports: list[Import]) -> list[str]:
    """A line for each import that has no place where it stands."""
    broken = []
    for found in imports:
        places = ALLOWED.get(found.package)
        where = f"{found.path}:{found.line}: {found.package}"
        if places is None:
            if found.package not in PACKAGES and found.package not in sys.stdlib_module_names:
                broken.append(f"{where} is an unknown third-party package: give it a place in ALLOWED")
        elif not any(found.importer == place or found.importer.startswith(f"{place}.") for place in places):
            broken.append(f"{where} may be imported only in {', '.join(places)}")
    return broken


def test_every_import_stands_where_it_may() -> None:
    imports = imports_of_packages(ROOT)
    assert imports, "no source was found"
    assert broken_rules(imports) == []


def test_imports_out_of_place_are_found(tmp_path: Path) -> None:
    """The check itself: in functions, under other names, in an __init__, of the unknown."""
    (tmp_path / "jce").mkdir()
    (tmp_path / "jce" / "__init__.py").write_text("import struct\nfrom asyncio import sleep\n")
    (tmp_path / "jce" / "grammar.py").write_text("import construct as c\nfrom jce import wire\n")
    (tmp_path / "jce" / "grammar2.py").write_text("def f():\n    from construct.core import Struct\n")
    (tmp_path / "registry" / "kube").mkdir(parents=True)
    (tmp_path / "registry" / "kube" / "client.py").write_text("import asyncio.events, aiohttp, requests\n")

    assert broken_rules(imports_of_packages(tmp_path)) == [
        f"jce/__init__.py:2: asyncio may be imported only in {', '.join(ALLOWED['asyncio'])}",
        "jce/grammar2.py:2: construct may be imported only in jce.grammar",
        "registry/kube/client.py:1: requests is an unknown third-party package: give it a place in ALLOWED",
    ]
