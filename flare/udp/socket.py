"""UDP sockets: datagrams to and from addresses, none of them promised to arrive."""

from __future__ import annotations

import errno
import os
import socket
import threading
import warnings
from typing import TYPE_CHECKING, Any

from flare.errors import NetworkError, Timeout, ValidationError, map_oserror
from flare.net import RawSocket, SocketAddr
from flare.net.address import check_addr
from flare.net.raw_socket import closed_error

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["UDP_MAX_PAYLOAD", "DatagramTooLarge", "UdpSocket", "check_size", "sockaddr_for"]

UDP_MAX_PAYLOAD = 65507
"""The longest payload there is: 65535 bytes less an IPv4 header of 20 and a UDP header of 8."""

_MAX_DATAGRAM = 65535
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


class DatagramTooLarge(NetworkError):
    """A datagram of *size* bytes cannot be sent (EMSGSIZE), only one of at most *max_size*.

    Where the system refuses less than ``UDP_MAX_PAYLOAD`` without saying what it would take,
    *max_size* is one less than *size*.
    """

    def __init__(self, size: int, max_size: int = UDP_MAX_PAYLOAD) -> None:
        super().__init__(f"{size} bytes (max {max_size})", errno.EMSGSIZE)
        self.size = size
        self.max_size = max_size

    def __str__(self) -> str:
        return f"DatagramTooLarge: {self.message}"

    def _arguments(self) -> tuple[Any, ...]:
        return self.size, self.max_size


class UdpSocket:
    """A UDP socket. Use it with ``with``.

    One thread may receive while another sends, and any thread may ``close``: one blocked in a call
    is woken and gets ``NetworkError`` with EBADF, as does every operation after it. Receiving waits
    for ever until given a timeout. Signals do not end a wait unless their Python handler raises.
    """

    __slots__ = ("__weakref__", "_family_open", "_lock", "_raw", "_settings")

    def __init__(self, raw: RawSocket) -> None:
        """Own *raw*, a datagram socket; see ``bind`` and ``unbound``."""
        self._raw = raw
        # An IPv4 socket that may still be exchanged for an IPv6 one, which takes the settings over.
        self._family_open = False
        self._settings: dict[str, int] = {}
        # Guards the three above. Reentrant, for a signal handler may close what it interrupts.
        self._lock = threading.RLock()

    @classmethod
    def bind(
        cls, addr: SocketAddr, reuse_addr: bool = False, reuse_port: bool = False
    ) -> UdpSocket:
        """Receive what is sent to *addr* (port 0: one the system picks).

        A port that is taken raises ``AddressInUse``; other failures are a ``NetworkError``. With
        *reuse_port* several sockets share the port, if each says so, and each sender's datagrams
        go to one of them. With *reuse_addr* on all, Linux lets a later socket take the datagrams
        of an earlier one; it is meant for multicast. Bound to ``[::]`` it takes IPv4 datagrams
        too, whose senders have v4-mapped addresses.
        """
        check_addr(addr)
        raw = _open(socket.AF_INET6 if addr.ip.is_v6() else socket.AF_INET)
        try:
            if reuse_addr:
                raw.set_reuse_addr(True)
            if reuse_port:
                raw.set_reuse_port(True)
            try:
                raw.sock.bind(addr.to_sockaddr())
            except OSError as exc:
                raise map_oserror(exc, f"bind {addr}", addr) from exc
        except BaseException:
            raw.close()
            raise
        return cls(raw)

    @classmethod
    def unbound(cls, family: int | None = None) -> UdpSocket:
        """A socket for sending; the system gives it a port at the first ``send_to``.

        *family* is ``socket.AF_INET`` or ``AF_INET6``; ``None`` leaves it to the first
        ``send_to``.
        """
        if family not in (None, *_FAMILIES):
            raise ValidationError("family", f"must be AF_INET or AF_INET6, got {family}")
        made = cls(_open(socket.AF_INET if family is None else family))
        made._family_open = family is None
        return made

    def send_to(self, data: ReadableBuffer, addr: SocketAddr) -> int:
        """Send *data* to *addr* as one datagram, and return its size. ``b""`` is one, too.

        More than ``UDP_MAX_PAYLOAD`` bytes, or more than the system can send, raises
        ``DatagramTooLarge``. Waits only while the send buffer is full, which raises ``Timeout``
        when the send timeout is over. An IPv6 socket sends to IPv4 addresses, too; an IPv4 socket
        asked to send to an IPv6 address raises ``NetworkError`` with EAFNOSUPPORT.
        """
        check_addr(addr)
        size = check_size(data)
        if self._family_open:
            self._choose_family(addr)
        raw = self._raw
        try:
            return raw.sock.sendto(data, sockaddr_for(raw.family, addr))
        except OSError as exc:
            if exc.errno == errno.EMSGSIZE:
                raise DatagramTooLarge(size, size - 1) from exc
            raise self._failure(exc, "sendto", raw.send_timeout_ms, str(addr)) from exc

    def recv_from(self, max_size: int = _MAX_DATAGRAM) -> tuple[bytes, SocketAddr]:
        """Wait for a datagram; returns it and its sender. An empty one is ``b""``.

        One longer than *max_size* is cut, which by default cannot be. Raises ``Timeout`` where none
        came within the receive timeout (none by default) or the socket is non-blocking.
        """
        return self._receive(max_size, 0)

    def try_recv_from(self, max_size: int = _MAX_DATAGRAM) -> tuple[bytes, SocketAddr]:
        """``recv_from`` without waiting: ``Timeout`` where there is none now."""
        return self._receive(max_size, socket.MSG_DONTWAIT)

    def recv_from_into(self, buffer: WriteableBuffer) -> tuple[int, SocketAddr]:
        """``recv_from`` into *buffer*; returns how many bytes are in it, and the sender.

        What of the datagram has no room is lost.
        """
        while True:
            raw = self._raw
            try:
                size, sender = raw.sock.recvfrom_into(buffer)
            except OSError as exc:
                self._judge(raw, exc, waits=True)
            else:
                if sender is not None:
                    return size, SocketAddr.from_sockaddr(sender)
                self._judge(raw, None, waits=True)

    def _receive(self, max_size: int, flags: int) -> tuple[bytes, SocketAddr]:
        while True:
            raw = self._raw
            try:
                data, sender = raw.sock.recvfrom(max_size, flags)
            except OSError as exc:
                self._judge(raw, exc, waits=not flags)
            else:
                if sender is not None:
                    return data, SocketAddr.from_sockaddr(sender)
                self._judge(raw, None, waits=not flags)

    def _judge(self, raw: RawSocket, exc: OSError | None, *, waits: bool) -> None:
        """Raise what a failed receive on *raw* means; return where another socket took its place.

        Without *exc* the receive came back from a shutdown: with nothing, and from nobody.
        """
        if raw is not self._raw:
            return
        if exc is None:
            raise closed_error("recvfrom")
        raise self._failure(exc, "recvfrom", raw.recv_timeout_ms if waits else 0) from exc

    def set_recv_timeout(self, ms: int) -> None:
        """Let each receive wait at most *ms* milliseconds; 0, the default, is for ever.

        A signal whose Python handler runs in the middle starts the wait anew.
        """
        self._set("set_recv_timeout", ms)

    def set_send_timeout(self, ms: int) -> None:
        """Let each send wait at most *ms* milliseconds for room; 0, the default, is for ever."""
        self._set("set_send_timeout", ms)

    def set_nonblocking(self, enabled: bool) -> None:
        """Never wait: what would, raises ``Timeout`` with ``ms`` 0."""
        self._set("set_nonblocking", enabled)

    def set_recv_buffer(self, size: int) -> None:
        """Ask for *size* bytes of receive buffer; the system doubles or limits it as it likes."""
        self._set("set_recv_buffer", size)

    def set_send_buffer(self, size: int) -> None:
        """Ask for *size* bytes of send buffer; the system doubles or limits it as it likes."""
        self._set("set_send_buffer", size)

    def set_broadcast(self, enabled: bool) -> None:
        """Allow datagrams to broadcast addresses, such as 255.255.255.255. Off by default."""
        self._set("set_broadcast", enabled)

    def local_addr(self) -> SocketAddr:
        """The address of this end; of an ``unbound`` socket, with port 0 before it has sent."""
        return self._raw.local_addr()

    def fd(self) -> int:
        """The same as ``fileno``. An ``unbound`` socket's may change at its first ``send_to``."""
        return self._raw.fd

    def fileno(self) -> int:
        """The descriptor, still owned by the socket; -1 after ``close``."""
        return self._raw.fd

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._raw.closed

    def close(self) -> None:
        """Close the socket. Idempotent, and safe while other threads send or receive."""
        with self._lock:
            self._raw.close()

    def _set(self, setter: str, value: int) -> None:
        with self._lock:
            getattr(self._raw, setter)(value)
            if self._family_open:
                self._settings[setter] = value

    def _choose_family(self, addr: SocketAddr) -> None:
        """Settle on the family of *addr*, the first to be sent to."""
        with self._lock:
            if not self._family_open:
                return
            if addr.ip.is_v6() and not self._raw.closed:
                placeholder, raw = self._raw, _open(socket.AF_INET6)
                try:
                    for setter, value in self._settings.items():
                        getattr(raw, setter)(value)
                except BaseException:
                    raw.close()
                    raise
                self._raw = raw
                if placeholder.closed:  # by a signal handler, just now
                    raw.close()
                placeholder.close()  # a thread that waits in it goes on with the new one
            self._family_open = False
            self._settings.clear()

    def _failure(self, exc: OSError, op: str, ms: int, target: str = "") -> NetworkError:
        if self._raw.closed:
            return closed_error(op)
        if isinstance(exc, BlockingIOError):
            return Timeout(op, ms if self._raw.sock.getblocking() else 0)
        return map_oserror(exc, f"{op} {target}" if target else op, target)

    def __enter__(self) -> UdpSocket:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        raw: Any = getattr(self, "_raw", None)
        if raw is not None and not raw.closed:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            raw.close()

    def __repr__(self) -> str:
        if self.closed:
            return "<UdpSocket closed>"
        try:
            local = str(self.local_addr())
        except NetworkError:
            local = "?"
        return f"<UdpSocket fd={self.fileno()} {local}>"


def check_size(data: ReadableBuffer) -> int:
    """The size of *data* in bytes; ``DatagramTooLarge`` where no datagram can hold it."""
    size = len(data) if type(data) is bytes else memoryview(data).nbytes
    if size > UDP_MAX_PAYLOAD:
        raise DatagramTooLarge(size)
    return size


def sockaddr_for(family: int, addr: SocketAddr) -> tuple[str, int] | tuple[str, int, int, int]:
    """*addr* as a socket of *family* takes it: v4-mapped, or the IPv4 address that is mapped.

    An IPv6 address for an IPv4 socket raises ``NetworkError`` with EAFNOSUPPORT.
    """
    if addr.ip.is_v6() == (family == socket.AF_INET6):
        return addr.to_sockaddr()
    if family == socket.AF_INET6:
        return f"::ffff:{addr.ip}", addr.port, 0, 0
    ip = addr.ip.unmap()
    if ip.is_v6():
        code = errno.EAFNOSUPPORT
        raise NetworkError(f"{os.strerror(code)} (sendto {addr} on an IPv4 socket)", code)
    return str(ip), addr.port


def _open(family: int) -> RawSocket:
    raw = RawSocket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        try:
            raw.set_v6only(False)
        except BaseException:
            raw.close()
            raise
    return raw
