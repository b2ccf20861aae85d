"""From a route to a connection: the transport, a proxy, TLS, and the HTTP that was agreed on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from flare.errors import ConnectionTimeout, Timeout, ValidationError
from flare.http.client.connection import H1Connection
from flare.http.client.exchange import Connection
from flare.http.client.route import Route
from flare.http.client.timeouts import Clock, ConnectTimeout
from flare.http.client.tls_settings import H2, HTTP_1_1, SessionCache
from flare.http.client.transport import Stream, Transport
from flare.http.errors import HttpProtocolError, ProxyError
from flare.http.proto.heads import H1Limits

if TYPE_CHECKING:
    from flare.http.client.h2_connection import H2Connection
    from flare.tls import TlsInfo

__all__ = ["Dialer"]


class Dialer:
    """Dials for a client: by *transport*, each connection under *limits*. Safe from any thread."""

    __slots__ = ("_in_process", "_limits", "_sessions", "_transport")

    def __init__(self, transport: Transport, limits: H1Limits) -> None:
        self._transport = transport
        self._in_process = getattr(transport, "in_process", False)
        self._limits = limits
        self._sessions = SessionCache()

    def __call__(self, route: Route, peer: str, clock: Clock) -> Connection:
        """A new connection on *route*, within the call's connect timeout and deadline.

        Running out of it is a ``ConnectTimeout``, in whatever phase. Raises what the transport
        raises, ``ProxyError``, and for https ``TlsHandshakeError`` and its kin.
        """
        wait = clock.wait_ms(clock.limits.connect, "connecting", peer)
        deadline = monotonic() + wait / 1000 if wait else None
        try:
            stream, rest = self._reach(route, deadline)
            if route.tls is not None and not self._in_process:
                return self._secured(stream, route, peer, deadline)
        except (ConnectionTimeout, Timeout) as exc:
            raise ConnectTimeout(peer, wait) from exc
        try:
            return self._plain(stream, rest, route, peer)
        except BaseException:
            stream.close()
            raise

    def _reach(self, route: Route, deadline: float | None) -> tuple[Stream, bytes]:
        """A stream to the server, or to a proxy to ask; and what has come by it already."""
        proxy = route.proxy
        if proxy is None or self._in_process:
            return self._transport.connect(route.host, route.port, deadline), b""
        try:
            stream = self._transport.connect(proxy.host, proxy.port, deadline)
        except OSError as exc:
            exc.add_note(f"while connecting to the proxy {proxy.name}")
            raise
        if route.forward:
            return stream, b""
        from flare.http.client.tunnel import open_tunnel

        try:
            rest = open_tunnel(stream, proxy, route.host, route.port, deadline)
            if rest and (route.tls is not None or not route.multiplexed or route.upgrade):
                raise ProxyError(proxy.name, "bytes came that nobody has asked for")
            return stream, rest
        except BaseException:
            stream.close()
            raise

    def _plain(self, stream: Stream, rest: bytes, route: Route, peer: str) -> Connection:
        if route.upgrade:
            from flare.http.client.h2c import UpgradingConnection

            return UpgradingConnection(stream, peer, self._limits)
        if route.multiplexed and route.tls is None:
            connection = self._h2(stream, peer)
            connection.take_in(rest)
            return connection
        if route.proxy is not None and route.forward:
            proxy = route.proxy
            return H1Connection(stream, proxy.name, self._limits, forward=proxy.authorization())
        return H1Connection(stream, peer, self._limits)

    def _secured(
        self, stream: Stream, route: Route, peer: str, deadline: float | None
    ) -> Connection:
        """The connection over *stream*, which is closed where there is none."""
        from flare.net.stream import SocketStream
        from flare.tls import TlsStream

        assert route.tls is not None
        with contextlib.ExitStack() as undo:
            undo.callback(stream.close)
            if not isinstance(stream, (SocketStream, TlsStream)):
                raise ValidationError(
                    "transport", f"https needs a socket of it, not a {type(stream).__name__}"
                )
            config = route.tls.config()
            left = _left_ms(deadline)
            undo.pop_all()  # the next line closes it
            secured = TlsStream.connect_over_tcp(
                stream, route.host, config, timeout_ms=left, session=self._sessions.take(route)
            )
            undo.callback(secured.close)
            agreed = secured.alpn_selected()
            info = secured.info()
            keep: Callable[[], None] = lambda: self._sessions.keep(route, secured)  # noqa: E731
            connection: Connection
            if agreed == H2:
                connection = self._h2(secured, peer, tls=info, on_session=keep)
            elif agreed in ("", HTTP_1_1):
                connection = H1Connection(secured, peer, self._limits, tls=info, on_session=keep)
            else:
                raise HttpProtocolError(f"{peer} agreed to speak {agreed!a}, which is not HTTP")
            undo.pop_all()
            return connection

    def _h2(
        self,
        stream: Stream,
        peer: str,
        *,
        tls: TlsInfo | None = None,
        on_session: Callable[[], None] | None = None,
    ) -> H2Connection:
        from flare.http.client.h2_connection import H2Connection

        if stream.fileno() < 0:
            raise ValidationError("transport", "HTTP/2 needs streams with a descriptor")
        return H2Connection(
            stream, peer, self._limits.max_body_size, tls=tls, on_session=on_session
        )

    def forget_in_child(self) -> None:
        """After a fork, in the child."""
        self._sessions.forget_in_child()


def _left_ms(deadline: float | None) -> int:
    """What is left until *deadline* in milliseconds, at least 1; 0: no limit."""
    return 0 if deadline is None else max(1, int((deadline - monotonic()) * 1000))
