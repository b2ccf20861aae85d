"""How many CPUs there are, and how many of them are ours."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

from flare._ffi.affinity import usable_cpus

__all__ = ["MAX_WORKERS", "cpu_quota", "default_worker_count", "num_cpus"]

MAX_WORKERS: Final = 256

_CGROUP_ROOT: Final = Path("/sys/fs/cgroup")
_MEMBERSHIP: Final = Path("/proc/self/cgroup")


def num_cpus() -> int:
    """The CPUs that are online, at least 1, whether this process may use them or not."""
    return os.cpu_count() or 1


def default_worker_count() -> int:
    """One worker for each CPU this process may use, 1 to 256.

    Counts the affinity mask, cut down to the CPU quota of the process's control group (rounded
    up): in a container limited to two CPUs of a machine of 64 it is 2.
    """
    process_cpu_count = getattr(os, "process_cpu_count", None)  # 3.13; obeys -X cpu_count
    count = process_cpu_count() if process_cpu_count is not None else len(usable_cpus())
    quota = cpu_quota()
    if quota is not None:
        count = min(count, math.ceil(quota))
    return max(1, min(MAX_WORKERS, count))


def cpu_quota(root: Path = _CGROUP_ROOT, membership: Path = _MEMBERSHIP) -> float | None:
    """The CPU time a second this process's control group (version 2) may use, in CPUs.

    The least of its own limit and those of the groups around it; ``None`` where none is set, or
    where the system has no control groups.
    """
    groups = [root]
    try:
        for line in membership.read_text().splitlines():
            hierarchy, _, path = line.split(":", 2)
            if hierarchy == "0":
                for part in Path(path).parts[1:]:
                    groups.append(groups[-1] / part)
    except (OSError, ValueError):
        pass
    quotas = [quota for quota in map(_read_quota, groups) if quota is not None]
    return min(quotas, default=None)


def _read_quota(group: Path) -> float | None:
    """What ``cpu.max`` says: ``max 100000``, or microseconds allowed in each so many."""
    try:
        allowed, period = (group / "cpu.max").read_text().split()
        if allowed == "max":
            return None
        return int(allowed) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
