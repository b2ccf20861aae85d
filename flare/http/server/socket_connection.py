"""What every connection of a server has, whatever it speaks: a socket, a deadline, an end.

Bytes that the socket does not take wait for it (``_writing``), and each bit of progress gives the
peer its time again. All of it happens on the thread that leads the worker.
"""

from __future__ import annotations

import socket
import struct
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from flare.http.cancel import CancelReason
from flare.http.server.logs import log_connection_error
from flare.net import SocketAddr
from flare.runtime.reactor import INTEREST_WRITE

if TYPE_CHECKING:
    from flare.http.server.lease import Task
    from flare.http.server.worker import Worker
    from flare.tls import TlsInfo
    from flare.tls.tls_socket import TlsSocket

__all__ = ["NEVER_MS", "SocketConnection"]

NEVER_MS: Final = 2**62

_MAX_BUFFERS = 64  # of one gathered write; IOV_MAX is 1024, the stack is cheaper with fewer
_LINGER_MS = 1000
_LINGER_BYTES = 64 * 1024
_LINGER_READ_BYTES = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class _Front:
    """What the lane looks at for every request: the slots of a base come first in memory, so these
    share one or two of the processor's cache lines."""

    __slots__ = ("deadline", "peer", "plain", "raw", "sock", "tls_info")

    deadline: int
    peer: SocketAddr
    plain: bool
    """Whether it waits between two requests and nothing is pending: see ``lane.py``."""
    raw: socket.socket
    """The transport, below TLS where there is that."""
    sock: socket.socket | TlsSocket
    tls_info: TlsInfo | None


class SocketConnection(_Front, ABC):
    """A connection and what it waits for. Belongs to its worker's loop."""

    __slots__ = (
        "_armed_at",
        "_discarded",
        "_eof",
        "_lingering",
        "_queued",
        "_timer",
        "_worker",
        "_writing",
        "open",
        "token",
    )

    def __init__(
        self,
        worker: Worker,
        sock: socket.socket | TlsSocket,
        token: int,
        peer: SocketAddr,
        tls_info: TlsInfo | None = None,
    ) -> None:
        self._worker = worker
        self.sock = sock
        self.tls_info = tls_info
        self.token = token
        self.peer = peer
        self.open = True
        self.plain = False
        self.deadline = NEVER_MS
        self._armed_at = NEVER_MS
        self._timer = 0
        self._eof = False
        self._writing = False
        self._lingering = False
        self._queued = False
        self._discarded = 0

    def succeed(self, other: SocketConnection) -> None:
        """Go on with the socket and the timer of *other*, which is no more."""
        self._armed_at, self._timer = other._armed_at, other._timer
        other.open = other.plain = False
        other._timer = 0

    # -- what the worker asks for ---------------------------------------------------------

    @abstractmethod
    def on_event(self, flags: int) -> None:
        """The reactor found the socket ready."""

    @abstractmethod
    def resume(self) -> None:
        """Another turn, asked for by being in the worker's ``ready``."""

    @abstractmethod
    def await_task(self, task: Task) -> None:
        """*task* runs on another thread; its outcome comes to ``on_result``."""

    @abstractmethod
    def on_result(self, task: Task, result: object) -> None:
        """*task* is over."""

    def announce_end(self) -> None:
        """A drain has begun, and this will be visited: what is answered before that says so, where
        the protocol has a word for it in the answer."""

    @abstractmethod
    def drain(self) -> None:
        """Finish what is begun, and end."""

    def cut_off(self) -> None:
        """The server ends."""
        self.close(CancelReason.SHUTDOWN)

    def fail(self, error: Exception) -> None:
        """Something went wrong that should not have: let go of this connection alone."""
        log_connection_error(self.peer, error)
        self.close()

    # -- writing --------------------------------------------------------------------------

    def _send(self, out: list[bytes | memoryview]) -> int:
        """Send *out* and take what went from it; how many bytes did. What is left waits for the
        socket, unless the connection has closed."""
        total = 0
        try:
            while out:
                if len(out) == 1:
                    sent = self.sock.send(out[0])
                else:
                    sent = self.sock.sendmsg(out[:_MAX_BUFFERS])
                total += sent
                self._worker.tally.bytes_out += sent
                gone = 0
                for piece in out:
                    if sent < len(piece):
                        break
                    sent -= len(piece)
                    gone += 1
                del out[:gone]
                if sent:
                    out[0] = memoryview(out[0])[sent:]
                if self._writing:
                    self._set_write_deadline()
        except (BlockingIOError, InterruptedError):
            self._want_write()
        except OSError:
            self.close(CancelReason.PEER_CLOSED)
        return total

    def _want_write(self) -> None:
        if not self._writing:
            self._writing = True
            self._worker.reactor.modify(self.sock, INTEREST_WRITE)
            self._set_write_deadline()

    @abstractmethod
    def _set_write_deadline(self) -> None:
        """The peer has ``write_timeout_ms`` from now to take some of what waits for it."""

    # -- deadlines ------------------------------------------------------------------------

    def set_deadline(self, at_ms: int) -> None:
        """Be called back at *at_ms*. A later deadline than the armed one costs nothing: the
        timer finds out when it fires."""
        self.deadline = at_ms
        if at_ms < self._armed_at:
            wheel = self._worker.wheel
            if self._timer:
                wheel.cancel(self._timer)
            self._timer = wheel.schedule(at_ms - wheel.now_ms(), self.token)
            self._armed_at = at_ms

    def on_timer(self) -> None:
        """The armed timer fired: act, or arm it again for what is left."""
        self._timer = 0
        self._armed_at = NEVER_MS
        if self.deadline > self._worker.now_ms:
            if self.deadline != NEVER_MS:
                self.set_deadline(self.deadline)
            return
        self._expire()

    @abstractmethod
    def _expire(self) -> None:
        """The deadline has come."""

    def _forget_unsent(self) -> None:
        """Have a close reset the connection: the kernel would keep what the peer does not take
        for minutes."""
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        except OSError:
            pass

    # -- the end --------------------------------------------------------------------------

    def _linger(self) -> None:
        """All is sent: wait a little for the peer to stop sending, then close.

        To close with input unread makes the kernel send a reset, and that may overtake the
        answer: the peer then sees the reset instead of the reason. So: half-close, and discard
        what comes, bounded in time and in bytes.
        """
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self._lingering = True
        self.set_deadline(self._worker.now_ms + _LINGER_MS)
        self._discard()

    def _discard(self) -> None:
        try:
            while self._discarded < _LINGER_BYTES:
                data = self.sock.recv(_LINGER_READ_BYTES)
                if not data:
                    break
                self._worker.tally.bytes_in += len(data)
                self._discarded += len(data)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass
        self.close()

    def close(self, reason: int = CancelReason.NONE) -> None:
        """Let go of everything, at once. Idempotent. *reason* is a ``CancelReason``."""
        if not self.open:
            return
        self.open = False
        worker = self._worker
        if self._timer:
            worker.wheel.cancel(self._timer)
            self._timer = 0
        try:
            worker.reactor.unregister(self.sock)
        finally:
            self.sock.close()
            worker.forget(self)
            self._release(reason)

    @abstractmethod
    def _release(self, reason: int) -> None:
        """The socket is closed: end what still runs, and free what is held."""
