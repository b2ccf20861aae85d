"""writev: several buffers, one system call.

``os.writev`` rather than ctypes: it is the same call, and builds the ``struct iovec`` in C.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

# What POSIX promises is 16; every system we run on has 1024. More at once is EINVAL.
IOV_MAX: Final = max(16, os.sysconf("SC_IOV_MAX")) if hasattr(os, "sysconf") else 16


def writev(fd: int, buffers: Sequence[Any]) -> int:
    """Write *buffers*, or the first ``IOV_MAX`` of them, and return how many bytes went.

    Raises ``OSError``; ``BlockingIOError`` where *fd* does not block and takes nothing now.
    """
    return os.writev(fd, buffers if len(buffers) <= IOV_MAX else buffers[:IOV_MAX])
