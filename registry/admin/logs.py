"""Log lines: to standard error, as text or JSON, and never more than a reader can bear."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Final

from registry.admin.log_writer import LogWriter, to_stream
from tars_protocol.settings import setting


@dataclass(frozen=True, slots=True)
class LogLimits:
    """How many lines of one kind are written. A kind is a message before its values are put in."""

    log_burst: int = setting(
        10,
        "Lines of one kind in one log_interval; the next line then says how many were left out.",
        minimum=1,
        reloadable=True,
    )
    log_interval: float = setting(
        10.0,
        "For log_burst; lines about one peer are kept to one of a kind in this time.",
        unit="seconds",
        minimum=0.1,
        reloadable=True,
    )
    log_queue_bytes: int = setting(
        1 << 20,
        "Lines that wait for standard error to take them. Where its reader hangs or its disk is full the service goes "
        "on; what does not fit is left out and counted.",
        unit="bytes",
        minimum=1,
        reloadable=True,
    )


_MAX_KINDS: Final = 10_000
"""Kinds of lines that are told apart; a peer can make new ones only by new addresses."""


class RateLimit(logging.Filter):
    """Lets a burst of each kind of line through, then none until the interval is over.

    A record with the attribute ``limit_key`` (the address of a peer) is also of a kind of its own, with a burst of one.
    One with the attribute ``unlimited`` always passes: it has a limit of another kind.
    """

    def __init__(self, limits: LogLimits | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.limits = limits or LogLimits()
        self._clock = clock
        self._kinds: dict[tuple[str, str, str], list[float]] = {}
        """By kind: start of the interval, lines written in it, lines left out."""
        self.left_out = 0
        """Lines left out since the start."""

    def filter(self, record: logging.LogRecord) -> bool:
        """True where the record is to be written."""
        if getattr(record, "unlimited", False):
            return True
        # What asyncio says comes with its values in it already, and none of it is worth many lines.
        message = "" if record.name == "asyncio" else str(record.msg)
        key = getattr(record, "limit_key", "")
        general = (record.name, message, "")
        if key and not self._passes(record, (record.name, message, key), 1):
            if general in self._kinds:
                self._kinds[general][2] += 1
            return False
        return self._passes(record, general, self.limits.log_burst)

    def _passes(self, record: logging.LogRecord, kind: tuple[str, str, str], burst: int) -> bool:
        now = self._clock()
        state = self._kinds.get(kind)
        if state is None or now - state[0] >= self.limits.log_interval:
            if len(self._kinds) >= _MAX_KINDS:
                self._kinds.clear()
            if state is not None and state[2] and not kind[2]:
                record.msg = f"{record.msg} (and {state[2]:.0f} more like it)"
            self._kinds[kind] = [now, 1, 0]
            return True
        if state[1] < burst:
            state[1] += 1
            return True
        state[2] += 1
        self.left_out += 1
        return False


class TextFormatter(logging.Formatter):
    """``2026-01-31T12:00:00.123Z WARNING registry.app: message``."""

    def format(self, record: logging.LogRecord) -> str:
        """One record; a trace follows on lines of its own, indented."""
        text = f"{_timestamp(record)} {record.levelname} {record.name}: {one_line(record.getMessage())}"
        # The text of an exception may hold a peer's bytes, line ends among them.
        trace = self.formatException(record.exc_info).split("\n") if record.exc_info else []
        return "\n".join([text, *(f"  {one_line(line)}" for line in trace)])


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the trace where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        fields = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["trace"] = self.formatException(record.exc_info)
        # Half a surrogate pair, which a peer may have sent, can't be written in JSON that every reader takes.
        return json.dumps({name: text.encode("utf-8", "backslashreplace").decode() for name, text in fields.items()})


class QueueHandler(logging.Handler):
    """Hands lines to a writer, so that nobody who logs waits for standard error."""

    def __init__(self, writer: LogWriter, encoding: str) -> None:
        super().__init__()
        self._writer = writer
        self._encoding = encoding

    def emit(self, record: logging.LogRecord) -> None:
        """Have a record written."""
        try:
            line = self.encoded(record)
        except Exception as error:
            # A message whose values do not fit. Not logging's own way, which writes to standard error and waits.
            self._writer.lose(f"{record.name}: {type(error).__name__}: {error}")
            return
        self._writer.put(line)

    def encoded(self, record: logging.LogRecord) -> bytes:
        """A record as it is written."""
        return (self.format(record) + "\n").encode(self._encoding, "backslashreplace")


class Logs:
    """The log of this process, once it is set up: how it is limited, and what becomes of its lines."""

    def __init__(self, limit: RateLimit, writer: LogWriter) -> None:
        self.limit = limit
        self.writer = writer

    @property
    def left_out(self) -> int:
        """Lines left out by the rate limit."""
        return self.limit.left_out

    @property
    def lost(self) -> int:
        """Lines that could not be written."""
        return self.writer.lost

    def change(self, level: str, limits: LogLimits) -> None:
        """Other limits, and another least level, from now on."""
        logging.getLogger().setLevel(level.upper())
        self.limit.limits = limits
        self.writer.max_bytes = limits.log_queue_bytes

    def close(self) -> bool:
        """Write what waits, for a second at most; whether all was written."""
        return self.writer.close(_CLOSING)


_CLOSING: Final = 1.0
"""Seconds for standard error to take the last lines."""


def set_up(level: str, log_format: str, limits: LogLimits, stream: IO[str] | None = None) -> Logs:
    """Send all log lines to standard error."""
    stream = stream or sys.stderr
    limit = RateLimit(limits)

    def notice(lines: int, why: str) -> bytes:
        text = "%d log lines are missing here: %s"
        return handler.encoded(logging.LogRecord(__name__, logging.WARNING, "", 0, text, (lines, why), None))

    writer = LogWriter(to_stream(stream), limits.log_queue_bytes, notice)
    handler = QueueHandler(writer, getattr(stream, "encoding", None) or "utf-8")
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    handler.addFilter(limit)
    # It counts the events of the file system, at the level that we use for what operators should know.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    return Logs(limit, writer)


def _timestamp(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{record.msecs:03.0f}Z"


def one_line(text: str) -> str:
    """Text that may hold a peer's bytes, so that it can't forge a line or write to the terminal."""
    if text.isprintable():
        return text  # as nearly all is
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
