"""What every byte stream can do, and how it is done on a socket.

``DuplexStream`` derives ``read_exact`` and ``write_all`` from ``read`` and ``write``.
``SocketStream`` is all of a stream on a stream socket but the name of its peer; ``TcpStream`` and
``UnixStream`` add that.

Waits are bounded by SO_RCVTIMEO and SO_SNDTIMEO on a blocking descriptor, so that a read or write
is one system call. They end by ``close`` from another thread, too: the one blocked then gets
``NetworkError`` with EBADF, never a quiet end of file.
"""

from __future__ import annotations

import os
import signal
import socket
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from flare.errors import NetworkError, Timeout, UnexpectedEof, map_oserror
from flare.net.raw_socket import RawSocket, closed_error

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["DuplexStream", "SocketStream"]

# A process may have restored SIGPIPE; a vanished peer must not kill it. macOS has no such flag and
# RawSocket sets an option there instead.
_SEND_FLAGS = getattr(socket, "MSG_NOSIGNAL", 0)
# read_exact asks for this much at a time, so that memory grows with what arrives and not with
# what a peer announced.
_READ_CHUNK = 256 * 1024


class DuplexStream:
    """The parts of a blocking byte stream that follow from ``read``, ``write`` and ``close``."""

    __slots__ = ()

    @abstractmethod
    def read(self, n: int = 65536) -> bytes:
        """Wait for bytes and return at most *n* of them; ``b""`` is the end of the stream."""

    @abstractmethod
    def write(self, data: ReadableBuffer) -> int:
        """Write *data*, waiting for room; returns how much was taken, which may be a part."""

    @abstractmethod
    def close(self) -> None:
        """Close both directions. Idempotent; wakes threads blocked in the other calls."""

    def read_exact(self, n: int) -> bytes:
        """Read *n* bytes, waiting as often as it takes; each wait is bounded as in ``read``.

        Raises ``UnexpectedEof`` (a ``NetworkError`` and an ``EOFError``) where the stream ends
        before; its ``partial`` is what came. Bytes read before any other error are lost: where
        they matter, use ``read`` or ``read_into``.
        """
        if n < 0:
            raise ValueError(f"read_exact: n must be >= 0, got {n}")
        data = self.read(min(n, _READ_CHUNK))
        if len(data) == n:
            return data
        got = bytearray(data)
        while data:
            data = self.read(min(n - len(got), _READ_CHUNK))
            got += data
            if len(got) == n:
                return bytes(got)
        raise UnexpectedEof(f"read_exact: EOF after {len(got)}/{n} bytes", bytes(got))

    def write_all(self, data: ReadableBuffer) -> None:
        """Write all of *data*, waiting as often as it takes; each wait is bounded as in ``write``.

        A ``Timeout`` has in ``sent`` how many bytes were taken before.
        """
        sent = self.write(data)
        view = memoryview(data)
        if sent == view.nbytes:
            return
        rest = view.cast("B")
        while sent < len(rest):
            try:
                sent += self.write(rest[sent:])
            except Timeout as exc:
                exc.sent = sent
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class SocketStream(DuplexStream):
    """A blocking byte stream on a connected socket, which it owns.

    One thread may read while another writes; two must not read, or write, at the same time.
    ``close`` may be called from any thread.

    Every operation after ``close`` raises ``NetworkError`` with EBADF. Signals do not end a wait
    unless their Python handler raises.
    """

    __slots__ = ("__weakref__", "_raw")
    _raw: RawSocket

    def __init__(self, raw: RawSocket) -> None:
        self._raw = raw

    @abstractmethod
    def _peer_name(self) -> str:
        """The peer as errors and ``repr`` name it."""

    @abstractmethod
    def _local_name(self) -> str:
        """This end as ``repr`` names it."""

    def read(self, n: int = 65536) -> bytes:
        """Wait for bytes and return at most *n* of them; ``b""`` is the end of the stream.

        Raises ``Timeout`` where nothing came within the receive timeout (none by default) or the
        stream is non-blocking and has nothing, ``ConnectionReset``, or ``NetworkError``. ``n=0``
        returns ``b""`` and waits for nothing.
        """
        try:
            data = self._raw.sock.recv(n) if n else b""
        except OSError as exc:
            raise self._failure(exc, "recv") from exc
        if not data and self._raw.closed:
            raise closed_error("recv")
        return data

    def read_into(self, buffer: WriteableBuffer) -> int:
        """Like ``read``, into *buffer*; returns how many bytes came, 0 at the end of the stream."""
        try:
            # recv of zero bytes would wait for data all the same.
            size = self._raw.sock.recv_into(buffer) if len(buffer) else 0  # type: ignore[arg-type]
        except OSError as exc:
            raise self._failure(exc, "recv") from exc
        if not size and self._raw.closed:
            raise closed_error("recv")
        return size

    def write(self, data: ReadableBuffer) -> int:
        """Hand *data* to the system, waiting for room; returns how many bytes it took.

        That may be fewer than given; ``write_all`` goes on. Raises ``Timeout`` where there was no
        room within the send timeout (none by default), ``BrokenPipe`` where the peer or we have
        ended this direction, ``ConnectionReset``, or ``NetworkError``.
        """
        try:
            return self._raw.sock.send(data, _SEND_FLAGS)
        except OSError as exc:
            raise self._failure(exc, "send") from exc

    def writev(self, parts: Sequence[ReadableBuffer]) -> int:
        """Like ``write``, of several buffers in one system call."""
        try:
            return self._raw.sock.sendmsg(parts, (), _SEND_FLAGS)
        except OSError as exc:
            raise self._failure(exc, "send") from exc

    def send_file(self, fd: int, offset: int, count: int) -> int:
        """Like ``write``, of *count* bytes at *offset* of the regular file *fd*, which do not pass
        through this process; 0 where the file ends before *offset*."""
        if signal.getsignal(signal.SIGPIPE) is not signal.SIG_IGN:
            # sendfile has no MSG_NOSIGNAL.
            data = os.pread(fd, min(count, _READ_CHUNK), offset)
            return self.write(data) if data else 0
        sock = self._raw.sock  # held, so that its descriptor stays this one until we are back
        try:
            return os.sendfile(sock.fileno(), fd, offset, count)
        except OSError as exc:
            raise self._failure(exc, "send") from exc

    def shutdown_read(self) -> None:
        """Take no more bytes: reads find the end of the stream once what is here is read."""
        self._shutdown(socket.SHUT_RD)

    def shutdown_write(self) -> None:
        """Send no more bytes: the peer reads the end of the stream. Reading goes on."""
        self._shutdown(socket.SHUT_WR)

    def _shutdown(self, how: int) -> None:
        try:
            self._raw.sock.shutdown(how)
        except OSError as exc:
            raise self._failure(exc, "shutdown") from exc

    def close(self) -> None:
        """Close both directions. Idempotent, and safe while other threads read or write.

        A thread blocked in a read or write is woken and gets ``NetworkError`` with EBADF.
        """
        self._raw.close()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._raw.closed

    def fileno(self) -> int:
        """The descriptor, still owned by the stream; -1 after ``close``."""
        return self._raw.fd

    def as_raw_fd(self) -> int:
        """The same as ``fileno``."""
        return self._raw.fd

    def set_recv_timeout(self, ms: int) -> None:
        """Let each read wait at most *ms* milliseconds; 0, the default, is for ever.

        A signal whose Python handler runs in the middle starts the wait anew.
        """
        self._raw.set_recv_timeout(ms)

    def set_send_timeout(self, ms: int) -> None:
        """Let each write wait at most *ms* milliseconds for room; 0, the default, is for ever."""
        self._raw.set_send_timeout(ms)

    def set_nonblocking(self, enabled: bool) -> None:
        """Never wait: what would, raises ``Timeout`` with ``ms`` 0."""
        self._raw.set_nonblocking(enabled)

    def _failure(self, exc: OSError, op: str) -> NetworkError:
        raw = self._raw
        if raw.closed:
            return closed_error(op)
        ms = raw.recv_timeout_ms if op == "recv" else raw.send_timeout_ms
        return map_oserror(exc, op, self._peer_name(), ms=ms if raw.sock.getblocking() else 0)

    def __del__(self) -> None:
        raw: Any = getattr(self, "_raw", None)
        if raw is not None and not raw.closed:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            raw.close()

    def __repr__(self) -> str:
        name = type(self).__name__
        if self._raw.closed:
            return f"<{name} closed>"
        try:
            local = self._local_name()
        except NetworkError:
            local = "?"
        return f"<{name} fd={self._raw.fd} {local} -> {self._peer_name()}>"
