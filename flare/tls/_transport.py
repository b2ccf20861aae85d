"""What TLS asks of the stream beneath it, past its public face: deadlines, and never to wait.

The one module of this package that looks inside a ``SocketStream``.
"""

from __future__ import annotations

import math
import select
import socket
import time
from typing import TYPE_CHECKING, TypeAlias

from flare.errors import NetworkError, Timeout
from flare.net.stream import SocketStream
from flare.tls.engine import TlsEngine

if TYPE_CHECKING:
    from flare.tls.stream import TlsStream

    Transport: TypeAlias = SocketStream | TlsStream

__all__ = [
    "discard_now",
    "is_nonblocking",
    "limit_recv",
    "refuse",
    "restore_recv",
    "shake_hands",
    "timeouts",
    "wait_for_room",
    "write_now",
]

_RECV_BYTES = 16 * 1024
_DISCARD_BYTES = 64 * 1024
_NOW = socket.MSG_DONTWAIT
_SEND_NOW = _NOW | getattr(socket, "MSG_NOSIGNAL", 0)


def shake_hands(under: Transport, engine: TlsEngine, timeout_ms: int, end: float | None) -> None:
    """Do the whole handshake over *under*, a blocking stream, until the time *end*.

    Raises what ``TlsEngine.handshake`` raises, after the alert has been sent; ``Timeout`` of
    ``"tls handshake"`` and *timeout_ms*; and what the stream raises. Its timeouts are left as they
    were.
    """
    before = timeouts(under)
    late = Timeout("tls handshake", timeout_ms)
    try:
        while True:
            done = engine.handshake()
            data = engine.pending_output()
            if data:
                if end is not None:
                    under.set_send_timeout(_left_ms(end, late))
                under.write_all(data)
            if done:
                break
            if end is not None:
                under.set_recv_timeout(_left_ms(end, late))
            engine.receive(under.read(_RECV_BYTES))
    except Timeout as exc:
        raise late from (None if exc is late else exc)
    except NetworkError:
        refuse(under, engine)
        raise
    if end is not None:
        under.set_recv_timeout(before[0])
        under.set_send_timeout(before[1])


def refuse(under: Transport, engine: TlsEngine) -> None:
    """Send the alert of a failed handshake, and read away what would turn the end into a reset."""
    write_now(under, engine.pending_output())
    try:
        if isinstance(under, SocketStream):
            under._raw.sock.shutdown(socket.SHUT_WR)
    except OSError:
        return
    discard_now(under)


def timeouts(stream: Transport) -> tuple[int, int]:
    """The receive and the send timeout of *stream*, in milliseconds; 0 is none."""
    if isinstance(stream, SocketStream):
        return stream._raw.recv_timeout_ms, stream._raw.send_timeout_ms
    return stream._recv_ms, stream._send_ms


def is_nonblocking(stream: Transport) -> bool:
    """Whether *stream* never waits."""
    if isinstance(stream, SocketStream):
        return not stream._raw.sock.getblocking()
    return stream._nonblocking


def limit_recv(stream: Transport, end: float) -> None:
    """Let reads of *stream* wait no longer than until *end*; ``Timeout`` where that is past."""
    stream.set_recv_timeout(_left_ms(end, Timeout("recv")))


def restore_recv(stream: Transport, ms: int) -> None:
    """Set the receive timeout back, if *stream* is still open."""
    try:
        stream.set_recv_timeout(ms)
    except NetworkError:
        pass


def wait_for_room(stream: Transport, ms: int) -> bool:
    """Wait at most *ms* milliseconds until much can be sent at once; whether it can.

    Also true when the connection failed or was closed meanwhile: sending tells.
    """
    # The reference keeps the descriptor from being closed, and so `close` shuts the connection
    # down, which wakes the poll.
    sock = _socket_of(stream)
    poll = select.poll()
    try:
        poll.register(sock, select.POLLOUT)
    except (OSError, ValueError):
        return True  # closed
    return bool(poll.poll(ms))


def write_now(stream: Transport, data: bytes) -> int:
    """Send what of *data* can be sent at once; how much that was. Failures show when reading."""
    if not isinstance(stream, SocketStream):
        return stream._write_now(data) if data else 0
    try:
        return stream._raw.sock.send(data, _SEND_NOW) if data else 0
    except OSError:
        return 0


def discard_now(stream: Transport) -> None:
    """Take what has arrived, and forget it."""
    try:
        _socket_of(stream).recv(_DISCARD_BYTES, _NOW)
    except OSError:
        pass


def _socket_of(stream: Transport) -> socket.socket:
    while not isinstance(stream, SocketStream):
        stream = stream._under
    return stream._raw.sock


def _left_ms(end: float, late: Timeout) -> int:
    left = math.ceil((end - time.monotonic()) * 1000)
    if left <= 0:
        raise late
    return left
