"""What the applications answer, and what the harness expects of them."""

from __future__ import annotations

import json
import time

__all__ = [
    "BLOB_SIZES",
    "COMPUTE_SECONDS",
    "HANDLER_THREADS",
    "KEEP_ALIVE_SECONDS",
    "PLAINTEXT",
    "SLEEP_SECONDS",
    "blob",
    "compute",
    "user_json",
]

PLAINTEXT = b"Hello, World!"
BLOB_SIZES = (64 * 1024, 16 * 1024 * 1024)
SLEEP_SECONDS = 0.1
COMPUTE_SECONDS = 0.02
HANDLER_THREADS = 64
KEEP_ALIVE_SECONDS = 75

_BLOBS: dict[int, bytes] = {}


def blob(size: int) -> bytes:
    """*size* bytes, the same object every time."""
    found = _BLOBS.get(size)
    if found is None:
        line = bytes(range(32, 96))
        found = _BLOBS[size] = (line * (size // len(line) + 1))[:size]
    return found


def compute() -> None:
    """Take 20 ms of processor time in Python code, whatever else runs meanwhile.

    By the thread's own clock: by the wall's, threads that wait for each other would all be done
    after 20 ms of which they had a fraction.
    """
    done_at = time.thread_time() + COMPUTE_SECONDS
    value = 1
    while time.thread_time() < done_at:
        for step in range(500):
            value = (value * 31 + step) & 0xFFFFFFFF


def user_json(number: int, tag: str, verbose: bool) -> bytes:
    """The answer to ``/users/<number>?tag=<tag>&verbose=<verbose>``."""
    value = {"id": number, "tag": tag, "verbose": verbose}
    return json.dumps(value, separators=(",", ":")).encode()
