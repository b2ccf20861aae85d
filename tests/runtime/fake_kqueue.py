"""A stand-in for the kqueue part of ``select``, so that its poller is tested on Linux too."""

from __future__ import annotations

import array
import errno
import fcntl
import itertools
import os
import select
import termios
import time
from types import SimpleNamespace
from typing import Any

READ_FILTER, WRITE_FILTER = -1, -2


class Kevent(SimpleNamespace):
    """``select.kevent``."""

    def __init__(self, ident: int, filter: int, flags: int = 1, fflags: int = 0, data: int = 0):
        super().__init__(ident=ident, filter=filter, flags=flags, fflags=fflags, data=data)


class Kqueue:
    """``select.kqueue`` out of ``poll``, so that its poller is tested where there is none."""

    def __init__(self) -> None:
        self._watched: dict[tuple[int, int], Kevent] = {}

    def control(self, changes: Any, most: int, timeout: float | None = None) -> list[Kevent]:
        for change in changes or ():
            key = (change.ident, change.filter)
            os.fstat(change.ident)
            if change.flags & FAKE.KQ_EV_DELETE:
                if key not in self._watched:
                    raise OSError(errno.ENOENT, "no such filter")
                del self._watched[key]
            else:
                self._watched[key] = change
        if most == 0:
            return []
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            ready = list(itertools.islice(filter(None, map(self._look, [*self._watched])), most))
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if ready or left == 0.0:
                for event in ready:  # what was reported goes to the end of the queue
                    key = (event.ident, event.filter)
                    if key in self._watched:
                        self._watched[key] = self._watched.pop(key)
                return ready
            self._wait(left)

    def _wait(self, seconds: float | None) -> None:
        poll = select.poll()
        for fd, kind in self._watched:
            mask = select.POLLIN | select.POLLRDHUP if kind == READ_FILTER else select.POLLOUT
            if not self._watched[fd, kind].fflags:
                poll.register(fd, mask)
            else:
                poll.register(fd, select.POLLRDHUP)
        poll.poll(None if seconds is None else seconds * 1000)

    def _look(self, key: tuple[int, int]) -> Kevent | None:
        fd, kind = key
        watch = self._watched[key]
        poll = select.poll()
        poll.register(fd, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
        found = poll.poll(0)
        mask = found[0][1] if found else 0
        flags = 0
        if kind == READ_FILTER:
            eof = mask & (select.POLLRDHUP | select.POLLHUP)
            unread = array.array("i", [1])
            if watch.fflags and not eof:
                fcntl.ioctl(fd, termios.FIONREAD, unread)
            hit = eof or (mask & select.POLLIN and unread[0] >= max(1, watch.data))
        else:
            eof = mask & select.POLLHUP
            hit = mask & (select.POLLOUT | select.POLLHUP)
        if not hit:
            return None
        if eof:
            flags |= FAKE.KQ_EV_EOF
        if watch.flags & FAKE.KQ_EV_ONESHOT:
            del self._watched[key]
        return Kevent(fd, kind, flags, errno.ECONNRESET if mask & select.POLLERR else 0)

    def close(self) -> None:
        self._watched.clear()


FAKE = SimpleNamespace(
    kqueue=Kqueue,
    kevent=Kevent,
    KQ_FILTER_READ=READ_FILTER,
    KQ_FILTER_WRITE=WRITE_FILTER,
    KQ_EV_ADD=1,
    KQ_EV_DELETE=2,
    KQ_EV_ONESHOT=16,
    KQ_EV_ERROR=0x4000,
    KQ_EV_EOF=0x8000,
    KQ_NOTE_LOWAT=1,
)
