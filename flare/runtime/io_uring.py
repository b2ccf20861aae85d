"""io_uring rings (Linux): whether there are any, and owning one.

A ring here is the descriptor and what the kernel said of it; mapping and driving it is the
business of whoever runs a loop on it, with the layouts of ``flare._ffi.io_uring``.
"""

from __future__ import annotations

import errno
import functools
import os
import struct
import warnings
from collections.abc import Callable
from dataclasses import astuple, dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from flare._ffi import io_uring as _kernel
from flare._ffi.io_uring import (
    MAX_ENTRIES,
    PARAMS_BYTES,
    SYS_IO_URING_ENTER,
    SYS_IO_URING_REGISTER,
    SYS_IO_URING_SETUP,
)
from flare.errors import IoError, ValidationError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "SYS_IO_URING_ENTER",
    "SYS_IO_URING_REGISTER",
    "SYS_IO_URING_SETUP",
    "IoUringParams",
    "IoUringRing",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "is_io_uring_available",
]

_PARAMS = struct.Struct("=30I")


@dataclass(slots=True)
class IoUringParams:
    """``struct io_uring_params``: what is asked of the kernel, and what it answers.

    Ten fields of the ring, ten of where things are in its submission queue, ten of its
    completion queue. 64-bit ``user_addr`` fields are split into low and high half.
    """

    sq_entries: int = 0
    cq_entries: int = 0
    flags: int = 0
    sq_thread_cpu: int = 0
    sq_thread_idle: int = 0
    features: int = 0
    wq_fd: int = 0
    resv0: int = 0
    resv1: int = 0
    resv2: int = 0
    sq_off_head: int = 0
    sq_off_tail: int = 0
    sq_off_ring_mask: int = 0
    sq_off_ring_entries: int = 0
    sq_off_flags: int = 0
    sq_off_dropped: int = 0
    sq_off_array: int = 0
    sq_off_resv1: int = 0
    sq_off_user_addr_lo: int = 0
    sq_off_user_addr_hi: int = 0
    cq_off_head: int = 0
    cq_off_tail: int = 0
    cq_off_ring_mask: int = 0
    cq_off_ring_entries: int = 0
    cq_off_overflow: int = 0
    cq_off_cqes: int = 0
    cq_off_flags: int = 0
    cq_off_resv1: int = 0
    cq_off_user_addr_lo: int = 0
    cq_off_user_addr_hi: int = 0

    @classmethod
    def empty(cls) -> IoUringParams:
        """All zeros."""
        return cls()

    def to_bytes(self) -> bytes:
        """The struct, 120 bytes. ``ValidationError`` where a field is not of 32 bits."""
        try:
            return _PARAMS.pack(*astuple(self))
        except struct.error as exc:
            raise ValidationError("io_uring_params", str(exc)) from exc

    @classmethod
    def from_bytes(cls, b: ReadableBuffer) -> IoUringParams:
        """Read the struct; ``ValidationError`` where it is not 120 bytes."""
        raw = memoryview(b)
        if raw.nbytes != PARAMS_BYTES:
            raise ValidationError(
                "io_uring_params", f"must be {PARAMS_BYTES} bytes, got {raw.nbytes}"
            )
        return cls(*_PARAMS.unpack(raw))


def _negated(call: Callable[..., int], *args: Any) -> int:
    try:
        return call(*args)
    except OSError as exc:
        return -(exc.errno or errno.EIO)


def io_uring_setup(entries: int, params: IoUringParams) -> int:
    """The system call: a descriptor, or minus the errno. The kernel's answer is in *params*."""
    raw = bytearray(params.to_bytes())
    fd = _negated(_kernel.setup, entries, raw)
    if fd >= 0:
        for name, value in zip(IoUringParams.__slots__, _PARAMS.unpack(raw), strict=True):
            setattr(params, name, value)
    return fd


def io_uring_enter(fd: int, to_submit: int, min_complete: int, flags: int = 0) -> int:
    """The system call: how many entries were submitted, or minus the errno.

    With ``IORING_ENTER_GETEVENTS`` it blocks until *min_complete* are complete.
    """
    return _negated(_kernel.enter, fd, to_submit, min_complete, flags)


def io_uring_register(fd: int, opcode: int, arg: Any = None, nr_args: int = 0) -> int:
    """The system call: what the kernel returned, or minus the errno.

    *arg* is ``None``, ``bytes``, or a writable buffer for the kernel to fill.
    """
    return _negated(_kernel.register, fd, opcode, arg, nr_args)


@functools.cache
def is_io_uring_available() -> bool:
    """Whether this process can make a ring. Asks the kernel once; never raises.

    False on other systems than Linux, on kernels before 5.1, and where it has been forbidden (a
    container's seccomp filter, ``kernel.io_uring_disabled``).
    """
    fd = io_uring_setup(1, IoUringParams())
    if fd < 0:
        return False
    os.close(fd)
    return True


class IoUringRing:
    """A ring of at least *entries* submission entries, 1 to 32768. A context manager.

    *setup_flags* are ``IORING_SETUP_*``; the two *sq_thread* arguments belong to
    ``IORING_SETUP_SQPOLL``. Raises ``ValidationError`` for *entries* out of range and
    ``IoError("io_uring_setup", errno)`` where the kernel refuses, with ``ENOSYS`` off Linux.
    """

    def __init__(
        self, entries: int, setup_flags: int = 0, sq_thread_cpu: int = 0, sq_thread_idle: int = 0
    ) -> None:
        self._fd = -1
        if not 1 <= entries <= MAX_ENTRIES:
            raise ValidationError("entries", f"must be in 1..{MAX_ENTRIES}, got {entries}")
        self._params = IoUringParams(
            flags=setup_flags, sq_thread_cpu=sq_thread_cpu, sq_thread_idle=sq_thread_idle
        )
        fd = io_uring_setup(entries, self._params)
        if fd < 0:
            raise IoError("io_uring_setup", -fd, os.strerror(-fd))
        self._fd = fd

    def fd(self) -> int:
        """The descriptor; -1 once closed."""
        return self._fd

    fileno = fd

    def sq_entries(self) -> int:
        """The size of the submission queue, a power of two."""
        return self._params.sq_entries

    def cq_entries(self) -> int:
        """The size of the completion queue, by default twice the other."""
        return self._params.cq_entries

    def features(self) -> int:
        """The kernel's ``IORING_FEAT_*`` bits."""
        return self._params.features

    def params(self) -> IoUringParams:
        """All the kernel answered."""
        return self._params

    def close(self) -> None:
        """Close the descriptor; what is in flight is cancelled. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._fd >= 0:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def __repr__(self) -> str:
        if self._fd < 0:
            return "IoUringRing(closed)"
        return f"IoUringRing(fd={self._fd}, {self.sq_entries()} entries)"
