"""Log lines on their way to standard error, without ever holding up whoever has something to say.

Whoever reads standard error may hang, its disk may be full, its pipe may be closed. The event loop must not wait for
it: lines go into a queue of bounded size, and a thread of its own writes them. What does not fit is left out, counted,
and told in a line once there is room again.
"""

from __future__ import annotations

import errno
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import IO

Write = Callable[[bytes], None]
"""Writes all of it, however long that takes. Raises OSError."""


class LogWriter:
    """Writes lines in order, in a thread. ``lost`` counts those that were not written.

    ``notice`` makes a line of how many lines were lost, and why.
    """

    def __init__(self, write: Write, max_bytes: int, notice: Callable[[int, str], bytes]) -> None:
        self._write = write
        self.max_bytes = max_bytes
        self._notice = notice
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._busy = False
        self._closed = False
        self.lost = 0
        self._untold = 0
        self._why = ""
        # A daemon: where standard error hangs, the program must still be able to end.
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Have a line written, its end included; never waits for more than a few microseconds."""
        with self._changed:
            if self._bytes + len(line) > self.max_bytes or self._closed:
                self._lose(1, "standard error does not take them")
                return
            self._lines.append(line)
            self._bytes += len(line)
            self._changed.notify()

    def lose(self, why: str) -> None:
        """Count a line that could not even be made."""
        with self._changed:
            self._lose(1, why)

    def flush(self, seconds: float) -> bool:
        """Wait until all is written, at most so long; whether it was."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._lines or self._busy), seconds)

    def close(self, seconds: float) -> bool:
        """Write what waits, at most so long, and take no more; whether all was written."""
        done = self.flush(seconds)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        return done

    def _lose(self, lines: int, why: str) -> None:
        self.lost += lines
        self._untold += lines
        self._why = why

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._lines or self._closed)
                if not self._lines:
                    return
                lines = list(self._lines)
                self._lines.clear()
                self._bytes = 0
                self._busy = True
                untold, self._untold = self._untold, 0
                # It stands where the lines are missing: after those that fitted before, which are in ``lines``.
                why = self._why
            try:
                self._write(b"".join(lines))
                if untold:
                    self._write(self._notice(untold, why))
            except OSError as error:
                with self._changed:
                    self._untold += untold
                    self._lose(len(lines), error.strerror or str(error))
            except ValueError as error:  # a stream that was closed
                with self._changed:
                    self._untold += untold
                    self._lose(len(lines), str(error))


def to_stream(stream: IO[str] | None) -> Write:
    """Writes to what a stream writes to, past its buffer: that of a stream that hangs would keep the program."""
    if stream is None:  # closed before the program began
        return lambda _: None
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):
        return lambda data: _write_text(stream, data)
    return lambda data: _write_all(descriptor, data)


def _write_text(stream: IO[str], data: bytes) -> None:
    stream.write(data.decode("utf-8", "replace"))
    stream.flush()


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            # Somebody who shares the terminal or pipe made it so.
            select.select([], [descriptor], [], 1.0)
        except OSError as error:
            if error.errno != errno.EINTR:
                raise
