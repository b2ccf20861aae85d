"""HTTP/1.1 on a server's connection: bytes to requests, responses to bytes (RFC 9112).

One request at a time, answered in order. The grammar and its guards are in ``flare.http.proto``;
here are the server's rules about connections: which answer is the last one, what a refused
request gets, when 100 is said, and what becomes of a body that is made while it is sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flare.http._respond import (
    CHUNKED_BODY,
    COUNTED_BODY,
    UNTIL_CLOSE_BODY,
    buffered_head,
    content_length_line,
    has_no_content,
    known_start,
    response_problem,
    streaming_head,
    wants_close,
)
from flare.http.body import Body, FileBody, as_bytes, close_source
from flare.http.cancel import CancelCell, CancelReason
from flare.http.forwarded import ProxyPeer
from flare.http.proto.chunked import encode_chunk, encode_last_chunk
from flare.http.proto.decoder import EndOfMessage
from flare.http.proto.errors import HttpParseError
from flare.http.proto.framing import NO_BODY
from flare.http.proto.h2c_upgrade import decode_http2_settings, detect_h2c_upgrade
from flare.http.proto.headers import HeaderMap
from flare.http.proto.heads import RequestHead
from flare.http.request import Request
from flare.http.response import Response, StreamingResponse
from flare.http.server.failures import error_response
from flare.http.server.h1_refusal import CONTINUE
from flare.http.server.h1_shared import JOINED_BYTES, MEMO_READ_BYTES, H1Shared
from flare.http.server.h1_streamed import StreamingWire
from flare.http.server.logs import error_log, escape, log_handler_error
from flare.http.server.wire import (
    BODY,
    BUSY,
    DONE,
    HEAD,
    IDLE,
    SKIPPING,
    SWITCH,
    BodyAborted,
    BodyWriter,
    Exchange,
    Switch,
)
from flare.http2.settings import are_valid_settings
from flare.net import SocketAddr

if TYPE_CHECKING:
    from flare.tls import TlsInfo

__all__ = ["H1Wire"]

_PIECE_BYTES = 4096
_FORWARDED = frozenset({"forwarded", "via", "x-forwarded-for", "x-forwarded-proto"})


class H1Wire(StreamingWire):
    """The HTTP/1.1 side of one connection; see ``Wire``."""

    __slots__ = ("_pieces", "_streaming_keep_alive", "_tls_info")

    def __init__(self, shared: H1Shared, peer: SocketAddr, tls_info: TlsInfo | None = None) -> None:
        super().__init__(shared, peer)
        self._tls_info = tls_info
        self.clean = True  # no read that is whole, or known, begins with a blank line
        self._pieces: list[bytes | bytearray] = []
        self._streaming_keep_alive = False

    def receive(self, data: bytes) -> None:
        self.clean = False
        self._decoder.receive(data)

    def take(self, data: bytes) -> Exchange | None:
        if self.clean:
            # One request in one read: the common case, and nothing to decode.
            plan, body = None, b""
            if len(data) <= MEMO_READ_BYTES:
                plan = self._shared.known.get(data)
            if plan is None:
                found = self._shared.plan(data)
                if found is not None:
                    plan, body = found
            if plan is not None:
                self._decoder.pass_by()
                return self._exchange(plan.head, body)
        self.receive(data)
        return self.next_exchange()

    def next_exchange(self) -> Exchange | None:
        if self.clean or (self.phase >= BUSY and not (self.phase == SKIPPING and self._skip())):
            return None
        decoder = self._decoder
        try:
            head = self._head
            if head is None:
                event = decoder.next_event()
                if event is None:
                    if not decoder.buffered:
                        self.phase = IDLE
                        self.clean = self.served > 0
                    else:
                        # The blank line that old clients send behind a body begins no request.
                        self.phase = HEAD if decoder.in_message else IDLE
                    return None
                assert isinstance(event, RequestHead)
                head = event
                if head.framing.kind == NO_BODY:
                    decoder.next_event()
                    exchange = self._exchange(head, b"")
                    return exchange if not head.fields.upgrade else self._upgraded(exchange)
                if self._shared.stream_limit is not None:
                    streamed = self._begin_stream(head)
                    if streamed is not None:
                        if self._tls_info is not None:
                            streamed.request.tls_info = self._tls_info
                        return streamed
                self._begin_body(head)
            return self._read_body(head)
        except HttpParseError as error:
            self._refuse(error)
            return None

    def _begin_body(self, head: RequestHead) -> None:
        self._head = head
        # A peer that has begun to send the body does not wait for leave (RFC 9110 §10.1.1).
        if head.expect_continue and not self._decoder.buffered:
            self._write(CONTINUE)

    def _read_body(self, head: RequestHead) -> Exchange | None:
        while True:
            event = self._decoder.next_event()
            if event is None:
                self.phase = BODY
                return None
            if isinstance(event, EndOfMessage):
                body, self._pieces, self._head = b"".join(self._pieces), [], None
                trailers = event.trailers.items
                exchange = self._exchange(
                    head, body, HeaderMap._from_items(list(trailers)) if trailers else None
                )
                return exchange if not head.fields.upgrade else self._upgraded(exchange)
            assert isinstance(event, bytes)
            self._keep(event)

    def _keep(self, piece: bytes) -> None:
        """Put *piece* behind those of the body that came before."""
        pieces = self._pieces
        if len(piece) >= _PIECE_BYTES:
            pieces.append(piece)
        elif pieces and isinstance(pieces[-1], bytearray):
            pieces[-1] += piece
        else:  # a peer that sends byte by byte shall not have an object for each
            pieces.append(bytearray(piece))

    def _exchange(
        self, head: RequestHead, body: bytes, trailers: HeaderMap | None = None
    ) -> Exchange:
        self.phase = BUSY
        expose_errors = self._shared.config.expose_error_messages
        request = Request._from_head(head, body, self._peer, expose_errors, trailers)
        if self._tls_info is not None:
            request.tls_info = self._tls_info
        return Exchange(request, head)

    def _upgraded(self, exchange: Exchange) -> Exchange | None:
        """*exchange*, unless its request is one to go on from in HTTP/2 (RFC 7540 section 3.2)."""
        config, request = self._shared.config, exchange.request
        if self._last or self._tls_info is not None or not (config.http2 and config.h2c_upgrade):
            return exchange
        # Through a proxy that passes the upgrade on unseen, the rest would be a tunnel past it.
        if isinstance(self._peer, ProxyPeer) or any(
            name in _FORWARDED for name, _, _ in exchange.head.fields.items
        ):
            return exchange
        if not detect_h2c_upgrade(request.headers):
            return exchange
        settings = decode_http2_settings(request.headers)
        max_entries = config.http2_config().max_settings_entries
        if settings is None or not are_valid_settings(settings, max_entries):
            return exchange
        self.switch = Switch(True, self._decoder.take_rest(), request, settings)
        self.phase = SWITCH
        return None

    def respond(self, exchange: Exchange, result: object) -> H1BodyWriter | None:
        request, head = exchange.request, exchange.head
        self.served = served = self.served + 1
        limit = self._shared.config.max_keepalive_requests
        keep_alive = head.keep_alive and not self._last and not 0 < limit <= served
        # A peer that counts on the next request may be sending it.
        self.linger = head.keep_alive
        try:
            if type(result) is Response and self._respond_shortly(head, result, keep_alive):
                return None
            problem = response_problem(result)
            if problem is None:
                if isinstance(result, Response) and result.body_stream is None:
                    self._respond_buffered(head, result, keep_alive)
                    return None
                return self._respond_streaming(exchange, result, keep_alive)
        except Exception as error:
            # A handler may have put anything in any attribute. Nothing is written before all of
            # the head is made.
            problem = error
        _close_unsent(result, request)
        self._respond_buffered(head, error_response(request, problem), keep_alive)
        return None

    def _respond_shortly(self, head: RequestHead, response: Response, keep_alive: bool) -> bool:
        """Answer with *response* if there is nothing special about it; whether it was."""
        body = response.body
        if (
            response.body_stream is not None
            or type(body) is not bytes
            or type(response.reason) is not str
            or len(body) > JOINED_BYTES
            or head.method == "HEAD"
        ):
            return False
        start = known_start(response)
        if start is None:
            return False
        self.status = response.status
        self.sent = size = len(body)
        end = self._shared.keep_alive_end if keep_alive else self._shared.close_end
        data = b"".join((start, content_length_line(size), end, body))
        self.out.append(data)
        self.out_bytes += len(data)
        self.phase = IDLE if keep_alive else DONE
        return True

    def _respond_buffered(self, head: RequestHead, response: Response, keep_alive: bool) -> None:
        items = response.headers._items
        if keep_alive and items and wants_close(items):
            keep_alive = False
        body = response.body
        head_request = head.method == "HEAD"
        lines = buffered_head(
            response.status,
            response.reason,
            items,
            len(body),
            head_request=head_request,
            keep_alive=keep_alive,
            date_line=self._shared.date_line,
        )
        self.status = status = response.status
        if not body or head_request or has_no_content(status) or status == 205:
            self.sent = 0
            self._write(lines)
        else:
            self.sent = len(body)
            if len(body) <= JOINED_BYTES:
                self._write(lines + body)
            else:
                self._write(lines)
                self._write(body)
        self.phase = IDLE if keep_alive else DONE

    def _respond_streaming(
        self, exchange: Exchange, result: Any, keep_alive: bool
    ) -> H1BodyWriter | None:
        request = exchange.request
        body: Any = result.body_stream if isinstance(result, Response) else result.body
        length = _length(body)
        if result.status == 205:
            length = 0
        if keep_alive and wants_close(result.headers._items):
            keep_alive = False
        head, framing = streaming_head(
            result.status,
            result.reason,
            result.headers,
            result.trailers,
            length,
            minor=exchange.head.minor,
            keep_alive=keep_alive,
            date_line=self._shared.date_line,
        )
        self._write(head)
        self.status = result.status
        self.sent = 0
        keep_alive = keep_alive and framing != UNTIL_CLOSE_BODY
        if exchange.head.method == "HEAD" or has_no_content(result.status):
            self.phase = IDLE if keep_alive else DONE
            _close_logged(body, request)
            return None
        self._streaming_keep_alive = keep_alive
        writer = H1BodyWriter(request, body, framing, length or 0, result.trailers)
        if framing == COUNTED_BODY and isinstance(body, FileBody) and body.plain:
            writer.file = body
        return writer

    def body_sent(self) -> None:
        self.phase = IDLE if self._streaming_keep_alive and not self._last else DONE


class H1BodyWriter(BodyWriter):
    """Frames a streamed body: as is where its length was promised, else in chunks."""

    __slots__ = ("_body", "_cell", "_framing", "_left", "_open", "_request", "_trailers", "sent")

    def __init__(
        self, request: Request, body: Body, framing: int, length: int, trailers: HeaderMap
    ) -> None:
        super().__init__()
        self._request = request
        self._body = body
        self._framing = framing
        self._left = length
        self._trailers = trailers
        self._cell = CancelCell()
        self._open = True
        self.sent = 0

    def next_piece(self) -> bytes | None:
        if self._framing == COUNTED_BODY and not self._left:
            self.close()
        if not self._open:
            return None
        try:
            chunk = self._body.next_chunk(self._cell.handle())
            if chunk is not None:
                chunk = as_bytes(chunk)
        except Exception as error:
            log_handler_error(self._request, error, answered=False)
            self.close()
            raise BodyAborted from error
        if chunk is None:
            return self._end()
        return self._frame(chunk)

    @property
    def request(self) -> Request:
        """The request it answers."""
        return self._request

    @property
    def left(self) -> int:
        """What is to come of a promised length, in bytes."""
        return self._left

    def note_sent(self, count: int) -> None:
        """*count* bytes of ``file`` have been sent as they are."""
        assert self.file is not None
        self.file.advance(count)
        self._left -= count
        self.sent += count

    def _frame(self, chunk: bytes) -> bytes:
        if self._framing == COUNTED_BODY:
            if len(chunk) > self._left:
                self._complain(f"{len(chunk) - self._left} bytes more than its Content-Length")
                chunk = chunk[: self._left]
            self._left -= len(chunk)
        self.sent += len(chunk)
        if self._framing == CHUNKED_BODY and chunk:
            return encode_chunk(chunk)
        return chunk

    def _end(self) -> bytes | None:
        self.close()
        if self._framing == CHUNKED_BODY:
            return encode_last_chunk(self._trailers.items())
        if self._framing == COUNTED_BODY and self._left:
            self._complain(f"{self._left} bytes less than its Content-Length")
            raise BodyAborted
        return None

    def _complain(self, what: str) -> None:
        request = self._request
        error_log.error(
            "%s %s from %s: the streamed body has %s",
            escape(request.method),
            escape(request.url),
            request.peer,
            what,
        )

    def cancel(self, reason: int) -> None:
        self._cell.flip(reason)

    def close(self, reason: int = CancelReason.NONE) -> None:
        if self._open:
            self._open = False
            if reason:
                self._cell.flip(reason)
            _close_logged(self._body, self._request)


def _close_logged(body: object, request: Request) -> None:
    try:
        close_source(body)
    except Exception as error:
        log_handler_error(request, error, answered=False)


def _close_unsent(result: object, request: Request) -> None:
    """Free what a response that cannot be sent holds."""
    if isinstance(result, Response):
        _close_logged(getattr(result, "body_stream", None), request)
    elif isinstance(result, StreamingResponse):
        _close_logged(getattr(result, "body", None), request)


def _length(body: Any) -> int | None:
    """The length that *body* says it has. Raises ``TypeError`` or ``ValueError`` for no length."""
    length = body.content_length()
    if length is None:
        return None
    if not isinstance(length, int):
        raise TypeError(f"content_length() must be an int or None, not {type(length).__name__}")
    if length < 0:
        raise ValueError(f"content_length() must not be negative, got {length}")
    return length
