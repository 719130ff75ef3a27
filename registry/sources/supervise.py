"""Keep a task going: what crashes is a bug, which is logged and counted, and then it is started again."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

log = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
_HEALTHY: Final = 120.0
"""Seconds: the pause doubles from the first to the longest, and starts short again after so long a run."""


async def supervise(
    name: str, run: Callable[[], Awaitable[None]], crashed: Callable[[str], None], started: Callable[[], None]
) -> NoReturn:
    """Run something that should never end, again and again.

    ``crashed`` is called with the reason each time that it ended, ``started`` before it is started again. It ends only
    where the task that runs this is cancelled: a CancelledError from within is a crash as any other.
    """
    loop = asyncio.get_running_loop()
    pause = _FIRST_PAUSE
    while True:
        began = loop.time()
        try:
            await run()
            raise RuntimeError(f"{name} ended, which it never should")
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            if loop.time() - began >= _HEALTHY:
                pause = _FIRST_PAUSE
            wait = pause * random.uniform(0.5, 1.0)
            log.exception("%s crashed; it starts again in %.1f s", name, wait)
            crashed(f"{type(error).__name__}: {error}")
        await asyncio.sleep(wait)
        pause = min(pause * 2, _LONGEST_PAUSE)
        started()
