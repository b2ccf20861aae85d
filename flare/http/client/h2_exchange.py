"""One request and its response as a stream of an HTTP/2 connection (RFC 9113 section 8.1).

Has the face of an ``H1Connection`` in one exchange: ``exchange`` for the final head, ``read_body``
until ``b""``. The body of a response is let in as it is read. A request's body goes out as the
windows let it, and stops where the server has answered with an error, or is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flare.errors import NetworkError, Timeout, http_reason_phrase
from flare.http.client.outgoing import Outgoing
from flare.http.client.timeouts import Clock
from flare.http.errors import HttpProtocolError
from flare.http.proto.fields import FieldBlock
from flare.http.proto.framing import CHUNKED, LENGTH, NO_BODY, Framing
from flare.http.proto.headers import HeaderMap
from flare.http.proto.heads import ResponseHead
from flare.http2.errors import Http2Error, Http2ErrorCode
from flare.http2.stream import Stream

if TYPE_CHECKING:
    from flare.http.client.h2_connection import H2Connection
    from flare.tls import TlsInfo

__all__ = ["H2Exchange"]

# What is queued of a request's body before its source is asked for more.
_QUEUED_BYTES = 256 * 1024
_REFUSED = int(Http2ErrorCode.REFUSED_STREAM)


class H2Exchange:
    """A stream on *connection*. For one thread at a time, but for ``cancel``.

    ``refused`` says that the server has not looked at the request, so that it may be sent again,
    whatever it is; ``sent`` and ``answered`` are as in ``H1Connection``.
    """

    __slots__ = ("_reading", "_received", "_sid", "_stream", "answered", "connection", "refused",
                 "reused", "sent", "trailers", "wants_h1")  # fmt: skip

    def __init__(self, connection: H2Connection) -> None:
        self.connection = connection
        self.sent = False
        self.answered = False
        self.refused = False
        self.wants_h1 = False
        self.reused = False
        self.trailers: FieldBlock | None = None
        self._sid = 0
        self._stream: Stream | None = None
        self._received = 0
        self._reading = False

    @property
    def tls(self) -> TlsInfo | None:
        """What TLS was agreed on."""
        return self.connection.tls

    def adopt(self, sid: int) -> None:
        """Be the stream *sid*, which an upgrade has opened."""
        with self.connection.lock:
            self._sid = sid
            self._stream = self.connection.stream(sid)
            self.connection.codec.hold_body(sid)
            self.sent = True
            self.connection.used += 1

    def exchange(self, request: Outgoing, clock: Clock) -> ResponseHead:
        """Send a request and wait for the final response head.

        Blocks until then, or *clock* ends it. Raises ``CallTimeout``, ``Http2Error`` where the
        server ended the stream, ``HttpProtocolError``, ``ConnectionReset`` or another
        ``NetworkError``, or whatever the source of the body raised; the stream is reset then.
        """
        try:
            self._open(request)
            if request.content:
                self._send_body(request, clock)
            return self.head(clock)
        except BaseException:
            self.cancel()
            raise

    def _open(self, request: Outgoing) -> None:
        conn = self.connection
        fields = HeaderMap._from_items(list(request.fields.items))
        target, content = request.target, request.content
        authority = request.fields.hosts[0]
        body = b"" if content.source is not None or request.expect_ms else content.data
        with conn.lock:
            try:
                conn.raise_failure()
                sid = conn.next_id()
                args = (sid, request.method, target.origin.scheme, authority, target.line, fields)
                if content and not body:
                    conn.codec.send_request_open(*args)
                else:
                    conn.codec.send_request(*args, body)
            except NetworkError:
                self.refused = True  # nothing was sent
                raise
            self._sid = sid
            self._stream = conn.stream(sid)
            conn.codec.hold_body(sid)
            self.reused = conn.has_answered
            conn.used += 1
            self.sent = True
            conn.send_now()

    def _send_body(self, request: Outgoing, clock: Clock) -> None:
        conn, stream, content = self.connection, self._stream, request.content
        assert stream is not None
        if request.expect_ms and not self._may_send(stream, request.expect_ms, clock):
            return
        if content.source is None and not request.expect_ms:
            with conn.lock:
                self._wait_for_window(stream, 0, clock)
            return
        for piece in content.payload():
            with conn.lock:
                if self._unwanted(stream):
                    return
                conn.codec.send_data(self._sid, piece, False)
                conn.push()  # the next one may take its time
                self._wait_for_window(stream, _QUEUED_BYTES, clock)
        with conn.lock:
            if not self._unwanted(stream):
                conn.codec.send_data(self._sid, b"", True)
                self._wait_for_window(stream, 0, clock)

    def _may_send(self, stream: Stream, wait_ms: int, clock: Clock) -> bool:
        """Whether to send a body that was held back: 100 (Continue) came, or nothing in time."""
        conn = self.connection
        with conn.lock:
            try:
                conn.wait(
                    lambda: bool(stream.interim) or self._unwanted(stream),
                    clock, wait_ms, "read", "waiting for 100 (Continue)",
                )  # fmt: skip
            except Timeout:
                if clock.end is not None:
                    clock.wait_ms(0, "waiting for 100 (Continue)", conn.peer)
            return not stream.headers_complete and not self._unwanted(stream)

    def _unwanted(self, stream: Stream) -> bool:
        """Whether the server wants no more of the request's body; the lock is held.

        A good answer may begin before the end of what it answers to, others end it.
        """
        if stream.error is not None or stream.data_complete or self.connection.failure is not None:
            return True
        return stream.response is not None and stream.response.status >= 300

    def _wait_for_window(self, stream: Stream, most: int, clock: Clock) -> None:
        """Wait until no more than *most* bytes are queued; the lock is held."""
        while stream.outgoing_bytes > most and not self._unwanted(stream):

            def moved(before: int = stream.outgoing_bytes) -> bool:
                return stream.outgoing_bytes < before or self._unwanted(stream)

            self.connection.wait(moved, clock, clock.limits.write, "write", "sending the body")

    def head(self, clock: Clock) -> ResponseHead:
        """Wait for the final head. Raises as ``exchange`` does."""
        conn, stream = self.connection, self._stream
        assert stream is not None
        with conn.lock:
            conn.wait(
                lambda: stream.headers_complete
                or stream.error is not None
                or conn.failure is not None,
                clock, clock.limits.read, "read", "waiting for the response",
            )  # fmt: skip
            if not stream.headers_complete:
                self.answered = stream.interim > 0
                self._raise(stream)
            self.answered = True
            conn.answered()
        return self._head_of(stream)

    def _head_of(self, stream: Stream) -> ResponseHead:
        found = stream.response
        assert found is not None
        limit = self.connection.max_body_bytes
        if found.no_body or (stream.data_complete and not stream.received):
            framing = Framing(NO_BODY)
        elif found.content_length >= 0:
            if limit is not None and found.content_length > limit:
                raise self._too_large()
            framing = Framing(LENGTH, found.content_length)
        else:
            framing = Framing(CHUNKED)
        head = ResponseHead(
            found.status, http_reason_phrase(found.status), 1, found.fields, framing
        )
        head.version = "HTTP/2"
        return head

    def read_body(self, n: int, clock: Clock) -> bytes:
        """What is here of the body, 256 KiB at most; ``b""`` at its end, where ``trailers`` is
        set. Blocks and raises as ``exchange``."""
        try:
            return self._read_body(clock)
        except BaseException:
            self.cancel()
            raise

    def _read_body(self, clock: Clock) -> bytes:
        conn = self.connection
        with conn.lock:
            stream = self._stream
            if stream is None:
                raise self._given_up()
            self._reading = True
            try:
                conn.wait(
                    lambda: bool(stream.data)
                    or stream.data_complete
                    or stream.error is not None
                    or self._stream is None
                    or conn.failure is not None,
                    clock, clock.limits.read, "read", "reading the body",
                )  # fmt: skip
            finally:
                self._reading = False
            if self._stream is None:
                raise self._given_up()
            if stream.data:
                data = conn.codec.drain_body(self._sid)
                conn.send_now()  # the window that this opens
            elif stream.data_complete:
                self.trailers = stream.trailers
                return b""
            else:
                self._raise(stream)
        self._received += len(data)
        limit = conn.max_body_bytes
        if limit is not None and self._received > limit:
            raise self._too_large()
        return data

    def read_counted_into(self, buffer: memoryview, clock: Clock) -> int:
        """0: frames stand between the body and any buffer; ``read_body`` says more."""
        return 0

    def _given_up(self) -> NetworkError:
        return NetworkError(f"the response from {self.connection.peer} was given up by close()")

    def _too_large(self) -> NetworkError:
        conn = self.connection
        return NetworkError(
            f"the response from {conn.peer} exceeds max_response_bytes, {conn.max_body_bytes}"
        )

    def _raise(self, stream: Stream) -> None:
        """Raise what the stream ended with; the lock is held."""
        conn = self.connection
        if stream.error is None:
            conn.raise_failure()
        code = stream.error or 0
        self.refused = code == _REFUSED
        self.wants_h1 = code == Http2ErrorCode.HTTP_1_1_REQUIRED
        if code == Http2ErrorCode.PROTOCOL_ERROR:
            raise HttpProtocolError(f"malformed response, or so {conn.peer} calls the request")
        raise Http2Error(code, self._sid, f"the stream was ended ({conn.peer})")

    def finish(self) -> None:
        """The response was read: forget the stream."""
        self.cancel(Http2ErrorCode.NO_ERROR)

    def cancel(self, code: int = Http2ErrorCode.CANCEL) -> None:
        """Give up what is left: the stream is reset, unless it is over. Idempotent."""
        if self._stream is not None:
            self._stream = None
            self.connection.cancel(self._sid, code)
            if self._reading:  # another thread
                self.connection.wake()
