"""Frames: the same ones however the bytes come, and no more memory than they are worth."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tars_protocol.frames import DEFAULT_MAX_FRAME_BYTES, FrameReader, frame
from tests.tars_protocol.shared import CUTS, bytewise, pieces

PACKETS = st.lists(st.binary(min_size=1, max_size=60), max_size=6)
BAD_LENGTHS = (0, 1, 2, 3, 4, 101, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
MAX = 100


def feed(parts: Iterable[bytes], reader: FrameReader | None = None) -> tuple[list[bytes], str | None]:
    """All frames, and the reason of the error."""
    reader = reader or FrameReader(MAX)
    frames = [frame for part in parts for frame in reader.feed(part)]
    return frames, reader.error.reason if reader.error else None


@given(PACKETS, CUTS)
@example([b"x"], [1, 2, 3, 4])
def test_frames_do_not_depend_on_how_the_bytes_are_cut(packets: list[bytes], cuts: list[int]) -> None:
    frames = [frame(packet) for packet in packets]
    stream = b"".join(frames)
    for parts in ([stream], bytewise(stream), list(pieces(stream, cuts))):
        assert feed(parts) == (frames, None)


@given(PACKETS, st.sampled_from(BAD_LENGTHS), st.binary(max_size=200), CUTS)
def test_frames_before_a_bad_length_are_given_and_nothing_after_it(
    packets: list[bytes], bad: int, rest: bytes, cuts: list[int]
) -> None:
    frames = [frame(packet) for packet in packets]
    stream = b"".join(frames) + bad.to_bytes(4, "big") + rest
    reason = "frame_too_short" if bad < 5 else "frame_too_long"
    for parts in ([stream], bytewise(stream), list(pieces(stream, cuts))):
        assert feed(parts) == (frames, reason)


@given(PACKETS, st.integers(1, 64), CUTS)
def test_half_a_frame_at_the_end_is_kept_and_counted(packets: list[bytes], kept: int, cuts: list[int]) -> None:
    last = frame(b"y" * 60)
    stream = b"".join(map(frame, packets)) + last[: min(kept, 63)]
    reader = FrameReader(MAX)
    frames, error = feed(pieces(stream, cuts), reader)
    assert (frames, error) == ([frame(packet) for packet in packets], None)
    assert reader.waiting == min(kept, 63)
    assert reader.feed(last[min(kept, 63) :]) == [last]
    assert reader.waiting == 0


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4])
def test_a_length_that_leaves_no_room_for_a_packet_is_refused(length: int) -> None:
    reader = FrameReader()
    assert reader.feed(length.to_bytes(4, "big") + b"more") == []
    assert reader.error is not None
    assert (reader.error.reason, str(reader.error)) == (
        "frame_too_short",
        f"a frame of {length} bytes; the least is 5",
    )


def test_the_least_and_the_longest_frame_are_taken() -> None:
    assert feed([frame(b"x")]) == ([b"\x00\x00\x00\x05x"], None)
    longest = frame(b"x" * (MAX - 4))
    assert feed([longest]) == feed(bytewise(longest)) == ([longest], None)
    full = frame(bytes(DEFAULT_MAX_FRAME_BYTES - 4))
    assert feed([full, full[:-1], full[-1:]], FrameReader()) == ([full, full], None)


@pytest.mark.parametrize("length", [MAX + 1, 1 << 31, (1 << 32) - 1])
def test_a_frame_that_is_too_long_is_refused_by_its_length_alone(length: int) -> None:
    """The four bytes are enough: nothing is kept for a body that would come."""
    reader = FrameReader(MAX)
    header = length.to_bytes(4, "big")
    assert feed([header[:3]], reader) == ([], None)
    assert feed([header[3:]], reader) == ([], "frame_too_long")
    assert str(reader.error) == f"a frame of {length} bytes; max_frame_bytes is {MAX}"
    assert reader.waiting == 0


@pytest.mark.parametrize("size", [MAX + 1, 10 * MAX])
def test_a_whole_frame_in_one_read_is_held_against_the_limit_too(size: int) -> None:
    assert feed([frame(b"x" * (size - 4))]) == ([], "frame_too_long")


def test_after_a_bad_length_even_a_whole_frame_is_not_taken() -> None:
    reader = FrameReader()
    reader.feed(b"\x00\x00\x00\x00")
    error = reader.error
    assert reader.feed(frame(b"x")) == []
    assert reader.feed(b"\x00") == reader.feed(b"") == []
    assert reader.error is error
    assert reader.waiting == 0


@pytest.mark.parametrize("step", [1, 2, 3, 5, 1000])
def test_a_large_frame_in_small_pieces_is_copied_a_constant_number_of_times(step: int) -> None:
    """Counts what is copied out of the buffer: a copy for each piece would be a thousand times as much."""

    class Buffer(bytearray):
        copied = 0

        def clear(self) -> None:
            Buffer.copied += len(self)
            super().clear()

    reader = FrameReader()
    reader._partial = Buffer()
    whole = frame(b"x" * 50_000)
    frames = [found for at in range(0, len(whole), step) for found in reader.feed(whole[at : at + step])]
    assert frames == [whole]
    assert len(whole) <= Buffer.copied < 2 * len(whole)


def test_memory_for_half_a_frame_is_about_what_came_of_it() -> None:
    """What the peer announces costs nothing until it comes, and then little more than once its size."""
    piece = b"x" * 1000
    tracemalloc.start()
    try:
        reader = FrameReader()
        reader.feed(DEFAULT_MAX_FRAME_BYTES.to_bytes(4, "big"))
        assert tracemalloc.get_traced_memory()[0] < 10_000
        for _ in range(DEFAULT_MAX_FRAME_BYTES // len(piece)):
            reader.feed(piece)
        assert reader.waiting > DEFAULT_MAX_FRAME_BYTES - 1000
        assert tracemalloc.get_traced_memory()[1] < 1.5 * DEFAULT_MAX_FRAME_BYTES
    finally:
        tracemalloc.stop()


def test_memory_is_given_back_after_a_large_frame() -> None:
    whole = frame(bytes(DEFAULT_MAX_FRAME_BYTES - 4))
    tracemalloc.start()
    try:
        reader = FrameReader()
        reader.feed(whole[:-1])
        assert len(reader.feed(whole[-1:] + b"\x00")) == 1
        assert reader.waiting == 1
        assert tracemalloc.get_traced_memory()[0] < 10_000
    finally:
        tracemalloc.stop()


def test_taken_grows_with_every_frame_that_came_in_pieces() -> None:
    """So that one who looks now and then can tell a frame that stalls from several that each came half."""
    reader = FrameReader()
    whole = frame(b"abc")
    reader.feed(whole[:3])
    assert (reader.taken, reader.waiting) == (0, 3)
    reader.feed(whole[3:] + whole[:5])
    assert (reader.taken, reader.waiting) == (len(whole), 5)
    reader.feed(whole[5:])
    assert (reader.taken, reader.waiting) == (2 * len(whole), 0)
    reader.feed(whole * 3)
    assert (reader.taken, reader.waiting) == (5 * len(whole), 0)


@given(PACKETS, st.binary(max_size=12), CUTS, st.data())
def test_frames_are_the_same_however_few_are_taken_at_a_time(
    packets: list[bytes], rest: bytes, cuts: list[int], data: st.DataObject
) -> None:
    """As a connection does it whose turn ends in the middle."""
    stream = b"".join(map(frame, packets)) + rest
    wanted = feed([stream])
    reader = FrameReader(MAX)
    frames: list[bytes] = []

    def some(most: int) -> None:
        at = reader.at
        for _ in range(most):
            stop = reader.end_of(at)
            if not stop:
                break
            frames.append(reader.data[at:stop])
            at = stop
        reader.advance(at)

    for part in pieces(stream, cuts):
        reader.add(part)
        for _ in range(data.draw(st.integers(0, 2))):
            some(data.draw(st.integers(0, 3)))
    some(len(stream))
    assert (frames, reader.error.reason if reader.error else None) == wanted
    assert reader.uncut == 0
    assert reader.waiting == (0 if reader.error else len(stream) - sum(map(len, frames)))


def test_no_more_is_kept_than_twice_what_is_counted_once_some_were_taken() -> None:
    """The frames that were taken do not stay for the sake of a few small ones behind them."""
    small = frame(b"s")
    reader = FrameReader()
    reader.add(frame(bytes(240_000)) + small * 3)
    reader.advance(reader.end_of(0))
    assert reader.uncut == 3 * len(small)
    assert len(reader.data) <= 2 * reader.uncut


def test_a_frame_that_is_not_complete_stays_so_where_nothing_was_cut() -> None:
    """To go on with nothing must not have the next byte copy all of it."""
    reader = FrameReader()
    whole = frame(bytes(1_000))
    reader.add(whole[:-2])
    reader.advance(0)
    need = reader._need
    reader.advance(0)
    assert (reader._need, reader.waiting, need) == (len(whole), len(whole) - 2, len(whole))
    assert not reader.add(whole[-2:-1])
    assert reader.feed(whole[-1:]) == [whole]
