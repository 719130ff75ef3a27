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
from tars_protocol.connection import Caller
from tars_protocol.dispatch import Dispatcher
from tars_protocol.packets import request_id_span, trailer_at, trailer_fits

_COSTLIEST: Final = max(COSTS)
"""Values that one byte of a frame may count for at most: so a frame of a third as many bytes is within the budget."""


class Alike:
    """Answers frames whose bytes are not known, by what is known of their call where that is enough."""

    __slots__ = ("_answers", "_dispatcher", "_seen")

    def __init__(self, answers: Answers, dispatcher: Dispatcher) -> None:
        self._answers = answers
        self._dispatcher = dispatcher
        self._seen = Seen()

    def handle(self, data: bytes, key: bytes | None, caller: Caller) -> bytes | Awaitable[bytes]:
        """Answer one frame (see :class:`tars_protocol.connection.Handler`)."""
        dispatcher, answers = self._dispatcher, self._answers
        span = request_id_span(data) if key is not None else None
        if key is None or span is None:
            answers.stats.misses += 1
            return dispatcher.handle(data, key, caller)
        start, end = span
        answer = answers.cache.find(key)
        if answer is None:
            # Counted here, not where it is looked up: a request that waits for its turn is looked up again.
            answers.stats.misses += 1
            at = trailer_at(data, end) if _COSTLIEST * len(data) <= dispatcher.max_values else None
            if at is None or at == len(data) or answers.callers.in_requests:
                return dispatcher.handle(data, key, caller)
            call = key[: at - len(data)]
            answer = answers.cache.find(call)
            if answer is None or not trailer_fits(data, at):
                made = dispatcher.handle(data, key, caller)
                answers.cache.learn(key, call)
                return made
            if self._seen.before(key):
                answers.cache.learn(call, key)
        if not answers.give(answer):
            return dispatcher.handle(data, key, caller)
        return answer.heads[end - start] + data[start:end] + answer.tail if answer.heads else b""


_SLOTS: Final = 1 << 18
"""Of four bytes each. Of 10,000 requests that come again and again one in 26 meets another in its slot."""


class Seen:
    """Tells what was seen not long ago, in a fixed 1 MiB.

    Each thing has one slot, which holds a part of the hash of what came last. Whoever shares a slot, of things that
    take turns, is never known; whatever shares the hash as well is taken for known, which costs a place and no more.
    Hashes of bytes are keyed anew in each process: nobody outside can choose to meet another.
    """

    __slots__ = ("_slots",)

    def __init__(self) -> None:
        self._slots = array("I", bytes(4 * _SLOTS))

    def before(self, key: bytes) -> bool:
        """True where this came before; from now on it has."""
        number = hash(key)
        slot, mark = number & (_SLOTS - 1), number >> 18 & 0xFFFF_FFFF
        if self._slots[slot] == mark:
            return True
        self._slots[slot] = mark
        return False
