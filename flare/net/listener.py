"""What every listening socket does, whatever the kind of its streams.

``TcpListener`` and ``UnixListener`` add how to bind, and where they are.
"""

from __future__ import annotations

import socket
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Generic, Self, TypeVar

from flare.errors import NetworkError, ValidationError
from flare.net.raw_socket import RawSocket
from flare.net.stream import SocketStream

__all__ = ["DEFAULT_BACKLOG", "SocketListener", "accept_borrowed", "check_backlog"]

DEFAULT_BACKLOG = 128
"""How many connections may wait to be accepted, where the caller does not say."""

StreamT = TypeVar("StreamT", bound=SocketStream)


class SocketListener(Generic[StreamT]):
    """A listening socket. Use it with ``with``; iterating accepts until it is closed.

    Any thread may ``close`` it; a thread blocked in ``accept`` is woken. Several threads may accept
    at once.
    """

    __slots__ = ("__weakref__", "_raw")
    _families: ClassVar[tuple[int, ...]]
    _raw: RawSocket

    def __init__(self, raw: RawSocket) -> None:
        """Own a socket that listens already; see ``bind`` and ``from_fd``."""
        self._raw = raw

    @abstractmethod
    def _stream(self, raw: RawSocket, peer: Any) -> StreamT:
        """The stream of a connection just accepted; owns *raw*, even where it raises."""

    @abstractmethod
    def _local_name(self) -> str:
        """Where it listens, as ``repr`` says it; known also after ``close``."""

    @classmethod
    def from_fd(cls, fd: int) -> Self:
        """Own *fd*, a socket that listens already (socket activation, a parent process).

        A descriptor that is something else raises ``ValidationError`` and stays the caller's.
        """
        raw = RawSocket.from_fd(fd)
        try:
            if raw.family not in cls._families:
                raise ValidationError("fd", f"{fd} is not a socket of {cls.__name__}'s kind")
            if not raw.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                raise ValidationError("fd", f"{fd} does not listen")
            return cls(raw)
        except BaseException:
            raw.detach()
            raise

    def accept(self) -> StreamT:
        """Wait for the next connection. Ended by ``close`` from another thread.

        Every failure is a plain ``NetworkError`` with its errno: EAGAIN where a non-blocking
        listener has none, EMFILE and ENFILE where there is no descriptor left (the connection
        goes on waiting, so pause before trying again), EBADF after ``close``.
        """
        return self._stream(*self._raw.accept())

    def as_raw_fd(self) -> int:
        """The same as ``fileno``."""
        return self._raw.fd

    def fileno(self) -> int:
        """The descriptor, still owned by the listener; -1 after ``close``."""
        return self._raw.fd

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._raw.closed

    def set_nonblocking(self, enabled: bool) -> None:
        """Let ``accept`` fail with EAGAIN instead of waiting. Accepted streams still block."""
        self._raw.set_nonblocking(enabled)

    def close(self) -> None:
        """Stop listening; idempotent. A thread blocked in ``accept`` gets EBADF.

        A forked process that shares the socket listens on, except where a thread had to be woken:
        that ends the listening for all.
        """
        self._raw.close()

    def __iter__(self) -> Iterator[StreamT]:
        """Accept for ever; ends when the listener is closed."""
        while True:
            try:
                stream = self.accept()
            except NetworkError:
                if self.closed:
                    return
                raise
            yield stream

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        raw: Any = getattr(self, "_raw", None)
        if raw is not None and not raw.closed:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"fd={self.fileno()}"
        return f"<{type(self).__name__} {state} {self._local_name()}>"


def accept_borrowed(listener_fd: int) -> tuple[RawSocket, Any]:
    """``RawSocket.accept`` on a borrowed descriptor, which stays open and the caller's."""
    raw = RawSocket.from_fd(listener_fd)
    try:
        return raw.accept()
    finally:
        raw.detach()


def check_backlog(backlog: int) -> None:
    """Raise ``ValidationError`` for a *backlog* below 0."""
    if backlog < 0:
        raise ValidationError("backlog", f"must be >= 0, got {backlog}")
