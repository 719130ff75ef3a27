"""The cursor that every decoder reads through: the one place where lengths, counts and nesting are checked.

The reader always holds the head of the next field (``tag``, ``type``), already taken from the buffer, so that a
caller can look before it reads. Reading or skipping a value takes its body and then the head after it. Where there is
no next field, ``tag`` is ``END`` (above every tag) and ``type`` tells why: ``STRUCT_END`` or ``BUFFER_END``.

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
_float = struct.Struct(">f").unpack_from
_double = struct.Struct(">d").unpack_from

_WIDTHS: Final = (1, 2, 4, 8, 4, 8)
"""Body length by type code, for the types of fixed width that have a body."""

_COUNTED: Final = frozenset((wire.LIST, wire.MAP))
_CONTAINERS: Final = frozenset((wire.LIST, wire.MAP, wire.STRUCT_BEGIN))

_STRUCT: Final = -1
"""In ``skip``: the open container is a struct, which ends by its end mark and not by a count."""


class Reader:
    """A forward cursor over one buffer of JCE fields.

    ``max_values`` bounds the values read and skipped; what is left of it afterwards is ``budget``, so that several
    buffers of one frame can share one bound. Every method raises :class:`DecodeError` and nothing else.
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
        data = self.data
        if pos >= self._end:
            self.tag = END
            self.type = BUFFER_END
            return
        byte = data[pos]
        tag = byte >> 4
        pos += 1
        if tag == 15:
            if pos >= self._end:
                self._malformed("truncated head")
            tag = data[pos]
            pos += 1
        self.pos = pos
        kind = self.type = byte & 15
        if kind == wire.STRUCT_END:
            if tag:
                self._malformed(f"struct end with tag {tag}")
            self.tag = END
            return
        if kind > wire.SIMPLE_LIST:
            self._malformed(f"unknown type {kind}")
        self.tag = tag
        self.budget -= 1
        if self.budget < 0:
            self._limit("more values than a frame may hold")

    def seek(self, tag: int, nesting: int) -> bool:
        """Go forward to the field with this tag, over the lower ones. False where there is none."""
        while self.tag < tag:
            self.skip(nesting)
        return self.tag == tag

    def item(self, tag: int) -> None:
        """Check that an element, key or value of a container is what comes next: its tag is fixed."""
        if self.tag != tag:
            self._malformed(
                f"expected a value with tag {tag}, found {self._found()}"
                if self.tag == END
                else f"expected a value with tag {tag}, found tag {self.tag}"
            )

    # -- values --------------------------------------------------------------------------------------------------

    def _integer(self, widest: int, declared: str) -> int:
        """Body of an integer no wider than ``widest`` (a type code); the head after it is not taken."""
        kind = self.type
        pos = self.pos
        if kind == wire.ZERO:
            return 0
        if not 0 <= kind <= widest:
            self._mismatch(declared)
        end = pos + _WIDTHS[kind]
        if end > self._end:
            self._malformed("truncated integer")
        self.pos = end
        if kind == wire.INT8:
            byte = self.data[pos]
            return byte - 256 if byte > 127 else byte
        unpack = _int16 if kind == wire.INT16 else _int32 if kind == wire.INT32 else _int64
        value: int = unpack(self.data, pos)[0]
        return value

    def last_int32(self) -> int:
        """An integer declared with 32 bits, where nothing after it is to be looked at: the cursor ends here."""
        return self._integer(wire.INT32, "int32")

    def int8(self) -> int:
        """An integer declared with 8 bits."""
        value = self._integer(wire.INT8, "int8")
        self._head()
        return value

    def int16(self) -> int:
        """An integer declared with 16 bits."""
        value = self._integer(wire.INT16, "int16")
        self._head()
        return value

    def int32(self) -> int:
        """An integer declared with 32 bits."""
        value = self._integer(wire.INT32, "int32")
        self._head()
        return value

    def int64(self) -> int:
        """An integer declared with 64 bits."""
        value = self._integer(wire.INT64, "int64")
        self._head()
        return value

    def uint8(self) -> int:
        """An unsigned integer declared with 8 bits, carried in 16."""
        return self._unsigned(wire.INT16, 0xFF, "uint8")

    def uint16(self) -> int:
        """An unsigned integer declared with 16 bits, carried in 32."""
        return self._unsigned(wire.INT32, 0xFFFF, "uint16")

    def uint32(self) -> int:
        """An unsigned integer declared with 32 bits, carried in 64."""
        return self._unsigned(wire.INT64, 0xFFFF_FFFF, "uint32")

    def _unsigned(self, widest: int, maximum: int, declared: str) -> int:
        at = self.at
        value = self._integer(widest, declared)
        if not 0 <= value <= maximum:
            raise DecodeError(Reason.RANGE, f"{value} is no {declared}", at)
        self._head()
        return value

    def boolean(self) -> bool:
        """A bool, carried in 8 bits: everything but 0 is true."""
        value = self._integer(wire.INT8, "bool")
        self._head()
        return value != 0

    def float32(self) -> float:
        """A float of 32 bits; zero may come without a body."""
        if self.type == wire.FLOAT:
            value: float = _float(self.data, self._take(4, "float"))[0]
        elif self.type == wire.ZERO:
            value = 0.0
        else:
            self._mismatch("float")
        self._head()
        return value

    def float64(self) -> float:
        """A float of 64 bits; one of 32 and a zero without a body are taken too."""
        if self.type == wire.DOUBLE:
            value: float = _double(self.data, self._take(8, "double"))[0]
            self._head()
            return value
        if self.type not in (wire.FLOAT, wire.ZERO):
            self._mismatch("double")
        return self.float32()

    def string(self) -> str:
        """A string. Bytes that are not UTF-8 become lone surrogates, which encode to the same bytes again."""
        pos, end = self._string_span("string")
        value = str(self.data[pos:end], "utf-8", "surrogateescape")
        self._head()
        return value

    def octets(self, nesting: int) -> bytes:
        """A vector<byte> inside ``nesting`` open containers: a simple list, or a list of int8."""
        if self.type == wire.SIMPLE_LIST:
            pos, end = self._simple_list_span()
            value = self.data[pos:end]
            self._head()
            return value
        if self.type != wire.LIST:
            self._mismatch("vector<byte>")
        count = self.begin_list(nesting)
        out = bytearray()
        for index in range(count):
            try:
                self.item(0)
                out.append(self.int8() & 0xFF)
            except DecodeError as error:
                error.within(index)
                raise
        return bytes(out)

    # -- containers ----------------------------------------------------------------------------------------------

    def begin_list(self, nesting: int) -> int:
        """Open a list inside ``nesting`` open containers: how many elements follow, each with tag 0."""
        if self.type != wire.LIST:
            self._mismatch("list")
        self._check_nesting(nesting)
        return self._count(1)

    def begin_map(self, nesting: int) -> int:
        """Open a map inside ``nesting`` open containers: how many pairs follow, key with tag 0, value with tag 1."""
        if self.type != wire.MAP:
            self._mismatch("map")
        self._check_nesting(nesting)
        return self._count(2)

    def begin_struct(self, nesting: int) -> None:
        """Open a struct inside ``nesting`` open containers."""
        if self.type != wire.STRUCT_BEGIN:
            self._mismatch("struct")
        self._check_nesting(nesting)
        self._head()

    def end_struct(self, nesting: int) -> None:
        """Skip what is left of a struct and its end mark; ``nesting`` counts the containers open inside it."""
        while self.tag != END:
            self.skip(nesting)
        if self.type == BUFFER_END:
            self._malformed("struct without an end")
        self._head()

    def end_buffer(self) -> None:
        """Skip to the end of the buffer, so that all of it was looked at."""
        while self.tag != END:
            self.skip(0)
        if self.type != BUFFER_END:
            self._malformed("struct end outside of a struct")

    # -- skipping ------------------------------------------------------------------------------------------------

    def skip(self, nesting: int) -> None:
        """Skip the value whose head is held, inside ``nesting`` open containers. Never recurses.

        ``left`` says what is still to come of the innermost open container: values of a list, keys and values of a
        map, or a struct that ends by its mark; ``outer`` keeps the same for those around it.
        """
        left = 1
        is_map = False
        outer: list[tuple[int, bool]] = []
        while True:
            kind = self.type
            if kind <= wire.DOUBLE:
                self._take(_WIDTHS[kind], wire.TYPE_NAMES[kind])
            elif kind <= wire.STRING4:
                self._string_span("string")
            elif kind == wire.SIMPLE_LIST:
                self._simple_list_span()
            elif kind != wire.ZERO:
                self._check_nesting(nesting + len(outer))
                outer.append((left, is_map))
                is_map = kind == wire.MAP
                left = _STRUCT if kind == wire.STRUCT_BEGIN else self._count(2) * 2 if is_map else self._count(1)
            if kind not in _COUNTED:
                self._head()
            if kind not in _CONTAINERS and left > 0:
                left -= 1
            left, is_map = self._close(left, is_map, outer)
            if not outer and left == 0:
                return

    def _close(self, left: int, is_map: bool, outer: list[tuple[int, bool]]) -> tuple[int, bool]:
        """Leave every container that has come to its end, and check that the next value fits the one still open."""
        while outer:
            if left == _STRUCT:
                if self.tag != END:
                    return left, is_map
                if self.type == BUFFER_END:
                    self._malformed("struct without an end")
                self._head()
            elif left:
                # A map has an even number of values to come before each key, an odd one before each value.
                self.item(left & 1 if is_map else 0)
                return left, is_map
            left, is_map = outer.pop()
            if left > 0:
                left -= 1
        return left, is_map

    # -- bounds --------------------------------------------------------------------------------------------------

    def _take(self, length: int, what: str) -> int:
        """Step over ``length`` bytes of a body; where they began."""
        pos = self.pos
        if length > self._end - pos:
            self._malformed(f"truncated {what}: {length} bytes wanted, {self._end - pos} left")
        self.pos = pos + length
        return pos

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
        self.budget += 2  # the two heads inside are no values of their own
        self._head()
        if self.tag != 0 or self.type != wire.INT8:
            self._malformed("simple list of anything but bytes")
        self._head()
        length = self._length()
        start = self._take(length, "simple list")
        return start, self.pos

    def _count(self, width: int) -> int:
        """The count of a container, whose items take at least ``width`` bytes each; then the head after it."""
        self.budget += 1  # the count is no value of its own
        self._head()
        count = self._length()
        if count * width > self._end - self.pos:
            self._malformed(f"{count} items declared, {self._end - self.pos} bytes left")
        self._head()
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
