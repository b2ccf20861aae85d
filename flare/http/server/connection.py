"""One connection of a server: a socket, its deadlines, and one wire.

It reads what is there, feeds the wire, has the exchanges dispatched, and writes what the wire
hands back; it knows nothing of HTTP. All of it happens on the thread that leads the worker.

What it waits for is in two places: the wire's ``phase`` while it waits for the peer's bytes, and
``_writing`` while bytes wait for the peer. Then nothing is read, which is the back-pressure: a
peer that does not take its answers cannot hand in more questions.
"""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING, cast

from flare.http.cancel import CancelReason
from flare.http.server.dispatch import PENDING, REFUSED
from flare.http.server.failures import busy_response, late_response
from flare.http.server.intake import Intake
from flare.http.server.logs import log_access, log_late_handler
from flare.http.server.send_file import can_send_files, send_file
from flare.http.server.socket_connection import NEVER_MS, SocketConnection
from flare.http.server.wire import (
    ABORTED,
    BODY,
    BUSY,
    DONE,
    HEAD,
    IDLE,
    OPENING,
    SWITCH,
    BodyWriter,
    Exchange,
    OpeningWire,
    StreamedExchange,
    Wire,
)
from flare.net import SocketAddr
from flare.runtime.reactor import EVENT_WRITABLE, INTEREST_READ

if TYPE_CHECKING:
    from flare.http.server.h1 import H1BodyWriter
    from flare.http.server.lease import Task
    from flare.http.server.worker import Worker

__all__ = ["Connection"]

# A connection with more to do gives the others a turn after this many requests, or pieces.
_TURN = 16
_BODY_READ_BYTES = 128 * 1024
_BODY_READS = 16
_BODY_READS_NS = 2_000_000
_MAX_UNFLUSHED = 64 * 1024
# What a connection gets at a drain for its first request, or when its worker leaves for its last.
_LAST_MS = 1000
_UNASKED = frozenset({IDLE, OPENING})


class Connection(SocketConnection):
    """A connection with one exchange at a time. Belongs to its worker's loop."""

    __slots__ = (
        "_answered",
        "_asked_at",
        "_began",
        "_body_began",
        "_exchange",
        "_intake",
        "_read_bytes",
        "_stream",
        "_task",
        "_task_deadline",
        "wire",
    )

    def __init__(
        self, worker: Worker, sock: socket.socket, token: int, wire: Wire, peer: SocketAddr
    ) -> None:
        super().__init__(worker, sock, token, peer)
        self.raw = sock
        self.wire = wire
        self._began = 0
        self._body_began = 0
        self._read_bytes = worker.config.read_buffer_size
        self._answered = 0
        self._asked_at = 0
        self._stream: BodyWriter | None = None
        self._task: Exchange | BodyWriter | None = None
        self._task_deadline = NEVER_MS
        self._exchange: Exchange | None = None
        self._intake: Intake | None = None

    def begin(self) -> None:
        """The connection is there, and its peer is to speak."""
        if self.wire.phase == OPENING:
            self._open()
        else:
            self.set_deadline(self._worker.now_ms + self._worker.idle_ms)

    def _open(self) -> None:
        wire = cast(OpeningWire, self.wire)
        wire.connection = self
        self.set_deadline(wire.deadline)

    # -- events -------------------------------------------------------------------------

    def on_event(self, flags: int) -> None:
        """The reactor found the socket ready."""
        self.plain = False
        if self._lingering:
            self._discard()
        elif self._writing:
            if flags & EVENT_WRITABLE:
                self._on_writable()
            else:
                self.close(CancelReason.PEER_CLOSED)
        elif self._intake is not None:
            self._intake.on_event()
        elif self._task is not None:
            # The one event it is armed for. A peer that only stopped sending gets its answer.
            self._task.cancel(CancelReason.PEER_CLOSED)
        elif not self._queued:  # what was read already comes first, or it would pile up
            self.on_readable()

    def take_over(self, wire: Wire, peer: SocketAddr) -> None:
        """Go on with *wire*, as a connection of *peer*. Between two requests only."""
        self.wire = wire
        self.peer = peer
        self._began = 0
        if wire.phase == OPENING:
            self._open()

    def restart(self, wire: Wire, data: bytes) -> None:
        """Go on with *wire* on bytes that were read already."""
        self.wire = wire
        if self._eof:
            wire.receive(data)
            wire.receive_eof()
            self.advance()
        else:
            self._serve(wire.take(data))

    def on_readable(self) -> None:
        """Read, and answer what is complete."""
        try:
            data = self.sock.recv(self._read_bytes)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close(CancelReason.PEER_CLOSED)
            return
        self.on_data(data)

    def on_data(self, data: bytes) -> None:
        """Take what was read, ``b""`` at the end, and answer what is complete."""
        self.plain = False
        if data:
            self._worker.tally.bytes_in += len(data)
            self._serve(self.wire.take(data))
        else:
            self._eof = True
            self.wire.receive_eof()
            self.advance()

    def _on_writable(self) -> None:
        if self._flush() and self._task is None and self._pump():
            self.advance()

    def advance(self) -> None:
        """Answer the requests that are complete, a turn's worth of them."""
        self._serve(self.wire.next_exchange())

    def _serve(self, exchange: Exchange | None) -> None:
        """Answer *exchange* and those behind it, a turn's worth, and wait for more."""
        wire, worker = self.wire, self._worker
        turn = _TURN
        reads, due_ns = _BODY_READS, 0
        while True:
            if exchange is None:
                if wire.phase != BODY or not reads or self._eof:
                    break
                if not due_ns:
                    due_ns = worker.clock_ns() + _BODY_READS_NS
                if not self._read_more():
                    break
                exchange = wire.next_exchange()
                # One in tiny chunks takes a thousand times as long as another.
                reads = reads - 1 if worker.clock_ns() < due_ns else 0
                continue
            self._asked_at = self._began
            self._began = self._body_began = 0
            if worker.access_log:
                exchange.started_ns = worker.clock_ns()
            exchange.connection = self
            result = worker.dispatch.run(exchange)
            if result is PENDING:
                self.await_task(exchange)
                return
            if result is REFUSED:
                if isinstance(exchange, StreamedExchange):
                    Intake(self, exchange).refuse()
                result = busy_response()
            if not self._answer(exchange, result):
                return
            turn -= 1
            if not turn:
                self._queued = True
                worker.ready.append(self)
                break
            exchange = wire.next_exchange()
        self._settle(more=not turn)

    def answer(self, exchange: Exchange, result: object) -> None:
        """Take the result of a plain connection's request, and go on."""
        self.plain = False
        self.wire.phase = BUSY
        if self._answer(exchange, result):
            self.advance()

    def owe(self, *pieces: bytes | memoryview) -> None:
        """Send *pieces*, a plain connection's response or what is left of one."""
        self.plain = False
        wire = self.wire
        wire.out.extend(pieces)
        wire.out_bytes += sum(map(len, pieces))
        self._settle(more=False)

    def _answer(self, exchange: Exchange, result: object) -> bool:
        """Take a result; whether the next request's turn has come."""
        wire = self.wire
        stream = wire.respond(exchange, result)
        if wire.status >= 400:
            self._worker.tally.count_error(wire.status)
        if stream is None:
            if self._worker.access_log:
                self._log_access(exchange, wire.sent)
            return wire.out_bytes < _MAX_UNFLUSHED or self._flush()
        stream.connection = self
        self._stream = stream
        self._exchange = exchange
        if stream.file is not None:
            if can_send_files(self.sock):
                return self._pump()  # with the head in front
            stream.file = None
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
            self._worker.tally.bytes_in += len(data)
            self._worker.stages.expect_large()
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
        elif phase == SWITCH:
            self._worker.switch(self)
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
            self._began = self._body_began = 0  # what was begun has been skipped
            if worker.draining:
                if worker.leaving or not self.wire.served:
                    self.set_deadline(now + _LAST_MS)
                else:
                    self.close(CancelReason.SHUTDOWN)
            else:
                self.set_deadline(worker.idle_deadline)
                # What opens a connection is no request, and the first one is counted by the wire.
                if self.wire.clean and self.wire.served and worker.takes_lane:
                    self._asked_at = 0
                    self.plain = True
            return
        if phase == OPENING:
            opening = cast(OpeningWire, self.wire).deadline
            self.set_deadline(min(opening, now + _LAST_MS) if worker.draining else opening)
            return
        if self._answered != self.wire.served:
            # What was begun before the last answer is over.
            self._answered = self.wire.served
            self._began = self._body_began = 0
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

    # -- calls that run on another thread ------------------------------------------------

    def await_task(self, task: Task) -> None:
        """Wait for the outcome of *task*. Meanwhile nothing is read, and only the peer's leaving
        is noticed."""
        assert isinstance(task, Exchange | BodyWriter)
        self.plain = False
        self._task = task
        if isinstance(task, Exchange):
            self.wire.phase = BUSY
            self._task_deadline = self._deadline_of_handler()
            if isinstance(task, StreamedExchange):
                self._intake = Intake.start(self, task)
        else:
            self._task_deadline = NEVER_MS
        # What is unsent already has the deadline that goes with it.
        if not self.wire.out or self._flush():
            self._writing = False
            self._watch_peer()
        elif self.open:
            self.set_deadline(min(self.deadline, self._task_deadline))

    def _deadline_of_handler(self) -> int:
        """When a handler called just now must have answered."""
        config, now = self._worker.config, self._worker.now_ms
        deadline = NEVER_MS
        if config.handler_timeout_ms:
            deadline = now + config.handler_timeout_ms
        if config.request_timeout_ms:
            deadline = min(deadline, (self._asked_at or now) + config.request_timeout_ms)
        return deadline

    def on_result(self, task: Task, result: object) -> None:
        """*task* is over."""
        assert isinstance(task, Exchange | BodyWriter)
        if task.abandoned:
            self._worker.dispatch.close_later(partial(task.dispose, result), task.fate)
            return
        self._end_task()
        if isinstance(task, Exchange):
            intake = self._intake
            if self._answer(task, result) if intake is None else intake.answer(result):
                self.advance()
            return
        finished = self._take_piece(task, result)
        if finished is None and not self._writing:
            finished = self._pump()
        if finished:
            self.advance()

    def _give_up_on(self, exchange: Exchange) -> None:
        """The handler's time is over: say so, and drop what it will return."""
        exchange.cancel(CancelReason.TIMEOUT)
        exchange.abandoned = True
        log_late_handler(exchange.request, self._worker.config.handler_timeout_ms)
        self._end_task()
        intake, late = self._intake, late_response()
        late.headers.set("Connection", "close")
        if intake is not None:
            intake.abort()
        if self._answer(exchange, late) if intake is None else intake.answer(late):
            self.advance()

    def _end_task(self) -> None:
        self._task = None
        if self._writing:
            self._set_write_deadline()
        else:
            self._worker.reactor.modify(self.sock, INTEREST_READ)

    # -- writing ------------------------------------------------------------------------

    def _flush(self) -> bool:
        """Send what is in ``out``; whether all of it went. What did not waits for the socket."""
        wire = self.wire
        wire.out_bytes -= self._send(wire.out)
        if wire.out:
            return False
        if self._writing and (self._stream is None or self._task is not None):
            self._writing = False
            self._listen_again()
        return True

    def _listen_again(self) -> None:
        """Be told of what a connection that does not write waits for."""
        if self._task is None:
            self._worker.reactor.modify(self.sock, INTEREST_READ)
        else:
            self._watch_peer()

    def _watch_peer(self) -> None:
        """A task runs, and all is sent: take the body it reads, or notice the peer's leaving."""
        if self._intake is not None:
            self._intake.watch()
        else:
            self.set_deadline(self._task_deadline)
            self._worker.reactor.arm_oneshot_hup(self.sock, self.token)

    def _set_write_deadline(self) -> None:
        budget = self._worker.config.write_timeout_ms
        deadline = self._worker.now_ms + budget if budget else NEVER_MS
        if self._task is not None:
            deadline = min(deadline, self._task_deadline)
        self.set_deadline(deadline)

    def _pump(self) -> bool:
        """Send a turn's worth of the streamed body; whether it is finished, or was none."""
        stream = self._stream
        if stream is None:
            return self.open
        if stream.file is not None:
            finished = send_file(self, cast("H1BodyWriter", stream))
            if finished is not None:
                return finished
        dispatch, exchange = self._worker.dispatch, self._exchange
        assert exchange is not None
        for _ in range(_TURN):
            piece = dispatch.pull(stream, exchange.fate)
            if piece is PENDING:
                self.await_task(stream)
                return False
            finished = self._take_piece(stream, piece)
            if finished is not None:
                return finished
        # More to come: the socket is writable, so the reactor brings us back in turn.
        self._want_write()
        return False

    def _take_piece(self, stream: BodyWriter, piece: object) -> bool | None:
        """Send a piece: ``None`` to go on with the next one, else whether the body is finished
        and sent."""
        if piece is ABORTED:
            self.close(CancelReason.PEER_CLOSED)
            return False
        if piece is None:
            return self._end_stream(stream)
        if piece:
            assert isinstance(piece, bytes)
            self.wire.out.append(piece)
            self.wire.out_bytes += len(piece)
            if not self._flush():
                return False
        return None

    def _end_stream(self, stream: BodyWriter) -> bool:
        exchange, self._exchange, self._stream = self._exchange, None, None
        self.wire.body_sent()
        if self._intake is not None:
            self._intake.end()
        if exchange is not None and self._worker.access_log:
            self._log_access(exchange, stream.sent)
        return self._flush()

    # -- deadlines ----------------------------------------------------------------------

    def _expire(self) -> None:
        task = self._task
        if isinstance(task, Exchange) and self._task_deadline <= self._worker.now_ms:
            self._give_up_on(task)
            return
        if self._intake is not None and task is not None and not self._writing:
            self._intake.on_timer()
            return
        if self._writing:
            self._forget_unsent()
        if self._lingering or self._writing or self.wire.phase == IDLE:
            self.close(CancelReason.TIMEOUT)
            return
        self.wire.expire()
        self._settle(more=False)

    # -- the end ------------------------------------------------------------------------

    def announce_end(self) -> None:
        self.plain = False
        self.wire.drain()

    def drain(self) -> None:
        """Finish what is begun, and end."""
        self.announce_end()
        if self._task is not None:
            self._task.cancel(CancelReason.SHUTDOWN)
        elif self._stream is not None:
            self._stream.cancel(CancelReason.SHUTDOWN)
        elif self._queued:
            pass  # requests that were read already come first; the last answer ends it
        elif not self._lingering and not self._writing and self.wire.phase in _UNASKED:
            # A request may be on its way already, unread: look before closing.
            self.on_readable()
            if self.open and self.wire.phase in _UNASKED and not self._writing:
                if self._worker.leaving or not self.wire.served:
                    # Its client knows of no reason not to go on, and the next answer tells it; or
                    # it was just accepted, so its first request is about to come.
                    self.set_deadline(self._worker.now_ms + _LAST_MS)
                else:
                    self.close(CancelReason.SHUTDOWN)

    def _finish(self) -> None:
        """All is sent: the end."""
        if self.wire.refused:
            self._worker.tally.count_error(self.wire.refused)
        if self._eof or not self.wire.linger:
            self.close()
        else:
            self._linger()

    def _release(self, reason: int) -> None:
        stream, self._stream = self._stream, None
        task, self._task = self._task, None
        intake, self._intake = self._intake, None
        if hasattr(self.wire, "connection"):  # an opening one, and all that TLS holds
            self.wire.connection = None
        if intake is not None:
            intake.abort()
        if task is not None:
            # It has what it works on to itself; what it returns is disposed of then.
            task.abandoned = True
            task.cancel(reason or CancelReason.SHUTDOWN)
        if stream is not None:
            exchange = self._exchange
            assert exchange is not None
            if stream is not task:
                close = partial(stream.close, reason)
                self._worker.dispatch.close_later(close, exchange.fate)
            if self._worker.access_log:
                self._log_access(exchange, stream.sent)

    def resume(self) -> None:
        """Another turn, for requests that were read already."""
        self._queued = False
        if self.open and not self._writing and not self._lingering and self._task is None:
            self.advance()

    def _log_access(self, exchange: Exchange, sent: int) -> None:
        request = exchange.request
        log_access(
            str(request.client),
            request.method,
            request.url,
            request.version,
            self.wire.status,
            sent,
            (self._worker.clock_ns() - exchange.started_ns) / 1e6,
        )
