"""The errors of the protocol.

TarsError (Exception)
├── FrameError       bytes that are no frame: the connection can't go on
└── CallError        a call that ended with a return code other than 0; servants raise it to answer with one
    └── CallTimeout  no answer in time
    └── NotConnected no connection to the server
InterfaceError (TypeError)    a declaration of an interface that makes no sense
"""

from __future__ import annotations

from tars_protocol.constants import ReturnCode


class TarsError(Exception):
    """Base of the protocol's errors."""


class FrameError(TarsError):
    """Bytes that are no frame. ``reason`` is a short word for counters: ``frame_too_short`` and so on."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class CallError(TarsError):
    """A call that ended with return code ``code`` and the text ``description``."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(code, description)
        self.code = code
        self.description = description

    def __str__(self) -> str:
        try:
            name = ReturnCode(self.code).name.lower().replace("_", " ")
        except ValueError:
            name = "unknown code"
        return f"{self.description} ({self.code}, {name})" if self.description else f"return code {self.code} ({name})"


class CallTimeout(CallError):
    """No answer came in time."""

    def __init__(self, description: str) -> None:
        super().__init__(ReturnCode.CALL_TIMEOUT, description)


class NotConnected(CallError):
    """The server can't be reached, or closed the connection before it answered."""

    def __init__(self, description: str) -> None:
        super().__init__(ReturnCode.PROXY_CONNECT, description)


class InterfaceError(TypeError):
    """A declaration of an interface that makes no sense."""
