"""What a ``UringPoller`` keeps of a descriptor: a ``Watch``."""

from __future__ import annotations

import errno
import select
from typing import TYPE_CHECKING

from flare._ffi import io_uring as kernel
from flare.runtime._pollers import EVENT_ERROR, EVENT_HUP

if TYPE_CHECKING:
    from flare.runtime.uring import UringPoller

__all__ = ["Watch"]

_ALWAYS = select.POLLERR | select.POLLHUP  # reported whether asked for or not


class Watch:
    """A descriptor and what is to be reported of it, found out by a poll request.

    The request is for one event and is made anew whenever that has been reported, which looks at
    what is ready now: it behaves as a level-triggered epoll.
    """

    __slots__ = ("armed", "fd", "mask", "mode", "oneshot", "poller", "ready")

    def __init__(self, poller: UringPoller, fd: int) -> None:
        self.poller = poller
        self.fd = fd
        self.mode = 0  # the sum of INTEREST_*
        self.mask = 0  # what of poll(2) is waited for
        self.oneshot = False
        self.armed = 0  # the request's user_data, 0 where there is none
        self.ready = 0  # the sum of EVENT_* not reported yet

    def watch(self, interest: int, mask: int, *, oneshot: bool = False) -> None:
        """From now on report what *mask* has."""
        self.forget()
        self.mode, self.mask, self.oneshot = interest, mask, oneshot
        self.poller.due[self] = None

    def arm(self) -> None:
        """Wait for what is wanted, unless that is waited for already."""
        if self.mask and not self.armed:
            self.armed = self.poller.push_poll(self, self.mask)

    def forget(self) -> None:
        """Watch for nothing."""
        self.mode = self.mask = self.ready = 0
        armed, self.armed = self.armed, 0
        if armed:
            self.poller.push_cancel(armed)
        self.poller.due.pop(self, None)
        self.poller.news.pop(self, None)

    def complete(self, data: int, result: int, flags: int) -> None:
        """The request *data* has an event, or has ended."""
        if data != self.armed:
            return  # one that was cancelled
        more = flags & kernel.IORING_CQE_F_MORE
        if result >= 0:
            seen = self.poller.flags_of(result & (self.mask | _ALWAYS))
        else:
            # Cancelled unasked, where the thread that made it is gone.
            seen = 0 if result == -errno.ECANCELED else EVENT_ERROR | EVENT_HUP
        if not seen:
            if not more:
                self.armed = 0
                self.poller.due[self] = None
            return
        if more:
            self.poller.push_cancel(data)
        self.armed = 0
        self.ready |= seen
        self.poller.news[self] = None

    def report(self) -> int:
        """What to tell of it now; 0 for nothing."""
        flags, self.ready = self.ready, 0
        if self.oneshot:
            self.mask = 0
        else:
            self.poller.due[self] = None
        return flags
