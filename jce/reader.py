"""Typed values, read one after another: what compiled codecs and the dump are made of.

How a buffer is gone through, and every bound that is kept, is in :mod:`jce.cursor`.
"""

from __future__ import annotations

import struct
from typing import Final

from jce import wire
from jce.cursor import BUFFER_END, END, Cursor
from jce.errors import DecodeError, Reason

__all__ = ["BUFFER_END", "END", "Reader"]

_KEY_HEAD: Final = 0 << 4 | wire.STRING1
_VALUE_HEAD: Final = 1 << 4 | wire.STRING1

_TWO: Final = 2 * wire.COSTS[wire.STRING1]
"""What two strings count for."""

_float = struct.Struct(">f").unpack_from
_double = struct.Struct(">d").unpack_from


class Reader(Cursor):
    """A :class:`Cursor` that gives the values at its place. Every method raises DecodeError and nothing else."""

    __slots__ = ()

    # -- values --------------------------------------------------------------------------------------------------

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
        pos = self.pos + 1
        if self.type == wire.STRING1 and pos <= self._end and (end := pos + self.data[pos - 1]) <= self._end:
            self.pos = end
        else:
            pos, end = self._string_span("string")
        value = str(self.data[pos:end], "utf-8", "surrogateescape")
        self._head()
        return value

    def texts(self, count: int, out: dict[str, str]) -> int:
        """Put pairs of strings into ``out``, of the ``count`` of a map that was just begun; how many there were.

        Only as far as they are written as usual, short and with heads of one byte, and never the last. The one after
        them is next. Three times as fast as to read them one by one, as there is no call for each.
        """
        if self.tag != 0 or self.type != wire.STRING1:
            return 0
        data, budget = self.data, self.budget
        start, read = self.pos, 0
        try:
            while read < count - 1:
                # The head of the key is taken, that of the value and that of the next key are not.
                key = start + 1
                stop = key + data[start]
                value = stop + 2
                after = value + data[stop + 1]
                if data[stop] != _VALUE_HEAD or data[after] != _KEY_HEAD or budget < _TWO:
                    break
                out.setdefault(
                    str(data[key:stop], "utf-8", "surrogateescape"), str(data[value:after], "utf-8", "surrogateescape")
                )
                read += 1
                budget -= _TWO
                start = after + 1
        except IndexError:
            # It is cut short: whoever reads on tells where.
            pass
        self.at, self.pos, self.budget = start - 1, start, budget
        return read

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
        self._skip_below(END, nesting)
        if self.type == BUFFER_END:
            self._malformed("struct without an end")
        self._head()

    def end_buffer(self) -> None:
        """Skip to the end of the buffer, so that all of it was looked at."""
        self._skip_below(END, 0)
        if self.type != BUFFER_END:
            self._malformed("struct end outside of a struct")
