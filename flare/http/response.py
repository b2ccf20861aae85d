"""One response, as a handler returns it and as a client receives it, and helpers to make one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from flare.errors import ValidationError
from flare.http._later import Later
from flare.http.body import Body, as_body
from flare.http.errors import HttpError
from flare.http.proto.charset import charset_of
from flare.http.proto.headers import HeaderMap

if TYPE_CHECKING:
    from flare.http.proto.cookie import Cookie, CookieJar
    from flare.http.proto.fields import FieldBlock
    from flare.http.request import Request
    from flare.tls import TlsInfo

__all__ = [
    "Response",
    "ResponsePool",
    "StreamingResponse",
    "bad_request",
    "forbidden",
    "internal_error",
    "not_found",
    "ok",
    "ok_json",
    "ok_json_value",
    "redirect",
    "response_from_body",
    "stream_response",
    "unauthorized",
]

_new: Any = object.__new__
_Headers = HeaderMap | Mapping[str, str] | Iterable[tuple[str, str]]


class _Truth(int):
    """True or false by itself, and when called: ``if resp.ok:`` and ``resp.ok()``."""

    def __call__(self) -> bool:
        return bool(self)

    def __repr__(self) -> str:
        return repr(bool(self))

    __str__ = __repr__


_YES: Final = _Truth(1)
_NO: Final = _Truth(0)


class _StatusMixin:
    """The questions a status answers."""

    __slots__ = ()
    status: int

    @property
    def ok(self) -> _Truth:
        """Whether the status is a 2xx; works with and without calling it."""
        return _YES if 200 <= self.status < 300 else _NO

    def is_redirect(self) -> bool:
        """Whether the status is a 3xx, 304 included."""
        return 300 <= self.status < 400

    def is_client_error(self) -> bool:
        """Whether the status is a 4xx."""
        return 400 <= self.status < 500

    def is_server_error(self) -> bool:
        """Whether the status is a 5xx, or above, which counts as one (RFC 9110 section 15)."""
        return 500 <= self.status < 1000


class Response(_StatusMixin):
    """An HTTP response.

    An empty ``reason`` stands for the registered phrase. ``body_stream`` replaces ``body`` where
    the body is made piece by piece. ``trailers`` are those of a chunked response received, or
    what to send behind a streamed body of unknown length. On a response that a client received,
    ``url`` is where it came from in the end, ``history`` the redirects before it, ``request``
    what was sent last, ``elapsed_ms`` the time from the call to the response head, and
    ``tls_info`` what TLS was agreed on, if any.
    """

    __slots__ = (
        "_elapsed_ms",
        "_headers",
        "_history",
        "_request",
        "_tls_info",
        "_trailers",
        "_type",
        "_url",
        "_version",
        "body",
        "body_stream",
        "reason",
        "status",
    )

    # None while the fields are a Content-Type of ``_type`` alone, or none where that is "".
    _headers: HeaderMap | None
    _type: str
    # What only a received response has; the client fills the slots by themselves.
    _elapsed_ms: float
    _history: list[Response]
    _tls_info: TlsInfo | None
    _url: str
    elapsed_ms: Later[float] = Later("_elapsed_ms", float)
    history: Later[list[Response]] = Later("_history", list)
    tls_info: Later[TlsInfo | None] = Later("_tls_info", lambda: None)
    url: Later[str] = Later("_url", str)
    _version: str
    version: Later[str] = Later("_version", lambda: "HTTP/1.1")
    # What only a streamed or received one may have.
    trailers: Later[HeaderMap] = Later("_trailers", HeaderMap)

    def __init__(
        self,
        status: int = 200,
        reason: str = "",
        body: bytes | str = b"",
        version: str = "HTTP/1.1",
        *,
        headers: _Headers | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.body = body.encode() if isinstance(body, str) else body
        if version != "HTTP/1.1":
            self._version = version
        self._headers = HeaderMap(headers)
        self.body_stream: Body | None = None
        # What a client sent, or what makes a request of it: few ask.
        self._request: Request | tuple[str, str, str, FieldBlock, bytes] | None

    @property
    def headers(self) -> HeaderMap:
        """The header fields, repeated ones kept."""
        headers = self._headers
        if headers is None:
            kind = self._type
            items = [("content-type", "Content-Type", kind)] if kind else []
            headers = self._headers = HeaderMap._from_items(items)
        return headers

    @headers.setter
    def headers(self, headers: HeaderMap) -> None:
        if headers is None:
            raise TypeError("headers must be a HeaderMap, not None")
        self._headers = headers

    @property
    def request(self) -> Request | None:
        """The request that this answers, on a response that a client received."""
        try:
            request = self._request
        except AttributeError:
            return None
        if isinstance(request, tuple):
            from flare.http.request import Request
            from flare.net import SocketAddr

            nobody = SocketAddr.localhost(0)
            request = self._request = Request._from_wire(*request, nobody, False, None)
        return request

    @request.setter
    def request(self, request: Request | None) -> None:
        self._request = request

    @request.deleter
    def request(self) -> None:
        self._request = None

    @property
    def content(self) -> bytes:
        """The body, by the name ``requests`` gives it."""
        return self.body

    @property
    def status_code(self) -> int:
        """The status, by the name ``requests`` gives it."""
        return self.status

    def text(self) -> str:
        """The body as text: by the ``charset`` of ``Content-Type`` where Python knows it, else
        UTF-8; bytes that do not fit become U+FFFD."""
        return self.body.decode(charset_of(self.headers.get("content-type")), errors="replace")

    def json(self) -> Any:
        """The body as JSON (RFC 8259). Raises ``json.JSONDecodeError``, or another ``ValueError``
        for bytes in no Unicode encoding."""
        return json.loads(self.body)

    def raise_for_status(self) -> None:
        """Raise ``HttpError`` unless the status is a 2xx: a redirect not followed raises too."""
        if not self.ok:
            from flare.errors import http_reason_phrase

            reason = self.reason or http_reason_phrase(self.status)
            raise HttpError(self.status, reason, self.url, self)

    def set_cookie(self, cookie: Cookie) -> None:
        """Add a ``Set-Cookie`` field of its own (RFC 6265 section 3)."""
        self.headers.append("Set-Cookie", cookie.to_set_cookie_header())

    def cookies(self) -> CookieJar:
        """The cookies of every ``Set-Cookie`` field; one that cannot be read is left out."""
        from flare.http.proto.cookie import CookieJar, parse_set_cookie_header

        jar = CookieJar()
        for value in self.headers.get_all("set-cookie"):
            try:
                jar.set(parse_set_cookie_header(value))
            except ValueError:
                continue
        return jar

    @property
    def links(self) -> dict[str, dict[str, str]]:
        """The links of the ``Link`` fields (RFC 8288) by relation: each a dict with ``url``,
        resolved against ``url`` where that is known, ``rel`` and the parameters. Of several with
        one relation the first.

        >>> Response(headers={"Link": '</p2>; rel="next"'}).links["next"]["url"]
        '/p2'
        """
        from flare.http.proto.link import links_by_relation

        return links_by_relation(self.headers.get_all("link"), self.url)

    def __iter__(self) -> Iterator[bytes]:
        """The body in slices."""
        return self.iter_bytes()

    def iter_lines(self) -> Iterator[str]:
        """The body as lines of text, decoded as ``text()`` does, without their ends (CRLF, LF or
        CR)."""
        lines = _split_lines(self.text())
        if not lines[-1]:
            lines.pop()
        return iter(lines)

    def iter_bytes(self, chunk_size: int = 8192) -> Iterator[bytes]:
        """The body in slices of *chunk_size* bytes; 0 or less means 8192."""
        step = chunk_size if chunk_size > 0 else 8192
        for start in range(0, len(self.body), step):
            yield self.body[start : start + step]

    def close(self) -> None:
        """Nothing to let go of: the body is here. A response still being received overrides it,
        so that ``with`` works on any."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def reset(self, status: int = 200, reason: str = "") -> None:
        """Make it a fresh response: no body, no fields, nothing of the last exchange."""
        Response.__init__(self, status, reason)
        for name in ("elapsed_ms", "history", "request", "tls_info", "trailers", "url", "version"):
            delattr(self, name)

    def __repr__(self) -> str:
        return f"<Response {self.status}>"


B = TypeVar("B", bound=Body)


class StreamingResponse(_StatusMixin, Generic[B]):
    """A response whose body is made while it is sent, one chunk at a time.

    *body* is a ``Body``, a ``ChunkSource``, a binary file, or any iterable of bytes, and anything
    else a ``TypeError``. With a known length it goes out under ``Content-Length``, else chunked;
    ``trailers`` follow a chunked body.
    """

    __slots__ = ("body", "headers", "reason", "status", "trailers", "version")

    def __init__(
        self,
        status: int,
        body: B | Any,
        reason: str = "",
        version: str = "HTTP/1.1",
        *,
        headers: _Headers | None = None,
    ) -> None:
        self.status = status
        self.body: Body = as_body(body)
        self.reason = reason
        self.version = version
        self.headers = HeaderMap(headers)
        self.trailers = HeaderMap()

    def __repr__(self) -> str:
        return f"<StreamingResponse {self.status}>"


_split_lines = re.compile(r"\r\n|\n|\r").split
_PLAIN: Final = "text/plain; charset=utf-8"
_JSON: Final = "application/json"


# Made once: json.dumps makes an encoder for every call that is not all defaults.
_encode_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def _made(status: int, body: bytes, kind: str) -> Response:
    # All that Response() would set, without a look at what is known to be right.
    response: Response = _new(Response)
    response.status = status
    response.reason = ""
    response.body = body
    response._headers = None
    response._type = kind
    response.body_stream = None
    return response


def ok(body: str | bytes = "") -> Response:
    """200 with *body*; ``text/plain; charset=utf-8`` unless it is empty."""
    data = body.encode() if isinstance(body, str) else body
    # As ``_made``: the one that answers most requests is spared the call.
    response: Response = _new(Response)
    response.status = 200
    response.reason = ""
    response.body = data
    response._headers = None
    response._type = _PLAIN if data else ""
    response.body_stream = None
    return response


def ok_json(body: str) -> Response:
    """200 with *body*, which is JSON text already."""
    return _made(200, body.encode(), _JSON)


def ok_json_value(value: Any) -> Response:
    """200 with *value* as compact JSON. Raises ``TypeError`` or ``ValueError`` for what has no
    JSON form, NaN and infinities among it."""
    return _made(200, _encode_json(value).encode(), _JSON)


def bad_request(msg: str = "Bad Request") -> Response:
    """400 with *msg* as plain text."""
    return _made(400, msg.encode(), _PLAIN)


def unauthorized(msg: str = "Unauthorized", challenge: str = "Bearer") -> Response:
    """401 with *msg*, and *challenge* as ``WWW-Authenticate`` unless it is empty."""
    response = _made(401, msg.encode(), _PLAIN)
    if challenge:
        response.headers.set("WWW-Authenticate", challenge)
    return response


def forbidden(msg: str = "Forbidden") -> Response:
    """403 with *msg* as plain text."""
    return _made(403, msg.encode(), _PLAIN)


def not_found(path: str = "") -> Response:
    """404: ``Not Found``, and *path* without its control characters where one is given."""
    shown = "".join(c for c in path if c.isprintable())
    return _made(404, f"Not Found: {shown}".encode() if shown else b"Not Found", _PLAIN)


def internal_error(msg: str = "Internal Server Error") -> Response:
    """500 with *msg* as plain text. The client sees it: say nothing of the inside."""
    return _made(500, msg.encode(), _PLAIN)


def redirect(url: str, status: int = 302) -> Response:
    """A redirect to *url* (RFC 9110 section 15.4), in which what may not stand in a URI reference
    (RFC 3986) is percent-encoded: text that is not ASCII, spaces, a ``%`` of no escape.

    Raises ``ValidationError`` for a *status* other than 301, 302, 303, 307 and 308, and
    ``HeaderInjectionError`` for a *url* that is no field value.
    """
    if status not in (301, 302, 303, 307, 308):
        raise ValidationError("status", f"expected 301, 302, 303, 307 or 308, got {status}")
    return Response(status, headers={"Location": _encode_foreign(_percent_encoded, url)})


# Control characters are left: no field may have them, and that is an error.
_encode_foreign = re.compile(
    r"""[^\x00-\x7f]+|[\t "<>\\^`{|}]|%(?![0-9A-Fa-f]{2})""",
).sub


def _percent_encoded(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode())


def stream_response(source: Any, status: int = 200) -> Response:
    """A response whose body is *source*: whatever ``StreamingResponse`` takes."""
    response = Response(status)
    response.body_stream = as_body(source)
    return response


def response_from_body(
    body: Body, status: int = 200, reason: str = "", version: str = "HTTP/1.1"
) -> Response:
    """A response with *body*: read at once where its length is known, else streamed."""
    from flare.http.body import drain_body

    response = Response(status, reason, version=version)
    if body.content_length() is None:
        response.body_stream = body
    else:
        response.body = drain_body(body)
    return response


class ResponsePool:
    """Spare ``Response`` objects, last in first out. For one thread; never release a response
    that somebody still holds."""

    def __init__(self, capacity: int = 8) -> None:
        self._capacity = max(1, capacity)
        self._spare: list[Response] = []

    @classmethod
    def with_capacity(cls, n: int) -> ResponsePool:
        """A pool that keeps at most *n* responses, at least one."""
        return cls(n)

    def acquire(self, status: int = 200, reason: str = "") -> Response:
        """A fresh response, from the pool where there is one."""
        if not self._spare:
            return Response(status, reason)
        response = self._spare.pop()
        response.reset(status, reason)
        return response

    def release(self, response: Response) -> None:
        """Give *response* back; dropped where the pool is full."""
        if len(self._spare) < self._capacity:
            self._spare.append(response)

    def size(self) -> int:
        """How many responses wait in the pool."""
        return len(self._spare)

    def capacity(self) -> int:
        """How many it keeps at most."""
        return self._capacity

    def __len__(self) -> int:
        return len(self._spare)
