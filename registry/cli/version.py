"""``tars-registry version``."""

from __future__ import annotations

import argparse
import json
import platform
from typing import Any

from registry import __version__


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    command = commands.add_parser("version", help="print the version", description="Print the version.")
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print it."""
    if options.json:
        print(json.dumps({"version": __version__, "python": platform.python_version()}))
    else:
        print(f"tars-registry {__version__} (Python {platform.python_version()})")
    return 0
