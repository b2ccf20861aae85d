"""Feeding a handler the body of its request while it runs, over HTTP/2; see ``intake.py``.

Flow control does the holding back: what the handler has not read stays in its ``BodyQueue``, then
in the codec, and the peer's window opens only by what has left the codec. Other streams go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flare.http.proto.headers import HeaderMap
from flare.http.request_stream import (
    BodyQueue,
    RequestBodyError,
    RequestBodyTimeout,
    RequestBodyTruncated,
)
from flare.http.server.h2_stream import H2Stream
from flare.http.server.socket_connection import NEVER_MS
from flare.http2 import Http2Connection

if TYPE_CHECKING:
    from flare.http.server.h2_streams import H2Streams

__all__ = ["H2Intake"]


class H2Intake:
    """The body of one request on its way in. Only the leader uses it.

    It is always somebody's turn: the peer's, with ``read_body_timeout_ms`` for the next byte and
    a millisecond more in all for each byte it has sent, or the handler's.
    """

    __slots__ = (
        "_budget_ms",
        "_codec",
        "_continue_due",
        "_limit",
        "_turn_began",
        "_waits",
        "connection",
        "deadline",
        "open",
        "queue",
        "stream",
    )

    def __init__(
        self,
        connection: H2Streams,
        codec: Http2Connection,
        stream: H2Stream,
        queue: BodyQueue,
        limit: int,
        continue_due: bool,
    ) -> None:
        self.connection = connection
        self.stream = stream
        self.queue = queue
        self.open = True
        """Whether there is more to come."""
        self.deadline = NEVER_MS
        self._codec = codec
        self._limit = limit
        self._continue_due = continue_due
        self._waits = False
        worker = connection._worker
        self._turn_began = worker.now_ms
        self._budget_ms = worker.config.read_body_timeout_ms
        queue.connect(self._ask)

    def _ask(self) -> None:
        """From the handler's thread: it waits, or there is room again."""
        worker = self.connection._worker
        worker.asked.append(self)
        worker.reactor.wakeup()

    def on_wanted(self) -> None:
        """The handler waits for its first byte, or there is room again."""
        if self.open and self.connection.open:
            self.say_continue()
            self.connection._want_turn()

    def say_continue(self) -> None:
        """The body is wanted: a peer that waits for leave to send it gets that."""
        if self._continue_due:
            self._continue_due = False
            if self.open and self._codec.stream_is_open(self.stream.sid):
                self._codec.send_informational(self.stream.sid, 100)

    def feed(self) -> None:
        """Hand on what has come, as far as the queue takes it."""
        if not self.open:
            return
        codec, sid, queue = self._codec, self.stream.sid, self.queue
        before = queue.received
        while not queue.full:
            data = codec.drain_stream_data(sid)
            if not data:
                break
            queue.put(data)
        if queue.received > before:
            self._continue_due = False  # it has not waited
        if queue.received > self._limit:
            self._end(RequestBodyError(413))
        elif codec.stream_ended(sid):
            trailers = codec.stream_trailers(sid)
            queue.end(HeaderMap._from_items(list(trailers.items)) if trailers else None)
            self._end()
        else:
            self._watch(queue.received - before)

    def _watch(self, received: int) -> None:
        """Set the clock of whoever's turn it is."""
        worker = self.connection._worker
        config, now = worker.config, worker.now_ms
        if self._waits:
            self._budget_ms -= now - self._turn_began
        self._budget_ms += received
        full = self.queue.full
        handlers_turn = full or self._continue_due
        if full and not self.queue.notify_when_half_empty():
            worker.asked.append(self)  # the handler was quicker
        was_waiting, self._waits = self._waits, not handlers_turn
        self._turn_began = now
        if handlers_turn:
            self.deadline = NEVER_MS
            self.connection.time_handler(self.stream)
        elif received or not was_waiting:
            self.stream.deadline = NEVER_MS
            budget = config.read_body_timeout_ms
            self.deadline = now + min(budget, max(0, self._budget_ms)) if budget else NEVER_MS

    def _end(self, error: RequestBodyError | None = None) -> None:
        self.open = False
        self.deadline = NEVER_MS
        if error is not None:
            self.queue.fail(error)
        self.connection.time_handler(self.stream)

    def expire(self) -> None:
        """The peer has had its time."""
        self._end(RequestBodyTimeout(408, "the request's body took too long"))

    def abort(self, status: int = 400) -> None:
        """The peer has left, or nobody waits for the handler any more."""
        self.open = False
        self.deadline = NEVER_MS
        self.queue.abort(RequestBodyTruncated(status, "the request is over"))
