"""Requests that differ from a known one only in what no answer depends on: time-out, context and status.

Behind one question there are many bytes: most clients send their node's name along in the context. Once a call has been
decoded, with everything before them, those three are all that has to be looked at in the next request for it, which
takes a fifth of the time.

Such a request is kept under its own key only when it comes a second time: bytes that never come again would else push
out those that do, and keeping them costs as much as answering them.

Where a caller's group is told by its request the answer does depend on them, and every request is decoded.

A request that is known, but whose answer has to be made again because the table changed, is not decoded again either.
"""

from __future__ import annotations

from array import array
from collections.abc import Awaitable
from typing import Final

from jce.wire import COSTS
from registry.answers import Answers
from tars_protocol.dispatch import Dispatcher
from tars_protocol.handlers import Caller
from tars_protocol.packets import trailer_at, trailer_fits

_COSTLIEST: Final = max(COSTS)
"""Values that one byte of a frame may count for at most: so a frame of a third as many bytes is within the budget."""


class Alike:
    """Answers frames whose bytes are not known, by what is known of their call where that is enough."""

    __slots__ = ("_answers", "_cache", "_dispatcher", "_seen")

    def __init__(self, answers: Answers, dispatcher: Dispatcher) -> None:
        self._answers = answers
        self._cache = answers.cache
        self._dispatcher = dispatcher
        self._seen = Seen()

    def answer(self, data: bytes, key: bytes, request_id: bytes, at: int, caller: Caller) -> bytes | Awaitable[bytes]:
        """Answer one frame (see :class:`tars_protocol.handlers.Near`)."""
        answers, cache = self._answers, self._cache
        answer = cache.find(key)
        if answer is None:
            # Counted here, not where it is looked up: a request that waits for its turn is looked up again.
            answers.stats.misses += 1
            end = trailer_at(data, at) if _COSTLIEST * len(data) <= self._dispatcher.max_values else None
            if end is None or end == len(data) or answers.callers.in_requests:
                return self._dispatcher.handle(data, key, caller)
            call = key[: end - len(data)]
            answer = cache.find(call)
            if answer is None or not trailer_fits(data, end):
                made = self._dispatcher.handle(data, key, caller)
                cache.learn(key, call)
                return made
            if self._seen.before(key):
                cache.learn(call, key)
        if not answers.give(answer):
            return self._dispatcher.handle(data, key, caller)
        return answer.frame_for(request_id)

    def handle(self, data: bytes, key: bytes | None, caller: Caller) -> bytes | Awaitable[bytes]:
        """Answer one frame that has no key (see :class:`tars_protocol.handlers.Handler`)."""
        self._answers.stats.misses += 1
        return self._dispatcher.handle(data, key, caller)


_SLOT: Final = (1 << 17) - 1
"""The last of the slots, of eight bytes each. Of 10,000 requests that come again and again one in 13 meets another in
its slot."""


class Seen:
    """Tells what was seen not long ago, in a fixed 1 MiB.

    Each thing has one slot, which holds the hash of what came last. Whoever shares a slot, of things that take turns,
    is never known; whatever shares the hash as well is taken for known, which costs a place and no more.
    Hashes of bytes are keyed anew in each process: nobody outside can choose to meet another.
    """

    __slots__ = ("_slots",)

    def __init__(self) -> None:
        self._slots = array("q", bytes(8 * (_SLOT + 1)))

    def before(self, key: bytes) -> bool:
        """True where this came before; from now on it has."""
        mark = hash(key)
        slot = mark & _SLOT
        if self._slots[slot] == mark:
            return True
        self._slots[slot] = mark
        return False
