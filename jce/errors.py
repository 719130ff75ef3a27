"""The errors of the codec.

JceError (ValueError)
├── DecodeError    bytes that are not what was expected; the only error that decoding raises
└── EncodeError    a value that does not fit its declared type; the only error that encoding raises
SchemaError (TypeError)    a declaration that makes no sense; raised while a struct is declared
"""

from __future__ import annotations

import enum


class Reason(enum.Enum):
    """Why bytes were refused.

    The first two are about the bytes alone and come out alike for every schema; the others need one.
    """

    MALFORMED = "malformed"
    """Not JCE: truncated, a lying length, an unknown type."""
    LIMIT = "limit"
    """JCE, but nested too deeply or with more values than a frame may hold."""
    MISMATCH = "mismatch"
    """A field of another type than declared."""
    RANGE = "range"
    """An unsigned value outside its declared range."""
    MISSING = "missing"
    """A required field is not there."""


class JceError(ValueError):
    """Base of the codec's errors.

    ``detail`` says what was wrong; ``path`` where in the value (``activeEp[3].host``; empty at the top).
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self._steps: list[str | int] = []

    def within(self, step: str | int) -> None:
        """Prepend one step to the path: called by each level the error passes on its way out."""
        self._steps.append(step)

    @property
    def path(self) -> str:
        """Where in the value: field names joined by dots, indexes in brackets."""
        text = ""
        for step in reversed(self._steps):
            if isinstance(step, int):
                text += f"[{step}]"
            else:
                text += f".{step}" if text else step
        return text

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}" if self._steps else self.detail


class DecodeError(JceError):
    """Bytes that can't be decoded: ``reason`` (why), ``offset`` (bytes from the start of the buffer), ``path``."""

    def __init__(self, reason: Reason, detail: str, offset: int) -> None:
        super().__init__(detail)
        self.reason = reason
        self.offset = offset

    def __str__(self) -> str:
        return f"{super().__str__()} (at byte {self.offset})"


class EncodeError(JceError):
    """A value that its declared type can't hold."""


class SchemaError(TypeError):
    """A struct declaration that makes no sense: a tag used twice, a type that the wire does not have."""
