"""What is left of a test once it is over: threads, sockets, pipes and the like, child processes."""

from __future__ import annotations

import gc
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

# Threads that live as long as the process by design, and are documented to.
LASTING_THREADS = ("flare-blocking",)
GRACE_SECONDS = 10.0
_COLLECT_SECONDS = 0.1


def _descriptors() -> dict[int, tuple[int, int]]:
    """Open sockets, pipes, event descriptors and the like: number and what tells it from others."""
    found: dict[int, tuple[int, int]] = {}
    try:
        numbers = os.listdir("/proc/self/fd")
    except FileNotFoundError:
        return found
    for number in map(int, numbers):
        try:
            status = os.fstat(number)
        except OSError:
            continue
        kind = stat.S_IFMT(status.st_mode)
        if kind in (0, stat.S_IFSOCK, stat.S_IFIFO):
            found[number] = (status.st_dev, status.st_ino)
    return found


def _children() -> set[int]:
    found: set[int] = set()
    if hasattr(os, "waitid"):
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return found
    for path in Path("/proc/self/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            found.update(int(pid) for pid in path.read_text().split())
    return found


def _threads() -> set[threading.Thread]:
    return {
        thread for thread in threading.enumerate() if not thread.name.startswith(LASTING_THREADS)
    }


def _name_of(descriptor: int) -> str:
    try:
        return f"fd {descriptor} -> {os.readlink(f'/proc/self/fd/{descriptor}')}"
    except OSError:
        return f"fd {descriptor}"


@contextmanager
def nothing_is_left_behind(grace: float = GRACE_SECONDS) -> Iterator[None]:
    """Fail if *grace* seconds after the block there is more than there was before it."""
    threads, descriptors, children = _threads(), _descriptors(), _children()
    yield
    begun = time.monotonic()
    collected = begun
    pause = 0.0005
    while True:
        left: list[object] = [*(_threads() - threads), *(_children() - children)]
        opened = _descriptors().items() - descriptors.items()
        if not left and not opened:
            return
        now = time.monotonic()
        if now > begun + grace:
            break
        # What ends by itself soon does; a collection costs more than that takes.
        if now > collected + _COLLECT_SECONDS:
            gc.collect()
            collected = time.monotonic()
        time.sleep(pause)
        pause = min(2 * pause, 0.01)
    left += [_name_of(number) for number, _ in opened]
    pytest.fail(f"the test left behind: {left}")
