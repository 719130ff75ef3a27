"""An event loop whose time is made up: it jumps to the next timer as soon as nothing else is left to do.

Hours of sleeping, timeouts and timers pass in milliseconds, and always in the same order, so that tests can say when
a thing happens to the thousandth of a second. Real sockets work as long as nobody waits for them: where nothing but a
socket could go on, :class:`StuckError` is raised.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

START = 1000.0
"""The time at which every loop starts: not 0, which code may take for "never"."""


class StuckError(RuntimeError):
    """Every task waits, and no timer will ever wake one."""


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: where there would be a wait, it is time that moves on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise StuckError("every task waits, and there is no timer")
        # Rounded, so that sums of delays are the times that one expects.
        self.now = max(round(self.now + timeout, 9), self.now + 1e-9)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop with made-up time. ``turns`` counts how often it went round."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self.unhandled: list[str] = []
        self.set_exception_handler(self._note)

    def time(self) -> float:
        """The made-up time in seconds."""
        return self._jumping.now

    @property
    def turns(self) -> int:
        """How often the loop went round so far."""
        return self._jumping.turns

    def _note(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.unhandled.append(f"{context['message']}: {error!r}" if error else context["message"])


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of its own with made-up time.

    It must leave no task, and nothing that only the loop's exception handler heard of.
    """

    async def checked() -> T:
        result = await main
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"left running: {left}"
        return result

    loop = VirtualTimeLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        result = runner.run(checked())
    assert not loop.unhandled, loop.unhandled
    return result


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make a test that is a coroutine run in made-up time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        run_virtual(test(*args, **kwargs))

    return run


def now() -> float:
    """Seconds since the running loop was made."""
    return asyncio.get_running_loop().time() - START
