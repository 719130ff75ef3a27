"""All tests, in two runs side by side: those that need installed programs, which mostly wait for them, and the others.

``python -m tests.in_two`` (``make test``) takes little longer than the longer of the two. What the first says is shown
once the second has ended; then comes what is not covered, of both together.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from typing import IO, Final

from tests.conftest import NEEDS_MORE_THAN_PYTHON

INSTALLED: Final = " or ".join(NEEDS_MORE_THAN_PYTHON)
"""The marker expression of the first run."""


def _start(marked: str, part: str, output: IO[bytes] | None) -> subprocess.Popen[bytes]:
    # Each its own cache: the last failures of one are not those of the other.
    own = ["-o", f"cache_dir=.pytest_cache/{part}"]
    command = [sys.executable, "-m", "pytest", "-m", marked, "--cov", "--cov-report=", *own]
    environment = os.environ | {"COVERAGE_FILE": f".coverage.{part}"}
    return subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT if output else None)


def _coverage(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "coverage", *arguments], check=False).returncode


def main() -> int:
    """Run them; 0 where both passed."""
    with tempfile.TemporaryFile() as output:
        installed = _start(INSTALLED, "installed", output)
        try:
            others = _start(f"not ({INSTALLED})", "others", None)
            codes = [others.wait(), installed.wait()]
        finally:
            if installed.poll() is None:
                # As from the keyboard: it stops what its tests have started.
                installed.send_signal(signal.SIGINT)
                installed.wait()
            output.seek(0)
            print(f"\nThose that need installed programs ({INSTALLED}):\n", flush=True)
            sys.stdout.buffer.write(output.read())
            sys.stdout.flush()
    codes.append(_coverage("combine", "--quiet", ".coverage.installed", ".coverage.others"))
    codes.append(_coverage("report"))
    # What failed may be far above, behind the other run and the table.
    parts = ("those that need no installed programs", "those that need them", "coverage combine", "coverage report")
    failed = [part for part, code in zip(parts, codes, strict=True) if code]
    print(f"\nFAILED: {', '.join(failed)}" if failed else "\nBoth runs passed", flush=True)
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
