"""TCP listeners."""

from __future__ import annotations

import socket
from typing import Any

from flare.errors import map_oserror
from flare.net import IpAddr, RawSocket, SocketAddr
from flare.net.address import check_addr
from flare.net.listener import DEFAULT_BACKLOG, SocketListener, accept_borrowed, check_backlog
from flare.tcp.stream import TcpStream

__all__ = ["TcpListener", "accept_fd"]

_UNSPECIFIED_V6 = IpAddr.unspecified_v6()


class TcpListener(SocketListener[TcpStream]):
    """A listening TCP socket. Use it with ``with``; iterating accepts until it is closed.

    Any thread may ``close`` it; a thread blocked in ``accept`` is woken. Several threads may accept
    at once.
    """

    __slots__ = ("_addr",)
    _families = (socket.AF_INET, socket.AF_INET6)

    def __init__(self, raw: RawSocket) -> None:
        """Own a socket that listens already; see ``bind`` and ``from_fd``."""
        super().__init__(raw)
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
        cls, addr: SocketAddr, backlog: int = DEFAULT_BACKLOG, reuse_port: bool = False
    ) -> TcpListener:
        """``bind``, choosing how many connections may wait to be accepted.

        With *reuse_port* several listeners share the port, if each of them says so, the first
        included; the system spreads connections over them.
        """
        check_addr(addr)
        check_backlog(backlog)
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
                raise map_oserror(exc, f"bind {addr}", addr) from exc
            return cls(raw)
        except BaseException:
            raw.close()
            raise

    def local_addr(self) -> SocketAddr:
        """Where it listens, with the real port; known also after ``close``."""
        return self._addr

    def _stream(self, raw: RawSocket, peer: Any) -> TcpStream:
        return _stream(raw, peer)

    def _local_name(self) -> str:
        return str(self._addr)


def accept_fd(listener_fd: int) -> TcpStream:
    """``TcpListener.accept`` on a borrowed descriptor, which stays open and the caller's."""
    return _stream(*accept_borrowed(listener_fd))


def _stream(raw: RawSocket, peer: Any) -> TcpStream:
    try:
        raw.set_tcp_nodelay(True)
    except BaseException:
        raw.close()
        raise
    return TcpStream(raw, peer)
