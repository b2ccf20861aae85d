"""The three ways a system tells which descriptors are ready: epoll, kqueue and poll.

Each poller turns what its system reports into ``(token, flags)`` pairs, flags being the sum of
``EVENT_*``. A batch is translated whole before any of it is handed out: by the time its second
event is dispatched, the first may have closed a descriptor and a new one may bear its number,
but the token still names the connection the kernel meant.

All are level-triggered. The ``Reactor`` in front of them checks the arguments; here an
``OSError`` is the system's own. ``select.epoll`` and one list comprehension measured faster
than ``epoll_wait`` by ctypes, though only the latter could keep a token in the kernel
(``flare._ffi.epoll`` has the figures).
"""

from __future__ import annotations

import errno
import os
import select
from typing import Any, Final, Protocol

INTEREST_READ: Final = 1
INTEREST_WRITE: Final = 2

EVENT_READABLE: Final = 1
EVENT_WRITABLE: Final = 2
EVENT_ERROR: Final = 4
EVENT_HUP: Final = 8

WAKEUP_TOKEN: Final = 2**64 - 1

# What removing a descriptor says when it was closed before: it is gone, and its number may
# already belong to something else, even to a file no poller takes.
_ALREADY_GONE = frozenset({errno.EBADF, errno.ENOENT, errno.EPERM})


class Waker:
    """A descriptor that becomes readable when ``wake`` is called, from anywhere.

    It is closed when the last reference goes, so a ``wake`` racing with the reactor's ``close``
    can never write to a descriptor that has been closed and opened again as something else.
    """

    __slots__ = ("_write_fd", "fd")

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            self.fd = self._write_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self.fd, self._write_fd = os.pipe()
            os.set_blocking(self.fd, False)
            os.set_blocking(self._write_fd, False)

    def wake(self) -> None:
        """Make ``fd`` readable. Never raises: what is full is readable already."""
        try:
            os.write(self._write_fd, b"\1\0\0\0\0\0\0\0")
        except OSError:
            pass

    def drain(self) -> None:
        """Make ``fd`` unreadable until the next ``wake``."""
        try:
            while len(os.read(self.fd, 4096)) == 4096:
                pass
        except OSError:
            pass

    def __del__(self) -> None:
        fd = getattr(self, "fd", -1)
        if fd >= 0:
            os.close(fd)
            if self._write_fd != fd:
                os.close(self._write_fd)


class Poller(Protocol):
    """What a ``Reactor`` asks of its system; ``tokens`` has the token of each descriptor."""

    tokens: dict[int, int]

    def add(self, fd: int, interest: int, exclusive: bool) -> None: ...
    def change(self, fd: int, interest: int) -> None: ...
    def arm_oneshot_hup(self, fd: int, known: bool) -> None: ...
    def remove(self, fd: int) -> None: ...
    def wait(self, timeout_ms: int, max_events: int) -> list[tuple[int, int]]: ...
    def close(self) -> None: ...


class FlagTable(dict[int, int]):
    """From a system's event mask to ``EVENT_*`` flags, each mask worked out once."""

    def __init__(self, readable: int, writable: int, error: int, hup: int) -> None:
        super().__init__()
        self._bits = (
            (readable, EVENT_READABLE),
            (writable, EVENT_WRITABLE),
            (error, EVENT_ERROR),
            (hup, EVENT_HUP),
        )

    def __missing__(self, mask: int) -> int:
        flags = 0
        for bits, flag in self._bits:
            if mask & bits:
                flags |= flag
        self[mask] = flags
        return flags


class EpollPoller:
    """Linux: one epoll set."""

    def __init__(self, waker: Waker) -> None:
        self._masks: dict[int, int] = {}
        self._waker = waker
        self.tokens = {waker.fd: WAKEUP_TOKEN}
        self._flags = FlagTable(
            select.EPOLLIN,
            select.EPOLLOUT,
            select.EPOLLERR,
            select.EPOLLHUP | select.EPOLLRDHUP,
        )
        self._open()

    def _open(self) -> None:
        self._epoll = select.epoll()
        # Edge-triggered, so that each wake is reported once and nobody has to read the counter,
        # which would take 2**64 wakes to fill.
        self._epoll.register(self._waker.fd, select.EPOLLIN | select.EPOLLET)

    @staticmethod
    def _mask(interest: int) -> int:
        mask = 0
        if interest & INTEREST_READ:
            mask = select.EPOLLIN | select.EPOLLRDHUP
        if interest & INTEREST_WRITE:
            mask |= select.EPOLLOUT
        return mask

    def add(self, fd: int, interest: int, exclusive: bool) -> None:
        mask = self._mask(interest)
        if exclusive:
            # The kernel refuses EPOLLRDHUP beside EPOLLEXCLUSIVE, and before 4.5 the latter.
            shared = mask & ~select.EPOLLRDHUP | select.EPOLLEXCLUSIVE
            try:
                self._epoll.register(fd, shared)
            except OSError as exc:
                if exc.errno != errno.EINVAL:
                    raise
            else:
                self._masks[fd] = shared
                return
        self._add(fd, mask)

    def _add(self, fd: int, mask: int) -> None:
        try:
            self._epoll.register(fd, mask)
        except FileExistsError:  # closed while a duplicate lived, removed, and duplicated back
            self._epoll.modify(fd, mask)
        self._masks[fd] = mask

    def change(self, fd: int, interest: int) -> None:
        mask = self._mask(interest)
        self._epoll.modify(fd, mask)
        self._masks[fd] = mask

    def arm_oneshot_hup(self, fd: int, known: bool) -> None:
        mask = select.EPOLLRDHUP | select.EPOLLONESHOT
        if known:
            self._epoll.modify(fd, mask)
            self._masks[fd] = mask
        else:
            self._add(fd, mask)

    def remove(self, fd: int) -> None:
        self._masks.pop(fd, None)
        try:
            self._epoll.unregister(fd)
        except OSError as exc:
            if exc.errno not in _ALREADY_GONE:
                raise

    def wait(self, timeout_ms: int, max_events: int) -> list[tuple[int, int]]:
        batch = self._epoll.poll(timeout_ms / 1000 if timeout_ms > 0 else timeout_ms, max_events)
        tokens = self.tokens
        flags = self._flags
        try:
            return [(tokens[fd], flags[mask]) for fd, mask in batch]
        except KeyError:
            known = [(tokens[fd], flags[mask]) for fd, mask in batch if fd in tokens]
            self._rebuild()
            return known

    def _rebuild(self) -> None:
        """Start a new set, because the old one reports a descriptor that cannot be removed.

        That is one closed while a duplicate (in a child, say) kept its socket open, and
        unregistered only then: epoll still watches the socket and knows no other name for it.
        """
        self._epoll.close()
        self._open()
        for fd, mask in self._masks.items():
            try:
                self._epoll.register(fd, mask)
            except OSError:  # closed too; its owner has yet to unregister it
                pass

    def close(self) -> None:
        self._epoll.close()


class KqueuePoller:
    """macOS and the BSDs. *module* is ``select``; a test may pass another."""

    def __init__(self, waker: Waker, module: Any = select) -> None:
        self._select = module
        self._waker = waker
        self._interests: dict[int, int] = {}
        self._oneshot: set[int] = set()
        self.tokens = {waker.fd: WAKEUP_TOKEN}
        self._kqueue = module.kqueue()
        self._control(waker.fd, module.KQ_FILTER_READ, module.KQ_EV_ADD)

    def _control(self, fd: int, kind: int, action: int, fflags: int = 0, data: int = 0) -> None:
        event = self._select.kevent(fd, kind, action, fflags, data)
        self._kqueue.control([event], 0, 0)

    def _set(self, fd: int, interest: int) -> None:
        names = self._select
        before = self._interests.get(fd, 0)
        if fd in self._oneshot:  # adding again would not take the one shot off
            self._oneshot.discard(fd)
            self._delete(fd, names.KQ_FILTER_READ)
            before = 0
        for bit, kind in (
            (INTEREST_READ, names.KQ_FILTER_READ),
            (INTEREST_WRITE, names.KQ_FILTER_WRITE),
        ):
            if interest & bit:
                self._control(fd, kind, names.KQ_EV_ADD)
            elif before & bit:
                self._delete(fd, kind)
        self._interests[fd] = interest

    def _delete(self, fd: int, kind: int) -> None:
        try:
            self._control(fd, kind, self._select.KQ_EV_DELETE)
        except OSError as exc:
            if exc.errno not in _ALREADY_GONE:
                raise

    def add(self, fd: int, interest: int, exclusive: bool) -> None:
        del exclusive  # kqueue wakes one waiter anyhow
        try:
            self._set(fd, interest)
        except OSError:
            self._interests.pop(fd, None)
            raise

    def change(self, fd: int, interest: int) -> None:
        self._set(fd, interest)

    def arm_oneshot_hup(self, fd: int, known: bool) -> None:
        del known
        names = self._select
        if self._interests.get(fd, 0) & INTEREST_WRITE:
            self._delete(fd, names.KQ_FILTER_WRITE)
        # A low-water mark no buffer reaches leaves only the end of the stream to report.
        self._delete(fd, names.KQ_FILTER_READ)
        self._control(
            fd,
            names.KQ_FILTER_READ,
            names.KQ_EV_ADD | names.KQ_EV_ONESHOT,
            names.KQ_NOTE_LOWAT,
            2**31 - 1,
        )
        self._oneshot.add(fd)
        self._interests[fd] = 0

    def remove(self, fd: int) -> None:
        self._interests.pop(fd, None)
        self._oneshot.discard(fd)
        self._delete(fd, self._select.KQ_FILTER_READ)
        self._delete(fd, self._select.KQ_FILTER_WRITE)

    def wait(self, timeout_ms: int, max_events: int) -> list[tuple[int, int]]:
        names = self._select
        timeout = None if timeout_ms < 0 else timeout_ms / 1000
        # One event a filter comes out of the kernel; here one a descriptor.
        merged: dict[int, int] = {}
        for event in self._kqueue.control(None, max_events, timeout):
            fd = event.ident
            if fd == self._waker.fd:
                self._waker.drain()
                merged[fd] = EVENT_READABLE
                continue
            flags = 0
            if event.flags & names.KQ_EV_ERROR:
                flags = EVENT_ERROR
            elif event.filter == names.KQ_FILTER_READ:
                flags = EVENT_READABLE
            elif event.filter == names.KQ_FILTER_WRITE:
                flags = EVENT_WRITABLE
            if event.flags & names.KQ_EV_EOF:
                flags |= EVENT_HUP
                if event.fflags:  # the socket's pending error
                    flags |= EVENT_ERROR
            merged[fd] = merged.get(fd, 0) | flags
        tokens = self.tokens
        return [(tokens[fd], flags) for fd, flags in merged.items() if fd in tokens]

    def close(self) -> None:
        self._kqueue.close()


class PollPoller:
    """Any other Unix: ``poll(2)``, whose cost grows with what is watched, ready or not."""

    def __init__(self, waker: Waker) -> None:
        self._waker = waker
        self.tokens = {waker.fd: WAKEUP_TOKEN}
        self._rdhup: int = getattr(select, "POLLRDHUP", 0)
        self._flags = FlagTable(
            select.POLLIN,
            select.POLLOUT,
            select.POLLERR,
            select.POLLHUP | self._rdhup,
        )
        self._oneshot: set[int] = set()
        self._turn = 0
        self._poll = select.poll()
        self._poll.register(waker.fd, select.POLLIN)

    def _watch(self, fd: int, interest: int) -> None:
        mask = 0
        if interest & INTEREST_READ:
            mask = select.POLLIN | self._rdhup
        if interest & INTEREST_WRITE:
            mask |= select.POLLOUT
        self._oneshot.discard(fd)
        self._poll.register(fd, mask)

    def add(self, fd: int, interest: int, exclusive: bool) -> None:
        del exclusive
        os.fstat(fd)  # poll takes any number; the others refuse one that is not open
        self._watch(fd, interest)

    def change(self, fd: int, interest: int) -> None:
        os.fstat(fd)
        self._watch(fd, interest)

    def arm_oneshot_hup(self, fd: int, known: bool) -> None:
        del known
        os.fstat(fd)
        self._poll.register(fd, self._rdhup)
        self._oneshot.add(fd)

    def remove(self, fd: int) -> None:
        self._oneshot.discard(fd)
        try:
            self._poll.unregister(fd)
        except KeyError:  # a one-shot that has fired
            pass

    def wait(self, timeout_ms: int, max_events: int) -> list[tuple[int, int]]:
        batch = self._poll.poll(timeout_ms)
        if len(batch) > max_events:
            # The order is always the same: begin elsewhere each time, or the last ones starve.
            self._turn += max_events
            start = self._turn % len(batch)
            batch = (batch[start:] + batch[:start])[:max_events]
        events = []
        for fd, mask in batch:
            if mask & select.POLLNVAL:  # closed without unregister: the others forget it
                self._poll.unregister(fd)
                continue
            if fd == self._waker.fd:
                self._waker.drain()
            elif fd in self._oneshot:
                self._oneshot.discard(fd)
                self._poll.unregister(fd)
            events.append((self.tokens[fd], self._flags[mask]))
        return events

    def close(self) -> None:
        """Nothing is held."""


def new_poller(waker: Waker) -> Poller:
    """The best this system has."""
    if hasattr(select, "epoll"):
        return EpollPoller(waker)
    if hasattr(select, "kqueue"):
        return KqueuePoller(waker)
    return PollPoller(waker)
