"""A listener on io_uring: connections are accepted by a request that stays with the kernel."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

from flare._ffi import io_uring as kernel
from flare.runtime._pollers import EVENT_READABLE
from flare.runtime._uring_sockets import UringSocket
from flare.runtime._uring_watch import Watch

if TYPE_CHECKING:
    from flare.runtime.uring import UringPoller

__all__ = ["UringListener"]


class UringListener(Watch):
    """A listening socket. Takes over *sock*, which must be non-blocking.

    Connections are accepted as they come, and ``accept`` hands them out. With *lazy* they stay in
    the kernel until then: for a listener that others share, or one that may not take them all.
    """

    __slots__ = ("_error", "_lazy", "_shy", "_sock", "_taken")

    def __init__(self, poller: UringPoller, sock: socket.socket, *, lazy: bool) -> None:
        super().__init__(poller, sock.fileno())
        self._sock = sock
        self._lazy = lazy
        self._shy = False  # after a shortage, look before accepting
        self._taken: deque[int] = deque()
        self._error = 0

    def fileno(self) -> int:
        """The descriptor; -1 once closed."""
        return self._sock.fileno()

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        """As that of a socket."""
        self._sock.setsockopt(level, option, value)

    def getsockname(self) -> Any:
        """As that of a socket."""
        return self._sock.getsockname()

    @property
    def family(self) -> int:
        """As that of a socket."""
        return self._sock.family

    def shutdown(self, how: int) -> None:
        """As that of a socket."""
        self._sock.shutdown(how)

    @property
    def taken(self) -> int:
        """How many connections the kernel has accepted that were not handed out."""
        return len(self._taken)

    def listen(self, interest: int, *, exclusive: bool) -> None:
        """Report connections."""
        mask = select.POLLIN
        if exclusive:
            mask |= select.EPOLLEXCLUSIVE
        self.watch(interest, mask)

    def arm(self) -> None:
        """See ``Watch``."""
        if self._taken or self._error:
            self.poller.news[self] = None
        elif self._lazy or self._shy:
            super().arm()
        elif not self.armed:
            self.armed = self.poller.push_accept(self)

    def complete(self, data: int, result: int, flags: int) -> None:
        """See ``Watch``."""
        if self._lazy:
            super().complete(data, result, flags)
            return
        if self._shy and data == self.armed:
            self._shy = False
            self.armed = 0
            self.poller.due[self] = None
            return
        if result >= 0:
            if self._sock.fileno() < 0:
                os.close(result)
            else:
                self._taken.append(result)
        if not flags & kernel.IORING_CQE_F_MORE:
            if data == self.armed:
                self.armed = 0
            if result == -errno.EAGAIN:  # this kernel does not wait on a non-blocking listener
                self._lazy = True
            elif result < 0 and result != -errno.ECANCELED:
                self._error = -result
        if self.mode:
            self.poller.due[self] = None

    def report(self) -> int:
        """See ``Watch``."""
        if self._lazy:
            return super().report()
        self.poller.due[self] = None
        return EVENT_READABLE if self._taken or self._error else 0

    def stop(self) -> None:
        """Accept none ahead any more. Those accepted by now are ``taken``, and once ``accept`` has
        handed them out it asks the system. Until it is registered again nothing is reported."""
        armed = self.armed
        if armed and not self._lazy:
            poller = self.poller
            poller.turn(0)
            if self.armed:
                self.mode = 0
                poller.push_cancel(self.armed)
                poller.wait_for(lambda: not self.armed)
        self.forget()

    def accept(self) -> tuple[UringSocket, Any]:
        """The next connection and its peer's address, as ``socket.accept`` does."""
        if self._lazy or not (self._taken or self.mode):
            accepted, address = self._sock.accept()
            return UringSocket(self.poller, accepted), address
        if not self._taken:
            number, self._error = self._error, 0
            if not number:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            self._shy = True
            raise OSError(number, os.strerror(number))
        mine = self._sock
        sock = socket.socket(mine.family, mine.type, mine.proto, fileno=self._taken.popleft())
        try:
            address = sock.getpeername()
        except OSError as error:  # reset while it waited
            sock.close()
            raise ConnectionAbortedError(errno.ECONNABORTED, str(error)) from error
        return UringSocket(self.poller, sock), address

    def close(self) -> None:
        """Close it, and the connections that nobody took."""
        self.poller.entries.pop(self.fd, None)
        self._sock.close()
        while self._taken:
            os.close(self._taken.popleft())
