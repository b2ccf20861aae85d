"""A few calls on processes, by their C names.

``exit`` here ends the process at once, without ``atexit`` and ``finally``: it is what a forked
child ends with, not the builtin. Import it by name, from here.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import NoReturn

__all__ = [
    "fork",
    "waitpid",
    "kill",
    "usleep",
    "exit",
    "getpid",
    "SIGINT",
    "SIGKILL",
    "SIGTERM",
]

SIGINT = int(signal.SIGINT)
SIGKILL = int(signal.SIGKILL)
SIGTERM = int(signal.SIGTERM)


def fork() -> int:
    """Split the process: 0 in the child, the child's pid in the parent. Raises ``OSError``.

    Python 3.12 and later warn (``DeprecationWarning``) where other threads run.
    """
    return os.fork()


def waitpid(pid: int) -> int:
    """Block until the child *pid* ends, and return its exit code; -N where signal N ended it.

    A child that was waited for already counts as 0.
    """
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        return 0
    return os.waitstatus_to_exitcode(status)


def kill(pid: int, sig: int) -> int:
    """Send the signal *sig* to the process *pid*: 0, or -1 where the system refused.

    A *pid* of 0 or less, which would mean whole process groups, raises ``ValueError``.
    """
    if pid <= 0:
        raise ValueError(f"kill: pid must be > 0, got {pid}")
    try:
        os.kill(pid, sig)
    except OSError:
        return -1
    return 0


def usleep(microseconds: int) -> None:
    """Sleep that long; 0 or less returns at once."""
    if microseconds > 0:
        time.sleep(microseconds / 1e6)


def exit(code: int = 0) -> NoReturn:
    """End the process at once with *code*: no ``atexit``, no ``finally``, no other thread's say.

    Standard output and error are flushed first, as far as they can be.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # closed, broken or absent: none of it may keep the process alive
    os._exit(code)


def getpid() -> int:
    """The number of this process."""
    return os.getpid()
