"""Feeding a handler the body of its request while it runs: the reading side of ``stream_body``.

The loop receives, the handler's thread reads, and a ``BodyQueue`` lies between them. While it is
full nothing is received, so a client can send no faster than the handler reads.

It is always somebody's turn, and only that one's clock runs. The peer's: a byte within
``read_body_timeout_ms`` of the one before, and in all no longer than that and a millisecond a
byte; past it the handler's read raises, which is answered 408. The handler's, which has bytes to
read, or has had the last: ``handler_timeout_ms``; past it the answer is 503.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flare.http.cancel import CancelReason
from flare.http.request_stream import RequestBodyTimeout, RequestBodyTruncated
from flare.http.response import Response, StreamingResponse
from flare.http.server.h1_streamed import StreamingWire
from flare.http.server.wire import StreamedExchange
from flare.runtime.reactor import INTEREST_READ

if TYPE_CHECKING:
    from flare.http.server.connection import Connection

__all__ = ["Intake"]

_NEVER_MS = 2**62
_READ_BYTES = 64 * 1024
_READS = 4  # before others have their turn


class Intake:
    """The body of one request on its way in. Only the leader uses it."""

    __slots__ = (
        "_budget_ms",
        "_open",
        "_since",
        "_turn_began",
        "_waits",
        "_wire",
        "connection",
        "exchange",
        "queue",
    )

    def __init__(self, connection: Connection, exchange: StreamedExchange) -> None:
        wire = connection.wire
        assert isinstance(wire, StreamingWire)
        self._wire = wire
        self.connection = connection
        self.exchange = exchange
        self.queue = exchange.queue
        worker = connection._worker
        self._open = wire.awaits_body
        """Whether there is more to receive."""
        self._waits = False
        """Whether it is the peer's turn, since ``_turn_began``."""
        self._turn_began = self._since = worker.now_ms
        self._budget_ms = worker.config.read_body_timeout_ms

    @classmethod
    def start(cls, connection: Connection, exchange: StreamedExchange) -> Intake | None:
        """The handler of *exchange* has been called. ``None`` where the body is all there."""
        self = cls(connection, exchange)
        if not self._open:
            return None
        if self.queue.connect(self._ask):
            self._wire.say_continue()
        return self

    def refuse(self) -> None:
        """The handler is not called."""
        self._open = False
        self._wire.leave_body(at_once=True)

    def _ask(self) -> None:
        """From the handler's thread: it waits, or there is room again."""
        worker = self.connection._worker
        worker.asked.append(self)
        worker.reactor.wakeup()

    def on_wanted(self) -> None:
        """The handler waits for its first byte, or the queue has room again."""
        connection = self.connection
        if connection._intake is not self or not self._open:
            return
        self._wire.say_continue()
        if connection._writing or connection._task is None:
            return  # watch() comes after that
        if not self._wire.out or connection._flush():
            self._receive()

    def on_event(self) -> None:
        """The socket is ready, while a task runs and nothing is being written."""
        if self._waits:
            self._receive()
        else:
            # The one event it is armed for: the peer has left, or has stopped sending.
            self._cancel()

    def _cancel(self) -> None:
        task = self.connection._task
        if task is not None:
            task.cancel(CancelReason.PEER_CLOSED)

    @property
    def _is_full(self) -> bool:
        # What the wire still holds comes first, also where the handler has made room meanwhile.
        return self._open and (self._wire.holds_body or self.queue.full)

    def _is_peers_turn(self) -> bool:
        return self._open and not self._wire.holds_continue and not self._is_full

    def _receive(self) -> None:
        """Read what is there, as far as the queue takes it."""
        connection, wire, queue = self.connection, self._wire, self.queue
        before = queue.received
        self._open = wire.feed_body()
        for _ in range(_READS):
            if not self._is_peers_turn():
                break
            try:
                data = connection.sock.recv(_READ_BYTES)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                connection.close(CancelReason.PEER_CLOSED)
                return
            if data:
                connection._worker.tally.bytes_in += len(data)
                wire.receive(data)
            else:
                connection._eof = True
                wire.receive_eof()
                self._cancel()
            self._open = wire.feed_body()
        self._count(queue.received - before)
        self.watch()

    def _count(self, received: int) -> None:
        """Each byte earns the peer a millisecond."""
        now = self.connection._worker.now_ms
        if self._waits:
            self._budget_ms -= now - self._turn_began
            self._turn_began = now
        if received:
            self._budget_ms += received
            self._since = now

    def watch(self) -> None:
        """Wait for whoever's turn it is. A task runs, and nothing is being written."""
        connection = self.connection
        worker = connection._worker
        now, config = worker.now_ms, worker.config
        full = self._is_full
        if full and not self.queue.notify_when_half_empty():
            worker.asked.append(self)  # the handler was quicker
        was_waiting, self._waits = self._waits, self._is_peers_turn() and not full
        if self._waits:
            if not was_waiting:
                self._turn_began = self._since = now
            connection._task_deadline = _NEVER_MS
            budget = config.read_body_timeout_ms
            until = min(self._since + budget, now + max(0, self._budget_ms))
            connection.set_deadline(until if budget else _NEVER_MS)
            worker.reactor.modify(connection.sock, INTEREST_READ)
            return
        budget = config.handler_timeout_ms or config.request_timeout_ms
        handling = connection._task is self.exchange and budget
        connection._task_deadline = now + budget if handling else _NEVER_MS
        connection.set_deadline(connection._task_deadline)
        worker.reactor.arm_oneshot_hup(connection.sock, connection.token)

    def on_timer(self) -> None:
        """The peer has had its time."""
        if self._open:
            self._open = False
            self._wire.fail_body(RequestBodyTimeout(408, "the request's body took too long"))
        self.watch()

    def answer(self, result: object) -> bool:
        """The handler has returned. As ``Connection._answer``."""
        connection = self.connection
        if _is_streamed(result):
            self._wire.say_continue()  # what makes the body may read it yet
        else:
            self._leave()
        going_on = connection._answer(self.exchange, result)
        if connection._stream is None:
            self.end()
        return going_on

    def _leave(self) -> None:
        """Nobody reads any more. What the peer has sent by now may have been the rest."""
        if self._open:
            self._open = False
            if not self._wire.holds_continue:
                try:
                    data = self.connection.sock.recv(_READ_BYTES)
                except OSError:
                    data = b""  # nothing there, or the reactor reports it next
                self.connection._worker.tally.bytes_in += len(data)
                self._wire.receive(data)
            self._wire.leave_body()

    def end(self) -> None:
        """The response is made to its end."""
        connection = self.connection
        if connection._intake is self:
            self._leave()
            self._wire.skip_body()
            connection._intake = None

    def abort(self) -> None:
        """Nobody waits for the handler any more."""
        self._open = False
        self.queue.abort(RequestBodyTruncated(408, "the request is over"))


def _is_streamed(result: object) -> bool:
    if isinstance(result, Response):
        return result.body_stream is not None
    return isinstance(result, StreamingResponse)
