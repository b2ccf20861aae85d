"""Which head and which framing a response gets on HTTP/1.1 (RFC 9110 section 8.6, RFC 9112).

The server owns ``Content-Length``, ``Transfer-Encoding``, ``Connection``, ``Keep-Alive`` and
``Date``; what a handler sets of them is dropped, but for ``Connection: close``, which is heeded,
and the ``Content-Length`` of an empty answer to HEAD, which nobody else can know.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from flare.http.body import as_bytes
from flare.http.proto.chunked import is_forbidden_trailer
from flare.http.proto.encoder import field_line, status_line
from flare.http.proto.fields import Item, is_secret_name
from flare.http.proto.headers import HeaderMap
from flare.http.response import Response, StreamingResponse

__all__ = [
    "CHUNKED_BODY",
    "CLOSE",
    "COUNTED_BODY",
    "KEEP_ALIVE",
    "UNTIL_CLOSE_BODY",
    "buffered_head",
    "content_length_line",
    "known_start",
    "response_problem",
    "streaming_head",
]

COUNTED_BODY = 1
CHUNKED_BODY = 2
UNTIL_CLOSE_BODY = 3

_OWNED = frozenset({"content-length", "transfer-encoding", "connection", "keep-alive", "date"})
_OWNED_STREAMING = _OWNED | {"trailer"}

KEEP_ALIVE = b"Connection: keep-alive\r\n\r\n"
CLOSE = b"Connection: close\r\n\r\n"
_LONGEST: Final = 1024
_LENGTH_LINES: Final = [b"Content-Length: %d\r\n" % length for length in range(_LONGEST + 1)]


def wants_close(items: Iterable[Item]) -> bool:
    """Whether a handler's fields say ``Connection: close``."""
    for lower, _, value in items:
        if lower == "connection" and "close" in {o.strip(" \t") for o in value.lower().split(",")}:
            return True
    return False


def has_no_content(status: int) -> bool:
    """Whether a response of *status* has no body whatever its fields say (RFC 9112 §6.3)."""
    return status < 200 or status == 204 or status == 304


def content_length_line(length: int) -> bytes:
    """``Content-Length: N`` and CRLF."""
    return _LENGTH_LINES[length] if length <= _LONGEST else b"Content-Length: %d\r\n" % length


def buffered_head(
    status: int,
    reason: str,
    items: list[Item],
    length: int,
    *,
    head_request: bool,
    keep_alive: bool,
    date_line: bytes,
) -> bytes:
    """The head of a response whose body is there already, *length* bytes of it."""
    parts = [status_line(status, reason)]
    own_length = b""
    for lower, name, value in items:
        if lower not in _OWNED:
            parts.append(field_line(name, value))
        elif lower == "content-length" and value.isascii() and value.isdigit():
            own_length = b"Content-Length: %d\r\n" % int(value[:19])
    if not has_no_content(status):
        parts.append(
            own_length
            if head_request and not length and own_length
            else content_length_line(0 if status == 205 else length)
        )
    parts.append(date_line)
    parts.append(KEEP_ALIVE if keep_alive else CLOSE)
    return b"".join(parts)


_MEMO_STARTS = 512
_MEMO_START_BYTES = 512
_starts: dict[tuple[object, ...], bytes] = {}


def known_start(response: Response) -> bytes | None:
    """The start of the head of *response*, from the status line to the handler's last field, kept
    by status, reason and fields; ``None`` where its head is not that simple, or holds a secret.
    """
    status, items = response.status, response.headers._items
    key = (status, response.reason, *items)
    start = _starts.get(key)
    if start is None:
        if (
            type(status) is not int
            or not 200 <= status < 400  # errors are counted, on the longer road
            or has_no_content(status)
            or status == 205
            or any(lower in _OWNED or is_secret_name(lower) for lower, _, _ in items)
        ):
            return None
        lines = [field_line(name, value) for _, name, value in items]
        start = status_line(status, response.reason) + b"".join(lines)
        if len(start) <= _MEMO_START_BYTES:
            if len(_starts) >= _MEMO_STARTS:
                _starts.clear()
            _starts[key] = start
    return start


def streaming_head(
    status: int,
    reason: str,
    headers: HeaderMap,
    trailers: HeaderMap,
    length: int | None,
    *,
    minor: int,
    keep_alive: bool,
    date_line: bytes,
) -> tuple[bytes, int]:
    """The head of a response whose body is made while it is sent, and how that body is framed.

    COUNTED_BODY where *length* is known; else CHUNKED_BODY, or UNTIL_CLOSE_BODY to an HTTP/1.0
    peer, whose connection then closes. A chunked body announces its *trailers*.
    """
    parts = [status_line(status, reason)]
    for lower, name, value in headers._items:
        if lower not in _OWNED_STREAMING:
            parts.append(field_line(name, value))
    if length is not None:
        framing = COUNTED_BODY
        if not has_no_content(status):
            parts.append(content_length_line(length))
    elif minor:
        framing = CHUNKED_BODY
        if not has_no_content(status):
            parts.append(b"Transfer-Encoding: chunked\r\n")
            names = [name for name in trailers if not is_forbidden_trailer(name.lower())]
            if names:
                parts.append(field_line("Trailer", ", ".join(dict.fromkeys(names))))
    else:
        framing = UNTIL_CLOSE_BODY
        keep_alive = False
    if date_line:
        parts.append(date_line)
    parts.append(KEEP_ALIVE if keep_alive else CLOSE)
    return b"".join(parts), framing


def response_problem(result: object) -> Exception | None:
    """Why *result* cannot be sent, or ``None``. Bytes-like bodies become bytes on the way."""
    if type(result) is Response and type(result.body) is bytes:
        status = result.status
        if type(status) is int and 200 <= status <= 999 and type(result.reason) is str:
            return None  # nearly every response
    if not isinstance(result, (Response, StreamingResponse)):
        return TypeError(f"a handler must return a Response, not {type(result).__name__}")
    status = result.status
    if type(status) is not int:
        try:
            status = result.status = int(status)
        except (TypeError, ValueError):
            return TypeError(f"a response's status must be an int, not {type(status).__name__}")
    if not 200 <= status <= 999:
        return ValueError(f"a handler cannot answer with status {status}")
    reason: object = result.reason
    if reason is not None and not isinstance(reason, str):
        return TypeError(
            f"a response's reason must be a str, not {type(reason).__name__};"
            " it stands before the body: Response(status, reason, body)"
        )
    if isinstance(result, Response) and type(result.body) is not bytes:
        try:
            result.body = as_bytes(result.body)
        except TypeError as error:
            return error
    return None
