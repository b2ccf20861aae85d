"""What stands in for a connected socket where io_uring does the work: ``UringSocket``.

A ``UringSocket`` has the methods of a non-blocking socket that a server uses, with their usual
errors. Its ``recv`` hands out what a multishot receive has already brought in; where more comes
than is read, that ends, and ``recv`` is the system call until little comes at a time again: so
what is unread stays in the kernel, and the peer is held back by that. Its ``send`` only
writes a submission entry, where the data is small: all sends of a turn of the loop go to the
kernel with the ``io_uring_enter`` that waits for the next events, and are complete when it
returns, since they do not wait themselves (``MSG_DONTWAIT``). What the socket's buffer did not
take then stays here, at most ``SMALL_BYTES``, and goes as soon as there is room; meanwhile
``send`` raises ``BlockingIOError`` and after ``close`` the descriptor lives until it is gone.
Large data goes by the system call, which says at once how much of it was taken.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from flare._ffi import io_uring as kernel
from flare.runtime._pollers import (
    EVENT_ERROR,
    EVENT_HUP,
    EVENT_READABLE,
    EVENT_WRITABLE,
    INTEREST_READ,
    INTEREST_WRITE,
)
from flare.runtime._ring import BUFFER_BYTES
from flare.runtime._uring_watch import Watch

if TYPE_CHECKING:
    from flare.runtime.uring import UringPoller

__all__ = ["AHEAD_BYTES", "LISTED", "SENDS", "SLOW", "SMALL_BYTES", "Backlog", "UringSocket"]

SMALL_BYTES: Final = 16 * 1024
"""The most that one ``send`` leaves to the next ``io_uring_enter``."""

SENDS: Final = 1 << 62
"""The ``user_data`` of a send is this and its place in the turn; those of others are below."""

AHEAD_BYTES: Final = 16 * 1024
"""The most that one multishot receive brings in, where the kernel can be told (Linux 6.17)."""

_UNREAD_BYTES = 8 * 1024  # with more than this behind the first piece, nothing is received ahead
_NOW = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)
# With MSG_WAITALL a send of which only a part is taken counts as failed, so that it is reported.
_PEEK_NOW = _NOW | socket.MSG_PEEK
_ALL_NOW = _NOW | socket.MSG_WAITALL
_SEND = struct.Struct("<BBHiQQIIQ")  # the first 40 bytes of an entry; the rest stays zero
_SEND_AT = struct.Struct("<QI")
_SEND_AT_OFFSET = 16
_OP_SEND = kernel.IORING_OP_SEND
_SKIP = kernel.IOSQE_CQE_SKIP_SUCCESS
_BYTES_OFFSET = kernel.BYTES_OFFSET
_ABORT = struct.pack("ii", 1, 0)
_NO_FAULT = frozenset({-errno.ENOBUFS, -errno.ECANCELED, -errno.EINTR})

_TRY_AGAIN = frozenset({-errno.EAGAIN, -errno.EINTR, -errno.ECANCELED})
_READ_MASK = select.POLLIN | getattr(select, "POLLRDHUP", 0)

# What `fast` of a socket is where it is not the epoch.
SLOW: Final = 0
LISTED: Final = -1


class Backlog:
    """What a socket's buffer did not take of a send. It goes as soon as there is room."""

    __slots__ = ("_armed", "_left", "_socket", "give_up_at")

    def __init__(self, sock: UringSocket, left: memoryview) -> None:
        self._socket = sock
        self._left = left
        self._armed = sock.poller.push_room(self, sock.fd)
        self._progress()

    def _progress(self) -> None:
        """The peer has the whole time again."""
        poller = self._socket.poller
        poller.backlogs.pop(self, None)
        poller.backlogs[self] = None
        self.give_up_at = time.monotonic() + poller.write_timeout_ms / 1000

    def complete(self, data: int, result: int, flags: int) -> None:
        """There may be room."""
        sock = self._socket
        if data != self._armed:
            return
        if not flags & kernel.IORING_CQE_F_MORE and not sock.poller.closed:
            self._armed = sock.poller.push_room(self, sock.fd)
        try:
            sent = sock.inner.send(self._left, _NOW)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.drop()
            sock.fail(error.errno or errno.EIO)
            return
        self._left = self._left[sent:]
        if self._left:
            self._progress()
        else:
            self.drop()
            sock.unload()

    def give_up(self) -> None:
        """The peer has taken nothing for too long."""
        self.drop()
        self._socket.fail(errno.ETIMEDOUT)

    def drop(self) -> None:
        """Forget it."""
        armed, self._armed = self._armed, 0
        poller = self._socket.poller
        poller.push_cancel(armed)
        poller.backlogs.pop(self, None)


class UringSocket(Watch):
    """A connected socket; takes over *sock*. See the module for how it differs from one.

    Only the thread that uses the poller may use it. That a send failed is an event, and is raised
    by the next call.
    """

    __slots__ = (
        "_aborts",
        "_backlog",
        "_batch",
        "_cancelled",
        "_direct",
        "_place",
        "_receiving",
        "_rest",
        "_shutdown",
        "_turn",
        "_unread",
        "closed",
        "data",
        "ended",
        "epoch",
        "error",
        "fast",
        "inner",
    )

    def __init__(self, poller: UringPoller, sock: socket.socket) -> None:
        super().__init__(poller, sock.fileno())
        self.inner = sock
        self.closed = False
        self.data = b""
        """The first of what was received and not read."""
        self._rest: list[bytes] = []  # what came after it; short, and mostly empty
        self._unread = 0  # bytes in there
        self.ended = False
        """Nothing more will come: the end of the stream, or an error."""
        self.error = 0
        """An errno."""
        self.epoch = 0
        """The one its receive was begun in, 0 while there is none."""
        self.fast = SLOW
        """The epoch, where nothing stands in the way of reporting received data at once;
        ``LISTED`` once it is among those to report; else ``SLOW``."""
        self._receiving = 0  # the user_data of the receive
        self._cancelled = False
        self._direct = False  # nothing is received ahead of recv
        self._turn = self._batch = -1  # of the last send
        self._place = 0
        self._backlog: Backlog | None = None
        self._shutdown = -1
        self._aborts = False
        poller.entries[self.fd] = self

    # -- what a socket has --------------------------------------------------------------

    @property
    def family(self) -> int:
        """As that of a socket."""
        return self.inner.family

    def fileno(self) -> int:
        """The descriptor; -1 once closed."""
        return -1 if self.closed else self.fd

    def setblocking(self, flag: bool) -> None:
        """It never blocks."""
        if flag:
            raise ValueError("a UringSocket cannot block")

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        """As that of a socket. Asked to reset at its end, it does not wait for what is unsent."""
        self.inner.setsockopt(level, option, value)
        if (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER):
            self._aborts = value == _ABORT

    def getpeername(self) -> Any:
        """As that of a socket."""
        return self.inner.getpeername()

    def recv(self, size: int) -> bytes:
        """What has come, at most *size* bytes; ``b""`` at the end of the stream."""
        data = self.data
        if data and len(data) <= size and not self._rest:
            self.data = b""
            return data
        return self._read(size)

    def send(self, data: Any) -> int:
        """Send *data*, or as much of it as there is room for; how much that is."""
        poller = self.poller
        size = len(data)
        if self._turn == poller.turns or size > SMALL_BYTES or self._backlog or self.error:
            return self._send_more(data)
        if type(data) is not bytes:
            data = bytes(data)
        ring, out = poller.ring, poller.out
        if ring.tail >= ring.limit:
            ring.submit()
        tail = ring.tail
        self._turn = poller.turns
        self._batch = ring.batch
        self._place = place = len(out)
        _SEND.pack_into(
            ring.sqes, (tail & ring.mask) << 6, _OP_SEND, _SKIP, 0, self.fd, 0,
            id(data) + _BYTES_OFFSET, size, _ALL_NOW, SENDS + place,
        )  # fmt: skip
        ring.tail = tail + 1
        out.append((self, data, tail))
        return size

    def sendmsg(self, buffers: Sequence[Any]) -> int:
        """Send *buffers*, one after the other, or as much as there is room for."""
        if sum(map(len, buffers)) <= SMALL_BYTES:
            return self.send(b"".join(buffers))
        self._settle()
        return self.inner.sendmsg(buffers, [], _NOW)

    def shutdown(self, how: int) -> None:
        """As that of a socket, once what was sent has gone."""
        if self._turn == self.poller.turns:
            self.poller.turn(0)
        if self._backlog is not None and how != socket.SHUT_RD:
            self._shutdown = how
        else:
            self.inner.shutdown(how)

    def close(self) -> None:
        """Close it, once what was sent has gone. Idempotent."""
        if self.closed:
            return
        poller = self.poller
        self.closed = True
        poller.entries.pop(self.fd, None)
        if poller.closed:
            self.inner.close()
            return
        self.forget()
        self.data = b""
        self._rest.clear()
        self._cancel_receive()
        if self._turn == poller.turns:
            poller.closing.append(self)
        else:
            self.end()

    # -- sending ------------------------------------------------------------------------

    def _send_more(self, data: Any) -> int:
        """``send``, where it is not that simple."""
        poller = self.poller
        ring, out, size = poller.ring, poller.out, len(data)
        if self._turn == poller.turns and self._batch == ring.batch:
            before, tail = out[self._place][1:]
            if len(before) + size <= SMALL_BYTES:
                # Nothing has gone to the kernel yet: this goes with it.
                both = before + data
                at = ((tail & ring.mask) << 6) + _SEND_AT_OFFSET
                _SEND_AT.pack_into(ring.sqes, at, id(both) + _BYTES_OFFSET, len(both))
                out[self._place] = self, both, tail
                return size
        self._settle()
        if size > SMALL_BYTES:
            return self.inner.send(data, _NOW)
        return self.send(data)

    def _settle(self) -> None:
        """See that all is sent that was to be; raise where it is not."""
        poller = self.poller
        if self._turn == poller.turns:
            poller.turn(0)
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        if self._backlog is not None or self._turn == poller.turns:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def sent_short(self, data: bytes, result: int) -> None:
        """Of a send only *result* bytes were taken, or it failed with that errno negated."""
        if result >= 0 or result in _TRY_AGAIN:
            self._backlog = Backlog(self, memoryview(data)[max(0, result) :])
        else:
            self.fail(-result)

    def unload(self) -> None:
        """The backlog is gone."""
        self._backlog = None
        if self._shutdown >= 0:
            try:
                self.inner.shutdown(self._shutdown)
            except OSError:  # the peer's end is seen by the receive
                pass
        if self.closed:
            self.end()
        elif self.mode & INTEREST_WRITE:
            self.poller.due[self] = None

    def fail(self, number: int) -> None:
        """It is broken, with that errno."""
        self._backlog = None
        self.ended = True
        self.error = self.error or number
        if self.closed:
            if number == errno.ETIMEDOUT:
                # Or the kernel would go on with what the peer does not take.
                self.inner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            self.end()
        else:
            self._tell()

    def end(self) -> None:
        """Let the descriptor go, unless something has still to be sent by it."""
        poller = self.poller
        if self._backlog is not None and self._aborts:
            self._backlog.drop()
            self._backlog = None
        if self._backlog is None:
            poller.lingering.discard(self)
            poller.stirred = True
            self.inner.close()
        else:
            poller.lingering.add(self)

    # -- receiving ----------------------------------------------------------------------

    def _read(self, size: int) -> bytes:
        """``recv``, where it is not that simple."""
        if not self.data and not self.ended:
            if self._receiving:
                self._look()
            if self._direct and not (self._receiving or self.data or self.ended):
                return self._receive_now(size)
        if not self.data:
            if self.error:
                raise OSError(self.error, os.strerror(self.error))
            if self.ended:
                return b""
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        rest, left, pieces = self._rest, size, []
        while self.data:
            piece = self.data
            if len(piece) > left:
                pieces.append(piece[:left])
                self.data = piece[left:]
                break
            pieces.append(piece)
            left -= len(piece)
            self.data = rest.pop(0) if rest else b""
            self._unread -= len(self.data)
        return b"".join(pieces)

    def _look(self) -> None:
        """Have here what the peer has sent by now, if anything."""
        poller = self.poller
        poller.lead()
        poller.turn(0)
        if self.data or self.ended or not self._receiving:
            return
        if self.epoch == poller.epoch and not self._cancelled and poller.ring.all_submitted():
            return
        # The receive has yet to be begun, or another thread has to carry it out.
        try:
            self.inner.recv(1, _PEEK_NOW)
        except (BlockingIOError, InterruptedError):
            # Unless that thread has taken it just now: it tells so before anything is submitted.
            poller.push_nothing()
            poller.turn(0)
            return
        except OSError:  # which the receive will find, too
            pass
        poller.wait_for(lambda: bool(self.data or self.ended or not self._receiving))

    def _receive_now(self, size: int) -> bytes:
        try:
            data = self.inner.recv(size, _NOW)
        except (BlockingIOError, InterruptedError):
            raise
        except OSError as error:
            self.ended = True
            self.error = self.error or error.errno or errno.EIO
            raise
        if not data:
            self.ended = True
        elif len(data) < min(size, BUFFER_BYTES):
            self._direct = False
            self._receive_on()
        return data

    def received(self, chunk: bytes, result: int, flags: int) -> None:
        """The receive has brought *chunk*, the end of the stream, or its own end."""
        more = flags & kernel.IORING_CQE_F_MORE
        if not more:
            del self.poller.receives[self._receiving]
            self._receiving = self.epoch = 0
            self._cancelled = False
            if self.fast != LISTED:
                self.fast = SLOW
        if self.closed:
            return
        if chunk:
            if self.data:
                self._rest.append(chunk)
                self._unread += len(chunk)
                if self._unread > _UNREAD_BYTES:
                    self._direct = True
            else:
                self.data = chunk
        elif result == 0:
            self.ended = True
        elif result not in _NO_FAULT:
            self.ended = True
            self.error = self.error or -result
        if more:
            # What another thread has begun completes on that thread, and would wake it.
            if self._direct or self.epoch != self.poller.epoch:
                self._cancel_receive()
        else:
            self._receive_on()
        if chunk or self.ended:
            self._tell()

    def _cancel_receive(self) -> None:
        if self._receiving and not self._cancelled:
            self._cancelled = True
            self.poller.push_cancel(self._receiving)

    def _receive_on(self) -> None:
        """Have bytes brought in, or reported, whichever it is."""
        poller = self.poller
        if self._receiving or self.ended or self.closed or poller.closed:
            return
        if not self._direct:
            self._receiving = poller.push_receive(self)
            self.epoch = poller.epoch
        if self.mode or self.oneshot:
            poller.due[self] = None

    # -- what is reported ---------------------------------------------------------------

    def watch(self, interest: int, mask: int, *, oneshot: bool = False) -> None:
        """See ``Watch``. What is received ahead is known without a poll request."""
        super().watch(interest, 0, oneshot=oneshot)
        self._receive_on()

    def forget(self) -> None:
        """See ``Watch``. What is received meanwhile is kept."""
        super().forget()
        if self.fast != LISTED:
            self.fast = SLOW

    def arm(self) -> None:
        """See ``Watch``."""
        if self.oneshot:
            if self.ended:
                self.poller.news[self] = None
            elif not self._receiving:  # which would see the end
                self._arm_for(select.POLLRDHUP)
            return
        mode = self.mode
        if not mode:
            return  # its one shot has been fired
        if self.error or (mode & INTEREST_READ and (self.data or self.ended)):
            if self.fast != LISTED:
                self.poller.news[self] = None
            return
        if mode == INTEREST_READ and self.fast != LISTED:
            self.fast = self.epoch
        mask = 0
        if mode & INTEREST_WRITE and self._backlog is None:
            mask = select.POLLOUT
        if mode & INTEREST_READ and not self._receiving:
            mask |= _READ_MASK
        self._arm_for(mask)

    def _arm_for(self, mask: int) -> None:
        if self.armed and mask != self.mask:
            self.poller.push_cancel(self.armed)
            self.armed = self.ready = 0
        self.mask = mask
        super().arm()

    def _tell(self) -> None:
        """Report what is new, to whom it concerns."""
        if self.fast == LISTED:
            return
        self.fast = SLOW
        readable = self.mode & INTEREST_READ or (self.oneshot and self.ended)
        if readable or (self.error and self.mode):
            self.poller.news[self] = None

    def report(self) -> int:
        """See ``Watch``."""
        flags, self.ready = self.ready, 0
        if self.ended:
            flags |= EVENT_HUP
            if self.error:
                flags |= EVENT_ERROR
        if self.oneshot:
            if flags:
                self.oneshot = False
                self.mask = 0
            return flags
        if not self.mode:
            return 0
        if self.mode & INTEREST_READ:
            if self.data or self.ended:
                flags |= EVENT_READABLE
            elif self._receiving:
                flags &= ~(EVENT_READABLE | EVENT_HUP)
        elif not self.error:
            flags &= ~EVENT_HUP
        if self.error and self.mode & INTEREST_WRITE:
            flags |= EVENT_WRITABLE
        self.poller.due[self] = None
        return flags
