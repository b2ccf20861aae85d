"""Bodies that are made piece by piece (RFC 9112 section 6).

A ``Body`` knows its length, or not, and hands out chunks. Wherever one is taken, so are a
``ChunkSource``, a binary file, any iterable of bytes, and bytes themselves: ``as_body`` makes the
``Body``. An empty chunk is nothing; the end is ``None``.
"""

from __future__ import annotations

import io
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
    "as_bytes",
    "close_source",
    "drain_body",
]

FILE_CHUNK_BYTES = 64 * 1024
_NEVER = Cancel.never()
_END: Any = object()


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
        chunk = next(self._iterator, _END)
        if chunk is None:  # which would be taken for the end of a whole body
            raise TypeError("a streamed body must yield bytes, not None")
        return None if chunk is _END else chunk

    def close(self) -> None:
        close_source(self._iterator)
        if self._source is not self._iterator:
            close_source(self._source)


class FileBody:
    """A binary file from where it stands to its end, in chunks of 64 KiB.

    *file* is an open file, or the path of one to open; *offset* another place to begin, in bytes,
    and *length* the most to send. The length is known for a regular file and for anything
    seekable; what the file grows by meanwhile is not sent, and one that gets shorter cuts the
    response off. A regular file is not read into the process where the connection can take it
    from the system (``sendfile``). ``close`` closes the file.

    Raises ``OSError`` where *file* cannot be opened, ``TypeError`` for one that is open as text,
    ``ValidationError`` for an *offset* or *length* below 0.
    """

    __slots__ = ("_left", "_length", "file", "offset", "opened", "plain")

    def __init__(
        self,
        file: IO[bytes] | str | os.PathLike[str],
        offset: int | None = None,
        length: int | None = None,
    ) -> None:
        for name, value in (("offset", offset), ("length", length)):
            if value is not None and value < 0:
                raise ValidationError(name, f"must be >= 0, got {value}")
        if isinstance(file, io.TextIOBase):
            raise TypeError("open the file in binary mode: a body is bytes")
        self.opened = isinstance(file, (str, os.PathLike))
        self.file: IO[bytes] = io.FileIO(file) if isinstance(file, (str, os.PathLike)) else file
        try:
            if offset is not None:
                self.file.seek(offset)
            self.plain = _is_plain(self.file)
            """Whether it is a regular file, byte for byte what its descriptor gives."""
            self.offset = self.file.tell() if self.plain else 0
            """Where the next chunk of a plain file begins."""
            remaining = _remaining(self.file, self.plain)
        except BaseException:
            if self.opened:
                self.file.close()
            raise
        if remaining is not None and length is not None:
            remaining = min(remaining, length)
        self._length = remaining
        self._left = remaining if remaining is not None else length

    def content_length(self) -> int | None:
        return self._length

    def next_chunk(self, cancel: Cancel) -> bytes | None:
        most = FILE_CHUNK_BYTES if self._left is None else min(FILE_CHUNK_BYTES, self._left)
        if not most:
            return None
        if self.plain:
            # Not by a descriptor from before: the file may have been closed, and another be it.
            chunk = os.pread(self.file.fileno(), most, self.offset)
        else:
            chunk = self.file.read(most)
        self.advance(len(chunk))
        return chunk or None

    def advance(self, count: int) -> None:
        """*count* bytes of it have gone another way than by ``next_chunk``."""
        self.offset += count
        if self._left is not None:
            self._left -= count

    def close(self) -> None:
        self.file.close()


_PLAIN_FILES = (io.FileIO, io.BufferedReader, io.BufferedRandom)


def _is_plain(file: IO[bytes]) -> bool:
    raw = getattr(file, "raw", file)
    if type(file) not in _PLAIN_FILES or type(raw) is not io.FileIO:
        return False  # one that decompresses has a descriptor too, and other bytes
    try:
        file.flush()
        return stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except OSError:
        return False


def _remaining(file: IO[bytes], plain: bool) -> int | None:
    try:
        here = file.tell()
        if plain:
            return max(0, os.fstat(file.fileno()).st_size - here)
        end = file.seek(0, os.SEEK_END)
        file.seek(here)
    except (OSError, AttributeError, ValueError):
        return None
    return max(0, end - here)


def as_body(source: Any) -> Body:
    """The ``Body`` of *source*: a body, a chunk source, a binary file, an iterable, or bytes.

    Raises ``TypeError`` for anything else, a text and a file opened as text among it: text has no
    one encoding.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return InlineBody(bytes(source))
    if isinstance(source, str):
        raise TypeError("a streamed body is bytes, not str")
    if isinstance(source, Body):
        return source
    if isinstance(source, ChunkSource):
        return ChunkedBody(source)
    if callable(getattr(source, "read", None)):
        return FileBody(source)
    if isinstance(source, Iterable):
        return IterableBody(source)
    what = "None" if source is None else f"a {type(source).__name__}"
    raise TypeError(f"cannot stream {what}")


def as_bytes(data: object) -> bytes:
    """*data*, which must be bytes-like, as bytes. Raises ``TypeError``."""
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"a body must be bytes, not {type(data).__name__}")


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
            parts += as_bytes(chunk)
    finally:
        close_source(body)
    return bytes(parts)
