"""Bodies that are made piece by piece (RFC 9112 section 6).

A ``Body`` knows its length, or not, and hands out chunks. Wherever one is taken, so are a
``ChunkSource``, a binary file, any iterable of bytes, and bytes themselves: ``as_body`` makes the
``Body``. An empty chunk is nothing; the end is ``None``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from typing import IO, Any, Generic, Protocol, TypeVar, runtime_checkable

from flare.errors import ValidationError
from flare.http.cancel import Cancel

__all__ = [
    "Body",
    "ChunkSource",
    "ChunkedBody",
    "FileBody",
    "InlineBody",
    "IterableBody",
    "as_body",
    "close_source",
    "drain_body",
]

FILE_CHUNK_BYTES = 64 * 1024
_NEVER = Cancel.never()


@runtime_checkable
class ChunkSource(Protocol):
    """Anything with ``next(cancel)``: the next chunk, or ``None`` at the end.

    A ``close()`` it has is called when the body is finished with, read to its end or not.
    """

    def next(self, cancel: Cancel, /) -> bytes | None: ...


@runtime_checkable
class Body(Protocol):
    """A response or request body: its length in bytes (``None``: unknown) and its chunks."""

    def content_length(self) -> int | None: ...
    def next_chunk(self, cancel: Cancel, /) -> bytes | None: ...


S = TypeVar("S", bound=ChunkSource)


class InlineBody:
    """A body that is there already: one chunk, of known length."""

    __slots__ = ("_data", "_length")

    def __init__(self, data: bytes | str) -> None:
        self._data: bytes | None = data.encode() if isinstance(data, str) else bytes(data)
        self._length = len(self._data)

    def content_length(self) -> int:
        return self._length

    def next_chunk(self, cancel: Cancel) -> bytes | None:
        data, self._data = self._data, None
        return data or None


class ChunkedBody(Generic[S]):
    """The chunks of a ``ChunkSource``; the length is unknown."""

    __slots__ = ("source",)

    def __init__(self, source: S) -> None:
        self.source = source

    def content_length(self) -> None:
        return None

    def next_chunk(self, cancel: Cancel) -> bytes | None:
        return self.source.next(cancel)

    def close(self) -> None:
        close_source(self.source)


class IterableBody:
    """The items of an iterable of bytes; the length is unknown."""

    __slots__ = ("_iterator", "_source")

    def __init__(self, source: Iterable[bytes]) -> None:
        self._source = source
        self._iterator: Iterator[bytes] = iter(source)

    def content_length(self) -> None:
        return None

    def next_chunk(self, cancel: Cancel) -> bytes | None:
        return next(self._iterator, None)

    def close(self) -> None:
        close_source(self._iterator)
        if self._source is not self._iterator:
            close_source(self._source)


class FileBody:
    """A binary file from where it stands to its end, in chunks of 64 KiB.

    The length is known for a regular file and for anything seekable; what the file grows by
    meanwhile is not sent. ``close`` closes the file.
    """

    __slots__ = ("_length", "file")

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self._length = _remaining(file)

    def content_length(self) -> int | None:
        return self._length

    def next_chunk(self, cancel: Cancel) -> bytes | None:
        return self.file.read(FILE_CHUNK_BYTES) or None

    def close(self) -> None:
        self.file.close()


def _remaining(file: IO[bytes]) -> int | None:
    try:
        here = file.tell()
    except (OSError, AttributeError):
        return None
    try:
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode):
            return max(0, status.st_size - here)
    except (OSError, AttributeError):
        pass
    try:
        end = file.seek(0, os.SEEK_END)
        file.seek(here)
    except (OSError, AttributeError):
        return None
    return max(0, end - here)


def as_body(source: Any) -> Body:
    """The ``Body`` of *source*: a body, a chunk source, a binary file, an iterable, or bytes.

    Raises ``ValidationError`` for anything else, a text among it: text has no one encoding.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return InlineBody(bytes(source))
    if isinstance(source, str):
        raise ValidationError("body", "a streamed body is bytes, not str")
    if isinstance(source, Body):
        return source
    if isinstance(source, ChunkSource):
        return ChunkedBody(source)
    if callable(getattr(source, "read", None)):
        return FileBody(source)
    if isinstance(source, Iterable):
        return IterableBody(source)
    raise ValidationError("body", f"cannot stream a {type(source).__name__}")


def close_source(source: object) -> None:
    """Call ``source.close()`` if there is one."""
    close = getattr(source, "close", None)
    if close is not None:
        close()


def drain_body(body: Any, cancel: Cancel = _NEVER) -> bytes:
    """All chunks of *body* in one; what there is so far once *cancel* is flipped. Closes it."""
    body = as_body(body)
    parts = bytearray()
    try:
        while not cancel.cancelled():
            chunk = body.next_chunk(cancel)
            if chunk is None:
                break
            parts += chunk
    finally:
        close_source(body)
    return bytes(parts)
