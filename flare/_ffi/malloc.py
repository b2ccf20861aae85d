"""What the C library does with memory that is free: keep it, or give it back to the system."""

from __future__ import annotations

import ctypes

from flare._ffi.libc import function

__all__ = ["keep_freed", "trim"]

_malloc_trim = function("malloc_trim", ctypes.c_int, ctypes.c_size_t)


def keep_freed(size: int) -> None:
    """Have up to *size* bytes at once come from the heaps, which keep twice as much that is free.

    glibc learns that from a block of that size which it had mapped, and which is freed. Without
    it the memory of each larger block is given back and comes anew, page by page, for the next.
    """
    bytes(size)


def trim() -> None:
    """Give back to the system what is free now. Nothing where the library cannot (musl)."""
    _malloc_trim(0)
