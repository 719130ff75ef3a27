"""Copy what Python needs of a Debian system, and nothing else, into a folder that becomes an image.

Run inside the build stage of the Dockerfile, with that system's own Python and nothing but its standard library:

    python3.11 root_files.py --for /opt/tars-registry --into /root-files

What goes in: the interpreter, its standard library without the parts in :data:`LEFT_OUT`, each shared library that one
of these or a file below ``--for`` is linked with, and the handful of files in ``/etc`` that libc reads. What stays out:
the shell, the package manager, every program but Python, and so everything that is setuid.

For each package that a file came from, its entry of dpkg's database goes to ``/var/lib/dpkg/status.d/`` (where scanners
look in images without dpkg) and its copyright file to ``/usr/share/doc/``.
"""

from __future__ import annotations

import argparse
import compileall
import fnmatch
import os
import py_compile
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

PYTHON = "python{}.{}".format(*sys.version_info)
PYTHON_PACKAGES = (f"{PYTHON}-minimal", f"lib{PYTHON}-minimal", f"lib{PYTHON}-stdlib")

STDLIB = f"/usr/lib/{PYTHON}"
LEFT_OUT = (
    # What installs, builds or teaches.
    *(f"{STDLIB}/{name}/*" for name in ("distutils", "ensurepip", "lib2to3", "pydoc_data", "test", "venv")),
    f"{STDLIB}/turtle.py",
    # What needs libraries that nothing else here does: databases, terminals, NIS.
    *(f"{STDLIB}/{name}/*" for name in ("curses", "dbm", "sqlite3")),
    *(
        f"{STDLIB}/lib-dynload/{name}.*"
        for name in (
            "_curses",
            "_curses_panel",
            "_dbm",
            "_gdbm",
            "_sqlite3",
            "_test*",
            "_xx*",
            "nis",
            "readline",
            "xx*",
        )
    ),
    # Documentation; copyright files are copied apart.
    "/usr/share/*",
)

BASE_FILES = ("/etc/debian_version", "/etc/os-release", "/usr/lib/os-release", "/usr/share/common-licenses/*")
"""Of base-files: which Debian this is, for people and scanners, and the licences that copyright files refer to."""

LOADED_BY_NAME = ("libgcc_s.so.1",)
"""What no file is linked with but libc loads when a thread is cancelled."""

USER = 10001
"""The user and group that the image runs as unless told otherwise. It owns nothing."""

ETC = {
    "passwd": f"root:x:0:0:root:/:/nonexistent\ntars-registry:x:{USER}:{USER}:tars-registry:/:/nonexistent\n",
    "group": f"root:x:0:\ntars-registry:x:{USER}:\n",
    # The files that a container's runtime writes before the network.
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


def output_of(*command: str | Path) -> str:
    """Standard output of a program that must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}).stdout


def real_folder(name: str) -> Path:
    """The folder that a file lies in, whatever links lead there."""
    return Path(name).parent.resolve()


def owner_of(name: str) -> str:
    """The Debian package of a file, as it is called in dpkg's database (``libc6:amd64``).

    Where ``/lib`` is a link to ``/usr/lib`` the database may know the file by either name.
    """
    names = {name, str(Path(name).resolve()), str(real_folder(name) / Path(name).name)}
    for candidate in sorted(names | {name.removeprefix("/usr") for name in names}):
        found = subprocess.run(["dpkg-query", "--search", candidate], check=False, capture_output=True, text=True)
        if found.returncode == 0:
            return found.stdout.partition(": ")[0]
    raise SystemExit(f"no Debian package owns {name}: what is it linked from?")


def files_of(package: str) -> list[str]:
    """The files and links of a Debian package (no folders)."""
    names = output_of("dpkg-query", "--listfiles", package).splitlines()
    return [name for name in names if Path(name).is_symlink() or Path(name).is_file()]


def is_elf(path: Path) -> bool:
    """Whether a file is a program or library."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


_LINKED = re.compile(r"(?:=> )?(/\S+) \(0x")


def libraries_of(files: Iterable[Path]) -> set[str]:
    """The shared libraries that programs and libraries are linked with, the loader among them, from system folders."""
    found: set[str] = set()
    for file in files:
        listing = output_of("ldd", file)
        if "not found" in listing:
            raise SystemExit(f"{file} needs a library that is not here:\n{listing}")
        found.update(_LINKED.findall(listing))
    return {name for name in found if name.startswith(("/lib", "/usr/lib"))}


def loaded_by_name() -> Iterator[str]:
    """Where the loader finds the libraries of :data:`LOADED_BY_NAME`."""
    for line in output_of("/sbin/ldconfig", "--print-cache").splitlines():
        name, _, path = line.strip().partition(" ")
        if name in LOADED_BY_NAME:
            yield path.rpartition("=> ")[2]


def copy(name: str, into: Path) -> None:
    """Copy one file or link to the same place below ``into``, following the links of folders there (/lib)."""
    source, target = Path(name), into / name.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        if not target.is_symlink():
            target.symlink_to(source.readlink())
    elif not target.exists():
        shutil.copyfile(source, target)
        # Never setuid, setgid or sticky, and writable for nobody but root.
        target.chmod(source.stat().st_mode & 0o755)


def folders(into: Path) -> None:
    """Make the outline of the file system, with the same links as the base has."""
    for name in ("bin", "sbin", "lib", "lib64"):
        if Path("/", name).is_symlink():
            (into / "usr" / name).mkdir(parents=True, exist_ok=True)
            (into / name).symlink_to(f"usr/{name}")
    (into / "etc").mkdir()
    for name, text in ETC.items():
        (into / "etc" / name).write_text(text)
    for name in ("dev", "proc", "run", "sys"):
        (into / name).mkdir()
    (into / "tmp").mkdir()
    (into / "tmp").chmod(0o1777)


def record(package: str, into: Path) -> None:
    """Keep what dpkg knows of a package, and its copyright file."""
    name = package.partition(":")[0]
    status = into / "var/lib/dpkg/status.d"
    status.mkdir(parents=True, exist_ok=True)
    (status / name).write_text(output_of("dpkg-query", "--status", package))
    # A doc folder that is a link is that of another package from the same source.
    real = Path("/usr/share/doc", name, "copyright").resolve(strict=True)
    target = into / "usr/share/doc" / name / "copyright"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(real, target)


def wanted(package: str) -> Iterator[str]:
    """The files of a Python package of Debian that go into the image."""
    for name in files_of(package):
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in LEFT_OUT):
            yield name


def libraries_in(package: str, linked: set[str]) -> Iterator[str]:
    """The files of a library's package that go in: all that lie in the folder of one that is linked with.

    Not just that one: libc loads its parts for name look-ups by name. Converters, engines and the like lie deeper.
    """
    places = {*map(real_folder, linked), Path("/lib64").resolve()}
    for name in files_of(package):
        if real_folder(name) in places:
            yield name


def main() -> None:
    """Fill the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--for", dest="application", type=Path, required=True, help="folder whose libraries are needed")
    parser.add_argument("--into", type=Path, required=True, help="folder to fill; must not exist")
    options = parser.parse_args()
    into: Path = options.into
    into.mkdir(parents=True)
    folders(into)
    for package in PYTHON_PACKAGES:
        for name in wanted(package):
            copy(name, into)
        record(package, into)
    for name in files_of("base-files"):
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in BASE_FILES):
            copy(name, into)
    record("base-files", into)

    elf = filter(is_elf, [path for top in (into / "usr", options.application) for path in top.rglob("*")])
    linked = libraries_of(elf) | set(loaded_by_name())
    packages = sorted({owner_of(name) for name in linked})
    for package in packages:
        for name in libraries_in(package, linked):
            copy(name, into)
        record(package, into)

    # Debian compiles when it installs, so no package lists the results. With hashes that nobody checks: the image does
    # not change, and its files have whatever times the builder gives them.
    good = compileall.compile_dir(
        into / STDLIB.lstrip("/"),
        stripdir=into,
        prependdir="/",
        quiet=1,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    if not good:
        raise SystemExit("the standard library did not compile")
    print(*PYTHON_PACKAGES, "base-files", *packages, sep="\n")


if __name__ == "__main__":
    main()
