"""Log lines: how many of a kind are written, and that what peers send can't forge them."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.admin import logs
from registry.admin.logs import JsonFormatter, LogLimits, RateLimit, TextFormatter

LIMITS = LogLimits(log_burst=3, log_interval=10.0)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def record(
    message: str = "closing %s",
    *arguments: Any,
    name: str = "registry.app",
    level: int = logging.WARNING,
    error: BaseException | None = None,
    **extra: Any,
) -> logging.LogRecord:
    trace = (type(error), error, error.__traceback__) if error else None
    made = logging.LogRecord(name, level, "file.py", 1, message, arguments, trace)
    made.__dict__.update(extra)
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limit(clock: Clock) -> RateLimit:
    return RateLimit(LIMITS, clock)


# -- how many --------------------------------------------------------------------------------------------------------


def test_a_burst_of_a_kind_is_written_and_no_more(limit: RateLimit) -> None:
    """A kind is the message before its values are put in."""
    assert [limit.filter(record("closing %s", number)) for number in range(5)] == [True, True, True, False, False]
    assert limit.left_out == 2


def test_other_messages_and_other_loggers_are_other_kinds(limit: RateLimit) -> None:
    for message, name in (("a", "registry.app"), ("b", "registry.app"), ("a", "registry.other")):
        assert [limit.filter(record(message, name=name)) for _ in range(4)] == [True, True, True, False]


def test_after_the_interval_the_next_line_says_how_many_were_left_out(limit: RateLimit, clock: Clock) -> None:
    for _ in range(3 + 7):
        limit.filter(record("closing %s", "x"))
    clock.now += 9.9
    assert not limit.filter(record("closing %s", "x"))
    clock.now += 0.1
    late = record("closing %s: 100%%", "x")
    assert limit.filter(late)
    next_one = record("closing %s", "x")
    assert limit.filter(next_one)
    assert next_one.getMessage() == "closing x (and 8 more like it)"
    assert late.getMessage() == "closing x: 100%"
    again = record("closing %s", "x")
    assert limit.filter(again)
    assert again.getMessage() == "closing x"
    assert limit.left_out == 8


def test_a_quiet_kind_is_never_limited(limit: RateLimit, clock: Clock) -> None:
    for _ in range(20):
        assert limit.filter(record())
        clock.now += 4
    assert limit.left_out == 0


def test_lines_about_one_peer_are_written_once_an_interval(clock: Clock) -> None:
    """Each peer of its own, each kind of its own; a noisy one does not hide another."""
    limit = RateLimit(LogLimits(log_burst=10, log_interval=10), clock)
    for _ in range(3):
        for peer in ("10.0.0.1", "10.0.0.2"):
            limit.filter(record("closing %s", peer, limit_key=peer))
    assert limit.left_out == 4
    assert limit.filter(record("cut %s", "10.0.0.1", limit_key="10.0.0.1"))
    assert limit.filter(record("closing %s", "10.0.0.3", limit_key="10.0.0.3"))
    clock.now += 10
    after = record("closing %s", "10.0.0.1", limit_key="10.0.0.1")
    assert limit.filter(after)
    assert after.getMessage() == "closing 10.0.0.1 (and 4 more like it)"


def test_thousands_of_peers_write_no_more_lines_of_a_kind_than_others(clock: Clock) -> None:
    """Addresses are free to have, above all those of IPv6."""
    limit = RateLimit(LogLimits(log_burst=10, log_interval=10), clock)
    written = [limit.filter(record("closing %s", limit_key=str(number))) for number in range(3_000)]
    assert sum(written) == 10


def test_peers_by_the_million_take_no_more_memory_than_some(limit: RateLimit) -> None:
    for number in range(25_000):
        limit.filter(record("closing %s", limit_key=str(number)))
    assert len(limit._kinds) <= 10_000


def test_what_asyncio_says_is_of_one_kind(limit: RateLimit) -> None:
    """Its messages come with their values in them."""
    written = [limit.filter(record(f"accept failed on fd {n}", name="asyncio")) for n in range(100)]
    assert sum(written) == sum(limit.filter(record("x")) for _ in range(100))


def test_a_message_that_is_no_text_is_limited_like_any_other(limit: RateLimit) -> None:
    for _ in range(5):
        limit.filter(record(ValueError("x")))  # type: ignore[arg-type]  # logging takes any object
    assert limit.left_out == 2


# -- what a line looks like ------------------------------------------------------------------------------------------


def test_a_text_line_has_time_level_logger_and_message() -> None:
    made = record("closing %s", "x")
    made.created, made.msecs = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC).timestamp(), 7.0
    assert TextFormatter().format(made) == "2026-01-31T12:00:00.007Z WARNING registry.app: closing x"


def test_a_json_line_has_the_same() -> None:
    made = record("closing %s", "x\ny")
    made.created, made.msecs = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC).timestamp(), 7.0
    assert json.loads(JsonFormatter().format(made)) == {
        "time": "2026-01-31T12:00:00.007Z",
        "level": "warning",
        "logger": "registry.app",
        "message": "closing x\ny",
    }


HOSTILE = [
    "\n2026-01-31T12:00:00.000Z ERROR registry.app: forged",
    "\r\x1b[2K\x1b]0;title\x07",
    "\x00\x7f\x80\x9b31m",
    "\u2028\u2029\x85\x0b\x0c\x1c",
    "\u202egnp.exe\ufeff",
    "\udc80\udcff",
]


@pytest.mark.parametrize("text", HOSTILE, ids=repr)
@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
def test_what_a_peer_sent_stays_on_its_line(text: str, formatter: logging.Formatter) -> None:
    line = formatter.format(record("closing %s", text))
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    line.encode("utf-8")


@given(st.text())
def test_no_text_forges_a_line(text: str) -> None:
    for formatter in (TextFormatter(), JsonFormatter()):
        assert formatter.format(record("%s", text)).isprintable()
    assert json.loads(JsonFormatter().format(record("%s", text)))["message"] == text


def failure(text: str) -> Exception:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


def test_a_trace_follows_its_line() -> None:
    text = TextFormatter().format(record("failed", error=failure("a bug")))
    first, *trace = text.splitlines()
    assert first.endswith("WARNING registry.app: failed")
    assert trace[0].strip() == "Traceback (most recent call last):"
    assert trace[-1].strip() == "ValueError: a bug"
    fields = json.loads(JsonFormatter().format(record("failed", error=failure("a bug"))))
    assert fields["trace"].splitlines()[-1] == "ValueError: a bug"


@pytest.mark.parametrize("text", HOSTILE, ids=repr)
def test_what_a_peer_sent_forges_no_line_through_an_exception(text: str) -> None:
    """The text of an exception may hold it. Every line of a trace is indented, so none looks like a record's."""
    first, *trace = TextFormatter().format(record("failed", error=failure(text))).split("\n")
    assert first.endswith("failed")
    for line in trace:
        assert line.startswith("  ")
        assert line.isprintable()
    assert json.loads(JsonFormatter().format(record("failed", error=failure(text))))["trace"].endswith(
        text.encode("utf-8", "backslashreplace").decode()
    )
    assert JsonFormatter().format(record("failed", error=failure(text))).isprintable()


# -- set up ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back as it was."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.mark.parametrize("form", ["text", "json"])
def test_set_up_sends_all_lines_through_one_limited_handler(root: logging.Logger, form: str) -> None:
    stream = io.StringIO()
    root.addHandler(logging.NullHandler())
    limit = logs.set_up("info", form, LIMITS, stream)
    assert len(root.handlers) == 1
    logger = logging.getLogger("registry.somewhere")
    logger.debug("too little")
    for number in range(5):
        logger.info("line %d", number)
    assert limit.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert limit.left_out == 2
    if form == "json":
        assert [json.loads(line)["message"] for line in lines] == ["line 0", "line 1", "line 2"]
    else:
        pattern = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO registry\.somewhere: line \d"
        assert all(re.fullmatch(pattern, line) for line in lines)


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_set_up_takes_every_level_of_the_settings(root: logging.Logger, level: str) -> None:
    logs.set_up(level, "text", LIMITS, io.StringIO())
    assert root.level == getattr(logging, level.upper())


def test_what_has_a_limit_of_its_own_always_passes(limit: RateLimit) -> None:
    assert all(limit.filter(record("state of pod %s", number, unlimited=True)) for number in range(100))
    assert limit.left_out == 0


def test_json_lines_can_be_read_by_every_reader_whatever_a_peer_sent() -> None:
    """Half a surrogate pair is what a byte that is no UTF-8 becomes; strict readers take no JSON with it."""
    record = logging.LogRecord("test", logging.WARNING, "", 0, "refused %s", ("a\udc80\ud83d",), None)
    line = JsonFormatter().format(record)
    assert json.loads(line)["message"] == r"refused a\udc80\ud83d"
    json.loads(line)["message"].encode()
