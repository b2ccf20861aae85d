"""What every test gets: proof that it left no thread, socket, descriptor or child behind."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

# Imported by tests in several folders, so it must be named before any of them.
pytest.register_assert_rewrite("tls_peers")

# The tests speak to this machine alone, whatever proxy stands between it and the world.
for _name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
    os.environ.pop(_name, None)
    os.environ.pop(_name.lower(), None)

# Threads that live as long as the process by design, and are documented to.
LASTING_THREADS = ("flare-blocking",)
GRACE_SECONDS = 3.0


def _descriptors() -> dict[int, str]:
    """Open sockets, pipes, event descriptors and the like, by number."""
    found: dict[int, str] = {}
    try:
        numbers = os.listdir("/proc/self/fd")
    except FileNotFoundError:
        return found
    for number in numbers:
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue
        if target.startswith(("socket:", "pipe:", "anon_inode:")):
            found[int(number)] = target
    return found


def _children() -> set[int]:
    found: set[int] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(int(pid) for pid in path.read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _threads() -> set[threading.Thread]:
    return {
        thread for thread in threading.enumerate() if not thread.name.startswith(LASTING_THREADS)
    }


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    threads, descriptors, children = _threads(), _descriptors(), _children()
    yield
    deadline = time.monotonic() + GRACE_SECONDS
    while True:
        left: list[object] = [*(_threads() - threads), *(_children() - children)]
        left += [
            f"fd {number} -> {target}"
            for number, target in _descriptors().items()
            if descriptors.get(number) != target
        ]
        if not left or time.monotonic() > deadline:
            break
        gc.collect()
        time.sleep(0.005)
    assert not left, f"the test left behind: {left}"
