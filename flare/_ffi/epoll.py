"""epoll by ctypes: the calls as the kernel has them, with 64 bits of user data an event.

The reactor does not use them: ``select.epoll`` makes the same system calls and turns a batch
into a list in C, which measured about twice as fast at one event a wait and eight times at 64.
They are here for what it cannot say: data of one's own on an event.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import time
from collections.abc import Iterator
from typing import ClassVar, Final

from flare._ffi.libc import call, fail, function

EPOLL_CLOEXEC: Final = 0o2000000
EPOLL_CTL_ADD: Final = 1
EPOLL_CTL_DEL: Final = 2
EPOLL_CTL_MOD: Final = 3

EPOLLIN: Final = 0x001
EPOLLOUT: Final = 0x004
EPOLLERR: Final = 0x008
EPOLLHUP: Final = 0x010
EPOLLRDHUP: Final = 0x2000
EPOLLEXCLUSIVE: Final = 1 << 28
EPOLLONESHOT: Final = 1 << 30
EPOLLET: Final = 1 << 31


class EpollEvent(ctypes.Structure):
    """``struct epoll_event``: packed on x86-64, and only there."""

    if platform.machine() in ("x86_64", "AMD64"):
        _pack_ = 1
        _layout_ = "ms"
    _fields_: ClassVar = [("events", ctypes.c_uint32), ("data", ctypes.c_uint64)]


_epoll_create1 = function("epoll_create1", ctypes.c_int, ctypes.c_int)
_epoll_ctl = function(
    "epoll_ctl",
    ctypes.c_int,
    *(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.POINTER(EpollEvent)),
)
_epoll_wait = function(
    "epoll_wait",
    ctypes.c_int,
    *(ctypes.c_int, ctypes.POINTER(EpollEvent), ctypes.c_int, ctypes.c_int),
)


class EventBuffer:
    """Room for *capacity* events, made once and filled by each ``epoll_wait``."""

    __slots__ = ("capacity", "events")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.events = (EpollEvent * capacity)()

    def pairs(self, count: int) -> Iterator[tuple[int, int]]:
        """The first *count* events as ``(data, mask)``."""
        for event in self.events[:count]:
            yield event.data, event.events


def epoll_create1(flags: int = EPOLL_CLOEXEC) -> int:
    """A new epoll set; the caller closes the descriptor."""
    result: int = call("epoll_create1", _epoll_create1, flags)
    return result


def epoll_ctl(epfd: int, op: int, fd: int, events: int = 0, data: int = 0) -> None:
    """Add, change or remove *fd*; *data*, 0..2**64-1, comes back with each of its events."""
    call("epoll_ctl", _epoll_ctl, epfd, op, fd, ctypes.byref(EpollEvent(events, data)))


def epoll_wait(epfd: int, buffer: EventBuffer, timeout_ms: int = -1) -> int:
    """Wait for events into *buffer* and return how many; 0 after *timeout_ms*, -1 for no end."""
    deadline = time.monotonic() + timeout_ms / 1000
    left = timeout_ms
    while True:
        count: int = _epoll_wait(epfd, buffer.events, buffer.capacity, left)
        if count >= 0:
            return count
        if ctypes.get_errno() != errno.EINTR:
            raise fail("epoll_wait")
        if timeout_ms > 0:
            left = max(0, round((deadline - time.monotonic()) * 1000))
