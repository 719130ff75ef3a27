"""Memory that a flood of callers took is given back to the system."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from registry.heap import Heap

GLIBC = hasattr(ctypes.CDLL(None), "mallinfo2")

SCATTERED = """
import ctypes
from pathlib import Path
from registry.heap import Heap

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
    root = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", SCATTERED], capture_output=True, text=True, cwd=root, check=False)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 90 << 20


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.heap.ctypes.CDLL", lambda name: object())
    heap = Heap()
    heap.look()
    assert heap.given_back == 0
