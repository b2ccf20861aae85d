"""A server's handshake that never waits, for event loops."""

from __future__ import annotations

import time

from flare.errors import NetworkError, Timeout
from flare.runtime import INTEREST_READ, INTEREST_WRITE
from flare.tcp import TcpStream
from flare.tls import _transport
from flare.tls.engine import TlsEngine
from flare.tls.errors import TlsServerError
from flare.tls.info import TlsInfo
from flare.tls.stream import TlsStream

__all__ = ["TlsHandshake", "as_server_error", "timed_out"]

_RECV_BYTES = 16 * 1024


class TlsHandshake:
    """One handshake under way, from ``TlsAcceptor.begin``. For one thread at a time.

    Call ``step`` whenever the descriptor is ready for what the last ``step`` asked for. ``close``
    ends it early, as when its time is up.
    """

    __slots__ = ("_end", "_engine", "_owed", "_stream", "_timeout_ms")

    def __init__(self, stream: TcpStream, engine: TlsEngine, timeout_ms: int) -> None:
        self._stream = stream
        self._engine = engine
        self._timeout_ms = timeout_ms
        self._end = time.monotonic() + timeout_ms / 1000 if timeout_ms else None
        self._owed = b""

    def step(self) -> int:
        """Go on as far as it goes; 0 when done, else ``INTEREST_READ`` or ``INTEREST_WRITE``.

        Raises ``TlsServerError`` where the handshake failed or its time (``handshake_timeout_ms``)
        is up; the connection is then closed. What it does for one call is bounded.
        """
        try:
            if self._end is not None and time.monotonic() >= self._end:
                raise timed_out(self._timeout_ms)
            return self._step()
        except NetworkError as exc:
            _transport.refuse(self._stream, self._engine)
            self._stream.close()
            if isinstance(exc, TlsServerError):
                raise
            raise as_server_error(exc) from exc
        except BaseException:
            self._stream.close()
            raise

    def _step(self) -> int:
        while True:
            if self._owed:
                try:
                    self._owed = self._owed[self._stream.write(self._owed) :]
                except Timeout:
                    return INTEREST_WRITE
            elif self._engine.established:
                return 0
            else:
                try:
                    data = self._stream.read(_RECV_BYTES)
                except Timeout:
                    return INTEREST_READ
                self._engine.receive(data)
                self._engine.handshake()
                self._owed = self._engine.pending_output()

    def result(self) -> tuple[TlsStream, TlsInfo]:
        """The stream, still non-blocking, and what was agreed; only after ``step`` returned 0."""
        if not self._engine.established or self._owed:
            raise RuntimeError("the handshake is not done")
        return TlsStream(self._stream, self._engine), self._engine.info()

    def fileno(self) -> int:
        """The descriptor to watch; -1 after ``close``."""
        return self._stream.fileno()

    def close(self) -> None:
        """Give up and close the connection. Idempotent; not for after ``result``."""
        self._stream.close()


def timed_out(timeout_ms: int) -> TlsServerError:
    """The error of a handshake that took too long."""
    return TlsServerError(f"TLS handshake timed out ({timeout_ms}ms)")


def as_server_error(exc: NetworkError) -> TlsServerError:
    """A failure of the connection beneath as a failure of the handshake."""
    return TlsServerError(f"TLS handshake failed: {exc}", exc.code)
