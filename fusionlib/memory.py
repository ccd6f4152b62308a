"""Memory that a process keeps between the layers of a network, and how its lack is told.

A layer's result is larger than what the C library keeps: for every layer the system hands out fresh
pages, filled with zeros one by one, which takes longer than the arithmetic. So what a layer frees
is kept for the next layer and the next image.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

__all__ = ["glibc", "keep_pages", "memory_errors"]

# Parameters of glibc's mallopt.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
MOST = 2**31 - 1
# A thread other than the main one has its blocks in heaps of 64 MiB. One that is free goes back to
# the system, whatever the thresholds, unless more than its size is to be kept at hand.
THREADS_HEAP = 65 << 20
# From what size on blocks are fetched from the system one by one, as a process settles by itself.
USUAL_MMAP_THRESHOLD = 32 << 20

STATM = Path("/proc/self/statm")
# Bytes that the process may keep from one image to the next.
LIMIT = 1 << 30
# What is kept, in bytes: by how much the process has grown while networks ran.
_held = 0
_keeping = False


@contextmanager
def keep_pages() -> Iterator[None]:
    """Keep freed blocks of any size for the next ones, and at the end up to `LIMIT` bytes of them.

    If it is more, all is given to the system. Inside another such context, and where the C library
    is not glibc, nothing changes.
    """
    global _held, _keeping
    libc = None if _keeping else glibc()
    if libc is None:
        yield
        return
    before = _resident()
    _keeping = True
    libc.mallopt(M_MMAP_THRESHOLD, MOST)
    libc.mallopt(M_TRIM_THRESHOLD, MOST)
    libc.mallopt(M_TOP_PAD, THREADS_HEAP)
    try:
        yield
    finally:
        _keeping = False
        libc.mallopt(M_MMAP_THRESHOLD, USUAL_MMAP_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, min(LIMIT, MOST))
        _held = max(0, _held + _resident() - before)
        if _held > LIMIT:
            libc.malloc_trim(0)
            _held = 0


def glibc() -> ctypes.CDLL | None:
    """Return the C library where it is one whose allocator can be told what to keep."""
    if sys.platform != "linux" or not STATM.exists():
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def _resident() -> int:
    """Return the bytes of memory that this process has."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def memory_errors(task: str, remedy: str) -> Iterator[None]:
    """Turn PyTorch's ways to say that memory does not suffice into one MemoryError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # On a CPU it is a plain RuntimeError that only its text tells from others.
        known = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not known and "can't allocate memory" not in str(error):
            raise
        raise MemoryError(f"not enough memory for {task}; give {remedy}.") from error
