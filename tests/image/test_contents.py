"""What the image is: its configuration and its files."""

from __future__ import annotations

import fnmatch
import marshal
import platform
import re
import stat
import subprocess
import tomllib
from types import CodeType
from typing import Any, Final

import pytest

from benchmarks.servers import AS_IN_THE_IMAGE
from image.distributions import locked
from tests.image.conftest import Built
from tests.image.containers import ROOT, Tools

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]

PACKAGES: Final = "opt/tars-registry/lib/python3.11/site-packages/"
STDLIB: Final = "usr/lib/python3.11/"
MACHINES: Final = {"amd64": ("x86_64", 62), "arm64": ("aarch64", 183)}
"""By the name that images have for it: the kernel's name of an architecture, and its number in ELF headers."""

LARGEST: Final = 145_000_000
"""Bytes of all files. It is 131 million; something that is not meant to be there shows."""


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def configuration(built: Built) -> dict[str, Any]:
    found: dict[str, Any] = built.image.config["config"]
    return found


def test_the_user_is_a_number_that_is_not_root(built: Built) -> None:
    """Kubernetes checks runAsNonRoot by it; a name would not do."""
    assert configuration(built)["User"] == "10001:10001"


def test_it_serves_unless_told_otherwise_and_stops_on_sigterm(built: Built) -> None:
    found = configuration(built)
    assert (found["Entrypoint"], found["Cmd"]) == (["tars-registry"], ["serve"])
    assert found.get("StopSignal", "SIGTERM") == "SIGTERM"
    assert found["WorkingDir"] == "/"
    assert set(found["ExposedPorts"]) == {"17890/tcp", "17891/tcp", "17893/tcp"}
    assert not found.get("Volumes")


def test_memory_is_taken_where_it_can_be_given_back_and_as_it_was_measured(built: Built) -> None:
    environment = dict(setting.split("=", 1) for setting in configuration(built)["Env"])
    assert AS_IN_THE_IMAGE.items() <= environment.items()


def test_it_has_no_health_check_of_its_own(built: Built) -> None:
    """Kubernetes ignores one; docs/image.md says what to use elsewhere."""
    assert "Healthcheck" not in configuration(built)


def test_labels_say_what_it_is_and_which_version_and_commit(built: Built) -> None:
    labels = configuration(built)["Labels"]
    prefix = "org.opencontainers.image."
    own = {name.removeprefix(prefix): value for name, value in labels.items() if name.startswith(prefix)}
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True)
    assert own.pop("revision").removesuffix("-dirty") == head.stdout.strip()
    assert own == {
        "title": "tars-registry",
        "description": project()["description"],
        "version": project()["version"],
        "licenses": project()["license"],
        "vendor": project()["authors"][0]["name"],
    }


def test_the_version_in_the_dockerfile_is_that_of_the_project() -> None:
    """For those who build without `make image`."""
    assert f"ARG VERSION={project()['version']}\n" in (ROOT / "Dockerfile").read_text()


def test_it_is_of_the_architecture_that_it_was_built_on(built: Built) -> None:
    assert built.image.config["os"] == "linux"
    name, machine = MACHINES[built.image.config["architecture"]]
    assert name == platform.machine()
    libraries = {path: content for path, content in built.image.contents.items() if path.endswith(".so")}
    assert {path: int.from_bytes(content[18:20], "little") for path, content in libraries.items()} == dict.fromkeys(
        libraries, machine
    )


def test_every_file_is_roots_and_nobody_else_may_write_it(built: Built) -> None:
    """In each layer by itself, for what a later one hides is shipped too. /tmp is as everywhere."""
    for layer in built.image.layers:
        for path, member in layer.items():
            assert (member.uid, member.gid) == (0, 0), path
            assert member.isfile() or member.isdir() or member.issym() or member.islnk(), f"{path} is a device or such"
            if not member.issym() and path != "tmp":
                assert not member.mode & (stat.S_IWGRP | stat.S_IWOTH), f"{path}: {member.mode:o}"


def test_nothing_is_setuid_or_setgid_or_has_a_capability(built: Built) -> None:
    for layer in built.image.layers:
        for path, member in layer.items():
            assert not member.mode & (stat.S_ISUID | stat.S_ISGID), f"{path}: {member.mode:o}"
            assert not any("security.capability" in name for name in member.pax_headers), path


def test_python_is_the_only_program_of_the_system(built: Built) -> None:
    """No shell, no package manager, no compiler: nothing to go on with for one who got in."""
    folders = ("bin/", "sbin/", "usr/bin/", "usr/sbin/", "usr/local/", "usr/libexec/", "opt/")
    programs = {
        path
        for path, member in built.image.files.items()
        if path.startswith(folders) and not member.isdir() and not path.startswith(PACKAGES) and member.mode & 0o111
    }
    assert programs == {
        "usr/bin/python3.11",
        *(f"opt/tars-registry/bin/{name}" for name in ("python", "python3", "python3.11")),
        "opt/tars-registry/lib64",  # a link, as in every venv
        "opt/tars-registry/bin/tars-registry",
        # Programs that requirements bring.
        "opt/tars-registry/bin/idna",
        "opt/tars-registry/bin/watchfiles",
    }


@pytest.mark.parametrize(
    "pattern",
    [
        "*/pip/*",
        "*/pip-*",
        "*/setuptools/*",
        "*/setuptools-*",
        "*/wheel-*",
        "*/ensurepip/*",
        "*.whl",
        "*.a",
        "usr/include/*",
        "*/distutils/*",
        "src/*",
        "dist/*",
        "root/*",
        "var/cache/*",
        "var/lib/apt/*",
        "run/*",
        "etc/pip.conf",
        "etc/ssl/*",
        "opt/build/*",
    ],
)
def test_nothing_is_left_of_building_and_installing(built: Built, pattern: str) -> None:
    """The secrets of the build among it: it had pip.conf and certificates in /run and /etc."""
    for layer in built.image.layers:
        assert not [path for path in layer if fnmatch.fnmatchcase(path, pattern)]


def test_packages_are_the_locked_ones_and_the_project(built: Built) -> None:
    found = {}
    for path in built.image.contents:
        if match := re.fullmatch(re.escape(PACKAGES) + r"([^/]+)-([^-/]+)\.dist-info/METADATA", path):
            found[match[1].replace("_", "-").lower()] = match[2]
    assert found == {**locked(), "tars-registry": project()["version"]}


def test_each_package_brings_its_licence(built: Built) -> None:
    folders = {path.split("/")[-2] for path in built.image.contents if path.endswith(".dist-info/METADATA")}
    for folder in sorted(folders):
        inside = [path for path in built.image.files if path.startswith(f"{PACKAGES}{folder}/")]
        assert [path for path in inside if re.search("LICEN[CS]E", path)], folder


def test_everything_was_compiled_for_a_file_system_that_takes_no_writes(built: Built) -> None:
    """Each module has its byte code, which names the file where it is and is taken without a look at times."""
    sources = [
        path
        for path, member in built.image.files.items()
        if path.endswith(".py") and path.startswith((PACKAGES, STDLIB)) and member.isfile()
    ]
    assert len(sources) > 1000
    for path in sources:
        folder, _, name = path.rpartition("/")
        compiled = built.image.contents[f"{folder}/__pycache__/{name.removesuffix('.py')}.cpython-311.pyc"]
        assert int.from_bytes(compiled[4:8], "little") == 0b01, f"{path}: not compiled with a hash that nobody checks"
    name_of = f"{STDLIB}__pycache__/json.cpython-311.pyc".replace("__pycache__/json", "json/__pycache__/decoder")
    if platform.python_version().startswith("3.11."):
        code = marshal.loads(built.image.contents[name_of][16:])
        assert isinstance(code, CodeType)
        assert code.co_filename == "/usr/lib/python3.11/json/decoder.py"


def test_it_is_small(built: Built) -> None:
    assert sum(member.size for layer in built.image.layers for member in layer.values()) < LARGEST


def test_its_history_tells_nothing_of_the_machine_that_built_it(built: Built, tools: Tools) -> None:
    history = str(built.image.config["history"]) + str(configuration(built))
    for secret in (str(tools.folder), str(ROOT), "--mount", "pip.conf", "ca.pem"):
        assert secret not in history
