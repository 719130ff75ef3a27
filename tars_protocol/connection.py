"""One connection without I/O: bytes that came in, bytes to send.

There is one way in, :meth:`Connection.receive`: each frame without its request id is the key for ``lookup``, which the
server injects; what it finds is a whole answer but for the request id. Only a frame that it does not know is handed to
``near``, if there is one, or to ``handle`` to be decoded. Nearly every read is one whole frame, laid out as the one
before it, whose answer is known: that takes the first lines of ``receive``, and no other.

Everything here can be driven with whole reads or one byte at a time, with the same result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Final

from tars_protocol.errors import FrameError
from tars_protocol.frames import DEFAULT_MAX_FRAME_BYTES, HEADER_BYTES, MIN_FRAME_BYTES, FrameReader, length_at
from tars_protocol.handlers import Caller, Handler, Load, Lookup, Near, Refused, unknown
from tars_protocol.packets import KEY_ID, SERVANT_HEADS, Reply, layout_of, split_request
from tars_protocol.refusals import overloaded, speaks
from tars_protocol.runs import answer_run
from tars_protocol.turns import Turns

DEFAULT_MAX_UNSENT_BYTES: Final = 1 << 18
"""One read may hold thousands of small questions, and an answer be thousands of times as long."""

DEFAULT_MAX_OUTSTANDING: Final = 100

_AT_A_TIME: Final = 32
"""Frames with known answers between two looks at the clock: about 30 µs."""

_IN_ITS_TURN: Final = 8
"""The same of a connection that had to wait: its share of the time may be less than for one that is to be decoded."""

_FEW: Final = 4
"""From so many frames that ask the same on it takes less to take them apart together."""

_ITS_OWN, _OPEN, _FOR_KNOWN, _OVER = range(4)
"""In whose time a connection answers: its own, as it had to wait for its turn; that of all who come before the stretch
is used up; what is left of it for rows of known answers; nobody's, so that it has the time of one look-up."""

_OVER_RATE: Final = "more requests a second than max_requests_per_peer"


class Connection:
    """The server's end of one connection.

    ``scope`` stands before every key: what answers depend on beside the caller's bytes; another may be set at any time,
    for the reads after that. Once ``error`` is set the connection is over: send what ``receive`` returned, then close.

    One call of ``receive`` does no more than is good for the others. The bytes after that are ``held``: once it has
    more than ``max_unsent_bytes`` to send; once the stretch is over that it shares with others (``turns``); once
    ``max_outstanding`` answers are under way.
    """

    __slots__ = (
        "_admit",
        "_admitted",
        "_frames",
        "_handle",
        "_layout",
        "_lookup",
        "_max_frame",
        "_max_unsent",
        "_near",
        "_prefix",
        "_scope",
        "_screened",
        "_turns",
        "caller",
        "calm",
        "error",
        "late",
        "load",
        "max_outstanding",
        "outstanding",
        "pending",
        "version",
    )

    def __init__(
        self,
        caller: Caller,
        handle: Handler,
        lookup: Lookup = unknown,
        near: Near | None = None,
        *,
        scope: bytes = b"",
        max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES,
        max_unsent_bytes: int = DEFAULT_MAX_UNSENT_BYTES,
        max_outstanding: int = DEFAULT_MAX_OUTSTANDING,
        turns: Turns | None = None,
        load: Load | None = None,
    ) -> None:
        self.caller = caller
        self.error: FrameError | None = None
        self.pending: list[Awaitable[bytes]] = []
        """Answers that are not ready yet: whoever drives the connection takes them out, sends what they give, and calls
        ``answered`` for each."""
        self.outstanding = 0
        """Answers under way, ``pending`` or taken out."""
        self.max_outstanding = max_outstanding
        self.load = load or Load(1 << 62)
        self.version: int | None = None
        """The iVersion of its first request; None before, 0 where that could not be read."""
        self._admit: Callable[[], bool] | None = None
        self._admitted: bool | None = None
        """Whether the next frame may be answered, as ``admit`` said before it had to wait; None: it was not asked."""
        self._screened = True
        """New frames are to be looked at before they are answered: for the version, or by ``admit``."""
        self._turns = turns or Turns()
        self.calm = False
        """Nothing is to be done after ``receive`` but to send: nothing of a frame waits and nothing is held, no answer
        is pending, there is no error, and new frames need not be looked at."""
        self._frames = FrameReader(max_frame_bytes)
        self._max_frame = max_frame_bytes
        self._handle = handle
        self.late = False
        """What would have to be decoded is answered -9 instead, for it has waited too long."""
        self._lookup = lookup
        self._near = near
        self._max_unsent = max_unsent_bytes
        self._scope = scope
        self._learn(b"", 0)

    @property
    def scope(self) -> bytes:
        """What stands before every key."""
        return self._scope

    @scope.setter
    def scope(self, scope: bytes) -> None:
        self._scope = scope
        self._learn(b"", 0)

    @property
    def waiting(self) -> int:
        """Bytes held of a frame that is not complete; 0 between frames."""
        return self._frames.waiting

    @property
    def silent(self) -> bool:
        """True while not a byte has come."""
        return self.version is None and not self._frames.waiting and not self._frames.uncut and self.error is None

    @property
    def held(self) -> int:
        """Bytes whose turn has not come: receive b"" to go on, once what there was to send is sent, the others had
        their turn, and the connection is not ``full``."""
        return self._frames.uncut

    @property
    def full(self) -> bool:
        """True while so many answers are under way that no more is to be received."""
        return self.outstanding >= self.max_outstanding

    def answered(self) -> None:
        """An answer that was under way is there, or will never be."""
        self.outstanding -= 1
        self.load.in_flight -= 1

    def limit_rate(self, admit: Callable[[], bool] | None) -> None:
        """From now on ask ``admit`` of each new frame whether it may be answered; the others get -9 without being
        decoded."""
        self._admit = admit
        self._admitted = None
        self._screened = admit is not None or self.version is None
        self._settle()

    @property
    def taken(self) -> int:
        """While it stays the same, ``waiting`` is of one frame."""
        return self._frames.taken

    def receive(self, data: bytes) -> bytes:
        """Take bytes as they came; the bytes to send for them. With none it is the turn of what is held."""
        into, unpack, start, low, high = self._layout
        if self.calm and len(data) > into:
            # This is the hot path.
            length, head, request_id = unpack(data)
            if length == len(data) <= self._max_frame:
                if head == start and low < request_id < high:
                    key = self._prefix + data[into:]
                    reply = self._lookup(key)
                    if reply is not None:
                        heads = reply.heads
                        return heads[len(request_id)] + request_id + reply.tail if heads else b""
                    if data[into] in SERVANT_HEADS:
                        return self._alone(data, key, request_id, into)
                return self._whole(data)
        if self.error is not None:
            return b""
        frames = self._frames
        at, fresh = 0, False
        if not data:
            data, at, turn = frames.data, frames.at, _ITS_OWN
        else:
            fresh = self.calm
            if not fresh:
                waits = frames.uncut
                if not frames.add(data) or waits:
                    return b""
                data = frames.data
            turn = self._turn(len(data))
        out: list[bytes] = []
        at = self._answer(out, data, at, turn)
        if not self.calm or at < len(data):
            if fresh:
                frames.add(data)
            self._keep(at)
        return b"".join(out)

    def forget(self) -> None:
        """Give up what is held: the connection is gone."""
        self._frames.clear()

    def _turn(self, size: int) -> int:
        """In whose time to answer what came just now, so many bytes."""
        turns = self._turns
        turns.come(self, size)
        if turns.room < 0 or turns.known_left < 0:
            return _OVER
        return _FOR_KNOWN if turns.left < 0 or turns.crowded else _OPEN

    def _keep(self, at: int) -> None:
        """Hold what was not answered, from ``at`` on, unless the connection is over; find out how things are."""
        frames = self._frames
        if self.error is not None:
            frames.clear()
        else:
            frames.advance(at)
            self.error = frames.error
        self._settle()

    def _answer(self, out: list[bytes], data: bytes, at: int, turn: int) -> int:
        """Put the answers to the frames from ``at`` on into ``out``, of as many as there may be now; where it ended."""
        turns = self._turns
        room = turns.room
        if room < 0:
            return at
        if room > self._max_unsent:
            room = self._max_unsent
        had_room = room
        max_frame, screened = self._max_frame, self._screened
        lookup = unknown if screened else self._lookup
        began = perf_counter()
        if turn == _ITS_OWN:
            until = known_until = began + turns.share
            at_a_time = ahead = _IN_ITS_TURN
        else:
            until, known_until = began + turns.left, began + turns.known_left
            at_a_time = ahead = _AT_A_TIME
            if turn == _OVER:
                ahead, until, known_until = 1, began, began
        only_known = turn >= _FOR_KNOWN
        size = len(data)
        last = size - HEADER_BYTES
        (into, unpack, start, low, high), prefix = self._layout, self._prefix
        usual_until = size - into
        key: bytes | None = None
        reply: Reply | None = None
        request_id, asked, again = b"", b"", 0
        piece, tail, sent = b"", b"", 0
        while at <= last:
            # As FrameReader.end_of, but without a call.
            if at < usual_until:
                length, head, request_id = unpack(data, at)
                usual = head == start and low < request_id < high and length > into
            else:
                length, usual = length_at(data, at)[0], False
            stop = at + length
            if stop > size or not MIN_FRAME_BYTES <= length <= max_frame:
                break
            if usual and (behind := data[at + into : stop]) == asked:
                # The same question in a row has the same answer.
                again += 1
            else:
                if again and reply is not None:
                    reply.given(again)
                asked, again = b"", 0
                if not usual:
                    key, request_id = self._split(data, at, stop)
                    (into, unpack, start, low, high), prefix = self._layout, self._prefix
                    usual_until = size - into
                    reply = None if key is None else lookup(key)
                else:
                    key = prefix + behind
                    reply = lookup(key)
                    if reply is not None:
                        asked = behind
                    elif data[at + into] not in SERVANT_HEADS:
                        key = None
                if reply is not None:
                    piece, tail = reply.heads[len(request_id)] if reply.heads else b"", reply.tail
                    sent = len(tail)
            if reply is not None:
                at = stop
                ahead -= 1
                if piece:
                    out += (piece, request_id, tail)
                    room -= sent
                    if room < 0:
                        break
                    if (
                        again
                        and data.startswith(asked, at + into + (_FEW - 1) * length)
                        and data.startswith(asked, at + into)
                    ):
                        most = (size - at) // length
                        if most > ahead:
                            most = ahead
                        if most * sent > room:
                            most = room // sent
                        run = answer_run(out, data[at : at + most * length], self._layout, length, asked, piece, tail)
                        again += run
                        ahead -= run
                        room -= run * sent
                        at += run * length
                if ahead:
                    continue
                if perf_counter() >= known_until:
                    break
                ahead = at_a_time
                continue
            frame = data[at:stop]
            answer = self._screen(frame, key, request_id, only_known) if screened else None
            if answer is None:
                if only_known:
                    break
                answer = self._too_late(frame) if self.late else self._missed(frame, key, request_id, into)
            at = stop
            out.append(answer)
            room -= len(answer)
            if self.error is not None or self.outstanding >= self.max_outstanding:
                break
            if room < 0 or perf_counter() >= until:
                break
        if again and reply is not None:
            reply.given(again)
        spent = perf_counter() - began
        turns.left -= spent
        turns.known_left -= spent
        turns.room -= had_room - room
        return at

    def _whole(self, frame: bytes) -> bytes:
        """What there is to send for one whole read that starts otherwise than the last."""
        key, request_id = self._split(frame, 0, len(frame))
        reply = None if key is None else self._lookup(key)
        return self._alone(frame, key, request_id, self._layout[0]) if reply is None else reply.frame_for(request_id)

    def _alone(self, frame: bytes, key: bytes | None, request_id: bytes, at: int) -> bytes:
        """What there is to send for one whole read whose answer is not known; it may have to wait for its turn."""
        turns = self._turns
        turns.come(self, len(frame))
        if turns.left < 0 or turns.crowded:
            self._frames.add(frame)
            self.calm = False
            return b""
        began = perf_counter()
        answer = self._missed(frame, key, request_id, at)
        turns.left -= perf_counter() - began
        return answer

    def _split(self, data: bytes, at: int, stop: int) -> tuple[bytes | None, bytes]:
        """The key of a frame and its request id, where it starts otherwise than the last; None where it has no key."""
        found = split_request(data, at, stop)
        if found is None:
            return None, b""
        before, request_id, behind = found.groups()
        self._learn(before, len(request_id))
        return self._prefix + behind, request_id

    def _learn(self, before: bytes, width: int) -> None:
        """Expect requests with these bytes before an id of this width."""
        self._layout = layout_of(before, width)
        self._prefix = self._scope + before + KEY_ID

    def _missed(self, frame: bytes, key: bytes | None, request_id: bytes, at: int) -> bytes:
        """What there is to send for a frame whose answer was not known."""
        answer: bytes | Awaitable[bytes]
        try:
            if key is not None and self._near is not None:
                answer = self._near(frame, key, request_id, at, self.caller)
            else:
                answer = self._handle(frame, key, self.caller)
        except Refused as error:
            # Not itself: its trace would hold this connection and the frame until garbage is next collected.
            self.error = Refused(error.reason, str(error))
            self.calm = False
            return b""
        if isinstance(answer, bytes):
            return answer
        self.pending.append(answer)
        self.outstanding += 1
        self.load.in_flight += 1
        self.calm = False
        return b""

    def _too_late(self, frame: bytes) -> bytes:
        """What there is to send for a frame that is not decoded any more."""
        refusal = self._overloaded(frame, "too many requests wait to be decoded: ask again")
        self._turns.refused += self.error is None
        return refusal

    def _overloaded(self, frame: bytes, why: str) -> bytes:
        refusal = overloaded(frame, why)
        if refusal is None:
            # Nothing says whom the answer would be for: as every other frame that is no request.
            self.calm = False
            self.error = Refused("undecodable", "not a request")
            return b""
        return refusal

    def _settle(self) -> None:
        """Find out whether all is as it nearly always is."""
        self.calm = not (self._screened or self.pending or self.error is not None) and self._frames.empty

    def _screen(self, frame: bytes, key: bytes | None, request_id: bytes, only_known: bool) -> bytes | None:
        """What there is to send for a new frame that is to be looked at; None where it is to be decoded, or has to wait
        for its turn: a refusal takes as long."""
        if self.version is None:
            self.version = speaks(frame) or 0
            self._screened = self._admit is not None
        if self._admit is not None:
            admitted = self._admit() if self._admitted is None else self._admitted
            self._admitted = admitted if only_known else None
            if not admitted:
                return None if only_known else self._overloaded(frame, _OVER_RATE)
        reply = self._lookup(key) if key is not None else None
        if reply is None:
            return None
        self._admitted = None
        return reply.frame_for(request_id)
