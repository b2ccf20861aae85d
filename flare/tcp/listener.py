"""TCP listeners."""

from __future__ import annotations

import errno
import socket
import warnings
from collections.abc import Iterator
from typing import Any

from flare.errors import AddressInUse, NetworkError, ValidationError, map_oserror
from flare.net import IpAddr, RawSocket, SocketAddr
from flare.tcp.stream import TcpStream

__all__ = ["TcpListener", "accept_fd"]

_DEFAULT_BACKLOG = 128
_UNSPECIFIED_V6 = IpAddr.unspecified_v6()


class TcpListener:
    """A listening TCP socket. Use it with ``with``; iterating accepts until it is closed.

    Any thread may ``close`` it; a thread blocked in ``accept`` is woken. Several threads may accept
    at once.
    """

    __slots__ = ("__weakref__", "_addr", "_raw")

    def __init__(self, raw: RawSocket) -> None:
        """Own a socket that listens already; see ``bind`` and ``from_fd``."""
        self._raw = raw
        self._addr = raw.local_addr()

    @classmethod
    def bind(cls, addr: SocketAddr) -> TcpListener:
        """Listen at *addr* (port 0: one the system picks) with a backlog of 128.

        Raises ``AddressInUse``, or ``NetworkError`` for an address this host does not have, or
        whose port is not for everyone. Bound to ``[::]`` it takes IPv4 connections too, whose
        peers have v4-mapped addresses.
        """
        return cls.bind_with_options(addr)

    @classmethod
    def bind_with_options(
        cls, addr: SocketAddr, backlog: int = _DEFAULT_BACKLOG, reuse_port: bool = False
    ) -> TcpListener:
        """``bind``, choosing how many connections may wait to be accepted.

        With *reuse_port* several listeners share the port, if each of them says so, the first
        included; the system spreads connections over them.
        """
        if backlog < 0:
            raise ValidationError("backlog", f"must be >= 0, got {backlog}")
        raw = RawSocket(socket.AF_INET6 if addr.ip.is_v6() else socket.AF_INET, socket.SOCK_STREAM)
        try:
            raw.set_reuse_addr(True)
            if reuse_port:
                raw.set_reuse_port(True)
            if addr.ip == _UNSPECIFIED_V6:
                raw.set_v6only(False)
            try:
                raw.sock.bind(addr.to_sockaddr())
                raw.sock.listen(backlog)
            except OSError as exc:
                if exc.errno == errno.EADDRINUSE:
                    raise AddressInUse(str(addr)) from exc
                raise map_oserror(exc, f"bind {addr}", addr) from exc
            return cls(raw)
        except BaseException:
            raw.close()
            raise

    @classmethod
    def from_fd(cls, fd: int) -> TcpListener:
        """Own *fd*, a TCP socket that listens already (socket activation, a parent process).

        A descriptor that is something else raises ``ValidationError`` and stays the caller's.
        """
        raw = RawSocket.from_fd(fd)
        try:
            if raw.family not in (socket.AF_INET, socket.AF_INET6):
                raise ValidationError("fd", f"{fd} is not an IP socket")
            if not raw.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                raise ValidationError("fd", f"{fd} does not listen")
            return cls(raw)
        except BaseException:
            raw.detach()
            raise

    def accept(self) -> TcpStream:
        """Wait for the next connection. Ended by ``close`` from another thread.

        Every failure is a plain ``NetworkError`` with its errno: EAGAIN where a non-blocking
        listener has none, EMFILE and ENFILE where there is no descriptor left (the connection
        goes on waiting, so pause before trying again), EBADF after ``close``.
        """
        return _accept(self._raw)

    def local_addr(self) -> SocketAddr:
        """Where it listens, with the real port; known also after ``close``."""
        return self._addr

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

    def __iter__(self) -> Iterator[TcpStream]:
        """Accept for ever; ends when the listener is closed."""
        while True:
            try:
                stream = self.accept()
            except NetworkError:
                if self.closed:
                    return
                raise
            yield stream

    def __enter__(self) -> TcpListener:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        raw: Any = getattr(self, "_raw", None)
        if raw is not None and not raw.closed:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            raw.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"fd={self.fileno()}"
        return f"<TcpListener {state} {self._addr}>"


def accept_fd(listener_fd: int) -> TcpStream:
    """``TcpListener.accept`` on a borrowed descriptor, which stays open and the caller's."""
    raw = RawSocket.from_fd(listener_fd)
    try:
        return _accept(raw)
    finally:
        raw.detach()


def _accept(listener: RawSocket) -> TcpStream:
    raw, peer = listener.accept()
    try:
        raw.set_tcp_nodelay(True)
    except BaseException:
        raw.close()
        raise
    return TcpStream(raw, peer)
