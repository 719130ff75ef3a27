"""Keeps the process small, and the pauses for that short.

Two things take memory and time of a process that lives for months. Python's garbage collector looks again and again
through all that could be garbage; and the C library keeps what a flood of callers took and gave back.
"""

from __future__ import annotations

import ctypes
import gc
import resource
import time
from collections.abc import Callable
from typing import Final

EVERY: Final = 5.0
"""Seconds between two looks of each kind."""

_NEVER: Final = 1 << 30

_THRESHOLDS: Final = (100, 1, _NEVER)
"""Objects made until the young ones are looked through, how often that until those that outlived one look are too, and
how often that until all are. At 1 the second is some 200 objects; Python's own 700 and 10 would be 7,700."""

_ALL_EVERY: Final = 600.0
"""Seconds at least between two looks through everything."""

_GROWN: Final = 1.25
"""Times its size to which the process must have grown for everything to be looked through."""

_WORTH: Final = 1 << 20
"""Bytes that must have become free: to give them back takes a millisecond, and to take them again another."""


class Memory:
    """What the process does about its memory while it runs.

    It changes the garbage collector of the whole process, so only once it is told, with :meth:`own_process`, that the
    service has the process for itself.
    """

    def __init__(self) -> None:
        self._heap = Heap()
        self._garbage: Garbage | None = None

    def own_process(self) -> None:
        """The service is made and about to start, and this process is there for nothing else."""
        self._garbage = Garbage()

    def look_for_garbage(self) -> None:
        """Look at what Python's collector has to do; in the event loop's thread, which waits for it anyway."""
        if self._garbage:
            self._garbage.look()

    def give_back(self) -> None:
        """Give back what became free. In a thread: the C library is called without the interpreter's lock."""
        self._heap.look()


class Garbage:
    """Python's garbage collector, kept from looking through what stays.

    Nearly all memory is given back the moment nobody refers to it. The collector is only for objects that refer to each
    other in a circle; the service makes none for a connection or a question, so what it finds comes from libraries and
    is young. By default it would look through everything that lives each time that has grown by a quarter: 0.1 s and
    more with 10,000 connections, in which nobody is answered. So what has outlived its youth is set aside
    (``gc.freeze``), and looked through only where the process has grown: circles that are lost there would show as
    growth, and then they are found.

    ``everything`` counts how often all was looked through.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, largest: Callable[[], int] | None = None) -> None:
        """Look through everything, and set it aside. ``largest`` tells the most memory that the process ever had."""
        self.everything = 0
        self._clock = clock
        self._largest = largest or _largest
        self._grown_from: float | None = None
        """Not known until it has run for a while: to take in the table is no leak."""
        self._looked = clock()
        gc.set_threshold(*_THRESHOLDS)
        self._look_through_everything()

    def look(self) -> None:
        """Set aside what has become old, or look through everything where that is due."""
        now = self._clock()
        if now - self._looked >= _ALL_EVERY:
            self._looked = now
            largest = self._largest()
            if self._grown_from is None:
                self._grown_from = largest
            elif largest > self._grown_from * _GROWN:
                self._grown_from = largest
                self._look_through_everything()
                return
        gc.collect(1)
        gc.freeze()
        # There is nothing left to look through; what Python keeps for its next objects it gives up only here. It is
        # little, but it was taken in a flood's midst, and each piece holds a page of memory.
        gc.collect()

    def _look_through_everything(self) -> None:
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self.everything += 1


def _largest() -> int:
    """The most memory that the process ever had, in the system's own unit: a leak must raise it, use alone does not."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


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

    What a flood of callers took lies scattered between what stays: their buffers are gone, but the C library gives back
    by itself only what is free at the end of its heap. A process would stay as large as it ever was, and its limit of
    memory would have to be that of its worst day. So whenever much has become free since the last time, it is asked to.

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
