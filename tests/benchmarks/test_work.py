"""How much work an answer is, counted and not timed, so that it is the same on every machine and in every run.

Counted are the function calls and the interpreter's instructions that fixed inputs take from bytes in to bytes out.
They must stay near the figures in work.json: more is a regression of the hot path, or has its reason and belongs in
the same change as its new figure; less is a gain that the next regression must not eat up. To write new figures:

    python -m tests.benchmarks.test_work
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest

from benchmarks.attribution import Inside
from benchmarks.load.plan import FIRST_ID, question
from benchmarks.tables import Table, object_id
from tars_protocol.connection import Connection

FIGURES: Final = Path(__file__).with_name("work.json")
VERSION: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
TOLERANCE: Final = 0.03
"""Of a figure, either way: for what is not counted to the last digit, as where a dict is grown."""

KINDS: Final = (
    "a hit",
    "a hit, 16 in one read",
    "a hit, one byte a read",
    "bytes never seen of a question that was",
    "the first question for a server",
)

SERVERS: Final = 50
HITS: Final = 200
IN_ONE_READ: Final = 16


@dataclass
class Work:
    """Calls (of functions in Python and in C) and instructions, for one frame."""

    calls: float
    instructions: float


@contextmanager
def _hooks(profile: Callable[..., Any] | None, trace: Callable[..., Any] | None) -> Iterator[None]:
    """Ours in the place of those that are there (coverage's, a debugger's)."""
    before = sys.getprofile(), sys.gettrace()
    # What the garbage collector calls, when it happens to run, is nobody's work here.
    gc.disable()
    sys.setprofile(profile)
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before[1])
        sys.setprofile(before[0])
        gc.enable()


def count(work: Callable[[], None], again: Callable[[], None], frames: int) -> Work:
    """What a piece of work takes, for each of its frames; it is done twice, ``again`` is it for the second time."""
    calls = instructions = 0

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    def trace(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        nonlocal instructions
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        instructions += event == "opcode"
        return trace

    with _hooks(profile, None):
        work()
    with _hooks(None, trace):
        again()
    return Work(calls / frames, instructions / frames)


def _receive(connection: Connection, reads: list[bytes], least: int) -> Callable[[], None]:
    """Bytes into a connection; it must answer each read with so many bytes at least."""

    def work() -> None:
        for read in reads:
            # No assert: pytest's rewriting of it would count too.
            if len(connection.receive(read)) <= least:
                raise AssertionError("no answer")

    return work


def _ask(number: int, start: int, count: int, node_name: str = "") -> list[bytes]:
    return [
        question(object_id(number), FIRST_ID + start + n, node_name=node_name.format(start + n)) for n in range(count)
    ]


def measure() -> dict[str, Work]:
    """Every kind of work that is watched."""
    inside = Inside(Table(SERVERS))
    connection = inside.connect()
    connection.receive(_ask(0, 0, 1)[0])
    small, together = _ask(0, 0, HITS), _ask(0, 0, HITS * IN_ONE_READ)
    reads = [b"".join(together[at : at + IN_ONE_READ]) for at in range(0, len(together), IN_ONE_READ)]
    one_byte = [bytes((each,)) for each in small[0]]
    connection.receive(_ask(0, 0, 1, "10.{}")[0])

    def halves(node_name: str) -> tuple[Callable[[], None], Callable[[], None]]:
        """The same twice with other bytes."""
        return (
            _receive(connection, _ask(0, 0, HITS, node_name), 100),
            _receive(connection, _ask(0, HITS, HITS, node_name), 100),
        )

    def cold() -> tuple[Callable[[], None], Callable[[], None]]:
        """The first question for each server, of a service that was not asked anything yet."""
        first, second = (
            _receive(Inside(Table(SERVERS)).connect(), [_ask(number, 0, 1)[0] for number in range(SERVERS)], 100)
            for _ in range(2)
        )
        return first, second

    def split() -> None:
        for byte in one_byte:
            connection.receive(byte)

    hit, many = _receive(connection, small, 100), _receive(connection, reads, 1_000)
    works = (
        count(hit, hit, HITS),
        count(many, many, len(together)),
        count(split, split, 1),
        count(*halves("10.{}"), HITS),
        count(*cold(), SERVERS),
    )
    return dict(zip(KINDS, works, strict=True))


def known() -> dict[str, dict[str, Work]]:
    """The figures, by version of Python and kind of work."""
    said = json.loads(FIGURES.read_text())
    return {version: {name: Work(**work) for name, work in figures.items()} for version, figures in said.items()}


RENEW: Final = (
    "If that is meant, write new figures with `python -m tests.benchmarks.test_work`, and say why in the commit."
)


def compare(name: str, what: str, now: float, before: float) -> str:
    """Why a figure is not as it should be; empty where it is."""
    change = now / before - 1
    if abs(change) <= TOLERANCE:
        return ""
    return f"{name}: {now:.2f} {what} a frame, {before:.2f} before ({change:+.1%}, tolerance {TOLERANCE:.0%}). {RENEW}"


@pytest.fixture(scope="module")
def measured() -> dict[str, Work]:
    return measure()


@pytest.mark.parametrize("name", KINDS)
def test_an_answer_takes_the_work_that_it_took(name: str, measured: dict[str, Work]) -> None:
    figures = known()
    if VERSION not in figures:
        pytest.skip(f"there are no figures for Python {VERSION}; {FIGURES.name} has {', '.join(figures)}")
    before, now = figures[VERSION][name], measured[name]
    wrong = [compare(name, "calls", now.calls, before.calls)]
    wrong.append(compare(name, "instructions", now.instructions, before.instructions))
    assert not any(wrong), "\n".join(filter(None, wrong))


def test_work_is_counted_the_same_each_time(measured: dict[str, Work]) -> None:
    """To a thousandth: dicts grow at one moment or another."""
    for kind, work in measure().items():
        assert vars(work) == pytest.approx(vars(measured[kind]), rel=0.001), kind


def test_more_work_and_less_are_both_told_with_what_to_do() -> None:
    assert compare("a hit", "calls", 10.2, 10) == ""
    assert "a hit: 11.00 calls a frame, 10.00 before (+10.0%" in compare("a hit", "calls", 11, 10)
    assert "python -m tests.benchmarks.test_work" in compare("a hit", "calls", 9, 10)


def main() -> None:
    """Write the figures for this Python."""
    said = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    said[VERSION] = {name: vars(work) for name, work in measure().items()}
    FIGURES.write_text(json.dumps(dict(sorted(said.items())), indent=2) + "\n")
    print(FIGURES.read_text())


if __name__ == "__main__":
    main()
