"""The program ``tars-registry``: one module a command.

Exit status everywhere: 0 done (for ``resolve``: found), 1 nothing found, 2 an error, told in one line.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from registry.admin.logs import one_line
from registry.cli import decode, resolve, serve, version
from registry.cli.errors import CommandError

_COMMANDS = (serve, resolve, decode, version)


def parser() -> argparse.ArgumentParser:
    """The command line, with every command's options."""
    top = argparse.ArgumentParser(
        prog="tars-registry",
        description="The registry of the TARS RPC framework, for Kubernetes.",
        allow_abbrev=False,
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in _COMMANDS:
        module.add_parser(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    options = parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        return status
    except CommandError as error:
        # It may hold what a peer sent.
        print(f"tars-registry {options.command}: {one_line(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        sys.stderr.close()
        return 2
    except KeyboardInterrupt:
        return 130
