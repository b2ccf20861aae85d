"""Where the client's bytes go: the seam between HTTP and what carries it.

A transport makes streams; ``TcpTransport`` makes TCP connections, ``UnixTransport`` those
to a socket of this host. Another one may hand out
streams in memory for tests, or wrap what this one makes.
"""

from __future__ import annotations

import os
from time import monotonic
from typing import Protocol, runtime_checkable

from flare.errors import ValidationError
from flare.utils.limits import MAX_TIMEOUT_MS

__all__ = ["Stream", "TcpTransport", "Transport", "UnixTransport"]


class Stream(Protocol):
    """What HTTP asks of a connection; every stream of flare has it.

    ``read`` waits for at most *n* bytes (``b""`` is the end) and ``write`` returns how many were
    taken; both raise ``flare.Timeout`` when the time set for a wait is up, or at once in
    non-blocking mode. A stream with a descriptor is watched for an early answer while a large
    request goes out, and for a silent end while it is kept; one without has ``fileno()`` -1. A
    plain socket's may have ``send_file`` (see ``flare.net.stream``), and sends files by that.
    """

    def read(self, n: int, /) -> bytes: ...
    def write(self, data: bytes | memoryview, /) -> int: ...
    def close(self) -> None: ...
    def fileno(self) -> int: ...
    def set_recv_timeout(self, ms: int, /) -> None: ...
    def set_send_timeout(self, ms: int, /) -> None: ...
    def set_nonblocking(self, enabled: bool, /) -> None: ...


@runtime_checkable
class Transport(Protocol):
    """Anything with ``connect``: a new stream to *host* and *port*, for one connection.

    *host* is a name or an address without brackets. *deadline* is the ``time.monotonic()`` at
    which to give up with ``ConnectionTimeout``, ``None`` for never. Called by several threads. One
    with a true attribute ``in_process`` is asked for https, too, and its streams carry that without
    TLS.
    """

    def connect(self, host: str, port: int, deadline: float | None, /) -> Stream: ...


class TcpTransport:
    """TCP, every address of the host raced (RFC 8305)."""

    __slots__ = ()

    def connect(self, host: str, port: int, deadline: float | None) -> Stream:
        """See ``flare.tcp.TcpStream.connect``."""
        from flare.tcp import TcpStream

        if deadline is None:
            return TcpStream.connect(host, port, MAX_TIMEOUT_MS)
        return TcpStream.connect(host, port, max(1, int((deadline - monotonic()) * 1000)))


class UnixTransport:
    """A Unix socket at *path*, whatever host the URL names."""

    __slots__ = ("_path",)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        if not self._path:
            raise ValidationError("transport", "unix: has no path behind it")

    def connect(self, host: str, port: int, deadline: float | None) -> Stream:
        """See ``flare.uds.UnixStream.connect``."""
        from flare.uds import UnixStream

        if deadline is None:
            return UnixStream.connect(self._path)
        return UnixStream.connect(self._path, max(1, int((deadline - monotonic()) * 1000)))
