"""What ends a command."""

from __future__ import annotations


class CommandError(Exception):
    """The command can't be done; the text, one line, says why and what to do."""
