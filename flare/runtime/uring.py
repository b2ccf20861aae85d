"""The reactor on io_uring: what a turn of the loop has to say goes to the kernel in one call.

``UringReactor`` is a ``Reactor`` for any descriptor. What makes it worth having are the sockets
it hands out (``_uring_sockets.py``): they are accepted and received from by requests that stay
with the kernel, into buffers that it picks, and their sends wait for the next ``io_uring_enter``,
the same that waits for events. So a turn costs one system call, however many connections it
serves. Linux 6.0 at least; ``is_bufring_available`` tries it out.

A request belongs to the thread that made it: the kernel completes it there, or cancels it when
that thread ends. When another thread takes over, requests move to it one by one, each the next
time it completes. Whatever is cancelled unasked is begun again.
"""

from __future__ import annotations

import functools
import math
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from flare._ffi import io_uring as kernel
from flare.runtime._pollers import (
    EVENT_READABLE,
    INTEREST_READ,
    INTEREST_WRITE,
    WAKEUP_TOKEN,
    FlagTable,
    Poller,
    Waker,
)
from flare.runtime._ring import BUFFER_BYTES, GROUP, Ring
from flare.runtime._uring_listeners import UringListener
from flare.runtime._uring_sockets import (
    AHEAD_BYTES,
    LISTED,
    SENDS,
    SLOW,
    Backlog,
    UringSocket,
)
from flare.runtime._uring_watch import Watch
from flare.runtime.reactor import HasFileno, Reactor

__all__ = ["UringPoller", "UringReactor", "is_bufring_available"]

_BUFFER = kernel.IORING_CQE_F_BUFFER
_MORE = kernel.IORING_CQE_F_MORE
_SHIFT = kernel.IORING_CQE_BUFFER_SHIFT
_SKIP = kernel.IOSQE_CQE_SKIP_SUCCESS
_PATIENCE_SECONDS = 1.0  # for the kernel to cancel something
_MANY = 8  # submissions
_CLOEXEC = getattr(socket, "SOCK_CLOEXEC", 0)


class UringPoller:
    """What a ``Reactor`` asks of its system, by io_uring. Raises ``OSError`` where that lacks."""

    def __init__(self, waker: Waker, *, write_timeout_ms: int = 0) -> None:
        self.tokens = {waker.fd: WAKEUP_TOKEN}
        self.write_timeout_ms = write_timeout_ms
        self.entries: dict[int, Watch] = {}
        """All that is watched or could be, by descriptor."""
        self.receives: dict[int, UringSocket] = {}
        """Receives with the kernel, by ``user_data``."""
        self._others: dict[int, Any] = {}  # and its other requests
        self._serial = 0
        self.epoch = 1
        """A number for each thread that has led."""
        self._leader = 0  # nothing has been submitted yet
        self.out: list[tuple[UringSocket, bytes, int]] = []
        """The sends of this turn: socket, data, place among the submissions."""
        self.turns = 0
        """Counts them. What was sent in an earlier one has gone, or is a backlog."""
        self._fresh: list[UringSocket] = []  # to report as readable
        self._reported: list[UringSocket] = []  # those of the last time
        self.news: dict[Watch, None] = {}
        """Others with something to report."""
        self.due: dict[Watch, None] = {}
        """Those to ``arm`` before the next wait."""
        self.closing: list[UringSocket] = []
        """Closed ones with a send in this turn."""
        self.lingering: set[UringSocket] = set()
        """Closed ones with a backlog."""
        self.backlogs: dict[Backlog, None] = {}
        """All there are, the one to give up on first in front."""
        self.stirred = False
        """Whether something has happened that is no event."""
        self.closed = False
        self.flags_of = FlagTable(
            select.POLLIN,
            select.POLLOUT,
            select.POLLERR,
            select.POLLHUP | getattr(select, "POLLRDHUP", 0),
        ).__getitem__
        self._process = os.getpid()
        self.ring = Ring()
        self._waker: Waker | None = waker
        self._call = _Call(self, waker.fd)
        self._woken = False
        self._wake = 0
        self._ahead_bytes = self._find_limit()
        self._watch_waker()

    def _find_limit(self) -> int:
        """``AHEAD_BYTES`` where this kernel ends a multishot receive after so many, else 0."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.close()
            self.ring.push(
                kernel.IORING_OP_RECV,
                ours.fileno(),
                0,
                flags=kernel.IOSQE_BUFFER_SELECT,
                ioprio=kernel.IORING_RECV_MULTISHOT,
                group=GROUP,
                limit=AHEAD_BYTES,
            )
            self.ring.enter(int(_PATIENCE_SECONDS * 1000))
            results = [result for _, result, _ in self.ring.completions()]
        return AHEAD_BYTES if results == [0] else 0

    # -- requests -----------------------------------------------------------------------

    def _new(self, owner: Any) -> int:
        self._serial += 1
        self._others[self._serial] = owner
        return self._serial

    def push_receive(self, sock: UringSocket) -> int:
        """Begin to receive on *sock*; the request's ``user_data``."""
        self._serial += 1
        data = self._serial
        self.receives[data] = sock
        self.ring.push(
            kernel.IORING_OP_RECV,
            sock.fd,
            data,
            flags=kernel.IOSQE_BUFFER_SELECT,
            ioprio=kernel.IORING_RECV_MULTISHOT,
            group=GROUP,
            limit=self._ahead_bytes,
        )
        return data

    def push_nothing(self) -> None:
        """Have something to submit."""
        self.ring.push(kernel.IORING_OP_NOP, -1, 0, flags=_SKIP)

    def push_accept(self, listener: UringListener) -> int:
        """Begin to accept at *listener*."""
        data = self._new(listener)
        self.ring.push(
            kernel.IORING_OP_ACCEPT,
            listener.fd,
            data,
            ioprio=kernel.IORING_ACCEPT_MULTISHOT,
            op_flags=_CLOEXEC,
        )
        return data

    def push_poll(self, watch: Watch, mask: int) -> int:
        """Wait for one event of *mask*. A peer's half-close counts as one for the kernel, asked
        for or not: where it is to be waited beyond it, wait for several, and that is the first."""
        multi = mask & (select.POLLOUT | select.POLLRDHUP) == select.POLLOUT
        return self._push_poll(watch, watch.fd, mask, multi=multi)

    def push_room(self, backlog: Backlog, fd: int) -> int:
        """Wait until *fd* takes more."""
        return self._push_poll(backlog, fd, select.POLLOUT, multi=True)

    def _push_poll(self, owner: Any, fd: int, mask: int, *, multi: bool) -> int:
        data = self._new(owner)
        self.ring.push(
            kernel.IORING_OP_POLL_ADD,
            fd,
            data,
            length=kernel.IORING_POLL_ADD_MULTI if multi else 0,
            op_flags=mask,
        )
        return data

    def push_cancel(self, data: int) -> None:
        """Cancel a request. It ends with a last completion."""
        if not self.closed:
            self.ring.push(kernel.IORING_OP_ASYNC_CANCEL, -1, 0, flags=_SKIP, address=data)

    def _watch_waker(self) -> None:
        if self._waker is not None:
            self._wake = self._push_poll(None, self._waker.fd, select.POLLIN, multi=True)

    # -- what a Reactor asks ------------------------------------------------------------

    def add(self, fd: int, interest: int, exclusive: bool) -> None:
        """See ``Poller``."""
        entry = self.entries.get(fd)
        if isinstance(entry, UringListener):
            entry.listen(interest, exclusive=exclusive)
            return
        if entry is None:
            os.fstat(fd)  # a poll request takes any number, and fails later
            entry = self.entries[fd] = Watch(self, fd)
        mask = self._mask(interest)
        if exclusive:
            mask = mask & ~select.POLLRDHUP | select.EPOLLEXCLUSIVE
        entry.watch(interest, mask)

    def change(self, fd: int, interest: int) -> None:
        """See ``Poller``."""
        entry = self.entries[fd]
        if type(entry) is Watch:
            os.fstat(fd)
        entry.watch(interest, self._mask(interest))

    def arm_oneshot_hup(self, fd: int, known: bool) -> None:
        """See ``Poller``."""
        entry = self.entries.get(fd)
        if entry is None:
            os.fstat(fd)
            entry = self.entries[fd] = Watch(self, fd)
        entry.watch(0, select.POLLRDHUP, oneshot=True)

    def remove(self, fd: int) -> None:
        """See ``Poller``."""
        entry = self.entries[fd]
        if isinstance(entry, UringListener):
            entry.stop()
        else:
            entry.forget()
            if type(entry) is Watch:
                del self.entries[fd]

    @staticmethod
    def _mask(interest: int) -> int:
        mask = 0
        if interest & INTEREST_READ:
            mask = select.POLLIN | select.POLLRDHUP
        if interest & INTEREST_WRITE:
            mask |= select.POLLOUT
        return mask

    def wait(self, timeout_ms: int, max_events: int) -> list[tuple[int, int]]:
        """See ``Poller``. May return early, and empty, after a socket has been let go."""
        self.lead()
        news = self.news
        # Those reported last time that still have something are reported again.
        for sock in self._reported:
            if sock.mode != INTEREST_READ:  # asked for something else since it was listed
                sock.fast = SLOW
                self.due[sock] = None
            elif sock.data or sock.ended:
                sock.fast = SLOW
                news[sock] = None
            else:
                sock.fast = sock.epoch
                if not sock.epoch:  # nothing is received ahead any more
                    self.due[sock] = None
        self._reported.clear()
        self._arm()
        deadline = time.monotonic() + timeout_ms / 1000 if timeout_ms > 0 else 0.0
        ring = self.ring
        few = ring.tail - ring.submitted < _MANY
        if few and not (self._fresh or news or self.closing):
            self.turn(self._until_backlog(timeout_ms))
        else:
            # By the time that so many are carried out others have completed, and this keeps the
            # interpreter lock.
            self.turn(0)
        while not (self._fresh or news or self.stirred):
            left = timeout_ms
            if timeout_ms > 0:
                left = max(0, math.ceil((deadline - time.monotonic()) * 1000))
            if not left:
                return []
            self._arm()
            self.turn(0 if news else self._until_backlog(left))
        self.stirred = False
        return self._collect(max_events)

    def _arm(self) -> None:
        if self.due:
            due, self.due = self.due, {}
            for watch in due:
                watch.arm()

    def _until_backlog(self, timeout_ms: int) -> int:
        """*timeout_ms*, or what is left until a backlog must have got smaller."""
        if not self.backlogs or not self.write_timeout_ms:
            return timeout_ms
        now = time.monotonic()
        while self.backlogs:
            backlog = next(iter(self.backlogs))
            left = math.ceil((backlog.give_up_at - now) * 1000)
            if left > 0:
                return left if timeout_ms < 0 else min(left, timeout_ms)
            backlog.give_up()
        return 0

    def _collect(self, max_events: int) -> list[tuple[int, int]]:
        """The events there are, at most *max_events*."""
        tokens, fresh, news = self.tokens, self._fresh, self.news
        room = max_events - min(
            len(news), max_events // 2
        )  # or a flood of these would keep all else
        if len(fresh) > room:
            self._fresh = fresh[room:]
            del fresh[room:]
            self._reported = fresh
        else:
            self._fresh, self._reported = self._reported, fresh
        events = [
            (tokens[sock.fd], EVENT_READABLE)
            for sock in fresh
            if sock.data and sock.mode == INTEREST_READ
        ]
        while news and len(events) < max_events:
            watch = next(iter(news))
            del news[watch]
            flags = watch.report()
            if flags:
                events.append((tokens[watch.fd], flags))
        return events

    def lead(self) -> None:
        """The calling thread goes on, maybe for another. Sockets move when they next receive,
        the others now."""
        ident = threading.get_ident()
        if ident == self._leader:
            return
        before, self._leader = self._leader, ident
        if not before:
            return
        self.epoch += 1
        self.push_cancel(self._wake)
        for entry in self.entries.values():
            if isinstance(entry, UringListener) and entry.armed:
                self.push_cancel(entry.armed)

    # -- one turn -----------------------------------------------------------------------

    def turn(self, timeout_ms: int) -> None:
        """Hand everything to the kernel, wait *timeout_ms* for something to complete, and take
        what has."""
        ring = self.ring
        ring.enter(timeout_ms)
        self._take()
        while ring.has_more():
            ring.enter(0)
            self._take()
        if not ring.all_submitted():
            return
        if self.out:
            self.out.clear()
            self.turns += 1
        if self.closing:
            closing, self.closing = self.closing, []
            for sock in closing:
                sock.end()

    def _take(self) -> None:
        """Take what has completed."""
        ring, receives, fresh, epoch = self.ring, self.receives, self._fresh, self.epoch
        woken = self._woken
        pool, mask, returned = ring.pool, ring.buffer_mask, ring.buffer_tail
        for data, result, flags in ring.completions():
            sock = receives.get(data)
            if sock is None:
                self._complete(data, result, flags)
                woken = self._woken
                continue
            chunk = b""
            if flags & _BUFFER:
                number = flags >> _SHIFT
                at = number * BUFFER_BYTES
                chunk = pool[at : at + result]
                # They mostly come back in the order they went, each to the place it had.
                if number != returned & mask:
                    ring.put_buffer(number, returned & mask)
                returned += 1
                # What comes after a call is reported after it.
                if sock.fast == epoch and flags & _MORE and not woken:
                    sock.fast = LISTED
                    sock.data = chunk
                    fresh.append(sock)
                    continue
            sock.received(chunk, result, flags)
        if returned != ring.buffer_tail:
            ring.give_back(returned)

    def _complete(self, data: int, result: int, flags: int) -> None:
        """A request other than a receive."""
        if data >= SENDS:
            sock, sent, _ = self.out[data - SENDS]
            sock.sent_short(sent, result)
            return
        if data not in self._others:
            return  # of a cancellation, or a timeout
        owner = self._others[data]
        if not flags & _MORE:
            del self._others[data]
        if owner is not None:
            owner.complete(data, result, flags)
        elif data == self._wake:
            if result >= 0:
                self._woken = True
                self.news[self._call] = None
            if not flags & _MORE:
                self._watch_waker()

    def wait_for(self, done: Callable[[], bool]) -> bool:
        """Wait until *done*, for a moment at most; whether it is."""
        give_up_at = time.monotonic() + _PATIENCE_SECONDS
        while not done():
            if time.monotonic() > give_up_at:
                return False
            self.turn(20)
        return True

    def close(self) -> None:
        """See ``Poller``. What was sent has gone before; but a backlog is dropped."""
        if self.closed:
            return
        quiet = False
        try:
            if os.getpid() == self._process:
                self._wake = 0
                self.turn(0)
                for sock in self.lingering:
                    sock.inner.close()
                self.lingering.clear()
                self.closed = True
                self._cancel_all()
                quiet = self.wait_for(lambda: not self.receives and not self._others)
        finally:
            self.closed = True
            self.ring.close(quiet=quiet)
            self._waker = None  # it closes with the last reference: not one in a cycle

    def _cancel_all(self) -> None:
        everything = kernel.IORING_ASYNC_CANCEL_ANY | kernel.IORING_ASYNC_CANCEL_ALL
        self.ring.push(kernel.IORING_OP_ASYNC_CANCEL, -1, 0, flags=_SKIP, op_flags=everything)


class _Call(Watch):
    """A wake-up, among the news."""

    __slots__ = ()

    def report(self) -> int:
        """See ``Watch``."""
        self.poller._woken = False
        return EVENT_READABLE


class UringReactor(Reactor):
    """A ``Reactor`` on io_uring, with sockets of its own: see the module.

    Raises ``NetworkError`` where the system has no such thing. *write_timeout_ms* is how long a
    peer may take nothing of what a ``UringSocket`` still has for it; 0: for ever.
    """

    def __init__(self, *, write_timeout_ms: int = 0) -> None:
        self._write_timeout_ms = write_timeout_ms
        super().__init__()

    def _new_poller(self, waker: Waker) -> Poller:
        self._uring = UringPoller(waker, write_timeout_ms=self._write_timeout_ms)
        return self._uring

    def listener(self, sock: socket.socket, *, lazy: bool = False) -> UringListener:
        """Take over *sock*, a non-blocking listener. See ``UringListener``."""
        self._usable()
        listener = UringListener(self._uring, sock, lazy=lazy)
        self._uring.entries[listener.fd] = listener
        return listener

    def socket(self, sock: socket.socket) -> UringSocket:
        """Take over *sock*, a connected stream socket."""
        self._usable()
        return UringSocket(self._uring, sock)

    def stop_accepting(self, listener: HasFileno) -> int:
        """See ``Reactor``."""
        if not isinstance(listener, UringListener):
            return 0
        listener.stop()
        return listener.taken

    @property
    def unsent(self) -> int:
        """See ``Reactor``."""
        return len(self._uring.closing) + len(self._uring.lingering)


@functools.cache
def is_bufring_available() -> bool:
    """Whether a ``UringReactor`` works here. Tries it out, once a process; never raises."""
    try:
        with UringReactor() as reactor:
            ours, theirs = socket.socketpair()
            with theirs:
                sock = reactor.socket(ours)
                try:
                    reactor.register(sock, 1, INTEREST_READ)
                    theirs.send(b"there")
                    if reactor.poll(1000) != [(1, EVENT_READABLE)] or sock.recv(9) != b"there":
                        return False
                    sock.send(b"back")
                    reactor.poll(0)
                    return theirs.recv(9, socket.MSG_DONTWAIT) == b"back"
                finally:
                    reactor.unregister(sock)
                    sock.close()
    except OSError:
        return False
