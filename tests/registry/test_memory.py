"""The garbage collector waits for nobody, and memory that a flood of callers took is given back to the system."""

import ctypes
import gc
import subprocess
import sys
from pathlib import Path

import pytest

from registry.memory import Heap, Memory


def _run(program: str) -> str:
    """What a program prints that ends well."""
    root = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


GLIBC = hasattr(ctypes.CDLL(None), "mallinfo2")

SCATTERED = """
import ctypes
import gc
from pathlib import Path
from registry.memory import Heap

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
heap = Heap()
blocks = [libc.malloc(16_000) for _ in range(8_000)]
for block in blocks:
    ctypes.memset(block, 1, 16_000)
heap.look()
assert heap.given_back == 0, "nothing is free yet"
# Every 64th stays, so that no end of the heap is free.
for number, block in enumerate(blocks):
    if number % 64:
        libc.free(block)
full = resident()
heap.look()
assert heap.given_back == 1
given = full - resident()
heap.look()
assert heap.given_back == 1, "what was given back counted once more"
print(given)
"""


@pytest.mark.skipif(not GLIBC, reason="the C library is not glibc, or is older than 2.33")
def test_what_lies_free_between_blocks_in_use_is_given_back_once() -> None:
    """In a process of its own: how much is free in the heap of this one depends on all the tests before."""
    assert int(_run(SCATTERED)) > 90 << 20


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.memory.ctypes.CDLL", lambda name: object())
    heap = Heap()
    heap.look()
    assert heap.given_back == 0


CIRCLES = """
import gc
import weakref
from registry.memory import Garbage

class Circle:
    def __init__(self):
        self.itself = self

def lose(circles):
    known = [weakref.ref(circle) for circle in circles]
    circles.clear()
    return lambda: sum(ref() is not None for ref in known)

largest, now = 100, 0.0
early = [Circle() for _ in range(10)]
garbage = Garbage(clock=lambda: now, largest=lambda: largest)
assert gc.get_count()[2] == 0 and gc.get_freeze_count() > 1_000, "what was there is not set aside"

young = lose([Circle() for _ in range(10)])
garbage.look()
assert young() == 0, "young circles are found at each look"

old = [Circle() for _ in range(10)]
garbage.look()
old += early
early.clear()
old = lose(old)
for now in range(0, 600, 5):
    garbage.look()
now, largest = 600.0, 200
garbage.look()
assert old() == 20, "the table came in: that is no reason to look through everything"
now, largest = 1_200.0, 249
garbage.look()
assert (old(), garbage.everything) == (20, 1), "not grown by a quarter"
now, largest = 1_800.0, 251
garbage.look()
assert (old(), garbage.everything) == (0, 2), "circles that were set aside are lost for ever"
assert gc.get_freeze_count() > 1_000
now = 2_400.0
garbage.look()
assert garbage.everything == 2, "it did not grow since"
"""


def test_garbage_that_was_set_aside_is_found_once_the_process_has_grown() -> None:
    """In a process of its own: it changes how garbage is collected."""
    _run(CIRCLES)


KEPT = """
import sys
from registry.memory import Garbage

garbage = Garbage()
garbage.look()
before = sys.getallocatedblocks()
objects = [(number + 0.5, [number]) for number in range(10_000)]
objects.clear()
kept = sys.getallocatedblocks() - before
assert kept > 1_000, kept
garbage.look()
kept = sys.getallocatedblocks() - before
assert kept < 100, kept
"""


def test_what_python_keeps_for_its_next_objects_is_given_up() -> None:
    """In a process of its own: it changes how garbage is collected."""
    _run(KEPT)


def test_a_process_of_others_is_left_as_it_is() -> None:
    before = gc.get_threshold(), gc.get_freeze_count()
    Memory()
    assert (gc.get_threshold(), gc.get_freeze_count()) == before
