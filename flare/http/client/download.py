"""A response whose body is read when and as far as the caller wants it."""

from __future__ import annotations

import codecs
import re
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

from flare.errors import NetworkError, ValidationError
from flare.http.client.connection import READ_BYTES
from flare.http.proto.charset import charset_of
from flare.http.response import Response

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from flare.http.client.sender import Reply

__all__ = ["HttpDownload"]

MAX_LINE_CHARS = 1024 * 1024
_LEAST_READ_BYTES = 16 * 1024
_split_lines = re.compile(r"\r\n|\n|\r").split


class HttpDownload(Response):
    """A response with its body still on the way. Use it with ``with``.

    It has all that a ``Response`` has; ``body``, ``text()`` and ``json()`` read what is left
    first. Read it in one of these ways: by iteration (pieces as they arrive, of at most 256 KiB),
    ``iter_bytes``, ``iter_lines``, ``read_chunk``, ``read_into``, ``read`` or ``read_all``. What
    was read is not kept.

    Each read waits at most the call's read timeout, then raises ``CallTimeout``; the total of the
    call ended with the head. A body cut short raises ``HttpProtocolError``; a compressed one is
    decompressed as it is read, and more than the client's ``max_decompressed_bytes`` of it raises
    ``NetworkError``. Read to its end the
    connection goes back to the pool; ``close`` before that drops it, and a read after that, or
    after a failed one, raises ``NetworkError``. For one thread at a time, but for ``close``.
    """

    __slots__ = ("__weakref__", "_all", "_cut", "_plain", "_read", "_reply", "_rest", "_unended")

    def __init__(self, reply: Reply) -> None:
        self._reply: Reply | None = None
        self._rest = memoryview(b"")
        self._all: bytes | None = None
        self._cut = False
        super().__init__()
        reply.fill(self)
        decoded = reply.decoded(self)
        self._read = decoded or reply.read_body
        self._plain = decoded is None
        self._reply = reply
        self._unended = [reply]  # whoever pops it ends it
        if reply.has_no_body():
            self._receive(1)

    def _receive(self, n: int) -> bytes:
        """Bytes as they come, about *n* at most; ``b""`` at the end, which gives the connection
        back."""
        reply = self._reply
        if reply is None:
            if self._cut:
                # An end would pass half a body off as a whole one.
                raise NetworkError("the body was given up before its end")
            return b""
        try:
            data = self._read(n)
        except BaseException:
            self._give_up()
            raise
        if not data and self._end():
            self._trailers = reply.trailers()
            reply.finish()
        return data

    def _end(self) -> Reply | None:
        """The reply, for the one thread that may end it."""
        self._reply = None
        try:
            return self._unended.pop()
        except IndexError:
            return None

    def _give_up(self) -> None:
        self._cut = True
        reply = self._end()
        if reply is not None:
            reply.abandon()

    def read_chunk(self, max_bytes: int = 65536) -> bytes:
        """What comes next, at most *max_bytes*; ``b""`` at the end. Blocks until there is some."""
        if max_bytes < 1:
            raise ValidationError("max_bytes", f"must be > 0, got {max_bytes}")
        if not self._rest:
            # A decoder that is asked for little copies much.
            data = self._receive(max(min(max_bytes, READ_BYTES), _LEAST_READ_BYTES))
            if len(data) <= max_bytes:
                return data
            self._rest = memoryview(data)
        chunk = bytes(self._rest[:max_bytes])
        self._rest = self._rest[max_bytes:]
        return chunk

    def read_into(self, buffer: WriteableBuffer) -> int:
        """What comes next into *buffer*, as much as one read brings; how many bytes that are, 0 at
        the end. Blocks until there is some."""
        view = memoryview(buffer).cast("B")
        reply = self._reply
        if reply is not None and self._plain and not self._rest:
            try:
                count = reply.read_counted_into(view)
            except BaseException:
                self._give_up()
                raise
            if count:
                return count
        if not view:
            return 0
        data = self.read_chunk(len(view))
        view[: len(data)] = data
        return len(data)

    def read(self, n: int = -1) -> bytes:
        """Like the ``read`` of a file: exactly *n* bytes, or fewer at the end, where it is
        ``b""``; all that is left without *n*."""
        if n < 0:
            return self.read_all()
        parts: list[bytes] = []
        while n and (chunk := self.read_chunk(n)):
            parts.append(chunk)
            n -= len(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_all(self) -> bytes:
        """All that is left. In memory: bound it by ``max_response_bytes``, or iterate."""
        return b"".join(self)

    def __iter__(self) -> Iterator[bytes]:
        """The body in pieces as they arrive, each at most 256 KiB and never empty."""
        if self._rest:
            rest, self._rest = bytes(self._rest), memoryview(b"")
            yield rest
        while data := self._receive(READ_BYTES):
            yield data

    def iter_bytes(self, chunk_size: int = 65536) -> Iterator[bytes]:
        """The body in chunks of *chunk_size* bytes, the last one shorter."""
        size = chunk_size if chunk_size > 0 else 65536
        while chunk := self.read(size):
            yield chunk

    def iter_lines(self, max_line: int = MAX_LINE_CHARS) -> Iterator[str]:
        """The body as lines of text, without their ends (CRLF, LF or CR).

        Decoded as ``text()`` does. A line of more than *max_line* characters raises
        ``NetworkError``, as UTF-16 and UTF-32 without a byte order mark do, and the connection is
        dropped.
        """
        charset = charset_of(self.headers.get("content-type"))
        decoder = codecs.getincrementaldecoder(charset)("replace")
        held: list[str] = []  # an unfinished line, in pieces
        size = 0
        after_cr = False
        for data in self:
            try:
                text = decoder.decode(data)
            except UnicodeError as exc:
                self.close()
                raise NetworkError(f"the response is not text in {charset}: {exc}") from None
            if after_cr and text:
                text = text.removeprefix("\n")
                after_cr = False
            if not text:
                continue
            after_cr = text.endswith("\r")
            lines = _split_lines(text)
            held.append(lines[0])
            size += len(lines[0])
            self._check_line(max(size, *map(len, lines)), max_line)
            if len(lines) > 1:
                yield "".join(held)
                yield from lines[1:-1]
                held = [lines[-1]]
                size = len(lines[-1])
        last = "".join(held) + decoder.decode(b"", final=True)
        if last:
            yield last

    def _check_line(self, size: int, max_line: int) -> None:
        if size > max_line:
            self.close()
            raise NetworkError(f"a line of the response is longer than {max_line} characters")

    @property
    def body(self) -> bytes:
        """The body as far as it was not read before; reads it on first use."""
        if self._all is None:
            self._all = self.read_all()
        return self._all

    @body.setter
    def body(self, body: bytes) -> None:
        self._all = body or None

    @property
    def closed(self) -> bool:
        """Whether nothing more will be received: read to the end, failed or closed."""
        return self._reply is None

    def close(self) -> None:
        """Give up what was not read: the connection is dropped. Idempotent, and safe from any
        thread: one that is reading gets ``NetworkError``."""
        if self._rest:
            self._cut = True
            self._rest = memoryview(b"")
        if self._reply is not None:
            self._give_up()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_reply", None) is None:
            return
        warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
        reply = self._end()
        if reply is not None:
            reply.abandon_later()

    def __repr__(self) -> str:
        return f"<HttpDownload {self.status} {'closed' if self.closed else 'open'}>"
