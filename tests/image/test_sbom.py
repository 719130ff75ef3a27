"""The lists of what is in the image and in the wheel, and the licences of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Final

import pytest
from packageurl import PackageURL

from image import sbom
from image.debian import STATUS
from image.distributions import CORRECTED, OWN, LicenceError, allowed, distribution, locked, require_allowed
from image.licences import PAGE, page
from tests.image.conftest import Built
from tests.image.containers import ROOT

ABSOLUTE: Final = re.compile(r"file:|(?<![\w:/.])/(?:home|root|tmp|src|opt|usr|var|work|build)\b")


def document(bom: Any) -> dict[str, Any]:
    """What is written: :func:`image.sbom.as_json` refuses what the schema of the format does not allow."""
    found: dict[str, Any] = json.loads(sbom.as_json(bom))
    return found


def purls(found: dict[str, Any], kind: str) -> dict[str, PackageURL]:
    """The components of a kind, by name."""
    parts = [PackageURL.from_string(part["purl"]) for part in found["components"]]
    return {part.name: part for part in parts if part.type == kind}


def dependencies(found: dict[str, Any], ref: str) -> set[str]:
    """Names of what a part needs."""
    needed = next(part for part in found["dependencies"] if part["ref"] == ref).get("dependsOn", [])
    return {PackageURL.from_string(name).name for name in needed}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built from a copy (building leaves things beside the sources)."""
    copy, into = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("jce", "tars_protocol", "registry"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    program = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, into], cwd=copy, check=True, stdout=subprocess.DEVNULL)
    return next(into.glob("*.whl"))


def test_the_list_of_the_wheel_has_every_locked_requirement(wheel: Path) -> None:
    found = document(sbom.of_wheel(wheel))
    assert found["metadata"]["component"]["name"] == OWN
    python = purls(found, "pypi")
    assert {name: part.version for name, part in python.items()} == locked()
    assert all(part.get("licenses") for part in found["components"])
    own = found["metadata"]["component"]["bom-ref"]
    assert {"aiohttp", "msgspec", "uvloop"} <= dependencies(found, own)
    assert "multidict" not in dependencies(found, own), "that is what aiohttp needs"


def test_the_list_of_the_wheel_has_what_is_compiled_into_wheels(wheel: Path) -> None:
    found = document(sbom.of_wheel(wheel))
    watchfiles = next(part for part in found["components"] if part["name"] == "watchfiles")
    assert "pkg:cargo/notify@" in str(watchfiles["components"])


def test_the_list_of_the_wheel_names_no_path_of_the_machine(wheel: Path) -> None:
    assert not ABSOLUTE.search(sbom.as_json(sbom.of_wheel(wheel)))


def test_what_is_no_wheel_of_the_project_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.whl"
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("other-1.dist-info/METADATA", "Name: other\nVersion: 1\nLicense-Expression: MIT\n")
    with pytest.raises(sbom.SbomError, match=r"other\.whl is no wheel of tars-registry"):
        sbom.of_wheel(other)


@pytest.mark.image
@pytest.mark.timeout(900)
def test_the_list_of_the_image_has_every_python_package(built: Built) -> None:
    found = document(sbom.of_image(built.path))
    python = purls(found, "pypi")
    assert {name: part.version for name, part in python.items() if name != OWN} == locked()
    assert python[OWN].version == found["metadata"]["component"]["version"]
    assert found["metadata"]["component"]["type"] == "container"
    assert f"sha256:{built.image.id}" in str(found["metadata"]["component"]["properties"])


@pytest.mark.image
@pytest.mark.timeout(900)
def test_the_list_of_the_image_has_every_debian_package(built: Built) -> None:
    """Each with its architecture, its release and its source: by these scanners find notices."""
    found = document(sbom.of_image(built.path))
    debian = purls(found, "deb")
    assert set(debian) == {path.removeprefix(STATUS) for path in built.image.contents if path.startswith(STATUS)}
    assert {"libc6", "libssl3", "python3.11-minimal", "libpython3.11-stdlib", "base-files"} <= set(debian)
    assert {part.qualifiers["distro"] for part in debian.values()} == {"debian-12"}
    assert debian["libssl3"].qualifiers["upstream"] == "openssl"
    assert debian["libc6"].qualifiers["arch"] == built.image.config["architecture"]
    assert "libc6" in dependencies(found, str(debian["libssl3"]))


@pytest.mark.image
@pytest.mark.timeout(900)
def test_the_debian_packages_in_the_list_are_those_whose_copyright_files_are_there(built: Built) -> None:
    """image/root_files.py refuses a library that no package owns, and writes both for each one that it copies from."""
    debian = purls(document(sbom.of_image(built.path)), "deb")
    files = (re.fullmatch("usr/share/doc/([^/]+)/copyright", path) for path in built.image.files)
    assert {found[1] for found in files if found} == set(debian)


@pytest.mark.image
@pytest.mark.timeout(900)
def test_the_list_of_the_image_names_no_path_of_the_machine(built: Built) -> None:
    assert not ABSOLUTE.search(sbom.as_json(sbom.of_image(built.path)))


# -- licences ----------------------------------------------------------------------------------------------------


def test_the_page_of_licences_is_that_of_the_locked_requirements() -> None:
    """And all of them may be shipped. ``make licences`` writes it."""
    assert PAGE.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize(
    ("expression", "may_be_shipped"),
    [
        ("MIT", True),
        ("Apache-2.0 AND MIT", True),
        ("(MIT OR GPL-2.0-only) AND BSD-3-Clause", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-3.0-only", False),
        ("MIT AND AGPL-3.0-or-later", False),
        ("GPL-2.0-only OR LGPL-2.1-only", False),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
    ],
)
def test_all_that_and_joins_and_one_that_or_joins_must_be_allowed(expression: str, may_be_shipped: bool) -> None:
    assert allowed(expression) is may_be_shipped


def test_a_licence_that_is_not_allowed_is_refused_by_name() -> None:
    with pytest.raises(LicenceError, match=r"evil 1\.0 is under GPL-3\.0-only, which is not among"):
        require_allowed("evil 1.0", "GPL-3.0-only")


@pytest.mark.parametrize("told", ["License: see the file\n", "", "License-Expression: Not-A-Licence\n"])
def test_a_licence_that_nobody_knows_is_refused_rather_than_guessed(told: str) -> None:
    with pytest.raises(LicenceError, match="odd 2: its metadata says"):
        distribution(f"Name: odd\nVersion: 2\n{told}")


def test_corrections_are_of_packages_that_are_shipped() -> None:
    assert set(CORRECTED) <= set(locked())
