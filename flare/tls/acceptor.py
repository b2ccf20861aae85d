"""The server's end of TLS: certificates loaded, exchanged while serving, handshakes done."""

from __future__ import annotations

import errno
import os
import ssl
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace

from flare.errors import NetworkError, Timeout
from flare.net import RawSocket, SocketAddr
from flare.net.stream import SocketStream
from flare.tcp import TcpListener, TcpStream
from flare.tls import _transport
from flare.tls.engine import TlsEngine
from flare.tls.errors import TlsServerError
from flare.tls.handshake import TlsHandshake, as_server_error, timed_out
from flare.tls.info import TlsInfo
from flare.tls.policy import file_stamp
from flare.tls.server_config import DEFAULT_TICKET_LIFETIME_S, TlsServerConfig
from flare.tls.server_context import Certificates, base_context
from flare.tls.stream import TlsStream

__all__ = ["TlsAcceptor"]


class TlsAcceptor:
    """Makes accepted TCP connections into TLS ones. Any number of threads may share it.

    With ``bind`` it has a listener of its own::

        with TlsAcceptor.bind(addr, TlsServerConfig("cert.pem", "key.pem")) as acceptor:
            for stream, info in acceptor:
                ...

    Handshakes then happen one after the other on the accepting thread. To keep a slow client from
    holding up the others, accept with a ``TcpListener`` and call ``handshake`` on the connection's
    own thread, or use ``begin`` with an event loop.
    """

    def __init__(self, config: TlsServerConfig) -> None:
        """Load the files of *config*; ``TlsServerError`` for one that cannot be used.

        Later changes to *config* are not looked at: ``reload`` reads the same files again.
        """
        config.check()
        self._config = replace(config, alpn=list(config.alpn), sni_certs=dict(config.sni_certs))
        if config.ticket_lifetime_s > DEFAULT_TICKET_LIFETIME_S:
            warnings.warn(
                f"ticket_lifetime_s={config.ticket_lifetime_s}: OpenSSL ends sessions after "
                f"{DEFAULT_TICKET_LIFETIME_S} seconds",
                RuntimeWarning,
                stacklevel=2,
            )
        self._lock = threading.Lock()  # guards the replacing of what follows
        self._stamps = self._file_stamps()
        self._certificates = [] if config.ssl_context else [Certificates(self._config)]
        self._base = self._new_base()
        self._born = time.monotonic()
        self._ahead: list[ssl.SSLContext] = []
        self._listener: TcpListener | None = None

    @classmethod
    def bind(cls, addr: SocketAddr, config: TlsServerConfig) -> TlsAcceptor:
        """An acceptor with a listener at *addr*; raises what ``TcpListener.bind`` raises, too."""
        acceptor = cls(config)
        acceptor._listener = TcpListener.bind(addr)
        return acceptor

    @property
    def config(self) -> TlsServerConfig:
        """The configuration, as it was given."""
        return self._config

    @property
    def context(self) -> ssl.SSLContext:
        """The context that the next connection begins with."""
        base = self._base
        if time.monotonic() - self._born < self._config.ticket_lifetime_s:
            return base
        return self._renew()

    # -- certificates -------------------------------------------------------------------

    def reload(self) -> None:
        """Read the files again: connections from now on get what is in them.

        Connections there are go on as they are. Where a file cannot be used this raises
        ``TlsServerError``, and nothing has changed. Tickets stay good, except where client
        certificates are asked for: those are verified anew. With an ``ssl_context`` of the
        caller's there is nothing to read.
        """
        if self._config.ssl_context is not None:
            return
        with self._lock:
            stamps = self._file_stamps()
            fresh = Certificates(self._config)
            if self._config.verify_mode() != ssl.CERT_NONE:
                # A resumed session would get round the client certificates just loaded.
                self._base, self._born = self._new_base(), time.monotonic()
                self._ahead = []
            self._certificates[0] = fresh
            self._stamps = stamps

    def reload_if_changed(self) -> bool:
        """``reload`` if a file is another one, or was changed, since; whether it was."""
        if self._file_stamps() == self._stamps:
            return False
        self.reload()
        return True

    def _file_stamps(self) -> list[tuple[int, ...]]:
        return [file_stamp(path) for path in self._config.files()]

    def _new_base(self) -> ssl.SSLContext:
        if self._config.ssl_context is not None:
            return self._config.ssl_context
        certificates = self._certificates
        return base_context(self._config, lambda: certificates[0])

    def prepare(self, renewals: int) -> None:
        """Make the keys of tickets ahead, for so many times that they are renewed: processes that
        are forked from now on will have them in common. Nothing happens while some are left."""
        with self._lock:
            if self._config.ssl_context is not None or not self._config.enable_session_tickets:
                return
            periods = int((time.monotonic() - self._born) // self._config.ticket_lifetime_s)
            if periods < len(self._ahead):
                return
            self._base, *self._ahead = [self._new_base() for _ in range(renewals + 1)]
            self._born = time.monotonic()

    def _renew(self) -> ssl.SSLContext:
        """Begin to use new keys for tickets; where the files fail meanwhile, the old ones stay."""
        with self._lock:
            lifetime_s = self._config.ticket_lifetime_s
            periods = int((time.monotonic() - self._born) // lifetime_s)
            if 0 < periods <= len(self._ahead):
                # In step with other processes that have the same.
                self._base, self._ahead = self._ahead[periods - 1], self._ahead[periods:]
                self._born += periods * lifetime_s
            elif periods:
                self._ahead, self._born = [], time.monotonic()
                try:
                    self._base = self._new_base()
                except TlsServerError as exc:
                    warnings.warn(f"ticket keys not renewed: {exc}", RuntimeWarning, stacklevel=3)
            return self._base

    # -- handshakes ---------------------------------------------------------------------

    def handshake(self, stream: SocketStream | TlsStream) -> tuple[TlsStream, TlsInfo]:
        """Do the server's part of the handshake on *stream*, for at most the configured time.

        *stream* belongs to the new stream from here on and keeps its timeouts; it is closed where
        this raises ``TlsServerError``, whatever the client did. A client that speaks plain HTTP is
        told so.
        """
        ms = self._config.handshake_timeout_ms
        end = time.monotonic() + ms / 1000 if ms else None
        try:
            engine = self.engine()
            stream.set_nonblocking(False)
            _transport.shake_hands(stream, engine, ms, end)
        except BaseException as exc:
            stream.close()
            if isinstance(exc, Timeout):
                raise timed_out(ms) from exc
            if isinstance(exc, NetworkError) and not isinstance(exc, TlsServerError):
                raise as_server_error(exc) from exc
            raise
        return TlsStream(stream, engine), engine.info()

    def handshake_fd(self, fd: int) -> tuple[TlsStream, TlsInfo]:
        """``handshake`` on a connected descriptor, which belongs to the stream from here on."""
        try:
            raw = RawSocket.from_fd(fd)
        except BaseException as exc:
            try:
                os.close(fd)
            except OSError:
                pass
            if isinstance(exc, NetworkError):
                raise as_server_error(exc) from exc
            raise
        try:
            stream = TcpStream(raw, raw.peer_addr())
        except BaseException as exc:
            raw.close()
            if isinstance(exc, NetworkError):
                raise as_server_error(exc) from exc
            raise
        return self.handshake(stream)

    def begin(self, stream: TcpStream) -> TlsHandshake:
        """Begin a handshake on *stream* that never waits; it makes *stream* non-blocking.

        *stream* belongs to the handshake from here on.
        """
        try:
            stream.set_nonblocking(True)
            return TlsHandshake(stream, self.engine(), self._config.handshake_timeout_ms)
        except BaseException:
            stream.close()
            raise

    def engine(self) -> TlsEngine:
        """The server's end of one connection, for whoever does the input and output itself."""
        return TlsEngine(self.context, server_side=True)

    def info_placeholder(self) -> TlsInfo:
        """A ``TlsInfo`` with nothing in it."""
        return TlsInfo()

    # -- the listener -------------------------------------------------------------------

    def accept(self) -> tuple[TlsStream, TlsInfo]:
        """Wait for a client and shake hands with it; only after ``bind``.

        Raises ``TlsServerError`` where the handshake failed: the next ``accept`` is for the next
        client. What the listener raises is as from ``TcpListener.accept``: EBADF after ``close``.
        """
        return self.handshake(self._bound().accept())

    def __iter__(self) -> Iterator[tuple[TlsStream, TlsInfo]]:
        """Accept for ever, passing over clients whose handshake failed; ends with ``close``."""
        while True:
            try:
                found = self.accept()
            except TlsServerError:
                continue
            except NetworkError as exc:
                if exc.code == errno.EBADF and self._bound().closed:
                    return
                raise
            yield found

    def local_addr(self) -> SocketAddr:
        """Where it listens; only after ``bind``."""
        return self._bound().local_addr()

    def fileno(self) -> int:
        """The listener's descriptor; -1 after ``close``."""
        return self._bound().fileno()

    def _bound(self) -> TcpListener:
        if self._listener is None:
            raise TypeError("this acceptor has no listener: make it with TlsAcceptor.bind")
        return self._listener

    def close(self) -> None:
        """Close the listener, if there is one; connections go on. Idempotent."""
        if self._listener is not None:
            self._listener.close()

    def __enter__(self) -> TlsAcceptor:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        where = f" {self._listener!r}" if self._listener is not None else ""
        return f"<TlsAcceptor {self._config.cert_file}{where}>"
