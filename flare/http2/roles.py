"""What differs between the two sides: who opens streams, and what a head means.

A server gets requests, a client responses; the rules for both are in ``flare.http2.messages``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from flare.http2.config import Http2ClientConfig, Http2Config
from flare.http2.errors import Http2Error, Http2ErrorCode
from flare.http2.floods import MAX_INTERIM_RESPONSES
from flare.http2.header_blocks import HeaderList
from flare.http2.messages import (
    MessageError,
    parse_request_head,
    parse_response_head,
    parse_trailers,
)
from flare.http2.stream import Stream, StreamEvent

if TYPE_CHECKING:
    from flare.http2.core import ConnectionCore

__all__ = ["ClientRole", "Role", "ServerRole"]

_OTHER_ANSWERS = frozenset({"HEAD", "CONNECT"})  # what the same head means another thing to


class Role(Protocol):
    """A side of a connection. Methods raise ``Http2Error`` for a stream or the connection."""

    def is_idle(self, stream_id: int) -> bool:
        """Whether a stream that is not known has never been opened."""

    def admit(self, stream_id: int) -> None:
        """HEADERS came for a stream that is not open."""

    def head(
        self, stream: Stream | None, stream_id: int, headers: HeaderList, end_stream: bool
    ) -> None:
        """A header block is whole: a head, or trailers."""

    def data(self, stream: Stream) -> None:
        """More of the body is in ``stream.data``."""

    def ended(self, stream: Stream) -> None:
        """DATA ended the message."""

    def goaway(self, last: int) -> None:
        """The peer deals with no stream above *last* any more."""


def _protocol_error(stream_id: int, debug: str) -> Http2Error:
    return Http2Error(Http2ErrorCode.PROTOCOL_ERROR, stream_id, debug)


def _check_length(stream: Stream) -> None:
    if stream.no_body and stream.received:
        raise _protocol_error(stream.id, "a body where none can be")
    if 0 <= stream.content_length < stream.received:
        raise _protocol_error(stream.id, "more than content-length says")


def _take_trailers(
    conn: ConnectionCore, stream: Stream, headers: HeaderList, end_stream: bool
) -> None:
    """Fields behind a body: they must end the stream (RFC 9113 section 8.1)."""
    if stream.tunnel:  # section 8.5
        raise _protocol_error(stream.id, "HEADERS in a tunnel")
    if not end_stream:
        raise _protocol_error(stream.id, "a second head")
    stream.advance(StreamEvent.RECV_HEADERS)
    stream.header_list_bytes += headers.size
    if headers.too_large:
        raise Http2Error(Http2ErrorCode.ENHANCE_YOUR_CALM, stream.id, "trailers too large")
    try:
        stream.trailers = parse_trailers(headers.fields)
    except MessageError as error:
        raise _protocol_error(stream.id, str(error)) from None
    conn.remote_end(stream)


class ServerRole:
    """Requests come in: odd streams, each higher than the one before."""

    __slots__ = ("_config", "_conn")

    def __init__(self, conn: ConnectionCore, config: Http2Config) -> None:
        self._conn = conn
        self._config = config

    def is_idle(self, stream_id: int) -> bool:
        return stream_id % 2 == 0 or stream_id > self._conn.last_opened

    def admit(self, stream_id: int) -> None:
        conn = self._conn
        if stream_id % 2 == 0:
            raise _protocol_error(0, "a client's stream with an even number")
        if stream_id <= conn.last_opened:
            raise Http2Error(Http2ErrorCode.STREAM_CLOSED, debug="HEADERS on a closed stream")
        conn.last_opened = stream_id

    def head(
        self, stream: Stream | None, stream_id: int, headers: HeaderList, end_stream: bool
    ) -> None:
        conn = self._conn
        if stream is not None:
            if stream.data_complete:
                raise Http2Error(Http2ErrorCode.STREAM_CLOSED, stream_id, "HEADERS after the end")
            _take_trailers(conn, stream, headers, end_stream)
            self._completed(stream)
            return
        # A stream that was reset counts until its handler is done: starting work is what costs.
        busy = conn.active + len(conn.lingering)
        if stream_id > conn.last_admitted or busy >= self._config.max_concurrent_streams:
            raise Http2Error(Http2ErrorCode.REFUSED_STREAM, stream_id, "one stream too many")
        stream = conn.open_stream(stream_id)
        stream.advance(StreamEvent.RECV_HEADERS)
        stream.headers_complete = True
        stream.header_list_bytes = headers.size
        if headers.too_large:
            if end_stream:
                conn.remote_end(stream)
            self.refuse(stream, 431)
            return
        head = headers.request
        if head is None:
            try:
                head = headers.request = parse_request_head(headers.fields)
            except MessageError as error:
                raise _protocol_error(stream_id, str(error)) from None
        stream.headers = list(headers.fields)
        stream.request = head
        stream.fields = head.fields
        stream.method = head.method
        stream.content_length = head.content_length
        if end_stream:
            conn.remote_end(stream)
        if head.method == "CONNECT":
            self._connect(stream, head.protocol)
        elif end_stream:
            self._completed(stream)
        elif head.fields.expect and not head.expect_continue:
            self.refuse(stream, 417)
        elif (
            self._config.max_body_size is not None
            and head.content_length > self._config.max_body_size
        ):
            self.refuse(stream, 413)
        else:
            conn.opened_streams.append(stream_id)
            if head.expect_continue and conn.says_continue:
                conn.send_headers(stream, [(":status", "100")], False)

    def _connect(self, stream: Stream, protocol: str) -> None:
        """A tunnel: its head is all there is to answer to."""
        conn = self._conn
        if protocol and not self._config.enable_connect_protocol:
            raise _protocol_error(stream.id, ":protocol, which was not offered")
        stream.extended_connect_protocol = protocol
        conn.hold(stream)
        (conn.connect_streams if protocol else conn.completed_streams).append(stream.id)

    def _completed(self, stream: Stream) -> None:
        """The request is whole, and nobody has begun with it."""
        conn = self._conn
        if stream.id in conn.opened_streams:
            conn.opened_streams.remove(stream.id)
        if not (stream.held or stream.taken or stream.closed):
            conn.completed_streams.append(stream.id)

    def data(self, stream: Stream) -> None:
        _check_length(stream)
        limit = self._config.max_body_size
        if not stream.held and limit is not None and len(stream.data) > limit:
            self.refuse(stream, 413)

    def ended(self, stream: Stream) -> None:
        """DATA ended the request."""
        self._completed(stream)

    def refuse(self, stream: Stream, status: int) -> None:
        """Answer without asking anybody; what else comes of the request is passed over."""
        conn = self._conn
        conn.floods.reset(conn.now_ms)
        conn.outbox.guarded()
        if stream.id in conn.opened_streams:
            conn.opened_streams.remove(stream.id)
        fields = [(":status", str(status)), ("content-length", "0")]
        conn.send_headers(stream, fields, True)

    def goaway(self, last: int) -> None:
        """A client that opens no more streams still waits for those it has."""


class ClientRole:
    """Responses come in, on streams that we opened."""

    __slots__ = ("_config", "_conn")

    def __init__(self, conn: ConnectionCore, config: Http2ClientConfig) -> None:
        self._conn = conn
        self._config = config

    def is_idle(self, stream_id: int) -> bool:
        return stream_id % 2 == 0 or stream_id > self._conn.last_opened

    def admit(self, stream_id: int) -> None:
        if self.is_idle(stream_id):
            raise _protocol_error(0, "HEADERS on a stream that was not opened")
        raise Http2Error(Http2ErrorCode.STREAM_CLOSED, debug="HEADERS on a closed stream")

    def head(
        self, stream: Stream | None, stream_id: int, headers: HeaderList, end_stream: bool
    ) -> None:
        assert stream is not None  # admit() lets no other through
        conn = self._conn
        if stream.data_complete:
            raise Http2Error(Http2ErrorCode.STREAM_CLOSED, stream_id, "HEADERS after the end")
        if stream.headers_complete:
            _take_trailers(conn, stream, headers, end_stream)
            return
        stream.advance(StreamEvent.RECV_HEADERS)
        stream.header_list_bytes += headers.size
        if headers.too_large:
            raise Http2Error(Http2ErrorCode.ENHANCE_YOUR_CALM, stream_id, "a head too large")
        usual = stream.method not in _OTHER_ANSWERS
        head = headers.response if usual else None
        if head is None:
            try:
                head = parse_response_head(headers.fields, stream.method)
            except MessageError as error:
                raise _protocol_error(stream_id, str(error)) from None
            if usual:
                headers.response = head
        if head.status < 200:
            stream.interim += 1
            if end_stream:
                raise _protocol_error(stream_id, "the end after an interim response")
            if stream.interim > MAX_INTERIM_RESPONSES:
                raise Http2Error(
                    Http2ErrorCode.ENHANCE_YOUR_CALM, stream_id, "too many interim responses"
                )
            return
        stream.headers = list(headers.fields)
        stream.response = head
        stream.fields = head.fields
        stream.headers_complete = True
        stream.content_length = head.content_length
        stream.no_body = head.no_body
        stream.tunnel = stream.method == "CONNECT" and head.status < 300
        if end_stream:
            conn.remote_end(stream)

    def data(self, stream: Stream) -> None:
        if not stream.headers_complete:
            raise _protocol_error(stream.id, "DATA before the head")
        _check_length(stream)
        limit = self._config.max_body_size
        if not stream.held and limit is not None and len(stream.data) > limit:
            self._conn.report_reset(stream)
            self._conn.reset_stream(stream.id, Http2ErrorCode.CANCEL)

    def ended(self, stream: Stream) -> None:
        """DATA ended the response; nothing more is to be done."""

    def goaway(self, last: int) -> None:
        conn = self._conn
        for stream in list(conn.streams.values()):
            if stream.id > last and not stream.closed:
                # The peer has not looked at it: safe to send again elsewhere.
                stream.error = int(Http2ErrorCode.REFUSED_STREAM)
                conn.report_reset(stream)
                conn.close(stream)
