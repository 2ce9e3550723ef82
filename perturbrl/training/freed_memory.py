"""Keeping freed memory for the next iteration."""

import ctypes
import sys
from typing import Final

# mallopt's parameters in glibc's malloc.h, and the largest threshold that it takes.
_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3
_LARGEST_MMAP_THRESHOLD: Final = 32 * 2**20
_PAD: Final = 64 * 2**20


def keep_freed_memory() -> bool:
    """Let this process keep what it frees; whether the C library could be told so (glibc only).

    By default glibc gives large arrays back and asks for fresh pages for the next one, which the kernel clears: a third
    of an iteration on large batches (docs/decisions.md). Memory stays at its peak.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = {
        _M_MMAP_THRESHOLD: _LARGEST_MMAP_THRESHOLD,
        _M_TRIM_THRESHOLD: 2**31 - 1,
        _M_TOP_PAD: _PAD,
    }
    return all(bool(mallopt(parameter, value)) for parameter, value in wanted.items())
