"""A request's body as a file, read while it still arrives.

``BodyQueue`` lies between the loop that receives the body, whatever the protocol, and the one
thread that reads it; it holds a bounded number of bytes. ``RequestStream`` is its end for a
handler: a binary file to read from. ``StreamedRequest`` is the request that has one.
"""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from flare.errors import HttpStatusError
from flare.http.proto.headers import HeaderMap
from flare.http.request import Request
from flare.net import SocketAddr

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from flare.http.proto.heads import RequestHead

__all__ = [
    "BodyQueue",
    "RequestBodyError",
    "RequestBodyTimeout",
    "RequestBodyTruncated",
    "RequestStream",
    "StreamedRequest",
]

STREAM_BUFFER_BYTES: Final = 64 * 1024
"""Past this much that nobody has read yet, no more of a body is received."""

_JOINED_BYTES = 1024


class RequestBodyError(HttpStatusError, OSError):
    """The body cannot be read to its end. Left alone by the handler, it is answered with its
    ``status``: 413 for too many bytes, 400 for bytes that make no body."""


class RequestBodyTimeout(RequestBodyError, TimeoutError):
    """The body came too slowly, or not at all; 408."""


class RequestBodyTruncated(RequestBodyError, EOFError):
    """The body ends before its end: its client has left, or its time was over."""


class BodyQueue:
    """A bounded queue of bytes from one producer to one consumer, each on a thread of its own.

    ``put``, ``end``, ``fail`` and ``notify_at`` are the producer's and never block; ``take`` and
    ``close`` the consumer's. ``abort`` is anybody's. The bound is the producer's to keep: it
    stops while ``full``. *wanted*, given with ``connect``, is called on the consumer's thread when
    it first waits, and when it has taken as much as ``notify_at`` says; it must not block.
    """

    __slots__ = (
        "_capacity",
        "_changed",
        "_chunks",
        "_closed",
        "_ended",
        "_error",
        "_notify_at",
        "_size",
        "_waited",
        "_wanted",
        "received",
        "taken",
        "trailers",
    )

    def __init__(self, capacity: int = STREAM_BUFFER_BYTES) -> None:
        self._capacity = capacity
        # Reentrant, as a Condition is by default: the garbage collector may close a stream in
        # the middle of anything.
        self._changed = threading.Condition()  # guards all that follows
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._closed = False
        self._error: RequestBodyError | None = None
        self._waited = False
        self._notify_at: int | None = None
        self._wanted: Callable[[], None] | None = None
        self.received = 0
        """Bytes put in, in all."""
        self.taken = 0
        """Bytes taken out, in all."""
        self.trailers: HeaderMap | None = None

    # -- the producer's ------------------------------------------------------------------

    def connect(self, wanted: Callable[[], None]) -> bool:
        """Have *wanted* called from now on. Whether the consumer has waited before."""
        with self._changed:
            self._wanted = wanted
            return self._waited

    @property
    def full(self) -> bool:
        """Whether there is to be no more for now; true for good once the consumer has closed."""
        with self._changed:
            return self._closed or self._size >= self._capacity

    @property
    def waiting(self) -> bool:
        """Whether the consumer has begun, and has taken all there was."""
        with self._changed:
            return self._waited and not self._size

    def put(self, data: bytes) -> None:
        """Append *data*, which is not empty. After ``close`` it is dropped."""
        with self._changed:
            self.received += len(data)
            if not self._closed:
                chunks = self._chunks
                # A body that comes byte by byte must not be held as so many objects.
                if chunks and len(chunks[-1]) + len(data) <= _JOINED_BYTES:
                    chunks[-1] += data
                else:
                    chunks.append(data)
                self._size += len(data)
                self._changed.notify()

    def end(self, trailers: HeaderMap | None = None) -> None:
        """That was all."""
        with self._changed:
            self.trailers = trailers
            self._ended = True
            self._changed.notify()

    def fail(self, error: RequestBodyError) -> None:
        """There will be no more, and it was not all: *error* comes behind what was put."""
        with self._changed:
            if not self._ended and self._error is None:
                self._error = error
                self._changed.notify()

    def notify_at(self, taken: int) -> bool:
        """Have ``wanted`` called once, when *taken* bytes in all have been taken. False, and no
        call, where they have been already; after ``close`` there is no call either."""
        with self._changed:
            if self._closed:
                return True
            if self.taken >= taken:
                return False
            self._notify_at = taken
            return True

    def notify_when_half_empty(self) -> bool:
        """``notify_at`` half of the capacity."""
        with self._changed:
            return self.notify_at(self.received - self._capacity // 2)

    def abort(self, error: RequestBodyError) -> None:
        """Fail at once, whatever is still in it. A body that had ended stays as it is."""
        with self._changed:
            if not self._ended:
                self._error = error
                self._chunks.clear()
                self._size = 0
                self._changed.notify()

    # -- the consumer's ------------------------------------------------------------------

    def take(self) -> bytes:
        """The next piece as it came; ``b""`` at the end. Blocks until there is one, and ends by
        the producer's deadline. Raises ``RequestBodyError``."""
        with self._changed:
            first = not self._waited
            self._waited = True
            call = self._wanted if first and not self._chunks else None
        if call is not None:
            call()
        with self._changed:
            while not self._chunks:
                if self._error is not None:
                    raise type(self._error)(self._error.status, self._error.message)
                if self._closed:
                    raise ValueError("the request stream is closed")
                if self._ended:
                    return b""
                self._changed.wait()
            data = self._chunks.popleft()
            self._size -= len(data)
            self.taken += len(data)
            call = None
            if self._notify_at is not None and self.taken >= self._notify_at:
                self._notify_at = None
                call = self._wanted
        if call is not None:
            call()
        return data

    def close(self) -> None:
        """Take no more: what is in it and what still comes is dropped."""
        with self._changed:
            self._closed = True
            self._chunks.clear()
            self._size = 0
            self._changed.notify()


class RequestStream(io.BufferedIOBase):
    """The body of a request as a binary file, to be read once and in order, by one thread at a
    time.

    A read blocks until it has what it was asked for, or the body ends. The wait ends with
    ``RequestBodyTimeout`` where the client sends too slowly, with ``RequestBodyTruncated`` where
    it leaves or the handler's time is over, with any other ``RequestBodyError`` where the body is
    too large or malformed. After the end ``trailers`` has the fields behind a chunked body.
    """

    def __init__(self, queue: BodyQueue) -> None:
        self._queue = queue
        self._piece = b""
        self._at = 0

    @classmethod
    def of(cls, data: bytes, trailers: HeaderMap | None = None) -> RequestStream:
        """A stream of what is all there."""
        queue = BodyQueue()
        if data:
            queue.put(data)
        queue.end(trailers)
        return cls(queue)

    @property
    def trailers(self) -> HeaderMap:
        """The trailer fields; none before the end has been read."""
        return self._queue.trailers or HeaderMap()

    def readable(self) -> bool:
        self._check_open()
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """*size* bytes, fewer only at the end; all that is left without a size."""
        self._check_open()
        if size is None or size < 0:
            parts = [self._rest()]
            while piece := self._queue.take():
                parts.append(piece)
            return b"".join(parts)
        data = self._some(size)
        if len(data) in (0, size):
            return data
        parts, left = [data], size - len(data)
        while left and (data := self._some(left)):
            parts.append(data)
            left -= len(data)
        return b"".join(parts)

    def read1(self, size: int = -1, /) -> bytes:
        """What is there, up to *size* bytes; waits only where there is nothing."""
        self._check_open()
        return self._some(size if size >= 0 else STREAM_BUFFER_BYTES)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        return self._fill(buffer, self.read)

    def readinto1(self, buffer: WriteableBuffer, /) -> int:
        return self._fill(buffer, self.read1)

    def readline(self, size: int | None = -1, /) -> bytes:
        """Up to the next line feed, and with it; at most *size* bytes."""
        self._check_open()
        left = -1 if size is None or size < 0 else size
        parts: list[bytes] = []
        while left:
            if self._at >= len(self._piece) and not self._next_piece():
                break
            end = self._piece.find(b"\n", self._at) + 1 or len(self._piece)
            if left > 0:
                end = min(end, self._at + left)
                left -= end - self._at
            parts.append(self._piece[self._at : end])
            self._at = end
            if parts[-1].endswith(b"\n"):
                break
        return b"".join(parts)

    def close(self) -> None:
        """Read no more; what still comes is dropped. Idempotent."""
        if not self.closed:
            self._piece = b""
            self._queue.close()
            super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("the request stream is closed")

    def _some(self, most: int) -> bytes:
        if not most or (self._at >= len(self._piece) and not self._next_piece()):
            return b""
        piece, start = self._piece, self._at
        self._at = end = min(len(piece), start + most)
        return piece if end - start == len(piece) else piece[start:end]

    def _rest(self) -> bytes:
        rest = self._piece[self._at :]
        self._piece, self._at = b"", 0
        return rest

    def _next_piece(self) -> bool:
        self._piece, self._at = b"", 0  # not to be held beside the next one
        self._piece = self._queue.take()
        return bool(self._piece)

    @staticmethod
    def _fill(buffer: WriteableBuffer, read: Callable[[int], bytes]) -> int:
        view = memoryview(buffer).cast("B")
        data = read(len(view))
        view[: len(data)] = data
        return len(data)


class StreamedRequest(Request):
    """A request whose handler began before its body was all there, and reads it from ``stream``.

    ``body``, and what is made of it (``text``, ``json``), reads the rest of the stream to its end
    first: all of it in memory, so only for a body known to be small. For a handler that asked for
    no stream it raises ``RequestBodyError`` (413) past ``ServerConfig.max_body_size``.
    """

    __slots__ = ("_bounded", "_most", "_whole")

    _stream: RequestStream
    _whole: bytes | None
    _bounded: bool  # whether ``body`` may have no more than ``_most`` bytes
    _most: int

    @classmethod
    def _streaming(
        cls, head: RequestHead, queue: BodyQueue, peer: SocketAddr, expose_errors: bool, most: int
    ) -> StreamedRequest:
        self = cls._from_head(head, b"", peer, expose_errors)
        assert isinstance(self, cls)
        self._whole = None
        self._bounded = False
        self._most = most
        self._stream = RequestStream(queue)
        return self

    @classmethod
    def _of_whole(cls, request: Request, most: int) -> StreamedRequest:
        """*request*, as if its body, which is all there, were still to come."""
        self = _bare_copy(cls, request)
        self._whole = None
        self._bounded = False
        self._most = most
        self._stream = RequestStream.of(request.body, request.trailers)
        return self

    @property
    def body(self) -> bytes:
        """The rest of the body."""
        whole = self._whole
        if whole is None:
            stream = self._stream
            whole = stream.read(self._most + 1 if self._bounded else -1)
            if self._bounded and len(whole) > self._most:
                stream.close()  # the rest must not pass for the whole
                raise RequestBodyError(413)
            self._whole = whole
        return whole

    @body.setter
    def body(self, body: bytes) -> None:
        self._whole = body

    @property
    def trailers(self) -> HeaderMap:
        return self._stream.trailers

    def __copy__(self) -> StreamedRequest:
        # Not as copy() would: that asks for the value of every slot, and so for the whole body.
        other = _bare_copy(type(self), self)
        other._whole, other._bounded, other._most = self._whole, self._bounded, self._most
        return other


def _bare_copy(cls: type[StreamedRequest], request: Request) -> StreamedRequest:
    other = object.__new__(cls)
    for name in Request.__slots__:
        if name != "body" and hasattr(request, name):
            setattr(other, name, getattr(request, name))
    return other
