"""Streamed bodies as plain bytes, and a request's body as a stream.

The server streams by itself; what is here is for tests, for files, and for handlers that pass a
body on.
"""

from __future__ import annotations

from typing import Any

from flare.errors import ValidationError
from flare.http._respond import CHUNKED_BODY, has_no_content, streaming_head, wants_close
from flare.http.body import close_source
from flare.http.cancel import Cancel
from flare.http.proto.chunked import encode_chunk, encode_last_chunk
from flare.http.request import Request
from flare.http.response import Response, StreamingResponse

__all__ = ["RequestChunkSource", "serialize_streaming_response"]

DEFAULT_CHUNK_BYTES = 64 * 1024
_NEVER = Cancel.never()


def serialize_streaming_response(
    resp: StreamingResponse[Any] | Response, cancel: Cancel = _NEVER, keep_alive: bool = True
) -> bytes:
    """The whole of *resp* as it goes over HTTP/1.1, without ``Date``; its source is closed.

    Once *cancel* is flipped no more is pulled, and the message ends there, without its last chunk:
    the connection it is sent on must be closed. Blocks as long as the source does. Raises what
    the source raises, and ``ValidationError`` where it ends before the length it gave; what it
    has beyond that length is left out.
    """
    body = resp.body_stream if isinstance(resp, Response) else resp.body
    if body is None:
        raise ValidationError("resp", "it has no streamed body")
    try:
        length = body.content_length()
        head, framing = streaming_head(
            resp.status,
            resp.reason,
            resp.headers,
            resp.trailers,
            length,
            minor=1,
            keep_alive=keep_alive and not wants_close(resp.headers._items),
            date_line=b"",
        )
        out = bytearray(head)
        if has_no_content(resp.status):
            return bytes(out)
        left = length
        while left != 0 and not cancel.cancelled():
            chunk = body.next_chunk(cancel)
            if chunk is None:
                if left:
                    raise ValidationError("body", f"ended {left} bytes before its {length}")
                out += encode_last_chunk(resp.trailers.items())
                break
            if left is not None:
                chunk = chunk[:left]
                left -= len(chunk)
            if chunk:
                out += encode_chunk(chunk) if framing == CHUNKED_BODY else chunk
        return bytes(out)
    finally:
        close_source(body)


class RequestChunkSource:
    """The body of a request, a slice at a time: a ``ChunkSource``.

    ``RequestChunkSource.of(req)`` takes slices of 64 KiB.
    """

    __slots__ = ("_body", "_position", "_size")

    def __init__(self, body: bytes, chunk_size: int = DEFAULT_CHUNK_BYTES) -> None:
        if chunk_size <= 0:
            raise ValidationError("chunk_size", f"must be above 0, got {chunk_size}")
        self._body = body
        self._position = 0
        self._size = chunk_size

    @classmethod
    def of(cls, req: Request) -> RequestChunkSource:
        """The body of *req* in slices of 64 KiB."""
        return cls(req.body)

    @classmethod
    def of_with_chunk_size(cls, req: Request, n: int) -> RequestChunkSource:
        """The body of *req* in slices of *n* bytes. Raises ``ValidationError`` below 1."""
        return cls(req.body, n)

    def next(self, cancel: Cancel = _NEVER) -> bytes | None:
        """The next slice; ``None`` at the end, and once *cancel* is flipped."""
        if cancel.cancelled() or not self.remaining():
            return None
        start = self._position
        chunk = self._body[start : start + self._size]
        self._position += len(chunk)
        return chunk

    def remaining(self) -> int:
        """How many bytes are still to come."""
        return len(self._body) - self._position

    def total(self) -> int:
        """How many bytes the whole body has."""
        return len(self._body)
