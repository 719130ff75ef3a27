"""Runs: requests that ask the same, one right behind the other in one read. Only their ids are different."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from struct import Struct

from tars_protocol.frames import HEADER_BYTES
from tars_protocol.packets import Layout


@lru_cache(256)
def _run_of(head: bytes, width: int, length: int) -> tuple[Callable[[bytes], Iterator[tuple[bytes, ...]]], bytes]:
    """What takes frames of this length apart that have ``head`` before an id of this width: into all before the id's
    value, the value, and all behind it. And the first of these three."""
    start = length.to_bytes(HEADER_BYTES, "big") + head
    return Struct(f"{len(start)}s{width}s{length - len(start) - width}s").iter_unpack, start


def answer_run(
    out: list[bytes], frames: bytes, layout: Layout, length: int, asked: bytes, piece: bytes, tail: bytes
) -> int:
    """Put answers into ``out`` for each of the frames, up to one that does not ask the same; how many did.

    ``frames`` is a whole number of times ``length``, that of each. They are laid out as ``layout`` says, and ask what
    stands behind the id, ``asked``. ``piece`` and ``tail`` are what an answer has before and behind the id.
    """
    into, _, head, low, high = layout
    apart, start = _run_of(head, into - HEADER_BYTES - len(head), length)
    had = len(out)
    for before, request_id, behind in apart(frames):
        if before != start or behind != asked or not low < request_id < high:
            break
        out += (piece, request_id, tail)
    return (len(out) - had) // 3
