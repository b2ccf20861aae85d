"""A handler in the place of a network: a client's calls become its requests, in the same thread.

The bytes are those of a real exchange, encoded and decoded by the same code, so that redirects,
cookies, streaming and framing behave as over a socket; only the socket is not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flare.errors import NetworkError, Timeout, map_handler_error
from flare.http._respond import (
    CHUNKED_BODY,
    buffered_head,
    has_no_content,
    response_problem,
    streaming_head,
)
from flare.http.body import Body, as_bytes, close_source
from flare.http.cancel import Cancel
from flare.http.handler import as_handler_function
from flare.http.proto.chunked import encode_chunk, encode_last_chunk
from flare.http.proto.decoder import EndOfMessage, RequestDecoder
from flare.http.proto.heads import H1Limits, RequestHead
from flare.http.request import Request
from flare.http.response import Response, StreamingResponse
from flare.net import SocketAddr

__all__ = ["HandlerTransport"]

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_NEVER = Cancel.never()


class HandlerTransport:
    """A transport that calls *handler*: a ``Handler``, or a function from request to response.

    Every host and port leads to it; ``https`` URLs do without TLS. The call runs it in its own
    thread, and no timeout interrupts it. What it raises comes out of the client's call; with
    *raise_errors* false it is answered as a server would, a 500 without the text. ``HttpClient``
    makes one of a handler given as ``transport``.

    >>> from flare.http import HttpClient, ok
    >>> with HttpClient("http://app", transport=lambda request: ok(request.path)) as client:
    ...     client.get("/hello").text()
    '/hello'
    """

    in_process = True

    def __init__(self, handler: Any, *, raise_errors: bool = True) -> None:
        self._function = as_handler_function(handler)
        self._raise_errors = raise_errors

    def connect(self, host: str, port: int, deadline: float | None) -> _HandlerStream:
        """A stream to the handler, for one request."""
        return _HandlerStream(self)

    def answer(self, request: Request) -> Response | StreamingResponse[Any]:
        """What the handler returns, or what stands for what it raised."""
        try:
            result: Any = self._function(request)
            problem = response_problem(result)
            if problem is not None:
                raise problem
        except Exception as error:
            if self._raise_errors:
                raise
            mapped = map_handler_error(error, request.expose_errors)
            headers = {"Content-Type": "text/plain; charset=utf-8"}
            return Response(mapped.status, "", mapped.reason, headers=headers)
        assert isinstance(result, (Response, StreamingResponse))
        return result


class _HandlerStream:
    """One exchange: takes a request, calls the handler when it is asked for the response."""

    def __init__(self, transport: HandlerTransport) -> None:
        self._transport = transport
        self._decoder = RequestDecoder(
            H1Limits(max_header_size=2**20, max_uri_length=2**20, max_body_size=None)
        )
        self._head: RequestHead | None = None
        self._body = bytearray()
        self._complete = False
        self._output: Iterator[bytes] | None = None
        self._ready = b""
        self._closed = False

    def write(self, data: bytes | memoryview) -> int:
        """Take a piece of the request."""
        if self._closed:
            raise NetworkError("the stream is closed")
        self._decoder.receive(bytes(data))
        while not self._complete and (event := self._decoder.next_event()) is not None:
            if isinstance(event, RequestHead):
                self._head = event
                if event.expect_continue:
                    self._ready = _CONTINUE
            elif isinstance(event, EndOfMessage):
                self._complete = True
            else:
                self._body += event
        return len(data)

    def read(self, n: int) -> bytes:
        """A piece of the response; ``b""`` at its end."""
        if self._closed:
            raise NetworkError("the stream is closed")
        if not self._ready:
            if self._output is None:
                if not self._complete:
                    raise Timeout("read", 0)  # nobody else could make it complete meanwhile
                self._output = self._respond()
            self._ready = next(self._output, b"")
        data, self._ready = self._ready[:n], self._ready[n:]
        return data

    def _respond(self) -> Iterator[bytes]:
        head = self._head
        assert head is not None
        request = Request._from_wire(
            head.method, head.target, head.version, head.fields, bytes(self._body),
            SocketAddr.localhost(0), False, None,
        )  # fmt: skip
        result = self._transport.answer(request)
        bare = head.method == "HEAD" or has_no_content(result.status)
        if isinstance(result, Response) and result.body_stream is None:
            body = b"" if bare else result.body
            yield buffered_head(
                result.status, result.reason, result.headers._items, len(result.body),
                head_request=head.method == "HEAD", keep_alive=False, date_line=b"",
            ) + body  # fmt: skip
            return
        source = result.body_stream if isinstance(result, Response) else result.body
        assert source is not None
        try:
            yield from _streamed(result, source, bare)
        finally:
            close_source(source)

    def close(self) -> None:
        """End the exchange; a streamed body is closed."""
        self._closed = True
        close_source(self._output)

    def fileno(self) -> int:
        """No descriptor: -1."""
        return -1

    def set_recv_timeout(self, ms: int) -> None:
        """Without effect: nothing is waited for."""

    def set_send_timeout(self, ms: int) -> None:
        """Without effect: nothing is waited for."""

    def set_nonblocking(self, enabled: bool) -> None:
        """Without effect: nothing is waited for."""


def _streamed(
    result: Response | StreamingResponse[Any], source: Body, bare: bool
) -> Iterator[bytes]:
    """The bytes of a response whose body is made while it is read."""
    head, framing = streaming_head(
        result.status, result.reason, result.headers, result.trailers, source.content_length(),
        minor=1, keep_alive=False, date_line=b"",
    )  # fmt: skip
    yield head
    if bare:
        return
    while (chunk := source.next_chunk(_NEVER)) is not None:
        if piece := as_bytes(chunk):
            yield encode_chunk(piece) if framing == CHUNKED_BODY else piece
    if framing == CHUNKED_BODY:
        yield encode_last_chunk(result.trailers.items())
