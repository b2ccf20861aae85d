"""TCP connections."""

from __future__ import annotations

import socket
from typing import Any, overload

from flare.errors import ValidationError
from flare.net import RawSocket, SocketAddr
from flare.net.address import check_addr
from flare.net.stream import SocketStream
from flare.tcp.connect import connect_any, connect_blocking, connect_host

__all__ = ["TcpStream"]

_DEFAULT_CONNECT_TIMEOUT_MS = 5000


class TcpStream(SocketStream):
    """A TCP connection: a blocking byte stream. Use it with ``with``.

    TCP_NODELAY is on, keepalive off; reads and writes wait for ever until given a timeout. One
    thread may read while another writes, and any thread may ``close``.
    """

    __slots__ = ("_peer",)
    _peer: SocketAddr | tuple[Any, ...]

    def __init__(self, raw: RawSocket, peer: SocketAddr | tuple[Any, ...]) -> None:
        """Own a connected socket whose other end is *peer*, as a value or as a sockaddr tuple."""
        super().__init__(raw)
        self._peer = peer

    @overload
    @classmethod
    def connect(cls, addr: SocketAddr, /) -> TcpStream: ...
    @overload
    @classmethod
    def connect(cls, host: str, /, port: int, timeout_ms: int = ...) -> TcpStream: ...
    @overload
    @classmethod
    def connect(cls, *, host: str, port: int, timeout_ms: int = ...) -> TcpStream: ...
    @classmethod
    def connect(
        cls,
        addr: SocketAddr | str | None = None,
        port: int | None = None,
        timeout_ms: int | None = None,
        *,
        host: str | None = None,
    ) -> TcpStream:
        """Connect to an address, or to a host by name.

        ``connect(addr)`` waits for as long as the system does, minutes for a silent address.

        ``connect(host, port, timeout_ms=5000)`` looks the host up and races its addresses (happy
        eyeballs, RFC 8305), with one deadline for the look-up and all attempts.

        Raises ``ConnectionRefused``, ``ConnectionTimeout`` or another ``NetworkError`` that names
        the target and has each address's own error in ``attempts``; ``DnsError`` where the look-up
        failed; ``AddressParseError`` for a host or port that cannot be.
        """
        if isinstance(addr, SocketAddr):
            if port is not None or timeout_ms is not None or host is not None:
                raise TypeError("connect(addr) takes no more; see connect_timeout")
            return cls(connect_blocking(addr), addr)
        name = addr if addr is not None else host
        if name is None or port is None:
            raise TypeError("connect takes a SocketAddr, or a host and a port")
        limit = _DEFAULT_CONNECT_TIMEOUT_MS if timeout_ms is None else timeout_ms
        return cls(*connect_host(name, port, _positive(limit)))

    @classmethod
    def connect_timeout(cls, addr: SocketAddr, timeout_ms: int) -> TcpStream:
        """Connect to *addr* within *timeout_ms* milliseconds, or raise ``ConnectionTimeout``."""
        check_addr(addr)
        return cls(*connect_any([addr], _positive(timeout_ms), str(addr)))

    @classmethod
    def from_socket(cls, sock: socket.socket, peer: SocketAddr | None = None) -> TcpStream:
        """Take over a connected socket, as ``RawSocket.from_socket`` does.

        Where *peer* is not given the system is asked; a socket that is not connected (any more)
        is closed, and raises ``NetworkError``.
        """
        raw = RawSocket.from_socket(sock)
        try:
            if peer is None:
                peer = raw.peer_addr()
            raw.set_tcp_nodelay(True)
        except BaseException:
            raw.close()
            raise
        return cls(raw, peer)

    def peer_addr(self) -> SocketAddr:
        """The address of the other end; known also when it is gone, and after ``close``."""
        if not isinstance(self._peer, SocketAddr):
            self._peer = SocketAddr.from_sockaddr(self._peer)
        return self._peer

    def local_addr(self) -> SocketAddr:
        """The address of this end."""
        return self._raw.local_addr()

    def set_nodelay(self, enabled: bool) -> None:
        """Send small writes at once (on by default) or let the system gather them."""
        self._raw.set_tcp_nodelay(enabled)

    def set_keepalive(self, enabled: bool) -> None:
        """Let the system probe a silent peer, at its own (long) intervals. Off by default."""
        self._raw.set_keepalive(enabled)

    def _peer_name(self) -> str:
        return str(self.peer_addr())

    def _local_name(self) -> str:
        return str(self.local_addr())


def _positive(timeout_ms: int) -> int:
    if timeout_ms <= 0:
        raise ValidationError("timeout_ms", f"must be > 0, got {timeout_ms}")
    return timeout_ms
