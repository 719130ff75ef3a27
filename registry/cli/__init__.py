"""The program ``tars-registry``: one module a command.

Exit status everywhere: 0 done (for ``resolve`` and ``explain``: found; for ``check``: nothing is wrong; for
``compare``: no difference), 1 not so, 2 an error, told in one line.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from registry.admin.logs import one_line
from registry.cli import check, compare, decode, explain, resolve, serve, version
from registry.cli.errors import CommandError

_COMMANDS = (serve, resolve, explain, compare, check, decode, version)


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
    _open_standard_streams()
    options = parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except CommandError as error:
        # It may hold what a peer sent.
        print(f"tars-registry {options.command}: {one_line(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        sys.stderr.close()
        return 2
    except OSError as error:
        # Of a file it is told with its name where it is opened; this is the output, to a full disk perhaps.
        print(f"tars-registry {options.command}: can't write the output: {error.strerror or error}", file=sys.stderr)
        return _without_flush(2)
    except KeyboardInterrupt:
        return 130


def _open_standard_streams() -> None:
    """Open what the caller has closed, and take text that the terminal's encoding does not have.

    The first socket would be standard input otherwise, which the event loop does not expect to close.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _without_flush(status: int) -> int:
    """What could not be written is not tried again at exit, where it would print a trace."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.close(devnull)
    return status
