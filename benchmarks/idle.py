"""Thousands of keep-alive connections that have asked once and then say nothing."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.load import LoadError

__all__ = ["idle_connections"]

_AT_ONCE = 256
_SECONDS = 25.0
_SOURCES = tuple(f"127.0.0.{number}" for number in range(2, 10))
_REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
# Abandoned by a reset: thousands of sockets in TIME_WAIT would meet the next measurement.
_LINGER_NONE = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")


@contextmanager
def idle_connections(port: int, count: int, body: bytes) -> Iterator[None]:
    """*count* connections to 127.0.0.1:*port*, each answered with *body* once, then silent.

    They come from several loopback addresses, so that ports do not run out, and some hundreds at
    a time, so that no backlog does. Raises ``LoadError`` for a wrong answer, a closed connection,
    here or by the end of the body, or where it takes longer than 25 seconds.
    """
    deadline = time.monotonic() + _SECONDS
    connections: list[socket.socket] = []
    try:
        while len(connections) < count:
            batch = min(_AT_ONCE, count - len(connections))
            for number in range(len(connections), len(connections) + batch):
                connections.append(_connect(port, _SOURCES[number % len(_SOURCES)], deadline))
            for connection in connections[-batch:]:
                _read_answer(connection, body, deadline)
        yield
        closed = _readable(connections)
        if closed:
            raise LoadError(f"{closed} of {count} idle connections were closed")
    finally:
        for connection in connections:
            connection.close()


def _connect(port: int, source: str, deadline: float) -> socket.socket:
    connection = socket.socket()
    try:
        # Linux: choose the port at connect, when the destination is known.
        option = getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)
        connection.setsockopt(socket.IPPROTO_IP, option, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
        connection.bind((source, 0))
        _limit(connection, deadline)
        connection.connect(("127.0.0.1", port))
        connection.sendall(_REQUEST)
    except OSError as error:
        connection.close()
        raise _failed(error) from error
    return connection


def _read_answer(connection: socket.socket, body: bytes, deadline: float) -> None:
    received = b""
    while True:
        head, blank, rest = received.partition(b"\r\n\r\n")
        if blank and len(rest) >= len(body):
            break
        try:
            _limit(connection, deadline)
            piece = connection.recv(65536)
        except OSError as error:
            raise _failed(error) from error
        if not piece:
            raise LoadError("a connection that was to be idle was closed")
        received += piece
    if rest != body or not head.startswith(b"HTTP/1.1 200 "):
        raise LoadError(f"wrong answer on an idle connection: {received[:80]!r}")
    connection.setblocking(False)


def _limit(connection: socket.socket, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(left)


def _failed(error: OSError) -> LoadError:
    if isinstance(error, TimeoutError):
        return LoadError(f"not all idle connections were answered within {_SECONDS:.0f} s")
    return LoadError(f"an idle connection failed: {error}")


def _readable(connections: list[socket.socket]) -> int:
    """How many have something to read: nobody was asked, so it is their end."""
    poller = select.poll()
    for connection in connections:
        poller.register(connection, select.POLLIN)
    return len(poller.poll(0))
