"""From HTTP/1.1 to HTTP/2 on one connection in the clear: ``Upgrade: h2c`` (RFC 7540 section 3.2).

RFC 9113 no longer describes it, and most servers that can be asked are better asked by
``prefer_h2c``. It is for those where HTTP/1.1 must work as well.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode

from flare.http.client.connection import H1Connection
from flare.http.client.exchange import Connection, Exchange
from flare.http.client.h2_connection import H2Connection, h2_config
from flare.http.client.h2_exchange import H2Exchange
from flare.http.client.outgoing import Outgoing
from flare.http.client.timeouts import Clock
from flare.http.errors import HttpProtocolError
from flare.http.proto.heads import ResponseHead
from flare.http2.client import Http2ClientConnection
from flare.http2.config import build_h2c_settings_payload

__all__ = ["UpgradingConnection"]

_KEEP_ALIVE = b"Connection: keep-alive\r\n"


def _offer() -> bytes:
    settings = urlsafe_b64encode(build_h2c_settings_payload(h2_config())).rstrip(b"=")
    return (
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: "
        + settings
        + b"\r\n"
    )


class UpgradingConnection(H1Connection):
    """One that offers, with its first request, to go on as HTTP/2.

    A request with a body makes no offer, since all of it would have to go before the answer.
    Where ``exchange`` returns a 101, ``upgraded`` is what to go on with: the connection that has
    taken over, and the exchange that the response will come by.
    """

    __slots__ = ("upgraded",)

    upgraded: tuple[Connection, Exchange] | None

    def exchange(self, request: Outgoing, clock: Clock) -> ResponseHead:
        """See ``H1Connection.exchange``."""
        self.upgraded = None
        if self.used or request.content or request.upgrade or _KEEP_ALIVE not in request.section:
            return super().exchange(request, clock)
        section = request.section.replace(_KEEP_ALIVE, _offer(), 1)
        asking = Outgoing(
            request.method, request.target, section, request.fields, request.content, upgrade=True
        )
        answer = super().exchange(asking, clock)
        if answer.status == 101:
            if answer.fields.upgrade != "h2c":
                self.close()
                raise HttpProtocolError(f"101 for another protocol than h2c, from {self.peer}")
            self.upgraded = self._upgrade(request.method)
        return answer

    def _upgrade(self, method: str) -> tuple[Connection, Exchange]:
        """Hand the stream over, with what of HTTP/2 has come already."""
        codec = Http2ClientConnection.from_h2c_upgrade(h2_config(), method)
        limit = self._decoder.limits.max_body_size
        connection = H2Connection(self._stream, self.peer, limit, codec=codec)
        exchange = H2Exchange(connection)
        exchange.adopt(1)
        connection.take_in(self._decoder.take_rest())
        return connection, exchange
