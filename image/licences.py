"""Write docs/licences.md: the licences of what is shipped, from the packages' own metadata (`make licences`)."""

from __future__ import annotations

import sys

from image.distributions import LOCK, ROOT, LicenceError, installed, locked, require_allowed

PAGE = ROOT / "docs" / "licences.md"

_HEAD = """\
# Licences

tars-registry is under the BSD-3-Clause licence (LICENSE). This page lists what it is shipped with: made by
`make licences` from the metadata of the locked requirements ({lock}), and held equal to them by a test, which
also refuses a licence that is not on the list in image/distributions.py.

## Python packages

In the image each has its licence files in its folder `*.dist-info`.

| package | version | licence |
|---|---|---|
"""

_CRATES = """
## Compiled into them

Rust packages in the wheels, as the wheels' own lists have them:

| in | package | version | licence |
|---|---|---|---|
"""

_TAIL = """
The wheels of aiohttp, PyYAML and uvloop also hold the C libraries llhttp, libyaml and libuv, all under MIT.

## Debian packages

The image also holds Python and the libraries that it needs, from Debian. Each has its copyright file there, as
`/usr/share/doc/NAME/copyright`, with the licences that those refer to in `/usr/share/common-licenses`; the image's list
of parts (`make sbom`) names packages, versions and sources.
"""


def page() -> str:
    """The text of the page. Raises LicenceError for a licence that may not be shipped."""
    text = _HEAD.format(lock=LOCK.relative_to(ROOT).as_posix())
    crates = ""
    for one in installed(locked()):
        require_allowed(f"{one.name} {one.version}", one.licence)
        text += f"| {one.name} | {one.version} | {one.licence} |\n"
        for crate in one.crates:
            require_allowed(f"{crate.name} {crate.version} in {one.name}", crate.licence)
            crates += f"| {one.name} | {crate.name} | {crate.version} | {crate.licence} |\n"
    return text + (_CRATES + crates if crates else "") + _TAIL


def main() -> int:
    """Write it."""
    try:
        PAGE.write_text(page(), encoding="utf-8")
    except LicenceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
