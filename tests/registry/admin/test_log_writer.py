"""Log lines reach standard error, and nobody waits for it."""

from __future__ import annotations

import errno
import io
import logging
import os
import threading
from collections.abc import Iterator

import pytest

from registry.admin import logs
from registry.admin.log_writer import LogWriter, to_stream
from registry.admin.logs import LogLimits


class Reader:
    """What stands behind standard error: takes lines, hangs, or fails, as a test says."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.failures: list[OSError] = []

    def write(self, data: bytes) -> None:
        self.entered.set()
        assert self.open.wait(20)
        if self.failures:
            raise self.failures.pop(0)
        self.taken += data.decode().splitlines()


def notice(lines: int, why: str) -> bytes:
    return f"{lines} missing: {why}\n".encode()


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def writer(reader: Reader) -> Iterator[LogWriter]:
    made = LogWriter(reader.write, 100, notice)
    yield made
    reader.open.set()
    assert made.close(20)


def test_lines_are_written_in_order(reader: Reader, writer: LogWriter) -> None:
    for number in range(1_000):
        writer.put(b"%d\n" % number)
        if number % 10 == 9:
            assert writer.flush(20)
    assert reader.taken == [str(number) for number in range(1_000)]
    assert writer.lost == 0


def test_a_reader_that_hangs_holds_up_nobody_and_learns_what_it_missed(reader: Reader, writer: LogWriter) -> None:
    reader.open.clear()
    writer.put(b"first\n")
    assert reader.entered.wait(20)
    for number in range(100):
        writer.put(b"line %04d\n" % number)
    assert not writer.flush(0.01)
    assert writer.lost == 90, "ten of ten bytes are as many as there is room for"
    reader.open.set()
    assert writer.flush(20)
    assert reader.taken == [
        "first",
        *(f"line {number:04}" for number in range(10)),
        "90 missing: standard error does not take them",
    ]
    writer.put(b"next\n")
    assert writer.flush(20)
    assert reader.taken[-1] == "next"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE, errno.EIO])
def test_an_error_costs_the_lines_at_hand_and_is_told_when_it_is_over(
    number: int, reader: Reader, writer: LogWriter
) -> None:
    reader.failures = [OSError(number, os.strerror(number)) for _ in range(2)]
    for text in (b"one\n", b"two\n"):
        writer.put(text)
        assert writer.flush(20)
    assert (reader.taken, writer.lost) == ([], 2)
    writer.put(b"three\n")
    assert writer.flush(20)
    assert reader.taken == ["three", f"2 missing: {os.strerror(number)}"]


def test_what_comes_after_the_end_is_counted(reader: Reader) -> None:
    writer = LogWriter(reader.write, 100, notice)
    writer.put(b"one\n")
    assert writer.close(20)
    writer.put(b"two\n")
    assert (reader.taken, writer.lost) == (["one"], 1)


def test_a_pipe_that_nobody_reads_takes_what_it_can_and_the_rest_later() -> None:
    """Whether it blocks or, because somebody who shares it made it so, does not."""
    for blocking in (True, False):
        ours, theirs = os.pipe()
        os.set_blocking(theirs, blocking)
        with os.fdopen(theirs, "w") as stream:
            writer = LogWriter(to_stream(stream), 1 << 20, notice)
            sent = b"".join(b"%0100d\n" % number for number in range(5_000))
            for line in sent.splitlines(keepends=True):
                writer.put(line)
            assert not writer.flush(0.05)
            found = b""
            while len(found) < len(sent):
                found += os.read(ours, 1 << 16)
            assert found == sent
            assert writer.close(20)
        os.close(ours)


def test_without_a_stream_or_on_one_that_was_closed_nothing_happens() -> None:
    to_stream(None)(b"lost\n")
    stream = io.StringIO()
    write = to_stream(stream)
    write(b"one\n")
    assert stream.getvalue() == "one\n"
    stream.close()
    writer = LogWriter(write, 100, notice)
    writer.put(b"two\n")
    assert writer.close(20)
    assert writer.lost == 1


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    before = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:], _ = before
    logger.setLevel(before[1])


def test_a_line_whose_values_do_not_fit_is_counted_and_stops_nobody(root: logging.Logger) -> None:
    stream = io.StringIO()
    log_set_up = logs.set_up("info", "text", LogLimits(), stream)
    root.info("%d and %d", 1)
    root.info("next")
    assert log_set_up.close()
    assert log_set_up.lost == 1
    written = stream.getvalue()
    assert "INFO root: next" in written
    assert "1 log lines are missing here: root: TypeError: not enough arguments" in written


def test_level_and_limits_can_change(root: logging.Logger) -> None:
    stream = io.StringIO()
    log_set_up = logs.set_up("info", "text", LogLimits(log_burst=100), stream)
    root.debug("too little")
    log_set_up.change("debug", LogLimits(log_burst=1))
    for _ in range(3):
        root.debug("enough")
    assert log_set_up.close()
    assert stream.getvalue().count("enough") == 1
    assert log_set_up.left_out == 2
