"""What the system tells of processes: children, memory, processor time. And cores to run on."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Cores",
    "choose_cores",
    "cpu_seconds",
    "pinned",
    "process_tree",
    "raise_descriptor_limit",
    "resident_bytes",
]

_PROC = Path("/proc")


@dataclass(frozen=True)
class Cores:
    """*server*: one core; *workers*: two where there are three, for worker processes; *load*:
    one that is none of them, unless there is only one."""

    server: frozenset[int]
    workers: frozenset[int]
    load: frozenset[int]


def choose_cores(available: Set[int]) -> Cores:
    """The first core serves, the next that shares no hardware with it makes the load."""
    first, *others = sorted(available)
    apart = [core for core in others if core not in _siblings(first)] or others or [first]
    load = apart[0]
    second = next((core for core in apart if core != load), first)
    return Cores(frozenset({first}), frozenset({first, second}), frozenset({load}))


def _siblings(core: int) -> set[int]:
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    try:
        text = path.read_text("ascii").strip()
        found: set[int] = set()
        for part in text.split(","):
            low, _, high = part.partition("-")
            found.update(range(int(low), int(high or low) + 1))
    except (OSError, ValueError):
        return {core}
    return found


@contextmanager
def pinned(cores: Set[int]) -> Iterator[None]:
    """Run the body on *cores*, and what it starts there for good."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def process_tree(pid: int) -> list[int]:
    """*pid* and everything it has started that still runs, parents first."""
    found = [pid]
    for parent in found:
        for path in _PROC.glob(f"{parent}/task/*/children"):
            try:
                found.extend(int(child) for child in path.read_text("ascii").split())
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def cpu_seconds(pid: int) -> float:
    """Processor time of *pid*'s threads so far, those that have ended included."""
    try:
        text = (_PROC / str(pid) / "stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    fields = text.rpartition(")")[2].split()
    # utime and stime are the 14th and 15th field; what is left begins with the third.
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Memory of *pid* that is in use, pages shared with others included."""
    try:
        fields = (_PROC / str(pid) / "statm").read_text("ascii").split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def raise_descriptor_limit() -> int:
    """Raise the number of descriptors as far as is allowed; children inherit it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most
