"""The C library by ctypes: finding it, and calling it the way Python calls it.

``function`` declares one C function and gives back a callable that raises ``OSError`` with the
errno where C returns -1, and that begins again after EINTR once Python's signal handlers have
run (PEP 475): an exception out of a handler ends the call. A function this system lacks is
declared all the same; calling it raises ``OSError(ENOSYS)``.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from typing import Any

__all__ = ["address_of", "call", "fail", "function", "load", "quick"]


def load() -> ctypes.CDLL | None:
    """The C library this process runs on; ``None`` where it cannot be had (Windows)."""
    try:
        return ctypes.CDLL(None, use_errno=True)
    except (OSError, TypeError):
        return None


_libc = load()


def function(name: str, restype: Any, *argtypes: Any) -> Callable[..., Any]:
    """Declare the C function *name* as it is: no error check, no retry. See ``call``.

    Where it is missing, the result returns -1 with the errno ENOSYS.
    """
    if _libc is None or not hasattr(_libc, name):

        def missing(*_: Any) -> int:
            ctypes.set_errno(errno.ENOSYS)
            return -1

        return missing
    # A function object of our own: attributes of the library's would be everybody's.
    declared: Any = ctypes.CFUNCTYPE(restype, *argtypes, use_errno=True)((name, _libc))
    return declared  # type: ignore[no-any-return]


def quick(name: str, restype: Any, *argtypes: Any) -> Callable[..., Any]:
    """``function`` for one that never blocks: a call keeps the interpreter lock. To let go of it
    may cost a whole switch interval, where another thread computes."""
    if _libc is None or not hasattr(_libc, name):
        return function(name, restype, *argtypes)
    declared: Any = ctypes.PyDLL(None, use_errno=True)[name]
    declared.restype, declared.argtypes = restype, argtypes
    return declared  # type: ignore[no-any-return]


def fail(op: str, code: int | None = None) -> OSError:
    """The exception for the last errno, or for *code*, of its fitting subclass."""
    number = ctypes.get_errno() if code is None else code
    return OSError(number, f"{os.strerror(number)} ({op})")


def call(op: str, raw: Callable[..., Any], *args: Any) -> Any:
    """Call *raw* until it is not interrupted, and return its result.

    -1 becomes an ``OSError`` whose text names *op*. Not for calls with a timeout, which would
    begin anew with the whole of it.
    """
    while True:
        result = raw(*args)
        if result != -1:
            return result
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise fail(op, number)


def address_of(buffer: bytes | bytearray | memoryview | Any) -> int:
    """Where *buffer*'s first byte is in memory. The caller keeps it alive and does not resize it.

    *buffer* is ``bytes``, or anything writable with at least one byte.
    """
    if isinstance(buffer, bytes):
        return ctypes.cast(ctypes.c_char_p(buffer), ctypes.c_void_p).value or 0
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
