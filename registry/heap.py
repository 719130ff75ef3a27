"""Gives memory back to the system that the C library keeps for itself.

What a flood of callers took lies scattered between what stays: their buffers are gone, but the C library gives back by
itself only what is free at the end of its heap. A process would stay as large as it ever was, and its limit of memory
would have to be that of its worst day. So whenever much has become free since the last time, it is asked to.
"""

from __future__ import annotations

import ctypes
from typing import Final

EVERY: Final = 5.0
"""Seconds between two looks."""

_WORTH: Final = 8 << 20
"""Bytes that must have become free: to give them back takes a millisecond, and to take them again another."""


class _Figures(ctypes.Structure):
    """``struct mallinfo2`` of glibc."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


class Heap:
    """The heap of the C library, where that is glibc 2.33 or newer; elsewhere nothing is done.

    ``given_back`` counts how often memory was given back.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self.given_back = 0
        self._figures = getattr(library, "mallinfo2", None)
        self._trim = getattr(library, "malloc_trim", None)
        self._least = 0
        """Bytes free in the heap when there were the fewest since memory was last given back. Those that were are still
        counted as free: they are in the heap, without memory behind them."""
        if self._figures is not None:
            self._figures.restype = _Figures
            self._least = self.free

    @property
    def free(self) -> int:
        """Bytes in the heap that nobody uses."""
        return int(self._figures().fordblks) if self._figures is not None else 0

    def look(self) -> None:
        """Give back what is free if it is worth it; may be called from any one thread."""
        free = self.free
        self._least = min(self._least, free)
        if self._trim is None or free - self._least < _WORTH:
            return
        self._trim(0)
        self.given_back += 1
        self._least = self.free
