"""Connections between processes of one host, over Unix sockets."""

from __future__ import annotations

import errno
import os
import socket
import time

from flare.errors import (
    ConnectionRefused,
    ConnectionTimeout,
    NetworkError,
    ValidationError,
    map_oserror,
)
from flare.net.raw_socket import RawSocket, closed_error
from flare.net.stream import SocketStream
from flare.uds.path import encode_path, path_text

__all__ = ["UnixStream"]


class UnixStream(SocketStream):
    """A Unix socket connection: a blocking byte stream. Use it with ``with``.

    Reads and writes wait for ever until given a timeout. One thread may read while another writes,
    and any thread may ``close``. A peer that closes with bytes unread makes this end's next read
    raise ``ConnectionReset``, as with TCP.
    """

    __slots__ = ("_peer",)
    _peer: str

    def __init__(self, raw: RawSocket, peer: str = "") -> None:
        """Own a connected socket whose other end is at the path *peer*, if it has one."""
        super().__init__(raw)
        self._peer = peer

    @classmethod
    def connect(cls, path: str | os.PathLike[str], timeout_ms: int = 0) -> UnixStream:
        """Connect to the listener at *path*.

        Waits only while the listener's backlog is full: at most *timeout_ms* milliseconds, 0 being
        for ever. Raises ``ConnectionRefused`` where nobody listens or nothing is there,
        ``ConnectionTimeout``, another ``NetworkError``, or ``ValidationError`` for a path that no
        socket can have.
        """
        name, text = encode_path(path), os.fsdecode(path)
        raw = RawSocket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _connect(raw, name, text, timeout_ms)
        except BaseException:
            raw.close()
            raise
        return cls(raw, text)

    @classmethod
    def pair(cls) -> tuple[UnixStream, UnixStream]:
        """Two streams connected to each other, without a path."""
        try:
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as exc:
            raise map_oserror(exc, "socketpair") from exc
        for sock in (one, other):
            sock.setblocking(True)  # socket.setdefaulttimeout is not for us
        return cls(RawSocket.from_socket(one)), cls(RawSocket.from_socket(other))

    def peer_path(self) -> str:
        """The path connected to; ``""`` on the accepting side and for a ``pair``."""
        return self._peer

    def shutdown(self) -> None:
        """End both directions and keep the descriptor: ``shutdown_read`` and ``_write`` in one."""
        self._shutdown(socket.SHUT_RDWR)

    def _peer_name(self) -> str:
        return self._peer or "unnamed peer"

    def _local_name(self) -> str:
        try:
            return path_text(self._raw.sock.getsockname()) or "unnamed"
        except OSError as exc:
            raise closed_error("getsockname") from exc


def _connect(raw: RawSocket, name: bytes, text: str, timeout_ms: int) -> None:
    """Connect *raw*, whose send timeout is what bounds this wait: no poll tells of a free place."""
    if timeout_ms < 0:
        raise ValidationError("timeout_ms", f"must be >= 0, got {timeout_ms}")
    end = time.monotonic() + timeout_ms / 1000
    left = timeout_ms
    while True:
        raw.set_send_timeout(left)
        try:
            raw.sock.connect(name)
            # After a signal socket.connect polls for the outcome, which for a Unix socket always
            # looks like success. Only a connected socket has a peer.
            raw.sock.getpeername()
        except OSError as exc:
            if exc.errno != errno.ENOTCONN:
                raise _connect_error(exc, text, timeout_ms) from exc
        else:
            break
        if timeout_ms:
            left = int((end - time.monotonic()) * 1000)
            if left <= 0:
                raise ConnectionTimeout(text, timeout_ms=timeout_ms)
    raw.set_send_timeout(0)


def _connect_error(exc: OSError, text: str, timeout_ms: int) -> NetworkError:
    match exc.errno:
        case errno.ECONNREFUSED | errno.ENOENT:
            return ConnectionRefused(text, exc.errno)
        case errno.EAGAIN:
            return ConnectionTimeout(text, timeout_ms=timeout_ms)
        case _:
            return map_oserror(exc, f"connect {text}", text)
