"""TLS on a server's connections: the handshake in front of the first request.

A connection begins with a ``TlsWire``, which does the handshake from the bytes that come and never
waits. When it is done the connection goes on with a ``TlsSocket`` in place of its socket, in the
protocol that was agreed upon (ALPN, RFC 7301). A handshake that fails is one line
in the log, and an alert, or a plain 400 to a client that speaks HTTP without TLS.

Imported by servers that have TLS, and by no others: ``ssl`` is not free.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flare.errors import NetworkError, ValidationError
from flare.http.server.logs import error_log, escape
from flare.http.server.wire import DONE, OPENING, SWITCH, BodyWriter, Exchange, Switch
from flare.net import SocketAddr
from flare.tls import TlsAcceptor, TlsEngine, TlsServerConfig, TlsServerError
from flare.tls.tls_socket import TlsSocket

if TYPE_CHECKING:
    from flare.http.server.config import ServerConfig
    from flare.http.server.connection import Connection

__all__ = ["ServerTls", "TlsWire"]

_NEVER_MS = 2**62
_RENEWALS = 12


class ServerTls:
    """How a server does TLS. One for all its workers: threads share it, processes inherit it,
    and with it the keys of the tickets, so that a client may resume with any of them."""

    def __init__(self, tls: TlsAcceptor | TlsServerConfig, config: ServerConfig) -> None:
        """Where *tls* names no protocols, those are offered that the server speaks.

        Raises ``ValidationError`` for other ones, and ``TlsServerError`` for files that cannot be
        used.
        """
        spoken = ["h2", "http/1.1"] if config.http2 else ["http/1.1"]
        if isinstance(tls, TlsServerConfig):
            if not tls.alpn and tls.ssl_context is None:
                tls = replace(tls, alpn=spoken)
            tls = TlsAcceptor(tls)
        elif not isinstance(tls, TlsAcceptor):
            raise ValidationError("tls", f"expected a TlsServerConfig, got {tls!r}")
        others = [name for name in tls.config.alpn if name not in spoken]
        if others:
            raise ValidationError("tls", f"alpn: the server does not speak {', '.join(others)}")
        self.acceptor = tls

    @property
    def protocols(self) -> list[str]:
        """What is offered to clients."""
        return list(self.acceptor.config.alpn)

    def share_keys(self) -> None:
        """Have the processes that are forked from now on resume each other's sessions, for a day
        of the usual lifetime of keys."""
        try:
            self.acceptor.prepare(_RENEWALS)
        except TlsServerError as error:  # the files have gone bad
            error_log.error("the keys of tickets stay as they were: %s", error.message)

    def reload(self) -> None:
        """Read the certificates again; see ``TlsAcceptor.reload``."""
        self.acceptor.reload()

    def new_wire(self, peer: SocketAddr, now_ms: int) -> TlsWire:
        """The beginning of a connection of *peer*."""
        budget_ms = self.acceptor.config.handshake_timeout_ms
        deadline = now_ms + budget_ms if budget_ms else _NEVER_MS
        return TlsWire(self.acceptor.engine(), peer, deadline)


class TlsWire:
    """The handshake of one connection; see ``OpeningWire``. *deadline* stands whatever the client
    does until then."""

    __slots__ = (
        "_began",
        "_engine",
        "_peer",
        "clean",
        "connection",
        "deadline",
        "linger",
        "out",
        "out_bytes",
        "phase",
        "refused",
        "sent",
        "served",
        "status",
        "switch",
    )

    def __init__(self, engine: TlsEngine, peer: SocketAddr, deadline: int) -> None:
        self.connection: Connection | None = None
        self.deadline = deadline
        self._engine = engine
        self._peer = peer
        self._began = False
        self.switch: Switch | None = None
        self.phase = OPENING
        self.clean = False
        self.linger = False
        self.out: list[bytes | memoryview] = []
        self.out_bytes = self.status = self.sent = self.served = self.refused = 0

    def receive(self, data: bytes) -> None:
        if self.phase == DONE:
            return
        self._began = True
        engine = self._engine
        engine.receive(data)
        try:
            done = engine.handshake()
        except NetworkError as error:
            self._give_up(error.message)
            self.linger = True  # or a reset may overtake the alert
        else:
            if done:
                self._give_way()
                return
        output = engine.pending_output()
        if output:
            self.out.append(output)
            self.out_bytes += len(output)

    def _give_way(self) -> None:
        connection = self.connection
        assert connection is not None
        connection.tls_info = info = self._engine.info()
        connection.sock = sock = TlsSocket(connection.sock, self._engine)
        self.switch = Switch(info.alpn_protocol == "h2", sock.received())
        self.phase = SWITCH

    def take(self, data: bytes) -> Exchange | None:
        self.receive(data)
        return None

    def receive_eof(self) -> None:
        if self._began:
            self._give_up("the client went away")
        self.phase = DONE

    def next_exchange(self) -> Exchange | None:
        return None

    def respond(self, exchange: Exchange, result: object) -> BodyWriter | None:
        raise RuntimeError("a connection has no request before its TLS handshake")

    def body_sent(self) -> None:
        """No body is streamed."""

    def expire(self) -> None:
        self._give_up("it took too long" if self._began else "the client said nothing")

    def drain(self) -> None:
        """The wire that comes next is told."""

    def _give_up(self, why: str) -> None:
        self.phase = DONE
        why = why.removeprefix("TLS handshake failed: ")
        error_log.info("%s is closed: TLS handshake failed: %s", self._peer, escape(why))
