"""Processes: fork, wait, signal, and dying with one's parent.

The first three are the standard library's, which makes the same system calls. ``fork`` must be:
only ``os.fork`` puts the interpreter's own locks in order in the child.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

from flare._ffi.libc import call, function

PR_SET_PDEATHSIG: Final = 1
PR_GET_PDEATHSIG: Final = 2

_prctl = function("prctl", ctypes.c_int, ctypes.c_int, *(ctypes.c_ulong,) * 4)


def fork() -> int:
    """Fork this process: 0 in the child, the child's id in the parent. Raises ``OSError``."""
    return os.fork()


def waitpid(pid: int, *, block: bool = True) -> int | None:
    """Reap the child *pid*: its exit code, or minus the number of the signal that ended it.

    ``None`` where *block* is false and it still runs. Raises ``ChildProcessError`` where it is
    no child of ours, or was reaped before.
    """
    found, status = os.waitpid(pid, 0 if block else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def kill(pid: int, sig: int) -> None:
    """Send *sig* to the one process *pid*. ``ProcessLookupError`` where it is gone.

    An id of 0 or less, which the system reads as a whole group or as everybody, raises
    ``ValueError``.
    """
    if pid <= 0:
        raise ValueError(f"pid must be above 0, got {pid}")
    os.kill(pid, sig)


def set_parent_death_signal(sig: int, parent: int) -> bool:
    """Have the kernel send *sig* to this process when the thread that forked it ends.

    Call it in the child, with the id the *parent* had before the fork. False where the parent
    is gone already, so that no signal will come. Raises ``OSError(ENOSYS)`` off Linux.
    """
    call("prctl", _prctl, PR_SET_PDEATHSIG, sig, 0, 0, 0)
    return os.getppid() == parent


def parent_death_signal() -> int:
    """The signal set by ``set_parent_death_signal``; 0 for none."""
    number = ctypes.c_int()
    call("prctl", _prctl, PR_GET_PDEATHSIG, ctypes.addressof(number), 0, 0, 0)
    return number.value
