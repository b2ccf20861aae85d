"""One connection of a server: a socket, its deadlines, and one wire.

It reads what is there, feeds the wire, has the exchanges dispatched, and writes what the wire
hands back; it knows nothing of HTTP. All of it happens on the thread that leads the worker.

What it waits for is in two places: the wire's ``phase`` while it waits for the peer's bytes, and
``_writing`` while bytes wait for the peer. Then nothing is read, which is the back-pressure: a
peer that does not take its answers cannot hand in more questions.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final

from flare.http.cancel import CancelReason
from flare.http.server.dispatch import PENDING
from flare.http.server.logs import log_access, log_connection_error, log_late_handler
from flare.http.server.wire import (
    BODY,
    DONE,
    HEAD,
    IDLE,
    BodyAborted,
    BodyWriter,
    Exchange,
    Wire,
)
from flare.net import SocketAddr
from flare.runtime.reactor import EVENT_WRITABLE, INTEREST_READ, INTEREST_WRITE

if TYPE_CHECKING:
    from flare.http.server.worker import Worker

__all__ = ["NEVER_MS", "Connection"]

NEVER_MS: Final = 2**62

# A connection with more to do gives the others a turn after this many requests, or pieces.
_TURN = 16
_BODY_READ_BYTES = 64 * 1024
_BODY_READS = 8
_MAX_UNFLUSHED = 64 * 1024
_MAX_BUFFERS = 64  # of one gathered write; IOV_MAX is 1024, the stack is cheaper with fewer
_LINGER_MS = 1000
_FRESH_MS = 250  # what a connection without a request yet gets at the start of a drain
_LINGER_BYTES = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Connection:
    """A connection and what it waits for. Belongs to its worker's loop."""

    __slots__ = (
        "_armed_at",
        "_began",
        "_body_began",
        "_discarded",
        "_eof",
        "_exchange",
        "_fresh",
        "_lingering",
        "_queued",
        "_read_bytes",
        "_stream",
        "_timer",
        "_worker",
        "_writing",
        "deadline",
        "open",
        "peer",
        "sock",
        "token",
        "wire",
    )

    def __init__(
        self, worker: Worker, sock: socket.socket, token: int, wire: Wire, peer: SocketAddr
    ) -> None:
        self._worker = worker
        self.sock = sock
        self.token = token
        self.wire = wire
        self.peer = peer
        self.open = True
        self.deadline = NEVER_MS
        self._armed_at = NEVER_MS
        self._timer = 0
        self._began = 0
        self._body_began = 0
        self._read_bytes = worker.config.read_buffer_size
        self._eof = False
        self._fresh = True
        self._writing = False
        self._lingering = False
        self._queued = False
        self._discarded = 0
        self._stream: BodyWriter | None = None
        self._exchange: Exchange | None = None

    # -- events -------------------------------------------------------------------------

    def on_event(self, flags: int) -> None:
        """The reactor found the socket ready."""
        if self._lingering:
            self._discard()
        elif self._writing:
            if flags & EVENT_WRITABLE:
                self._on_writable()
            else:
                self.close(CancelReason.PEER_CLOSED)
        elif not self._queued:  # what was read already comes first, or it would pile up
            self.on_readable()

    def on_readable(self) -> None:
        """Read, and answer what is complete."""
        try:
            data = self.sock.recv(self._read_bytes)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close(CancelReason.PEER_CLOSED)
            return
        if data:
            self.wire.receive(data)
        else:
            self._eof = True
            self.wire.receive_eof()
        self.advance()

    def _on_writable(self) -> None:
        if self._flush() and self._pump():
            self.advance()

    def advance(self) -> None:
        """Answer the requests that are complete, a turn's worth of them."""
        wire, worker = self.wire, self._worker
        turn = _TURN
        reads = _BODY_READS
        while True:
            exchange = wire.next_exchange()
            if exchange is None:
                if wire.phase == BODY and reads and not self._eof and self._read_more():
                    reads -= 1
                    continue
                break
            self._began = self._body_began = 0
            self._fresh = False
            if worker.config.access_log:
                exchange.started_ns = worker.clock_ns()
            called = worker.now_ms
            result = worker.dispatch.run(exchange)
            if result is PENDING:
                return
            worker.read_clock()
            if worker.now_ms - called > worker.handler_ms:
                log_late_handler(exchange.request, worker.now_ms - called)
            if not self._answer(exchange, result):
                return
            turn -= 1
            if not turn:
                self._queued = True
                worker.ready.append(self)
                break
        self._settle(more=not turn)

    def _answer(self, exchange: Exchange, result: object) -> bool:
        """Take a result; whether the next request's turn has come."""
        wire = self.wire
        stream = wire.respond(exchange, result)
        if stream is None:
            if self._worker.config.access_log:
                self._log_access(exchange, wire.sent)
            return wire.out_bytes < _MAX_UNFLUSHED or self._flush()
        self._stream = stream
        self._exchange = exchange
        return self._flush() and self._pump()

    def _read_more(self) -> bool:
        """Take more of a body without a turn of the loop for each piece; whether any came."""
        try:
            data = self.sock.recv(_BODY_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return False  # the reactor reports it next
        if data:
            self.wire.receive(data)
        else:
            self._eof = True
            self.wire.receive_eof()
        return True

    def _settle(self, *, more: bool) -> None:
        """Send what is owed, then wait for the right thing."""
        wire = self.wire
        if wire.out and not self._flush():
            return
        phase = wire.phase
        if phase == DONE:
            self._finish()
        elif more:
            self.set_deadline(NEVER_MS)
        elif self._eof:
            self.close(CancelReason.PEER_CLOSED)
        else:
            self._await_bytes(phase)

    def _await_bytes(self, phase: int) -> None:
        worker = self._worker
        config, now = worker.config, worker.now_ms
        if phase == IDLE:
            if worker.draining and not self._fresh:
                self.close(CancelReason.SHUTDOWN)
                return
            idle = config.idle_timeout_ms
            self.set_deadline(now + idle if idle else NEVER_MS)
            return
        if not self._began:
            self._began = now
        if phase == HEAD:
            since, budget = self._began, config.header_timeout_ms
        else:
            if not self._body_began:
                self._body_began = now
            since, budget = self._body_began, config.read_body_timeout_ms
        deadline = since + budget if budget else NEVER_MS
        if config.request_timeout_ms:
            deadline = min(deadline, self._began + config.request_timeout_ms)
        self.set_deadline(deadline)

    # -- writing ------------------------------------------------------------------------

    def _flush(self) -> bool:
        """Send what is in ``out``; whether all of it went. What did not waits for the socket."""
        wire = self.wire
        out = wire.out
        try:
            while out:
                if len(out) == 1:
                    sent = self.sock.send(out[0])
                else:
                    sent = self.sock.sendmsg([out[i] for i in range(min(len(out), _MAX_BUFFERS))])
                wire.out_bytes -= sent
                while sent:
                    first = out[0]
                    size = len(first)
                    if sent < size:
                        out[0] = memoryview(first)[sent:]
                        break
                    out.popleft()
                    sent -= size
                if self._writing:
                    self._set_write_deadline()
        except (BlockingIOError, InterruptedError):
            self._want_write()
            return False
        except OSError:
            self.close(CancelReason.PEER_CLOSED)
            return False
        if self._writing and self._stream is None:
            self._writing = False
            self._worker.reactor.modify(self.sock, INTEREST_READ)
        return True

    def _want_write(self) -> None:
        if not self._writing:
            self._writing = True
            self._worker.reactor.modify(self.sock, INTEREST_WRITE)
            self._set_write_deadline()

    def _set_write_deadline(self) -> None:
        budget = self._worker.config.write_timeout_ms
        self.set_deadline(self._worker.now_ms + budget if budget else NEVER_MS)

    def _pump(self) -> bool:
        """Send a turn's worth of the streamed body; whether it is finished, or was none."""
        stream = self._stream
        if stream is None:
            return self.open
        wire = self.wire
        for _ in range(_TURN):
            try:
                piece = stream.next_piece()
            except BodyAborted:
                self.close(CancelReason.PEER_CLOSED)
                return False
            if piece is None:
                return self._end_stream(stream)
            if piece:
                wire.out.append(piece)
                wire.out_bytes += len(piece)
                if not self._flush():
                    return False
        # More to come: the socket is writable, so the reactor brings us back in turn.
        self._want_write()
        return False

    def _end_stream(self, stream: BodyWriter) -> bool:
        exchange, self._exchange, self._stream = self._exchange, None, None
        self.wire.body_sent()
        if exchange is not None and self._worker.config.access_log:
            self._log_access(exchange, stream.sent)
        return self._flush()

    # -- deadlines ----------------------------------------------------------------------

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
        if self._writing:
            # Reset it: the kernel would keep what the peer does not take for minutes.
            self._forget_unsent()
        if self._lingering or self._writing or self.wire.phase == IDLE:
            self.close(CancelReason.TIMEOUT)
            return
        self.wire.expire()
        self._settle(more=False)

    def _forget_unsent(self) -> None:
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        except OSError:
            pass

    # -- the end ------------------------------------------------------------------------

    def drain(self) -> None:
        """Finish what is begun, and end."""
        self.wire.drain()
        if self._stream is not None:
            self._stream.cancel(CancelReason.SHUTDOWN)
        elif not self._lingering and not self._writing and self.wire.phase == IDLE:
            # A request may be on its way already, unread: look before closing.
            self.on_readable()
            if self.open and self.wire.phase == IDLE and not self._writing:
                if self._fresh:
                    # It was just accepted, so its first request is about to come.
                    self.set_deadline(self._worker.now_ms + _FRESH_MS)
                else:
                    self.close(CancelReason.SHUTDOWN)

    def _finish(self) -> None:
        """All is sent. Close, or wait a little for the peer to stop sending.

        To close with input unread makes the kernel send a reset, and that may overtake the
        answer: the peer then sees the reset instead of the reason. So: half-close, and discard
        what comes, bounded in time and in bytes.
        """
        if self._eof or not self.wire.linger:
            self.close()
            return
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
                data = self.sock.recv(_BODY_READ_BYTES)
                if not data:
                    break
                self._discarded += len(data)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass
        self.close()

    def close(self, reason: int = CancelReason.NONE) -> None:
        """Let go of everything, at once. Idempotent."""
        if not self.open:
            return
        self.open = False
        worker = self._worker
        if self._timer:
            worker.wheel.cancel(self._timer)
            self._timer = 0
        stream, self._stream = self._stream, None
        try:
            worker.reactor.unregister(self.sock)
        finally:
            self.sock.close()
            worker.forget(self)
            if stream is not None:
                stream.close(reason)
                if self._exchange is not None and worker.config.access_log:
                    self._log_access(self._exchange, stream.sent)

    def cut_off(self) -> None:
        """The server ends."""
        self.close(CancelReason.SHUTDOWN)

    def fail(self, error: Exception) -> None:
        """Something went wrong that should not have: let go of this connection alone."""
        log_connection_error(self.peer, error)
        self.close()

    def resume(self) -> None:
        """Another turn, for requests that were read already."""
        self._queued = False
        if self.open and not self._writing and not self._lingering:
            self.advance()

    def _log_access(self, exchange: Exchange, sent: int) -> None:
        request = exchange.request
        log_access(
            str(self.peer),
            request.method,
            request.url,
            request.version,
            self.wire.status,
            sent,
            (self._worker.clock_ns() - exchange.started_ns) / 1e6,
        )
