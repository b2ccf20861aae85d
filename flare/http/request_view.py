"""A request that borrows: its body and header lines stay where they were received.

``RequestView`` is what a ``ViewHandler`` gets. ``parse_request_view`` makes one from a buffer by
the grammar and the guards of the owned parser (RFC 9112), of which it relaxes two, and for itself
alone: a line may end in a bare LF, and the request line may leave out its version.
"""

from __future__ import annotations

from typing import Any, NoReturn

from flare.http.proto.ascii import BytesLike
from flare.http.proto.chunked import ChunkedDecoder, is_forbidden_trailer
from flare.http.proto.encoder import field_lines
from flare.http.proto.errors import HttpParseError
from flare.http.proto.fields import FieldBlock
from flare.http.proto.framing import CHUNKED, LENGTH, NO_BODY, Framing
from flare.http.proto.h1_leniency import H1LeniencyConfig
from flare.http.proto.header_view import HeaderMapView, parse_header_view
from flare.http.proto.heads import (
    H1Limits,
    RequestHead,
    check_incomplete_head,
    find_head_end,
    leading_whitespace,
    parse_request_head,
)
from flare.http.request import Request
from flare.net import SocketAddr

__all__ = ["RequestView", "parse_request_view"]

_NO_PEER = SocketAddr.localhost(0)
_LENIENCY = H1LeniencyConfig(allow_lf_only_line_endings=True)
# What a head may hold beside its target and its field lines.
_HEAD_EXTRA = 128
_ALL: frozenset[str] = frozenset()
_UNFRAMED = Framing(NO_BODY)


class RequestView:
    """A request read in place, valid during one handler call.

    ``method``, ``version``, ``peer`` and ``expose_errors`` are values of their own. Everything
    else borrows from the connection's buffer and raises ``ValueError`` once the view is released;
    whoever keeps anything takes ``into_owned()`` first. For one thread at a time.
    """

    __slots__ = (
        "_body",
        "_head",
        "_headers",
        "_owned",
        "_section",
        "_trailers",
        "expose_errors",
        "method",
        "peer",
        "tls_info",
        "version",
    )

    method: str
    version: str
    peer: SocketAddr
    expose_errors: bool
    tls_info: Any
    _head: RequestHead | None
    _body: BytesLike
    _section: memoryview | None
    _trailers: FieldBlock | None
    _headers: HeaderMapView | None
    _owned: Request | None

    def __init__(self) -> None:
        raise TypeError("a RequestView is made by parse_request_view() or by a server")

    @classmethod
    def _from_head(
        cls,
        head: RequestHead,
        body: BytesLike,
        peer: SocketAddr,
        expose_errors: bool,
        trailers: FieldBlock | None = None,
        section: memoryview | None = None,
        tls_info: Any = None,
    ) -> RequestView:
        """A view of what a codec has checked. *section* is where the lines of exactly
        ``head.fields`` stand; without it they are written out when first asked for."""
        self = cls.__new__(cls)
        self.method = head.method
        self.version = head.version
        self.peer = peer
        self.expose_errors = expose_errors
        self.tls_info = tls_info
        self._head = head
        self._body = body
        self._trailers = trailers
        self._section = section
        self._headers = None
        self._owned = None
        return self

    @classmethod
    def _of(cls, request: Request, head: RequestHead | None = None) -> RequestView:
        """A view of a *request* that a codec made, with *head* if it has one, or of any other."""
        if head is None:
            fields = request._fields or FieldBlock(
                tuple((name.lower(), name, value) for name, value in request.headers.items())
            )
            head = RequestHead(request.method, request.url, 1, fields, _UNFRAMED)
            head.version = request.version
        trailers = getattr(request, "_trailers", None)
        return cls._from_head(
            head,
            request.body,
            request.peer,
            request.expose_errors,
            FieldBlock(tuple((name.lower(), name, value) for name, value in trailers.items()))
            if trailers
            else None,
            tls_info=request.tls_info,
        )

    def url(self) -> str:
        """The request target as received, path and query."""
        return (self._head or _refuse()).target

    def body(self) -> memoryview:
        """The body, decoded from its transfer coding; read-only, the same object each time."""
        if self._head is None:
            _refuse()
        body = self._body
        if not isinstance(body, memoryview):
            body = self._body = memoryview(body).toreadonly()
        return body

    def headers(self) -> HeaderMapView:
        """The header fields where they stand, repeated ones kept."""
        head = self._head or _refuse()
        headers = self._headers
        if headers is None:
            if self._section is None:
                self._section = memoryview(field_lines(head.fields.items, _ALL))
            headers = self._headers = parse_header_view(self._section)
        return headers

    def header(self, name: str) -> str:
        """The first value of the field *name*, or ``""``."""
        head = self._head or _refuse()
        return head.fields.get(name.lower()) if name.isascii() else ""

    def into_owned(self) -> Request:
        """The same request as a ``Request`` that borrows nothing; a new one each time."""
        head = self._head or _refuse()
        request = Request._from_wire(
            head.method,
            head.target,
            head.version,
            head.fields,
            bytes(self._body),
            self.peer,
            self.expose_errors,
            self._trailers,
        )
        request.tls_info = self.tls_info
        return request

    def _owned_once(self) -> Request:
        """``into_owned()``, made at the first call: for adapters that need it more than once."""
        if self._owned is None:
            self._owned = self.into_owned()
        return self._owned

    def release(self) -> None:
        """Give the buffer back, as servers do after the handler returned. Idempotent.

        Ends the memoryview that ``body()`` gave too. Slices a handler took of it, and whatever
        else reads through it by the buffer protocol, keep the bytes alive for themselves.
        """
        headers = self._headers
        borrowed = [self._body, self._section, headers and headers._buf]
        self._head = self._headers = self._owned = None
        self._body = b""
        self._section = None
        for view in borrowed:
            if isinstance(view, memoryview):
                try:
                    view.release()
                except BufferError:  # an array of the handler's reads through it
                    pass

    def __repr__(self) -> str:
        head = self._head
        if head is None:
            return f"<RequestView {self.method} released>"
        return f"<RequestView {self.method} {head.target.partition('?')[0]}>"


def _refuse() -> NoReturn:
    raise ValueError("the request view is released: keep into_owned() instead")


def parse_request_view(
    data: BytesLike,
    max_header_size: int = 8192,
    max_body_size: int = 10 * 1024 * 1024,
    max_uri_length: int = 8192,
    peer: SocketAddr = _NO_PEER,
    expose_errors: bool = False,
) -> RequestView:
    """Read the request at the start of *data* without copying its body.

    The sizes are in bytes. *data* must not change while the view lives. Of a body that is not
    all there the view has what is; a chunked one is decoded, which copies it. Bytes behind the
    request are not looked at. A missing version counts as HTTP/1.1.

    Raises ``HttpParseError``, whose ``status`` is what a server answers with; TRUNCATED where the
    head has no end.
    """
    view = memoryview(data).toreadonly().cast("B")
    limits = H1Limits(max_header_size, max_uri_length, max_body_size, h1_leniency=_LENIENCY)
    # No head within the limits is longer, and what is longer is refused below.
    start = bytes(view[: max_header_size + max_uri_length + _HEAD_EXTRA])
    leading_whitespace(start, _LENIENCY, first=True)
    end, after = find_head_end(start, 0, 0, _LENIENCY)
    if end < 0:
        check_incomplete_head(start, 0, 0, limits)
        raise HttpParseError(HttpParseError.TRUNCATED, "the head has no end")
    line, _, lines = start[:end].partition(b"\n")
    line = line.removesuffix(b"\r")
    words = line.split(b" ")
    if len(words) == 2:
        line += b" HTTP/1.1"
    head = parse_request_head(line + b"\n" + lines, limits)
    # An absolute target has replaced the Host field: then the lines are not the fields.
    as_received = words[1] == head.target.encode("ascii")
    section = view[end - len(lines) : end] if as_received else None
    body, trailers = _find_body(view[after:], head, limits)
    return RequestView._from_head(head, body, peer, expose_errors, trailers, section)


def _find_body(
    rest: memoryview, head: RequestHead, limits: H1Limits
) -> tuple[BytesLike, FieldBlock | None]:
    """As much of the body as *rest* begins with, and its trailers where it has any."""
    framing = head.framing
    limit = limits.max_body_size
    if framing.kind == CHUNKED:
        decoder = ChunkedDecoder(
            max_body_size=limit,
            max_trailer_size=limits.max_header_size,
            max_fields=limits.max_fields,
        )
        body = decoder.receive(bytes(rest))
        kept = tuple(item for item in decoder.trailers.items if not is_forbidden_trailer(item[0]))
        return body, FieldBlock(kept) if kept else None
    if framing.kind != LENGTH:
        return b"", None
    if limit is not None and framing.length > limit:
        raise HttpParseError(HttpParseError.BODY_TOO_LARGE, f"body over {limit} bytes")
    return rest[: framing.length], None
