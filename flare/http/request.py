"""One request, as a handler receives it and as a client sends it.

What a handler does not ask for is not built: header map, parameters and cookies come into being
on first use.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from flare.http._later import Later
from flare.http.forwarded import ProxyPeer
from flare.http.proto.fields import FieldBlock
from flare.http.proto.headers import HeaderMap
from flare.net import SocketAddr

if TYPE_CHECKING:
    from flare.http.proto.cookie import CookieJar
    from flare.http.proto.heads import RequestHead
    from flare.http.request_stream import RequestStream

__all__ = ["MissingParam", "Request"]

_new = object.__new__
_NO_PEER = SocketAddr.localhost(0)


class MissingParam(KeyError):
    """``Request.param`` was asked for a path parameter that the matched route has not."""

    def __str__(self) -> str:
        return f"path param not found: {self.args[0]}"


class Request:
    """An HTTP request.

    ``url`` is the request target as received, path and query (a client may put a whole URL
    there); ``body`` the whole body, decoded from its transfer coding; ``peer`` the address of the
    socket, or that of a PROXY header (``0.0.0.0:0`` on a Unix socket); ``trailers`` the fields
    behind a chunked body. One request belongs to one handler call; give it to another thread only
    when the handler waits for that thread.
    """

    __slots__ = (
        "_fields",
        "_headers",
        "_match",
        "_mount_path",
        "_params",
        "_stream",
        "_tls_info",
        "_trailers",
        "body",
        "expose_errors",
        "method",
        "peer",
        "url",
        "version",
    )

    _stream: RequestStream
    _match: Any  # a router's finding, kept between asking and serving
    _tls_info: Any
    _trailers: HeaderMap

    # What few requests have.
    mount_path: Later[str] = Later("_mount_path", str)
    tls_info: Later[Any] = Later("_tls_info", lambda: None)

    def __init__(
        self,
        method: str,
        url: str,
        body: bytes | str = b"",
        version: str = "HTTP/1.1",
        peer: SocketAddr = _NO_PEER,
        expose_errors: bool = False,
        *,
        headers: HeaderMap | Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        tls_info: Any = None,
    ) -> None:
        self.method = method
        self.url = url
        self.body = body.encode() if isinstance(body, str) else body
        self.version = version
        self.peer = peer
        self.expose_errors = expose_errors
        if tls_info is not None:
            self.tls_info = tls_info
        self._fields: FieldBlock | None = None
        self._headers: HeaderMap | None = HeaderMap(headers)
        self._params: dict[str, str] | None = None

    @classmethod
    def _from_wire(
        cls,
        method: str,
        url: str,
        version: str,
        fields: FieldBlock,
        body: bytes,
        peer: SocketAddr,
        expose_errors: bool,
        trailers: FieldBlock | None,
    ) -> Request:
        """A request from a codec, whose fields are valid; the header map is made when asked for."""
        self = cls.__new__(cls)
        self.method = method
        self.url = url
        self.body = body
        self.version = version
        self.peer = peer
        self.expose_errors = expose_errors
        self._fields = fields
        self._headers = None
        self._params = None
        if trailers:
            self._trailers = HeaderMap._from_items(list(trailers.items))
        return self

    @classmethod
    def _from_head(
        cls,
        head: RequestHead,
        body: bytes,
        peer: SocketAddr,
        expose_errors: bool,
        trailers: HeaderMap | None = None,
    ) -> Request:
        """``_from_wire`` for the server, which makes one for every request."""
        self = _new(cls)
        self.method = head.method
        self.url = head.target
        self.body = body
        self.version = head.version
        self.peer = peer
        self.expose_errors = expose_errors
        self._fields = head.fields
        self._headers = None
        self._params = None
        if trailers is not None:
            self._trailers = trailers
        return self

    @classmethod
    def test_get(cls, url: str) -> Request:
        """A GET for tests of handlers."""
        return cls("GET", url)

    @classmethod
    def test_post(
        cls, url: str, body: str | bytes, content_type: str = "application/octet-stream"
    ) -> Request:
        """A POST for tests of handlers, with its ``Content-Type``."""
        return cls("POST", url, body, headers={"Content-Type": content_type})

    @property
    def headers(self) -> HeaderMap:
        """The header fields, repeated ones kept."""
        headers = self._headers
        if headers is None:
            fields = self._fields
            headers = self._headers = HeaderMap._from_items(list(fields.items) if fields else [])
        return headers

    @headers.setter
    def headers(self, headers: HeaderMap) -> None:
        self._headers = headers

    @property
    def trailers(self) -> HeaderMap:
        """The trailer fields of a chunked body (RFC 9110 section 6.5); mostly empty."""
        try:
            return self._trailers
        except AttributeError:
            self._trailers = trailers = HeaderMap()
            return trailers

    @property
    def path(self) -> str:
        """The part of ``url`` before ``?`` and ``#``, not decoded."""
        return self.url.partition("#")[0].partition("?")[0]

    @property
    def query(self) -> str:
        """The part of ``url`` between ``?`` and ``#``, not decoded; ``""`` where there is none."""
        return self.url.partition("#")[0].partition("?")[2]

    @property
    def client(self) -> SocketAddr:
        """Who asks: ``peer``, or whom that names where it is one of ``trusted_proxies``. The port
        is 0 where the proxy gives none."""
        peer = self.peer
        return peer.origin(self.headers).client if isinstance(peer, ProxyPeer) else peer

    @property
    def scheme(self) -> str:
        """``"https"`` or ``"http"``: the connection's, or what a trusted proxy says of its own."""
        peer = self.peer
        said = peer.origin(self.headers).scheme if isinstance(peer, ProxyPeer) else None
        return said or ("http" if self.tls_info is None else "https")

    @property
    def host(self) -> str:
        """The host, and the port if any, that the client asked: the ``Host`` field, or what a
        trusted proxy says it was. ``""`` where there is none."""
        peer, host = self.peer, self.headers.get("host")
        if not isinstance(peer, ProxyPeer):
            return host
        return peer.origin(self.headers).authority(host, self.scheme)

    @property
    def stream(self) -> RequestStream:
        """The body as a binary file. Under ``stream_body`` it is read while it still arrives;
        else it is ``body``, which is all there. The same object each time."""
        try:
            return self._stream
        except AttributeError:
            # Nearly no request is asked for it, so none has it from the start.
            from flare.http.request_stream import RequestStream

            self._stream = RequestStream.of(self.body)
            return self._stream

    def text(self) -> str:
        """The body as UTF-8, bytes that are not replaced by U+FFFD."""
        return self.body.decode("utf-8", errors="replace")

    def json(self) -> Any:
        """The body as JSON (RFC 8259). Raises ``json.JSONDecodeError``, or another ``ValueError``
        for bytes in no Unicode encoding."""
        return json.loads(self.body)

    def param(self, name: str) -> str:
        """The path parameter *name* of the matched route. Raises ``MissingParam``."""
        try:
            return self._params[name]  # type: ignore[index]
        except (KeyError, TypeError):
            raise MissingParam(name) from None

    def param_opt(self, name: str) -> str | None:
        """The path parameter, or ``None`` where the route has none of that name."""
        return self._params.get(name) if self._params else None

    def param_or(self, name: str, default: str = "") -> str:
        """The path parameter, or *default* where the route has none of that name."""
        return self._params.get(name, default) if self._params else default

    def has_param(self, name: str) -> bool:
        """Whether the matched route has the path parameter *name*."""
        return bool(self._params) and name in self._params  # type: ignore[operator]

    def has_params(self) -> bool:
        """Whether the matched route has any path parameter."""
        return bool(self._params)

    def params(self) -> dict[str, str]:
        """A copy of the path parameters."""
        return dict(self._params) if self._params else {}

    def params_mut(self) -> dict[str, str]:
        """The path parameters themselves, for routers and for tests."""
        if self._params is None:
            self._params = {}
        return self._params

    def query_param(self, name: str) -> str:
        """The first value of the query parameter *name*, form-decoded; ``""`` where absent."""
        return self.query_param_opt(name) or ""

    def query_param_opt(self, name: str) -> str | None:
        """The first value of the query parameter *name*, or ``None`` where absent."""
        query = self.query
        if query:
            for pair in query.split("&"):
                key, _, value = pair.partition("=")
                same = key == name or (("%" in key or "+" in key) and _form_decode(key) == name)
                if same and (key or value):
                    return _form_decode(value)
        return None

    def query_param_or(self, name: str, default: str = "") -> str:
        """The first value of the query parameter *name*, or *default* where absent."""
        value = self.query_param_opt(name)
        return default if value is None else value

    def has_query_param(self, name: str) -> bool:
        """Whether the query names *name*, with a value or without."""
        return self.query_param_opt(name) is not None

    def content_length(self) -> int:
        """The ``Content-Length`` field as a number of bytes, 0 where absent or no number."""
        value = self.headers.get("content-length")
        return int(value) if value.isascii() and value.isdigit() and len(value) <= 19 else 0

    def connection_close(self) -> bool:
        """Whether ``Connection`` has the option ``close`` (RFC 9110 section 7.6.1)."""
        return any(
            option.strip(" \t").lower() == "close"
            for value in self.headers.get_all("connection")
            for option in value.split(",")
        )

    def cookies(self) -> CookieJar:
        """The cookies of all ``Cookie`` fields; of two with one name the later (RFC 6265)."""
        from flare.http.proto.cookie import CookieJar, parse_cookie_header

        jar = CookieJar()
        for value in self.headers.get_all("cookie"):
            for cookie in parse_cookie_header(value):
                jar.set(cookie)
        return jar

    def cookie(self, name: str) -> str:
        """The value of the first cookie *name*, or ``""``."""
        return self.cookie_opt(name) or ""

    def cookie_opt(self, name: str) -> str | None:
        """The value of the first cookie *name*, or ``None``."""
        from flare.http.proto.cookie import parse_cookie_header

        for value in self.headers.get_all("cookie"):
            for cookie in parse_cookie_header(value):
                if cookie.name == name:
                    return cookie.value
        return None

    def cookie_or(self, name: str, default: str = "") -> str:
        """The value of the first cookie *name*, or *default*."""
        value = self.cookie_opt(name)
        return default if value is None else value

    def has_cookie(self, name: str) -> bool:
        """Whether there is a cookie *name*."""
        return self.cookie_opt(name) is not None

    def __repr__(self) -> str:
        return f"<Request {self.method} {ascii(self.path)[1:-1]}>"


_escapes = re.compile(r"(?:%[0-9A-Fa-f]{2})+").sub


def _form_decode(text: str) -> str:
    """Undo form encoding as browsers do: a ``%`` that starts no escape stands for itself."""
    if "+" in text:
        text = text.replace("+", " ")
    return _escapes(_bytes_meant, text) if "%" in text else text


def _bytes_meant(found: re.Match[str]) -> str:
    return bytes.fromhex(found[0].replace("%", "")).decode("utf-8", "replace")
