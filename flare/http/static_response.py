"""One response, encoded once, for a server that always gives the same answer.

``precompute_response`` builds it and ``HttpServer.serve_static`` sends it. The bytes hold no
``Date``, which would have to change (RFC 9110 section 6.6.1 lets a server without a clock do so).
"""

from __future__ import annotations

from dataclasses import dataclass

from flare.errors import ValidationError
from flare.http._respond import buffered_head, has_no_content
from flare.http.proto.ascii import BytesLike
from flare.http.proto.headers import HeaderMap

__all__ = ["StaticResponse", "precompute_response"]

_STATUS_LINE = b"HTTP/1.1 "


@dataclass(frozen=True, slots=True)
class StaticResponse:
    """A response as it goes out, in two forms that differ in ``Connection`` alone.

    ``keepalive_bytes`` says ``keep-alive``, ``close_bytes`` says ``close``; both end in the same
    body of ``body_length`` bytes. Raises ``ValidationError`` for bytes that are no such response.
    """

    keepalive_bytes: bytes
    close_bytes: bytes
    body_length: int

    def __post_init__(self) -> None:
        if self.body_length < 0:
            raise ValidationError("body_length", f"must be >= 0, got {self.body_length}")
        for name in ("keepalive_bytes", "close_bytes"):
            wire = getattr(self, name)
            if not isinstance(wire, bytes):
                raise ValidationError(name, f"must be bytes, not {type(wire).__name__}")
            body_at = len(wire) - self.body_length
            if not wire.startswith(_STATUS_LINE) or not wire[9:12].isdigit():
                raise ValidationError(name, "does not begin with an HTTP/1.1 status line")
            if wire.find(b"\r\n\r\n") + 4 != body_at:
                raise ValidationError(name, f"is not a head and {self.body_length} bytes of body")

    @property
    def status(self) -> int:
        """The status code."""
        return int(self.keepalive_bytes[9:12])

    def head_bytes(self, keep_alive: bool) -> bytes:
        """The head alone, which is the whole answer to HEAD."""
        wire = self.keepalive_bytes if keep_alive else self.close_bytes
        return wire[: len(wire) - self.body_length]

    def __repr__(self) -> str:
        return f"<StaticResponse {self.status}, {self.body_length} bytes of body>"


def precompute_response(
    status: int, content_type: str, body: BytesLike | str = b""
) -> StaticResponse:
    """Encode a response. A *body* of text goes out as UTF-8.

    An empty *content_type* leaves that field out. A 204, 205 or 304 has no body, whatever is
    given, and only a 205 of these has a ``Content-Length``. Raises ``ValidationError`` for a
    *status* outside 200..999, for an interim one answers nothing, and ``HeaderInjectionError``
    for a *content_type* that is no field value.
    """
    if not isinstance(status, int) or not 200 <= status <= 999:
        raise ValidationError("status", f"must be in 200..999, got {status!r}")
    headers = HeaderMap({"Content-Type": content_type} if content_type else None)
    data = body.encode() if isinstance(body, str) else bytes(body)
    if has_no_content(status) or status == 205:
        data = b""
    keep_alive, close = (
        buffered_head(
            int(status),
            "",
            headers._items,
            len(data),
            head_request=False,
            keep_alive=keep_alive,
            date_line=b"",
        )
        for keep_alive in (True, False)
    )
    return StaticResponse(keep_alive + data, close + data, len(data))
