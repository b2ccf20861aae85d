"""The one owner of a socket: options, timeouts and the safe way to close.

TCP, UDP and Unix sockets build on it, and no other module sets socket options.

A descriptor may be closed while another thread is blocked inside a call on it. Two things must not
happen then: the thread must not sleep on, and it must not wake up to read from an unrelated socket
that got the same number. Both are solved by reference counts. A call on the socket object holds a
reference to it while it runs, and the descriptor is closed when the last reference goes. So
``close`` drops the owner's reference: if that was the last one the descriptor is closed already,
and if not, somebody is inside, is woken by ``shutdown``, and closes the descriptor by leaving.
``shutdown`` is not called when nobody is inside, because it would also end the connection (or the
listening) of a forked process that shares the socket.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import warnings
import weakref
from typing import Any

from flare.errors import NetworkError, ValidationError
from flare.net.address import SocketAddr
from flare.utils.limits import MAX_TIMEOUT_MS

__all__ = ["MAX_TIMEOUT_MS", "RawSocket", "closed_error"]

_TIMEVAL = struct.Struct("ll")
_SO_NOSIGPIPE = 0x1022  # macOS, <sys/socket.h>; the socket module does not name it


class _Socket(socket.socket):
    """A socket that closes itself, without a warning, when nobody refers to it any more."""

    __slots__ = ()

    def __del__(self) -> None:
        # The C type's close: the Python one's attributes are missing where __init__ failed.
        try:
            socket.SocketType.close(self)
        except OSError:
            pass


# What RawSocket.sock is after close: every call on it fails with EBADF.
_CLOSED = _Socket()
_CLOSED.close()


def closed_error(op: str) -> NetworkError:
    """The error of every operation after ``close``, or ended by it."""
    return NetworkError(f"closed ({op})", errno.EBADF)


class RawSocket:
    """Owns one socket. A context manager; ``close`` may be called from any thread, repeatedly.

    ``sock`` is the socket itself, on loan: whoever keeps a reference to it (or to one of its bound
    methods) past ``close`` keeps the descriptor open, though shut down.

    Failures raise ``NetworkError`` with the errno, ``EBADF`` after ``close``.
    """

    __slots__ = ("__weakref__", "family", "kind", "recv_timeout_ms", "send_timeout_ms", "sock")

    sock: socket.socket
    family: int
    kind: int
    recv_timeout_ms: int
    send_timeout_ms: int

    def __init__(self, family: int, kind: int) -> None:
        """Open a new, blocking, close-on-exec socket of *family* (``AF_*``), *kind* (``SOCK_*``)"""
        try:
            sock = _Socket(family, kind)
        except OSError as exc:
            raise _failure(exc, "socket") from exc
        self._adopt(sock)
        if sock.gettimeout() is not None:  # socket.setdefaulttimeout is not for us
            sock.setblocking(True)

    @classmethod
    def from_fd(cls, fd: int, family: int = -1, kind: int = -1) -> RawSocket:
        """Take ownership of *fd*; its blocking mode stays. -1 asks the system for the value.

        Where this raises, *fd* is still the caller's.
        """
        try:
            blocking = os.get_blocking(fd)
            sock = _Socket(family, kind, -1, fd)
        except OSError as exc:
            raise _failure(exc, "from_fd") from exc
        raw = cls.__new__(cls)
        raw._adopt(sock)
        if sock.getblocking() != blocking or sock.gettimeout():
            sock.setblocking(blocking)
        return raw

    @classmethod
    def from_socket(cls, sock: socket.socket) -> RawSocket:
        """Take over the descriptor of *sock*, which is left detached (closed to its holder).

        Its mode stays: a socket with a Python timeout becomes a blocking one with that timeout for
        either direction. A socket class with a ``recv`` of its own (``ssl.SSLSocket``) raises
        ``ValidationError``: its bytes are not the descriptor's.
        """
        if type(sock).recv is not socket.socket.recv:
            raise ValidationError("sock", f"{type(sock).__name__} is more than a plain socket")
        if sock.fileno() < 0:
            raise closed_error("from_socket")
        timeout = sock.gettimeout()
        raw = cls.__new__(cls)
        raw._adopt(_Socket(sock.family, sock.type, sock.proto, sock.detach()))
        if timeout == 0:
            raw.sock.setblocking(False)
        elif timeout is not None:
            raw.sock.setblocking(True)
            raw.set_recv_timeout(max(1, round(timeout * 1000)))
            raw.set_send_timeout(max(1, round(timeout * 1000)))
        elif raw.sock.gettimeout() is not None:
            raw.sock.setblocking(True)
        return raw

    def _adopt(self, sock: socket.socket) -> None:
        self.sock = sock
        self.family = int(sock.family)
        self.kind = int(sock.type)
        self.recv_timeout_ms = 0
        self.send_timeout_ms = 0
        if sys.platform == "darwin":
            sock.setsockopt(socket.SOL_SOCKET, _SO_NOSIGPIPE, 1)

    @property
    def fd(self) -> int:
        """The descriptor; -1 after ``close``."""
        return self.sock.fileno()

    def fileno(self) -> int:
        """The descriptor; -1 after ``close``."""
        return self.sock.fileno()

    @property
    def closed(self) -> bool:
        """Whether ``close`` or ``detach`` was called."""
        return self.sock is _CLOSED

    def close(self) -> None:
        """Close the socket. A thread blocked in a call on it is woken; see the module's text."""
        sock = self.sock
        self.sock = _CLOSED
        if sock is _CLOSED:
            return
        reference = weakref.ref(sock)
        del sock
        in_use = reference()
        if in_use is not None:
            try:
                in_use.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # not connected, or reset meanwhile: whoever is inside wakes by that

    def detach(self) -> int:
        """Give the descriptor away: this object is closed, the descriptor stays open."""
        sock = self.sock
        if sock is _CLOSED:
            raise closed_error("detach")
        self.sock = _CLOSED
        return sock.detach()

    def accept(self) -> tuple[RawSocket, Any]:
        """Wait for a connection; returns its socket, in blocking mode, and the peer's sockaddr.

        Ended by ``close`` from another thread. A connection that was gone before it was taken
        (ECONNABORTED) is skipped. Every failure is a plain ``NetworkError`` with its errno, EAGAIN
        where there is none and the socket does not wait.
        """
        while True:
            try:
                # Not socket.accept: its Python frame would hold the listening socket for as long
                # as somebody keeps the exception, and with it the descriptor after close().
                fd, peer = self.sock._accept()  # type: ignore[attr-defined]
            except OSError as exc:
                if self.closed:
                    raise closed_error("accept") from exc
                if exc.errno == errno.ECONNABORTED:
                    continue
                raise _failure(exc, "accept") from exc
            raw = RawSocket.__new__(RawSocket)
            raw._adopt(_Socket(self.family, self.kind, 0, fd))
            if raw.sock.gettimeout() is not None:
                raw.sock.setblocking(True)
            return raw, peer

    def set_reuse_addr(self, enabled: bool) -> None:
        """SO_REUSEADDR: bind although old connections of the port linger."""
        self._set(socket.SOL_SOCKET, socket.SO_REUSEADDR, enabled)

    def set_reuse_port(self, enabled: bool) -> None:
        """SO_REUSEPORT: share the port with other sockets that set it before they bound."""
        self._set(socket.SOL_SOCKET, socket.SO_REUSEPORT, enabled)

    def set_keepalive(self, enabled: bool) -> None:
        """SO_KEEPALIVE: probe a silent peer, at the system's (long) intervals."""
        self._set(socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)

    def set_tcp_nodelay(self, enabled: bool) -> None:
        """TCP_NODELAY: send small segments at once."""
        self._set(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)

    def set_v6only(self, enabled: bool) -> None:
        """IPV6_V6ONLY: whether an IPv6 socket refuses IPv4 peers."""
        self._set(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, enabled)

    def set_broadcast(self, enabled: bool) -> None:
        """SO_BROADCAST: allow datagrams to broadcast addresses."""
        self._set(socket.SOL_SOCKET, socket.SO_BROADCAST, enabled)

    def set_recv_buffer(self, size: int) -> None:
        """Ask for *size* bytes of receive buffer; the system doubles or limits it as it likes."""
        self._set(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def set_send_buffer(self, size: int) -> None:
        """Ask for *size* bytes of send buffer; the system doubles or limits it as it likes."""
        self._set(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def set_recv_timeout(self, ms: int) -> None:
        """Let each receiving call wait at most *ms* milliseconds; 0, the default, is for ever.

        Below 0 or above ``MAX_TIMEOUT_MS`` raises ``ValidationError``. The wait is the kernel's
        (SO_RCVTIMEO): a signal whose Python handler runs in the middle starts it anew.
        """
        if ms != self.recv_timeout_ms or self.closed:
            self._set(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(ms))
            self.recv_timeout_ms = ms

    def set_send_timeout(self, ms: int) -> None:
        """Let each sending call wait at most *ms* milliseconds; else as ``set_recv_timeout``."""
        if ms != self.send_timeout_ms or self.closed:
            self._set(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(ms))
            self.send_timeout_ms = ms

    def set_nonblocking(self, enabled: bool) -> None:
        """Let calls fail with EAGAIN instead of waiting."""
        try:
            self.sock.setblocking(not enabled)
        except OSError as exc:
            raise _failure(exc, "set_nonblocking") from exc

    def local_addr(self) -> SocketAddr:
        """The address this end is bound to."""
        try:
            return SocketAddr.from_sockaddr(self.sock.getsockname())
        except OSError as exc:
            raise _failure(exc, "getsockname") from exc

    def peer_addr(self) -> SocketAddr:
        """The address of the other end; ENOTCONN where there is none."""
        try:
            return SocketAddr.from_sockaddr(self.sock.getpeername())
        except OSError as exc:
            raise _failure(exc, "getpeername") from exc

    def _set(self, level: int, option: int, value: int | bytes) -> None:
        try:
            self.sock.setsockopt(level, option, value)
        except OSError as exc:
            raise _failure(exc, "setsockopt") from exc

    def __enter__(self) -> RawSocket:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "sock", _CLOSED) is not _CLOSED:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()

    def __repr__(self) -> str:
        if self.closed:
            return "<RawSocket closed>"
        return f"<RawSocket fd={self.fd} family={self.family} kind={self.kind}>"


def _timeval(ms: int) -> bytes:
    if not isinstance(ms, int):
        raise ValidationError("timeout_ms", f"must be whole milliseconds, an int, got {ms!r}")
    if not 0 <= ms <= MAX_TIMEOUT_MS:
        raise ValidationError("timeout_ms", f"must be 0..{MAX_TIMEOUT_MS}, got {ms}")
    seconds, rest = divmod(ms, 1000)
    return _TIMEVAL.pack(seconds, rest * 1000)


def _failure(exc: OSError, op: str) -> NetworkError:
    code = exc.errno or 0
    if code == errno.EBADF:
        return closed_error(op)
    return NetworkError(f"{os.strerror(code) if code else exc} ({op})", code)
