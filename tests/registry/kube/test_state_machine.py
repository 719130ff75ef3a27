"""Random histories of an API server with random faults: whatever happens, the store ends as the truth, and on the way
there it never goes back.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from registry.kube.reflector import Reflector
from registry.kube.settings import ReflectorSettings
from tests.registry.kube.kube_support import THINGS, RecordingStore, Thing, truth
from tests.support.scripted_api import FakeApi, Fault, ScriptedSession, Streaming, error
from tests.support.virtual_time import START, VirtualTimeLoop

CONVERGES_WITHIN = 110.0
"""Seconds after the last fault: 68 of the watch's idle watchdog and 30 of the list's, where the server has become one
that takes streaming lists for watches, and the pauses between. (One fault alone takes less; other tests show that.)
"""

NAMES = st.sampled_from("abcde")
VALUES = st.one_of(st.integers(0, 9), st.sampled_from(["wrong", None, -1]))


class Histories(RuleBasedStateMachine):
    """One server, one reflector."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.api = FakeApi()
        self.store = RecordingStore()
        self.session = ScriptedSession(model=self.api, most=20_000)
        self.written: set[Thing] = set()
        self.task: asyncio.Task[Any] | None = None

    @initialize(
        seed=st.integers(0, 1000),
        page_size=st.integers(1, 4),
        streaming=st.sampled_from(Streaming),
        bookmarks=st.sampled_from([None, 20.0, 60.0]),
        first=st.lists(st.tuples(NAMES, VALUES), max_size=6),
    )
    def begin(
        self,
        seed: int,
        page_size: int,
        streaming: Streaming,
        bookmarks: float | None,
        first: list[tuple[str, object]],
    ) -> None:
        """Start to follow a server that has some objects."""
        self.api.streaming, self.api.bookmarks_every = streaming, bookmarks
        for name, value in first:
            self.put(name, value)
        # A list that is older is taken after some minutes, as it must be; here there is always a newer one.
        followed = ReflectorSettings(page_size=page_size, old_list_patience=1e9)

        async def start() -> None:
            reflector = Reflector(self.session, THINGS, self.store, followed, chance=random.Random(seed))
            self.task = asyncio.create_task(reflector.run())

        self.loop.run_until_complete(start())

    # -- the history ---------------------------------------------------------------------------------------------

    @rule(name=NAMES, value=VALUES)
    def put(self, name: str, value: object) -> None:
        version = self.api.put(name, value)
        if isinstance(value, int) and value >= 0:
            self.written.add(Thing("ns", name, version, value))

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        if name in self.api.objects:
            self.api.remove(name)

    @rule(writes=st.integers(1, 50))
    def write_elsewhere(self, writes: int) -> None:
        self.api.elsewhere(writes)

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.01, 0.3, 1.0, 3.0, 15.0, 40.0, 80.0, 700.0]))
    def wait(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    # -- faults --------------------------------------------------------------------------------------------------

    @rule(fault=st.sampled_from(Fault))
    def befall(self, fault: Fault) -> None:
        self.api.befall(fault)

    @rule(fault=st.sampled_from(Fault))
    def go_down(self, fault: Fault) -> None:
        self.api.go_down(fault)

    @rule(forgetful=st.booleans())
    def come_up(self, forgetful: bool) -> None:
        if not self.api.up:
            self.api.come_up(forgetful=forgetful)

    @rule(on=st.booleans())
    def swallow_connections(self, on: bool) -> None:
        self.api.black_hole = on

    @rule()
    def compact(self) -> None:
        self.api.compact()

    @rule(in_stream=st.booleans())
    def expire(self, in_stream: bool) -> None:
        """What is watched from now on has expired."""
        self.api.expires_in_stream = in_stream
        self.api.elsewhere()
        self.api.compact()
        self.api.befall(Fault.END)

    @rule(fault=st.sampled_from(Fault), after=st.integers(0, 400))
    def interrupt_a_list(self, fault: Fault, after: int) -> None:
        """What is watched has expired, and the list that follows does not get far."""
        self.expire(in_stream=True)
        self.api.chunk_size, self.api.chunk_delay = 80, 0.02
        self.wait(after * 0.005)
        self.api.befall(fault)

    @rule(codes=st.lists(st.sampled_from([400, 401, 403, 404, 410, 422, 429, 500, 503]), min_size=1, max_size=3))
    def refuse(self, codes: list[int]) -> None:
        self.api.next_answers.extend(error(code, retry_after=2.0 if code == 429 else 0.0) for code in codes)

    @rule(size=st.sampled_from([0, 1, 40, 200]), delay=st.sampled_from([0.0, 0.001, 0.05, 1.0]))
    def deliver_slowly(self, size: int, delay: float) -> None:
        self.api.chunk_size, self.api.chunk_delay = size, delay

    @rule(streaming=st.sampled_from(Streaming))
    def upgrade(self, streaming: Streaming) -> None:
        self.api.streaming = streaming

    @rule(writes=st.integers(1, 5))
    def lag(self, writes: int) -> None:
        """What is watched has expired, and the next list is from a server that lags behind."""
        self.api.lists_lag_once = writes
        self.expire(in_stream=True)

    # -- what must hold ------------------------------------------------------------------------------------------

    @rule()
    def converge(self) -> None:
        """Without further faults the store becomes the truth."""
        self.api.heal()
        until = self.loop.time() + CONVERGES_WITHIN
        while self.store.values != truth(self.api):
            assert self.loop.time() < until, (
                f"at {self.loop.time() - START:.3f} s {self.store.values} is held, {truth(self.api)} is true; "
                f"requests: {self.session.requests[-5:]}"
            )
            self.loop.run_until_complete(asyncio.sleep(0.25))

    @invariant()
    def the_store_never_goes_back_and_holds_only_what_was_written(self) -> None:
        assert self.store.wrong == []
        assert set(self.store.things.values()) <= self.written

    @invariant()
    def the_reflector_never_ends(self) -> None:
        assert self.task is None or not self.task.done(), self.task

    def teardown(self) -> None:
        """Converge a last time, then stop."""
        task = self.task
        try:
            if task and not task.done():
                self.converge()
        finally:
            if task:
                task.cancel()
                self.loop.run_until_complete(asyncio.wait([task]))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()
        assert (self.session.open, self.api.watchers) == (0, 0)
        assert self.loop.unhandled == []


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
