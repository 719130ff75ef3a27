"""The answers that are kept, and the bytes of the requests that lead to them.

Two keys lead to an answer. Behind the raw key, the frame as it came but for its length and request id, stands the
question itself with the form of its answer, because callers' bytes differ for one question: old endpoint lists, node
names.

An answer belongs to the server that it is about, through a cell. A change of that server gives the cell a new stamp;
an answer that still has the old one is stale, and is made again when it is next asked for. So a change costs nothing
but the answers that depend on it, and a raw key stays good for as long as it is kept.

Memory is bounded by two generations: what is used moves to the young one; when that is full the old one is dropped, a
few entries at a time, as to give a hundred thousand back at once would hold everybody up.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Final

from registry.routing.select import Question
from tars_protocol.packets import Reply
from tars_protocol.settings import setting

_RAW_OVERHEAD: Final = 200
"""Bytes that a raw key takes beside its own: two dict slots and the bytes object."""

_ANSWER_OVERHEAD: Final = 1_000
"""Bytes that an answer takes beside its frame and the text of its question: the objects around them. A third of it is
what stands before the id, which others nearly always share; who asks with ever new message types shares none."""

_GIVEN_BACK: Final = 8
"""Entries that are given back for each that is kept, which may be two: what was dropped is gone before the next is."""


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """What the kept answers may use up."""

    cache_bytes: int = setting(
        64 << 20,
        "Memory for answers and the requests that lead to them, as estimated; what was not used for long goes first.",
        unit="bytes",
        minimum=0,
    )
    cache_entries: int = setting(
        200_000,
        "Requests and answers kept at most, however small they are.",
        minimum=0,
    )


class Stamp:
    """When an answer was good: ``state`` of its server (another object after each change), ``policies`` before it.

    Cells that nothing has happened to share one.
    """

    __slots__ = ("policies", "state")

    def __init__(self, policies: int, state: object = None) -> None:
        self.policies = policies
        self.state = state or object()


class Cell:
    """What ties answers to the server that they are about; ``stamp`` is another object after each change for them."""

    __slots__ = ("__weakref__", "stamp")

    def __init__(self, stamp: Stamp) -> None:
        self.stamp = stamp


class Tally:
    """How often one function was answered with one result."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


@dataclass(frozen=True, slots=True)
class Form:
    """What an answer's bytes depend on beside the question."""

    version: int
    message_type: int
    one_way: bool
    reached: str
    """The address that the caller connected to, for the registry's own objects; "" for all others."""


class Answer(Reply):
    """A reply that is kept, and what is needed to make it again."""

    __slots__ = ("cell", "form", "question", "stamp", "tally", "text_bytes")

    def __init__(self, question: Question, form: Form, cell: Cell) -> None:
        super().__init__((), b"")
        self.question = question
        self.form = form
        self.cell = cell
        self.stamp: Stamp | None = None
        self.tally = Tally()
        self.text_bytes = _text_bytes(question)

    def given(self, times: int) -> None:
        """It was given again, so many times, without being looked up each time."""
        self.tally.count += times

    @property
    def cost(self) -> int:
        """Bytes of memory that it takes."""
        return self.size + self.text_bytes + _ANSWER_OVERHEAD


class _Generation:
    """Answers by raw key and by question, and the memory that they take."""

    __slots__ = ("answers", "bytes", "raw")

    def __init__(self) -> None:
        self.raw: dict[bytes, Answer] = {}
        self.answers: dict[tuple[Question, Form], Answer] = {}
        self.bytes = 0


class AnswerCache:
    """Answers by the bytes of requests, and by question and form, within limits."""

    def __init__(self, limits: CacheLimits) -> None:
        # Two generations share the limits.
        self._max_bytes = limits.cache_bytes // 2
        self._max_entries = limits.cache_entries // 2
        self._young = _Generation()
        self._old = _Generation()
        self._dropped: list[dict[Any, Answer]] = []
        """What is not kept any more and not given back yet."""
        self.dropped = 0
        """Entries given up to stay within the limits."""

    def lookup(self, key: bytes) -> Answer | None:
        """The answer to a request that was seen before, given now, if it is still as it was made.

        One that is stale is not: to make it again takes a thousand times as long.
        """
        # As in find, but without a call: this is the hot path.
        answer = self._young.raw.get(key)
        if answer is None:
            answer = self._old.raw.get(key)
            if answer is None:
                return None
            self.keep(key, answer)
        if answer.stamp is not answer.cell.stamp:
            return None
        answer.tally.count += 1
        return answer

    def find(self, key: bytes) -> Answer | None:
        """The answer to a request that was seen before, stale or not; not counted as given. It is young again."""
        answer = self._young.raw.get(key)
        if answer is None:
            answer = self._old.raw.get(key)
            if answer is not None:
                self.keep(key, answer)
        return answer

    def find_made(self, question: Question, form: Form) -> Answer | None:
        """The answer to a question in a form, stale or not."""
        named = (question, form)
        return self._young.answers.get(named) or self._old.answers.get(named)

    def learn(self, known: bytes, key: bytes) -> None:
        """From now on look up ``key`` with the same result as ``known``, if there is one."""
        answer = self._young.raw.get(known) or self._old.raw.get(known)
        if answer is not None:
            self.keep(key, answer)

    def keep(self, key: bytes, answer: Answer) -> None:
        """Put an answer into the young generation, under its question and a raw key."""
        young = self._young
        named = (answer.question, answer.form)
        own = len(key) + _RAW_OVERHEAD
        cost = own if named in young.answers else own + answer.cost
        if young.bytes + cost > self._max_bytes or len(young.raw) + len(young.answers) + 2 > self._max_entries:
            cost = own + answer.cost
            if cost > self._max_bytes or self._max_entries < 2:
                return
            self._turn()
            young = self._young
        if key not in young.raw:  # It is there after an answer that could not be made.
            young.bytes += cost
        young.answers[named] = answer
        young.raw[key] = answer
        if self._dropped:
            self._give_back()

    def resized(self, answer: Answer, by: int) -> None:
        """An answer that may be kept takes so many bytes more than it did."""
        if (answer.question, answer.form) in self._young.answers:
            self._young.bytes += by
            if self._young.bytes > self._max_bytes:
                # Answers that grow, as the table fills, must not take more than there is by hits alone.
                self._turn()

    def forget_requests(self) -> None:
        """Forget which requests led to the answers; those stay."""
        for generation in (self._young, self._old):
            generation.bytes -= sum(len(key) + _RAW_OVERHEAD for key in generation.raw)
            self._dropped.append(generation.raw)
            generation.raw = {}

    def _turn(self) -> None:
        """Make the young generation the old one, and drop that."""
        old = self._old
        self.dropped += len(old.raw) + len(old.answers)
        self._dropped += (old.raw, old.answers)
        self._old, self._young = self._young, _Generation()

    def _give_back(self) -> None:
        entries = self._dropped[-1]
        for _ in range(min(_GIVEN_BACK, len(entries))):
            entries.popitem()
        if not entries:
            self._dropped.pop()

    @property
    def entries(self) -> int:
        """Raw keys and answers kept."""
        return sum(len(g.raw) + len(g.answers) for g in (self._young, self._old))

    @property
    def bytes(self) -> int:
        """Memory that is kept, as estimated."""
        return self._young.bytes + self._old.bytes


def _text_bytes(question: Question) -> int:
    """Memory of what the caller wrote, of any length: the id, its lower case in the cells, a station or set."""
    texts = [question.argument]
    if question.id is not None:
        texts += [question.id.app, question.id.server] * 2 + [question.id.servant]
    return sum(map(sys.getsizeof, texts))
