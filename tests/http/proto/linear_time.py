"""Whether work grows as its input does."""

from __future__ import annotations

import time
from collections.abc import Callable

GROWTH = 4
# Quadratic work takes 16 times as long for 4 times the input, linear work 4 times.
MOST = 9.0
ATTEMPTS = 6


def takes_linear_time(prepare: Callable[[int], Callable[[], object]], size: int) -> bool:
    """Whether what *prepare* makes for ``4 * size`` takes about 4 times that for *size*.

    Measured in processor time, the quickest of several runs, so that a busy machine says no only
    where the work is truly out of proportion.
    """
    small = large = float("inf")
    for _ in range(ATTEMPTS):
        small = min(small, _seconds(prepare(size)))
        large = min(large, _seconds(prepare(size * GROWTH)))
        if large <= small * MOST:
            return True
    return False


def _seconds(work: Callable[[], object]) -> float:
    begun = time.thread_time()
    work()
    return max(time.thread_time() - begun, 1e-5)
