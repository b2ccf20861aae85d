"""The monotonic clock in milliseconds, and sleeping."""

from __future__ import annotations

import time

__all__ = ["libc_nanosleep_ms", "libc_usleep", "monotonic_now_ms"]


def monotonic_now_ms() -> int:
    """Milliseconds of a clock that is never set back."""
    return time.monotonic_ns() // 1_000_000


def libc_usleep(us: int) -> int:
    """Sleep *us* microseconds, not at all for 0 or less; signals do not cut it short. Returns 0."""
    if us > 0:
        time.sleep(us / 1_000_000)
    return 0


def libc_nanosleep_ms(ms: int) -> int:
    """Sleep *ms* milliseconds, not at all for 0 or less; signals do not cut it short. Returns 0."""
    if ms > 0:
        time.sleep(ms / 1000)
    return 0
