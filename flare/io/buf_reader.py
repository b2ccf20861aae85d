"""Lines and exact counts out of a stream that gives bytes as they come."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from flare.errors import Timeout, UnexpectedEof, ValidationError
from flare.io.readable import Readable

__all__ = ["MAX_LINE_BYTES", "BufReader"]

S = TypeVar("S", bound=Readable)

DEFAULT_CAPACITY: Final = 8192

MAX_LINE_BYTES: Final = 1 << 20
"""The longest line, or stretch up to a delimiter, unless a call names its own limit."""

# What read_exact asks of the stream at once when much is missing.
_MOST_AT_ONCE: Final = 1 << 20

_LINE_END = re.compile(rb"[\r\n]")
_LF: Final = 10


class BufReader(Generic[S]):
    """Reads *stream* by *capacity* bytes (8192 where that is 0 or less) and deals them out.

    Text is decoded by *encoding*; the default, Latin-1, takes every byte for the character of
    the same number and cannot fail.

    Every call but ``buffered`` and ``at_eof`` may wait for the stream, for as long as the
    stream's own timeout lets it. An exception of the stream passes through and nothing is lost:
    the same call may be tried again. Once the stream has ended it is not read again. One thread
    at a time.
    """

    def __init__(
        self, stream: S, capacity: int = DEFAULT_CAPACITY, *, encoding: str = "latin-1"
    ) -> None:
        self._stream = stream
        self._capacity = capacity if capacity > 0 else DEFAULT_CAPACITY
        self._encoding = encoding
        self._buffer = bytearray()
        self._ended = False
        self._at_eof = False
        # A line ended at a CR that was the last byte we had. Whether an LF follows is known only
        # when more comes; waiting for that would hold back a line that is complete.
        self._skip_lf = False
        self._read_into: Callable[[Any], int] | None = getattr(stream, "read_into", None)
        self._read: Callable[[int], bytes | None] = getattr(stream, "read1", stream.read)
        self._scratch: memoryview | None = None

    # -- lines and delimiters -----------------------------------------------------------

    def readline(self, limit: int | None = None) -> str:
        """The next line, without its terminator: LF, CRLF or a CR alone.

        A last line without one is returned too. ``""`` is an empty line, or the end of the
        stream when ``at_eof`` is then true. A line longer than *limit* bytes (``None``:
        ``MAX_LINE_BYTES``) raises ``ValidationError`` and stays unread.
        """
        line, _ = self._take_line(limit)
        return line.decode(self._encoding)

    def readline_bytes(self, limit: int | None = None) -> bytes:
        """Like ``readline``, as bytes and with the terminator; ``b""`` is the end of the stream.

        Of a CRLF whose halves arrived apart only the CR is returned. The terminator does not
        count towards *limit*.
        """
        line, terminator = self._take_line(limit)
        return line + terminator

    def read_until(self, delimiter: int | bytes, limit: int | None = None) -> str:
        """Text up to *delimiter*, a byte or several, which is consumed and not returned.

        At the end of the stream: what is left. A stretch longer than *limit* bytes (``None``:
        ``MAX_LINE_BYTES``) raises ``ValidationError`` and stays unread.
        """
        if isinstance(delimiter, int):
            if not 0 <= delimiter <= 255:
                raise ValidationError("delimiter", f"must be a byte, got {delimiter}")
            delimiter = bytes((delimiter,))
        return self.read_until_bytes(delimiter, limit).decode(self._encoding)

    def read_until_bytes(self, delimiter: bytes, limit: int | None = None) -> bytes:
        """Like ``read_until``, as bytes."""
        if not delimiter:
            raise ValidationError("delimiter", "must not be empty")
        most = self._limit(limit)
        buffer = self._buffer
        self._settle_lf()
        start = 0
        while True:
            end = buffer.find(delimiter, start)
            self._check_limit(end if end >= 0 else len(buffer) - len(delimiter) + 1, most)
            if end >= 0:
                return self._take(end, drop=len(delimiter))
            start = max(0, len(buffer) - len(delimiter) + 1)
            if not self._fill():
                self._check_limit(len(buffer), most)
                return self._take(len(buffer))

    def __iter__(self) -> Iterator[str]:
        """The lines up to the end of the stream, empty ones included."""
        while True:
            line = self.readline()
            if self._at_eof:
                return
            yield line

    # -- counts -------------------------------------------------------------------------

    def read_exact(self, n: int) -> bytes:
        """Exactly *n* bytes.

        Where the stream ends before, raises ``UnexpectedEof`` with what came in ``partial``.
        """
        if n < 0:
            raise ValidationError("n", f"must not be negative, got {n}")
        self._settle_lf()
        while len(self._buffer) < n:
            if not self._fill(n - len(self._buffer)):
                got = len(self._buffer)
                raise UnexpectedEof(f"read_exact: EOF after {got}/{n} bytes", self._take(got))
        return self._take(n)

    def read(self, n: int = -1) -> bytes:
        """Up to *n* bytes, any number for -1: what is buffered, else what one read brings.

        ``b""`` is the end of the stream, or the answer to *n* of 0.
        """
        if n == 0:
            return b""
        self._settle_lf()
        if not self._buffer:
            self._fill()
        return self._take(len(self._buffer) if n < 0 else min(n, len(self._buffer)))

    def peek(self, n: int = 1) -> bytes:
        """The next *n* bytes, left where they are; fewer only where the stream ends."""
        self._settle_lf()
        while len(self._buffer) < n and self._fill(n - len(self._buffer)):
            pass
        self._at_eof = n > 0 and not self._buffer
        return bytes(self._buffer[: max(0, n)])

    # -- state --------------------------------------------------------------------------

    def buffered(self) -> int:
        """How many bytes can be had without asking the stream."""
        self._settle_lf()
        return len(self._buffer)

    def at_eof(self) -> bool:
        """Whether the last call came back empty because the stream has ended. Never waits."""
        return self._at_eof

    @property
    def stream(self) -> S:
        """The stream underneath. What is buffered here has left it already."""
        return self._stream

    def close(self) -> None:
        """Close the stream, where it can be closed, and forget what is buffered."""
        self._buffer.clear()
        self._ended = True
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"BufReader({self._stream!r}, {len(self._buffer)} bytes buffered)"

    # -- the buffer ---------------------------------------------------------------------

    def _take_line(self, limit: int | None) -> tuple[bytes, bytes]:
        most = self._limit(limit)
        buffer = self._buffer
        self._settle_lf()
        start = 0
        while True:
            found = _LINE_END.search(buffer, start)
            self._check_limit(found.start() if found else len(buffer), most)
            if found:
                break
            start = len(buffer)
            if not self._fill():
                return self._take(len(buffer)), b""
        end = found.start()
        terminator = bytes(buffer[end : end + 2])
        if terminator != b"\r\n":
            self._skip_lf = terminator == b"\r"
            terminator = terminator[:1]
        return self._take(end, drop=len(terminator)), terminator

    def _take(self, n: int, drop: int = 0) -> bytes:
        """Remove *n* bytes and return them; *drop* more are removed and not returned."""
        taken = bytes(self._buffer[:n])
        del self._buffer[: n + drop]
        self._at_eof = self._ended and n + drop == 0 and not self._buffer
        return taken

    def _fill(self, want: int = 0) -> bool:
        """Add what one read of the stream brings, more than nothing; false at its end."""
        while not self._ended:
            before = len(self._buffer)
            if self._read_into is not None and want <= self._capacity:
                if self._scratch is None:
                    self._scratch = memoryview(bytearray(self._capacity))
                self._buffer += self._scratch[: self._read_into(self._scratch)]
            else:
                chunk = self._read(max(self._capacity, min(want, _MOST_AT_ONCE)))
                if chunk is None:  # a raw file that does not block
                    raise Timeout("read")
                self._buffer += chunk
            if len(self._buffer) == before:
                self._ended = True
                break
            self._settle_lf()
            if self._buffer:  # the LF that was to be skipped may have been all
                return True
        return False

    def _settle_lf(self) -> None:
        if self._skip_lf and self._buffer:
            self._skip_lf = False
            if self._buffer[0] == _LF:
                del self._buffer[0]

    @staticmethod
    def _limit(limit: int | None) -> int:
        if limit is None:
            return MAX_LINE_BYTES
        if limit < 0:
            raise ValidationError("limit", f"must not be negative, got {limit}")
        return limit

    @staticmethod
    def _check_limit(length: int, most: int) -> None:
        if length > most:
            raise ValidationError("line", f"longer than {most} bytes")
