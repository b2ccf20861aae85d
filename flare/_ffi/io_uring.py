"""io_uring: the three system calls, and the kernel's numbers and layouts.

The names are those of ``<linux/io_uring.h>``. The C library has no wrappers, so they go through
``syscall``; off Linux each raises ``OSError(ENOSYS)``. Submission and completion entries are
written and read with ``SQE``, ``CQE`` and ``BUF`` straight in the mapped rings.
"""

from __future__ import annotations

import ctypes
import errno
import struct
import sys
import time
from typing import Any, Final

from flare._ffi.libc import address_of, call, fail, function, quick

SYS_IO_URING_SETUP: Final = 425
SYS_IO_URING_ENTER: Final = 426
SYS_IO_URING_REGISTER: Final = 427

# io_uring_setup flags
IORING_SETUP_IOPOLL: Final = 1 << 0
IORING_SETUP_SQPOLL: Final = 1 << 1
IORING_SETUP_SQ_AFF: Final = 1 << 2
IORING_SETUP_CQSIZE: Final = 1 << 3
IORING_SETUP_CLAMP: Final = 1 << 4
IORING_SETUP_SUBMIT_ALL: Final = 1 << 7
IORING_SETUP_COOP_TASKRUN: Final = 1 << 8
IORING_SETUP_TASKRUN_FLAG: Final = 1 << 9
IORING_SETUP_SINGLE_ISSUER: Final = 1 << 12
IORING_SETUP_DEFER_TASKRUN: Final = 1 << 13

# io_uring_params.features
IORING_FEAT_SINGLE_MMAP: Final = 1 << 0
IORING_FEAT_NODROP: Final = 1 << 1
IORING_FEAT_SUBMIT_STABLE: Final = 1 << 2
IORING_FEAT_FAST_POLL: Final = 1 << 5
IORING_FEAT_EXT_ARG: Final = 1 << 8

# io_uring_enter flags
IORING_ENTER_GETEVENTS: Final = 1 << 0
IORING_ENTER_SQ_WAKEUP: Final = 1 << 1
IORING_ENTER_EXT_ARG: Final = 1 << 3

# where mmap finds the rings
IORING_OFF_SQ_RING: Final = 0
IORING_OFF_CQ_RING: Final = 0x8000000
IORING_OFF_SQES: Final = 0x10000000

# operations
IORING_OP_NOP: Final = 0
IORING_OP_POLL_ADD: Final = 6
IORING_OP_POLL_REMOVE: Final = 7
IORING_OP_SENDMSG: Final = 9
IORING_OP_TIMEOUT: Final = 11
IORING_OP_ACCEPT: Final = 13
IORING_OP_ASYNC_CANCEL: Final = 14
IORING_OP_LINK_TIMEOUT: Final = 15
IORING_OP_CLOSE: Final = 19
IORING_OP_READ: Final = 22
IORING_OP_WRITE: Final = 23
IORING_OP_SEND: Final = 26
IORING_OP_RECV: Final = 27
IORING_OP_SHUTDOWN: Final = 34

# submission flags, and those of single operations
IOSQE_IO_LINK: Final = 1 << 2
IOSQE_BUFFER_SELECT: Final = 1 << 5
IOSQE_CQE_SKIP_SUCCESS: Final = 1 << 6
IORING_ACCEPT_MULTISHOT: Final = 1 << 0
IORING_RECV_MULTISHOT: Final = 1 << 1
IORING_POLL_ADD_MULTI: Final = 1 << 0
IORING_ASYNC_CANCEL_ALL: Final = 1 << 0
IORING_ASYNC_CANCEL_FD: Final = 1 << 1
IORING_ASYNC_CANCEL_ANY: Final = 1 << 2

# completion flags; the number of a provided buffer stands above the shift
IORING_CQE_F_BUFFER: Final = 1 << 0
IORING_CQE_F_MORE: Final = 1 << 1
IORING_CQE_F_SOCK_NONEMPTY: Final = 1 << 2
IORING_CQE_BUFFER_SHIFT: Final = 16

# sq ring flags
IORING_SQ_NEED_WAKEUP: Final = 1 << 0
IORING_SQ_CQ_OVERFLOW: Final = 1 << 1

# io_uring_register operations
IORING_REGISTER_BUFFERS: Final = 0
IORING_UNREGISTER_BUFFERS: Final = 1
IORING_REGISTER_FILES: Final = 2
IORING_UNREGISTER_FILES: Final = 3
IORING_REGISTER_EVENTFD: Final = 4
IORING_UNREGISTER_EVENTFD: Final = 5
IORING_REGISTER_PROBE: Final = 8
IORING_REGISTER_PBUF_RING: Final = 22
IORING_UNREGISTER_PBUF_RING: Final = 23

PARAMS_BYTES: Final = 120
MAX_ENTRIES: Final = 32768

SQE: Final = struct.Struct("<BBHiQQIIQHHiQQ")
"""opcode, flags, ioprio, fd, offset, address, length, operation flags, user data, buffer group,
personality, splice fd, two words of padding."""
CQE: Final = struct.Struct("<QiI")
"""user data, result, flags."""
BUF: Final = struct.Struct("<QIHH")
"""address, length, buffer number, reserved: in the first entry of a buffer ring, its tail."""
BUF_REG: Final = struct.Struct("<QIHHQQQ")
"""address of the ring, entries, group, flags, three words reserved."""

TIMESPEC: Final = struct.Struct("=qq")
"""seconds, nanoseconds."""

BYTES_OFFSET: Final = bytes.__basicsize__ - 1
"""How far behind its ``id`` the content of a ``bytes`` begins, in CPython: its header ends with a
single byte, the first of them. To ask ctypes for the address takes as long as a send."""

_GETEVENTS_ARG = struct.Struct("=QIIQ")  # signal mask, its size, padding, address of a timespec

_ARG_BYTES = _GETEVENTS_ARG.size
_GETEVENTS = IORING_ENTER_GETEVENTS
_TIMED = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG

# One declaration for all three, each argument as wide as a register: `syscall` is variadic, and
# a narrower one would leave the upper half undefined.
_LINUX = sys.platform.startswith("linux")
_SYSCALL = "syscall" if _LINUX else ""
_syscall = function(_SYSCALL, ctypes.c_long, *(ctypes.c_long,) * 7)
_syscall_at_once = quick(_SYSCALL, ctypes.c_long, *(ctypes.c_long,) * 7)


def setup(entries: int, params: bytearray) -> int:
    """Make a ring of *entries*; the kernel fills *params*, 120 bytes. Returns the descriptor."""
    if len(params) != PARAMS_BYTES:
        raise ValueError(f"io_uring_params has {PARAMS_BYTES} bytes, got {len(params)}")
    pinned = (ctypes.c_char * PARAMS_BYTES).from_buffer(params)
    where = ctypes.addressof(pinned)
    fd: int = call("io_uring_setup", _syscall, SYS_IO_URING_SETUP, entries, where, 0, 0, 0, 0)
    return fd


def enter(fd: int, to_submit: int, min_complete: int, flags: int = 0) -> int:
    """Submit, and wait for *min_complete* completions. Returns how many were submitted.

    Waits only with ``IORING_ENTER_GETEVENTS``, and then without end.
    """
    count: int = call(
        "io_uring_enter", _syscall, SYS_IO_URING_ENTER, fd, to_submit, min_complete, flags, 0, 0
    )
    return count


def enter_timeout(fd: int, to_submit: int, min_complete: int, flags: int, timeout_ms: int) -> int:
    """``enter`` that waits *timeout_ms* at most (Linux 5.11, ``IORING_FEAT_EXT_ARG``).

    Returns how many were submitted; whether any have completed the ring itself tells.
    """
    deadline = time.monotonic_ns() + timeout_ms * 1_000_000
    left = max(0, timeout_ms * 1_000_000)
    flags |= IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG
    while True:
        when = TIMESPEC.pack(*divmod(left, 1_000_000_000))
        arg = _GETEVENTS_ARG.pack(0, 0, 0, address_of(when))
        count: int = _syscall(
            SYS_IO_URING_ENTER, fd, to_submit, min_complete, flags, address_of(arg), len(arg)
        )
        if count >= 0:
            return count
        number = ctypes.get_errno()
        if number == errno.ETIME:  # only where nothing was submitted by this call
            return 0
        if number != errno.EINTR:
            raise fail("io_uring_enter", number)
        left = max(0, deadline - time.monotonic_ns())


class Gate:
    """``io_uring_enter`` for the loop of one ring, with its arguments prepared once.

    One thread at a time; an object of its own for each ring.
    """

    __slots__ = ("_arg", "_arg_at", "_fd", "_when")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._when = bytearray(TIMESPEC.size)
        self._arg = _GETEVENTS_ARG.pack(0, 0, 0, address_of(self._when))
        self._arg_at = address_of(self._arg)

    def enter(self, to_submit: int, timeout_ms: int) -> int:
        """Submit, and wait *timeout_ms* for a completion; 0 does not wait, less waits for ever.

        What is ready to complete does so in any case. Returns 0, or the errno: ETIME where the
        time is up, EINTR where a signal came before that.
        """
        if timeout_ms > 0:
            seconds, ms = divmod(int(timeout_ms), 1000)  # epoll takes fractions, too
            TIMESPEC.pack_into(self._when, 0, seconds, ms * 1_000_000)
            result = _syscall(
                SYS_IO_URING_ENTER, self._fd, to_submit, 1, _TIMED, self._arg_at, _ARG_BYTES
            )
        elif timeout_ms < 0:
            result = _syscall(SYS_IO_URING_ENTER, self._fd, to_submit, 1, _GETEVENTS, 0, 0)
        else:
            result = _syscall_at_once(SYS_IO_URING_ENTER, self._fd, to_submit, 0, _GETEVENTS, 0, 0)
        return 0 if result >= 0 else ctypes.get_errno()


def register(fd: int, opcode: int, arg: Any = None, nr_args: int = 0) -> int:
    """``io_uring_register``; *arg* is ``None``, ``bytes``, or a writable buffer."""
    where = 0 if arg is None else address_of(arg)
    result: int = call(
        "io_uring_register", _syscall, SYS_IO_URING_REGISTER, fd, opcode, where, nr_args, 0, 0
    )
    return result
