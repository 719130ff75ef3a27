"""What the caller did to standard input, output and error before it started the program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HELLO = Path(__file__).parents[3] / "examples" / "manifests"
PROGRAM = f"exec {sys.executable} -m registry"


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program the way a shell would."""
    return subprocess.run(
        ["sh", "-c", f"{PROGRAM} {command}"],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_reason_to_crash(closed: str) -> None:
    assert shell(f"serve --source directory --manifests /there/is/none {closed}").returncode == 2
    assert shell(f"version {closed}").returncode == 0


def test_nothing_on_a_closed_standard_input_is_nothing_to_decode() -> None:
    found = shell("decode <&-")
    assert (found.returncode, found.stderr) == (1, "tars-registry decode: nothing to decode\n")


def test_output_that_can_not_be_written_is_an_error_and_not_an_answer() -> None:
    """1 would say that nothing was found."""
    found = shell("version > /dev/full")
    assert found.returncode == 2
    assert found.stderr == "tars-registry version: can't write the output: No space left on device\n"


def test_text_that_the_terminal_does_not_have_is_escaped() -> None:
    found = shell("resolve é.b.c --registry 127.0.0.1:1", LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert found.returncode == 2
    assert "Traceback" not in found.stderr
