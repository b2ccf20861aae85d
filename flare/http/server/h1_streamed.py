"""The HTTP/1.1 side of a request body that its handler reads while it arrives."""

from __future__ import annotations

from flare.http.proto.decoder import EndOfMessage
from flare.http.proto.errors import HttpParseError
from flare.http.proto.headers import HeaderMap
from flare.http.proto.heads import RequestHead
from flare.http.request import Request
from flare.http.request_stream import (
    BodyQueue,
    RequestBodyError,
    RequestBodyTruncated,
    StreamedRequest,
)
from flare.http.server.h1_refusal import CONTINUE, RefusingWire
from flare.http.server.h1_shared import H1Shared
from flare.http.server.logs import error_log, escape
from flare.http.server.wire import BUSY, DONE, IDLE, SKIPPING, StreamedExchange
from flare.net import SocketAddr

__all__ = ["StreamingWire"]

_SKIPPED_BYTES = 64 * 1024  # read over, rather than lose the connection


class StreamingWire(RefusingWire):
    """A wire whose requests may be handed out before their bodies are there.

    ``_incoming`` is the queue such a body goes into, ``None`` once it has ended or failed.
    """

    __slots__ = ("_continue_due", "_incoming", "holds_body")

    def __init__(self, shared: H1Shared, peer: SocketAddr) -> None:
        super().__init__(shared, peer)
        self._incoming: BodyQueue | None = None
        self._continue_due = False
        self.holds_body = False
        """Whether the queue was full before all that was received of the body was in it."""

    @property
    def awaits_body(self) -> bool:
        """Whether there is more to come of a body that is handed on as it arrives."""
        return self._incoming is not None

    @property
    def holds_continue(self) -> bool:
        """Whether the peer waits for leave to send the body."""
        return self._continue_due

    def _begin_stream(self, head: RequestHead) -> StreamedExchange | None:
        """The exchange of a request whose handler reads the body itself; ``None`` for one that
        wants it whole. Raises ``HttpParseError`` for a body that says it is too large."""
        shared, config = self._shared, self._shared.config
        assert shared.stream_limit is not None
        expose_errors = config.expose_error_messages
        limit = shared.stream_limit(Request._from_head(head, b"", self._peer, expose_errors))
        self._decoder.limit_body(head, config.max_body_size if limit is None else limit)
        if limit is None:
            return None
        queue = self._incoming = BodyQueue()
        request = StreamedRequest._streaming(
            head, queue, self._peer, expose_errors, config.max_body_size
        )
        # A peer that has begun to send the body does not wait for leave (RFC 9110 section 10.1.1).
        self._continue_due = head.expect_continue and not self._decoder.buffered
        self.feed_body()
        self.phase = BUSY
        return StreamedExchange(request, head, queue)

    def feed_body(self) -> bool:
        """Put what was received of the body into its queue, as far as that takes it; whether
        there is more to come."""
        queue = self._incoming
        self.holds_body = False
        if queue is None:
            return False
        try:
            while not queue.full:
                event = self._decoder.next_event()
                if event is None:
                    return True
                self._continue_due = False
                if isinstance(event, EndOfMessage):
                    trailers = event.trailers.items
                    queue.end(HeaderMap._from_items(list(trailers)) if trailers else None)
                    self._incoming = None
                    return False
                assert isinstance(event, bytes)
                queue.put(event)
        except HttpParseError as error:
            if error.variant == HttpParseError.TRUNCATED:
                self.fail_body(RequestBodyTruncated(400, "the request's body has no end"))
            else:
                error_log.info("%d to %s: %s", error.status, self._peer, escape(str(error)))
                self.fail_body(RequestBodyError(error.status))
            return False
        self.holds_body = True
        return True

    def fail_body(self, error: RequestBodyError) -> None:
        """There will be no more of the body: its reader gets *error*."""
        queue, self._incoming = self._incoming, None
        self._last = True
        if queue is not None:
            queue.fail(error)

    def leave_body(self, *, at_once: bool = False) -> None:
        """The handler is done with the body. What is left of it will be skipped where it is
        little, unless *at_once*; else the connection ends with the response."""
        queue = self._incoming
        if queue is None:
            return
        queue.abort(RequestBodyTruncated(400, "the request is answered"))
        if not at_once and not self._continue_due:
            self._read_over()
            if self._incoming is None or 0 < self._decoder.counted_left <= _SKIPPED_BYTES:
                return
        self._incoming = None
        self._last = True

    def skip_body(self) -> None:
        """The response is written: go on behind the body."""
        if self.phase == IDLE:
            if self._incoming is not None:
                self.phase = SKIPPING
            elif self._last:
                self.phase = DONE

    def _read_over(self) -> None:
        """Drop what was received of a body that nobody wants."""
        try:
            while (event := self._decoder.next_event()) is not None:
                if isinstance(event, EndOfMessage):
                    self._incoming = None
                    return
        except HttpParseError:
            self._incoming = None
            self._last = True
            if self.phase == SKIPPING:
                self.phase = DONE

    def _skip(self) -> bool:
        """Go on skipping; whether the next request may begin."""
        self._read_over()
        if self._incoming is None and self.phase == SKIPPING:
            self.phase = DONE if self._last else IDLE
        return self.phase == IDLE

    def say_continue(self) -> None:
        """The handler waits for the body: a peer that waits for leave to send it gets that."""
        if self._continue_due:
            self._continue_due = False
            self._write(CONTINUE)

    def expire(self) -> None:
        if self.phase == SKIPPING:  # it is answered already
            self.phase = DONE
            self.linger = True
        else:
            super().expire()
