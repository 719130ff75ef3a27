"""The cursor that every decoder reads through: the one place where lengths, counts and nesting are checked.

It always holds the head of the next field (``tag``, ``type``), already taken from the buffer, so that a caller can look
before it reads. Reading or skipping a value takes its body and then the head after it. Where there is no next field,
``tag`` is ``END`` (above every tag) and ``type`` tells why: ``STRUCT_END`` or ``BUFFER_END``.

Rules kept here, all from the C++ runtime: fields are looked for going forward only, so a tag that was passed is
unknown and the first of two equal tags counts; an integer may be narrower than declared; lengths and counts are held
against the bytes that remain before anything is made of them.
"""

from __future__ import annotations

import struct
from typing import Final, NoReturn

from jce import wire
from jce.errors import DecodeError, Reason

END: Final = 256
BUFFER_END: Final = -1

_int16 = struct.Struct(">h").unpack_from
_int32 = struct.Struct(">i").unpack_from
_uint32 = struct.Struct(">I").unpack_from
_int64 = struct.Struct(">q").unpack_from

_NEVER: Final = 1 << 40
"""In ``_SIZES``: more than any buffer holds, where the type alone does not tell the length."""

_SIZES: Final = (1, 2, 4, 8, 4, 8, *[_NEVER] * 6, 0, _NEVER)
"""Body length by type code."""

_CONTAINERS: Final = frozenset((wire.LIST, wire.MAP, wire.STRUCT_BEGIN))
_STRINGS: Final = frozenset((wire.STRING1, wire.STRING4))

_COUNT: Final = wire.COSTS[wire.INT8]
_INSIDE_SIMPLE_LIST: Final = 2 * wire.COSTS[wire.INT8]
"""What is given back of the budget before the heads inside a container are read, which are no values of their own."""

_USUAL: Final = bytes(
    wire.COSTS[byte & 15] if byte & 15 < len(wire.COSTS) and byte < 0xF0 else 0 for byte in range(256)
)
"""By head byte: what the value counts for, where that byte is a whole head; 0 where it is none of a value."""

_NO_HEAD: Final = 0xFF

_FIELDS: Final = -2
_STRUCT: Final = -1
"""In ``_skip_below``: fields outside of all containers skipped, and those of a struct: there is no count of them."""


class Cursor:
    """A place in one buffer of JCE fields, which goes forward only: heads, bodies without their meaning, skipping.

    ``max_values`` bounds the values read and skipped, as ``wire.COSTS`` counts them; what is left of it afterwards is
    ``budget``, so that several buffers of one frame can share one bound. Every method raises :class:`DecodeError` and
    nothing else.
    """

    __slots__ = ("_end", "at", "budget", "data", "pos", "tag", "type")

    def __init__(self, data: bytes, max_values: int = wire.DEFAULT_MAX_VALUES) -> None:
        self.data = data
        self.pos = 0
        self._end = len(data)
        self.budget = max_values
        self.at = 0
        """Offset of the head that is held."""
        self.tag = END
        self.type = BUFFER_END
        self._head()

    # -- heads ---------------------------------------------------------------------------------------------------

    def _head(self) -> None:
        """Take the head of the next field."""
        pos = self.at = self.pos
        if pos >= self._end:
            self.tag = END
            self.type = BUFFER_END
            return
        byte = self.data[pos]
        cost = _USUAL[byte]
        if cost:
            self.pos = pos + 1
            self.tag = byte >> 4
            self.type = byte & 15
            self.budget -= cost
            if self.budget < 0:
                self._limit("more values than a frame may hold")
        else:
            self._unusual_head(byte)

    def _unusual_head(self, byte: int) -> None:
        """A head of two bytes, the end of a struct, or no head at all."""
        tag = byte >> 4
        pos = self.pos + 1
        if tag == 15:
            if pos >= self._end:
                self._malformed("truncated head")
            tag = self.data[pos]
            pos += 1
        self.pos = pos
        kind = self.type = byte & 15
        if kind > wire.STRUCT_BEGIN:
            if kind == wire.STRUCT_END:
                if tag:
                    self._malformed(f"struct end with tag {tag}")
                self.tag = END
                return
            if kind > wire.SIMPLE_LIST:
                self._malformed(f"unknown type {kind}")
        self.tag = tag
        self.budget -= wire.COSTS[kind]
        if self.budget < 0:
            self._limit("more values than a frame may hold")

    def seek(self, tag: int, nesting: int) -> bool:
        """Go forward to the field with this tag, over the lower ones. False where there is none."""
        if self.tag < tag:
            self._skip_below(tag, nesting)
        return self.tag == tag

    def item(self, tag: int) -> None:
        """Check that an element, key or value of a container is what comes next: its tag is fixed."""
        if self.tag != tag:
            self._malformed(
                f"expected a value with tag {tag}, found {self._found()}"
                if self.tag == END
                else f"expected a value with tag {tag}, found tag {self.tag}"
            )

    # -- skipping ------------------------------------------------------------------------------------------------

    def _skip_below(self, tag: int, nesting: int) -> None:
        """Skip the field that is held and those after it, as long as their tags are below ``tag``. Never recurses.

        Most of what callers send goes through here (their old endpoint lists). So the usual spellings are read in this
        loop, and what is unusual or wrong by the methods that know every case.

        ``left`` says what is still to come of the innermost open container: so many values of a list, so many keys and
        values of a map, or ``_STRUCT``, whose end has a mark; ``outer`` keeps the same for those around it.
        """
        if self.tag >= tag:
            return
        data, end = self.data, self._end
        at, pos, kind = self.at, self.pos, self.type
        left, is_map = _FIELDS, False
        outer: list[tuple[int, bool]] = []
        while True:
            # The body of the value whose head was taken.
            after = pos + 1 + data[pos] if kind == wire.STRING1 and pos < end else pos + _SIZES[kind]
            if after > end and kind == wire.STRING4 and end - pos >= 4:
                after = pos + 4 + _uint32(data, pos)[0]
            if after <= end:
                pos = after
            else:
                self.at, self.pos, self.type = at, pos, kind
                if kind in _CONTAINERS:
                    self._check_nesting(nesting + len(outer))
                    outer.append((left, is_map))
                    is_map = kind == wire.MAP
                    left = _STRUCT if kind == wire.STRUCT_BEGIN else self._items(2) * 2 if is_map else self._items(1)
                else:
                    self._step_over()
                pos = self.pos
            # The head of the next, once every container is left that has come to its end.
            while True:
                if left == 0:
                    left, is_map = outer.pop()
                    continue
                at = pos
                byte = data[pos] if pos < end else _NO_HEAD
                if left == _STRUCT and byte == wire.STRUCT_END:
                    pos += 1
                    left, is_map = outer.pop()
                    continue
                # A map has an even number of values to come before each key, an odd one before each value.
                wanted = left & 1 if is_map else 0
                cost = _USUAL[byte]
                if cost and cost <= self.budget and (byte >> 4 == wanted if left > 0 else left == _STRUCT):
                    self.budget -= cost
                    pos += 1
                    kind = byte & 15
                else:
                    self.pos = pos
                    self._head()
                    pos, kind = self.pos, self.type
                    if left > 0:
                        self.item(wanted)
                    elif left == _FIELDS:
                        if self.tag >= tag:
                            return
                    elif kind == BUFFER_END:
                        self._malformed("struct without an end")
                    elif kind == wire.STRUCT_END:
                        left, is_map = outer.pop()
                        continue
                if left > 0:
                    left -= 1
                break

    # -- bounds --------------------------------------------------------------------------------------------------

    def _take(self, length: int, what: str) -> int:
        """Step over ``length`` bytes of a body; where they began."""
        pos = self.pos
        if length > self._end - pos:
            self._malformed(f"truncated {what}: {length} bytes wanted, {self._end - pos} left")
        self.pos = pos + length
        return pos

    def _step_over(self) -> None:
        """Step over the body of a value that is no list, map or struct; the head after it is not taken."""
        kind = self.type
        if kind == wire.SIMPLE_LIST:
            self._simple_list_span()
        elif kind in _STRINGS:
            self._string_span("string")
        else:
            self._take(_SIZES[kind], wire.TYPE_NAMES[kind])

    def _string_span(self, declared: str) -> tuple[int, int]:
        kind = self.type
        if kind == wire.STRING1:
            length = self.data[self._take(1, "string length")]
        elif kind == wire.STRING4:
            length = _uint32(self.data, self._take(4, "string length"))[0]
        else:
            self._mismatch(declared)
        start = self._take(length, "string")
        return start, self.pos

    def _simple_list_span(self) -> tuple[int, int]:
        self.budget += _INSIDE_SIMPLE_LIST
        self._head()
        if self.tag != 0 or self.type != wire.INT8:
            self._malformed("simple list of anything but bytes")
        self._head()
        length = self._length()
        start = self._take(length, "simple list")
        return start, self.pos

    def _count(self, width: int) -> int:
        """The count of a container, as ``_items``; then the head after it."""
        count = self._items(width)
        self._head()
        return count

    def _items(self, width: int) -> int:
        """The count of a container, whose items take at least ``width`` bytes each; the head after it is not taken."""
        self.budget += _COUNT
        self._head()
        count = self._length()
        if count * width > self._end - self.pos:
            self._malformed(f"{count} items declared, {self._end - self.pos} bytes left")
        return count

    def _length(self) -> int:
        if self.tag != 0:
            self._malformed("a count must have tag 0")
        if self.type != wire.ZERO and not wire.INT8 <= self.type <= wire.INT32:
            self._malformed("a count must be an integer of at most 32 bits")
        length = self._integer(wire.INT32, "count")
        if length < 0:
            self._malformed(f"negative count {length}")
        return length

    def _check_nesting(self, nesting: int) -> None:
        if nesting >= wire.MAX_NESTING:
            self._limit(f"nested more than {wire.MAX_NESTING} deep")

    def _integer(self, widest: int, declared: str) -> int:
        """Body of an integer no wider than ``widest`` (a type code); the head after it is not taken."""
        kind = self.type
        pos = self.pos
        if kind == wire.ZERO:
            return 0
        if not 0 <= kind <= widest:
            self._mismatch(declared)
        end = pos + _SIZES[kind]
        if end > self._end:
            self._malformed("truncated integer")
        self.pos = end
        if kind == wire.INT8:
            byte = self.data[pos]
            return byte - 256 if byte > 127 else byte
        unpack = _int16 if kind == wire.INT16 else _int32 if kind == wire.INT32 else _int64
        value: int = unpack(self.data, pos)[0]
        return value

    # -- errors --------------------------------------------------------------------------------------------------

    def missing(self) -> DecodeError:
        """The error for a required field that is not there."""
        return DecodeError(Reason.MISSING, "required field is missing", self.at)

    def _found(self) -> str:
        return "the end" if self.type == BUFFER_END else wire.TYPE_NAMES[self.type]

    def _mismatch(self, declared: str) -> NoReturn:
        raise DecodeError(Reason.MISMATCH, f"expected {declared}, found {self._found()}", self.at)

    def _malformed(self, detail: str) -> NoReturn:
        raise DecodeError(Reason.MALFORMED, detail, self.at)

    def _limit(self, detail: str) -> NoReturn:
        raise DecodeError(Reason.LIMIT, detail, self.at)
