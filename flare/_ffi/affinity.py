"""Which CPUs this thread may run on. The standard library makes the calls, where there are any."""

from __future__ import annotations

import os

# Read through getattr: macOS and Windows have neither.
_get = getattr(os, "sched_getaffinity", None)
_set = getattr(os, "sched_setaffinity", None)


def usable_cpus() -> list[int]:
    """The numbers of the CPUs the calling thread may run on, in order.

    Where the system does not tell: 0 up to the number of CPUs.
    """
    if _get is None:
        return list(range(os.cpu_count() or 1))
    return sorted(_get(0))


def pin_to_cpu(cpu: int) -> bool:
    """Keep the calling thread on *cpu*; whether the system did it. Never raises ``OSError``."""
    if _set is None:
        return False
    try:
        _set(0, {cpu})
    except OSError:
        return False
    return True
