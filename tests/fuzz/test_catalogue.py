"""Everything in the catalogue: answered or closed as the wire notes say, in any pieces, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import hashlib
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from jce import Reader, tuple_codec
from registry.app import App
from registry.routing.hosts import EndpointHost
from tars_protocol.packets import REQUEST
from tests.fuzz import catalogue, drive
from tests.fuzz.cases import Case, Expected
from tests.fuzz.full_frames import full_frames
from tests.fuzz.pieces import MAX_FRAME_BYTES, MAX_VALUES, body, call, listing, number, structure, text
from tests.fuzz.small_bodies import small_bodies
from tests.fuzz.small_packets import small_packets
from tests.fuzz.small_reports import small_reports
from tests.support.in_process import running
from tests.support.manifests import hello, write
from tests.support.service import Service, serving

CALLS_A_VALUE = 8
"""Function calls, of Python and of C, that reading a value may take: so many, whatever is sent."""


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    """The service in this process, with one object in its table."""
    write(tmp_path / "hello.yaml", hello(drive.ADDRESS))
    async with running(tmp_path, endpoint_host=EndpointHost.POD_IP) as service:
        yield service


async def test_every_small_input_is_answered_or_closed_as_the_notes_say(app: App) -> None:
    """Whole and byte by byte, which gives the same bytes; after each a good question is answered."""
    problems = []
    for case in catalogue.small():
        outcome = drive.whole(app, case)
        problem = outcome.problem(case.expected)
        if not problem and drive.byte_by_byte(app, case) != outcome:
            problem = "byte by byte something else comes out"
        if problem:
            problems.append(f"{case.name}: {problem}")
        drive.assert_answers(app)
    assert not problems, "\n".join(problems)
    assert bugs(app) == 0


async def test_every_full_input_is_answered_or_closed_as_the_notes_say(app: App) -> None:
    problems = []
    for case in catalogue.full():
        assert len(case.data) <= MAX_FRAME_BYTES + len(drive.QUESTION)
        if problem := drive.whole(app, case).problem(case.expected):
            problems.append(f"{case.name}: {problem}")
        drive.assert_answers(app)
    assert not problems, "\n".join(problems)
    assert bugs(app) == 0


def bugs(app: App) -> int:
    """Errors of the service's own that it met."""
    return app._view().requests().bugs


async def test_no_input_takes_more_calls_than_the_budget_of_values_allows(app: App) -> None:
    """Work is counted, not timed: calls of functions, of Python's and of C's, while the input is answered."""
    most = ("", 0)
    for case in catalogue.catalogue():
        connection = drive.connect(app, case.port)
        calls = calls_of(functools.partial(drive.receive, connection), case.data)
        most = max(most, (case.name, calls), key=lambda found: found[1])
    assert MAX_VALUES < most[1] <= CALLS_A_VALUE * MAX_VALUES, most


async def test_nothing_of_a_connection_is_left_to_the_garbage_collector(app: App) -> None:
    """A frame of a mebibyte that waits for a rare collection is as bad as one that leaks."""
    inputs = list(catalogue.small())
    for case in inputs:  # What is made once and kept, and what is found in the cache.
        drive.whole(app, case)
    gc.collect()
    gc.disable()
    gc.freeze()  # All that is there now, so that a collection looks at one input's objects alone.
    try:
        left = [case.name for case in inputs if (drive.whole(app, case), gc.collect())[1]]
    finally:
        gc.unfreeze()
        gc.enable()
    assert left == []


def calls_of(function: Callable[[bytes], object], data: bytes) -> int:
    """How many functions are called."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        function(data)
    finally:
        sys.setprofile(None)
    return calls


def test_old_endpoint_lists_take_less_than_half_of_the_budget() -> None:
    """500 endpoints with all of their fourteen fields, as callers send them back, and the request around them."""
    endpoint = structure(
        0, b"".join(text(tag, b"10.0.0.1") if tag in (0, 7, 14) else number(tag, tag + 300) for tag in TAGS)
    )
    sent = call(1, body() + listing(2, [endpoint] * 500) + listing(3, []))
    reader = Reader(sent[4:], MAX_VALUES)
    request = REQUEST.decode(reader)
    inside = Reader(request.sBuffer, reader.budget)
    tuple_codec("nothing", ()).decode(inside)
    used = MAX_VALUES - inside.budget
    assert 500 * len(TAGS) < used < MAX_VALUES / 2


TAGS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14)
"""Of the fields of an endpoint."""


# -- the catalogue itself ------------------------------------------------------------------------------------------


def test_the_catalogue_has_hundreds_of_inputs_of_both_sizes_and_each_has_its_own_name() -> None:
    sizes: Counter[bool] = Counter()
    names: Counter[str] = Counter()
    longest = 0
    for case in catalogue.catalogue():
        sizes[case.small] += 1
        names[case.name] += 1
        longest += len(case.data) == MAX_FRAME_BYTES
    assert sizes[True] > 2500
    assert sizes[False] > 400
    assert longest > 300
    assert [name for name, times in names.items() if times > 1] == []


def test_the_catalogue_is_the_same_each_time() -> None:
    def digest() -> str:
        found = hashlib.sha256()
        for case in (*small_packets(), *small_bodies(), *small_reports(), *full_frames()):
            found.update(repr((case.name, case.expected, case.port)).encode() + case.data)
        return found.hexdigest()

    assert digest() == digest()


def test_the_catalogue_has_every_kind_of_end() -> None:
    """So that none is missing without anybody noticing."""
    ends = {(code, case.expected.closed) for case in catalogue.small() for code in case.expected.codes or (None,)}
    assert ends >= {(0, ""), (-1, ""), (-3, ""), (-4, ""), (None, ""), (None, "undecodable")}
    assert ends >= {(None, "frame_too_long"), (None, "frame_too_short"), (0, "frame_too_long"), (0, "undecodable")}


async def test_an_outcome_that_is_not_the_expected_one_is_told(app: App) -> None:
    """So that the tests above can fail."""
    good = Case("good", call(), Expected((0,)))
    outcome = drive.whole(app, good)
    assert outcome.problem(good.expected) == ""
    for other in (Expected((-1,)), Expected(), Expected((0,), "undecodable"), Expected((0,), version=3)):
        assert outcome.problem(other)
    assert outcome.problem(Expected((0,), request_id=8))
    assert drive.whole(app, Case("bad", b"\x00\x00\x00\x05\xff", Expected())).problem(Expected())


# -- over sockets --------------------------------------------------------------------------------------------------

ONE_IN = 8


def sample() -> Iterator[Case]:
    """Some of each kind. What is not a whole frame is left out: nothing comes back by which to know that it arrived."""
    for place, case in enumerate(catalogue.catalogue()):
        if place % ONE_IN == 0 and (case.expected.codes or case.expected.closed):
            yield case


async def test_a_running_service_does_the_same_and_answers_others_after_each(tmp_path: Path) -> None:
    write(tmp_path / "hello.yaml", hello(drive.ADDRESS))
    async with serving(tmp_path, "--endpoint-host=pod-ip") as service:
        tried = 0
        for case in sample():
            outcome = await exchange(service, case)
            assert outcome.problem(case.expected) == "", case.name
            answer = await exchange(service, Case("good", drive.QUESTION, Expected((0,))))
            drive.assert_answer(answer)
            tried += 1
        assert tried > 200
        assert "Traceback" not in service.log


async def exchange(service: Service, case: Case) -> drive.Outcome:
    """Send an input; the frames that come back, and whether the service then closes the connection."""
    port = service.query_port if case.port == "query" else service.registry_port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        async with asyncio.timeout(20):
            # The service may close before it has read all of it.
            with contextlib.suppress(ConnectionError):
                writer.write(case.data)
                await writer.drain()
            for _ in case.expected.codes:
                header = await reader.readexactly(4)
                received += header + await reader.readexactly(int.from_bytes(header, "big") - 4)
            if case.expected.closed:
                with contextlib.suppress(ConnectionError):
                    received += await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return drive.Outcome(drive.split(received), case.expected.closed)
