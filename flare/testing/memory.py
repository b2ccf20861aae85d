"""A byte stream in memory, with the manners of a socket.

For tests of code that takes a stream: no descriptor, no port, no system call. It waits, times out,
half-closes and fails as a Unix stream pair does.
"""

from __future__ import annotations

import errno
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from flare.errors import BrokenPipe, NetworkError, Timeout, ValidationError
from flare.net.stream import DuplexStream

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["MemoryStream"]

_DEFAULT_CAPACITY = 64 * 1024
_STEP_SECONDS = 0.1


class _Channel:
    """One direction: bytes on their way, and who has given it up."""

    __slots__ = ("capacity", "changed", "data", "read_ended", "write_ended")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        # Guards the rest. Reentrant: a leaked end may be collected while its peer holds the lock.
        self.changed = threading.Condition(threading.RLock())
        self.data = bytearray()
        self.read_ended = False
        self.write_ended = False

    def end(self, *, reading: bool = False, writing: bool = False) -> None:
        with self.changed:
            self.read_ended |= reading
            self.write_ended |= writing
            self.changed.notify_all()


class MemoryStream(DuplexStream):
    """One end of an in-memory duplex stream; ``pair`` makes two.

    The surface and the errors are those of ``TcpStream``, without addresses: reads and writes
    block, ``close`` from another thread ends them with ``NetworkError(EBADF)``, a write to an end
    that is closed or shut for reading raises ``BrokenPipe``. ``fileno`` is always -1.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_incoming",
        "_nonblocking",
        "_outgoing",
        "_recv_ms",
        "_send_ms",
    )

    def __init__(self, incoming: _Channel, outgoing: _Channel) -> None:
        """Use ``MemoryStream.pair()``."""
        self._incoming = incoming
        self._outgoing = outgoing
        self._closed = False
        self._nonblocking = False
        self._recv_ms = 0
        self._send_ms = 0

    @classmethod
    def pair(cls, capacity: int = _DEFAULT_CAPACITY) -> tuple[MemoryStream, MemoryStream]:
        """Two connected ends; each direction holds up to *capacity* bytes not yet read."""
        if capacity < 1:
            raise ValidationError("capacity", f"must be > 0, got {capacity}")
        one, other = _Channel(capacity), _Channel(capacity)
        return cls(one, other), cls(other, one)

    def read(self, n: int = 65536) -> bytes:
        """Wait for bytes and return at most *n* of them; ``b""`` is the end of the stream."""
        if n < 0:
            raise ValueError(f"read: n must be >= 0, got {n}")
        with self._incoming.changed:
            size = self._wait_for_data(n)
            data = bytes(self._incoming.data[:size])
            self._consume(size)
            return data

    def read_into(self, buffer: WriteableBuffer) -> int:
        """Like ``read``, into *buffer*; returns how many bytes came, 0 at the end."""
        with self._incoming.changed, memoryview(buffer).cast("B") as view:
            size = self._wait_for_data(len(view))
            view[:size] = self._incoming.data[:size]
            self._consume(size)
            return size

    def write(self, data: ReadableBuffer) -> int:
        """Write what there is room for, waiting until there is some; returns how much that was."""
        with memoryview(data).cast("B") as view, self._outgoing.changed:
            channel = self._outgoing
            self._wait(
                channel,
                "send",
                lambda: not view or self._write_ended() or len(channel.data) < channel.capacity,
            )
            if not view:
                return 0
            if self._write_ended():
                raise BrokenPipe("memory")
            size = min(len(view), channel.capacity - len(channel.data))
            channel.data += view[:size]
            channel.changed.notify_all()
            return size

    def writev(self, parts: Sequence[ReadableBuffer]) -> int:
        """Like ``write``, of several buffers."""
        return self.write(b"".join(parts))

    def shutdown_read(self) -> None:
        """Take no more bytes: reads find the end once what is here is read."""
        self._check_open("shutdown")
        self._incoming.end(reading=True)

    def shutdown_write(self) -> None:
        """Send no more bytes: the other end reads the end of the stream."""
        self._check_open("shutdown")
        self._outgoing.end(writing=True)

    def close(self) -> None:
        """Close both directions. Idempotent; wakes threads blocked in the other calls."""
        self._closed = True
        self._incoming.end(reading=True)
        self._outgoing.end(writing=True)

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def fileno(self) -> int:
        """-1: there is no descriptor."""
        return -1

    def as_raw_fd(self) -> int:
        """-1: there is no descriptor."""
        return -1

    def set_recv_timeout(self, ms: int) -> None:
        """Let each read wait at most *ms* milliseconds; 0, the default, is for ever."""
        self._check_open("set_recv_timeout")
        self._recv_ms = _checked(ms)

    def set_send_timeout(self, ms: int) -> None:
        """Let each write wait at most *ms* milliseconds for room; 0, the default, is for ever."""
        self._check_open("set_send_timeout")
        self._send_ms = _checked(ms)

    def set_nonblocking(self, enabled: bool) -> None:
        """Never wait: what would, raises ``Timeout`` with ``ms`` 0."""
        self._check_open("set_nonblocking")
        self._nonblocking = enabled

    def _wait_for_data(self, n: int) -> int:
        """Wait until *n* or fewer bytes can be read, or the end; the incoming lock is held."""
        channel = self._incoming
        self._wait(
            channel,
            "recv",
            lambda: bool(not n or channel.data or channel.read_ended or channel.write_ended),
        )
        return min(n, len(channel.data))

    def _consume(self, size: int) -> None:
        del self._incoming.data[:size]
        if size:
            self._incoming.changed.notify_all()

    def _write_ended(self) -> bool:
        return self._outgoing.read_ended or self._outgoing.write_ended

    def _wait(self, channel: _Channel, op: str, ready: Callable[[], object]) -> None:
        ms = 0 if self._nonblocking else self._recv_ms if op == "recv" else self._send_ms
        wait_for_ever = not (ms or self._nonblocking)
        give_up_at = time.monotonic() + ms / 1000
        while not (self._closed or ready()):
            left = _STEP_SECONDS if wait_for_ever else give_up_at - time.monotonic()
            if left <= 0:
                raise Timeout(op, ms)
            # In steps: a signal handler may close this end between the look and the wait.
            channel.changed.wait(min(left, _STEP_SECONDS))
        self._check_open(op)

    def _check_open(self, op: str) -> None:
        if self._closed:
            raise NetworkError(f"closed ({op})", errno.EBADF)

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()

    def __repr__(self) -> str:
        return "<MemoryStream closed>" if self._closed else "<MemoryStream open>"


def _checked(ms: int) -> int:
    if ms < 0:
        raise ValidationError("timeout_ms", f"must be >= 0, got {ms}")
    return ms
