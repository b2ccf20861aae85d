"""The beginning of a connection that a proxy opens with a PROXY header.

Only connections of trusted peers have this wire, and only until the header is complete: then the
connection goes on with the wire it would have had at first, as a connection of the peer that the
header names. A header that is none ends the connection without an answer, since whoever sent it
does not await one in HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from flare.http.proxy_protocol import ProxyParseError, parse_proxy_protocol
from flare.http.server.logs import error_log
from flare.http.server.wire import DONE, OPENING, BodyWriter, Exchange, Switch, Wire
from flare.net import SocketAddr

if TYPE_CHECKING:
    from flare.http.server.connection import Connection

__all__ = ["ProxyWire"]


class ProxyWire:
    """Waits for the PROXY header of *peer*, until *deadline*; see ``OpeningWire``. *judge* makes a
    peer of the address in it, and *make_wire* the wire for that peer."""

    linger = False

    def __init__(
        self,
        peer: SocketAddr,
        deadline: int,
        judge: Callable[[SocketAddr], SocketAddr],
        make_wire: Callable[[SocketAddr], Wire],
    ) -> None:
        self.connection: Connection | None = None
        self.deadline = deadline
        self._peer = peer
        self._judge = judge
        self._make_wire = make_wire
        self._received = b""
        self._draining = False
        self.switch: Switch | None = None
        self.phase = OPENING
        self.clean = False
        self.out: list[bytes | memoryview] = []
        self.out_bytes = self.status = self.sent = self.served = self.refused = 0

    def receive(self, data: bytes) -> None:
        if self.phase == DONE:
            return
        self._received += data
        try:
            header = parse_proxy_protocol(self._received)
        except ProxyParseError as error:
            error_log.info("%s is closed: %s", self._peer, error)
            self.phase = DONE
            return
        if header is not None:
            peer = self._peer if header.is_local else self._judge(header.source)
            self._give_way(peer, self._received[header.consumed :])

    def _give_way(self, peer: SocketAddr, rest: bytes) -> None:
        assert self.connection is not None
        wire = self._make_wire(peer)
        if self._draining:
            wire.drain()
        self.connection.take_over(wire, peer)
        if rest:
            wire.receive(rest)

    def take(self, data: bytes) -> Exchange | None:
        self.receive(data)
        assert self.connection is not None
        wire = self.connection.wire
        return None if wire is self else wire.next_exchange()

    def receive_eof(self) -> None:
        self.phase = DONE

    def next_exchange(self) -> Exchange | None:
        return None

    def respond(self, exchange: Exchange, result: object) -> BodyWriter | None:
        raise RuntimeError("a connection has no request before its PROXY header")

    def body_sent(self) -> None:
        """No body is streamed."""

    def expire(self) -> None:
        error_log.info("%s is closed: no PROXY header in time", self._peer)
        self.phase = DONE

    def drain(self) -> None:
        self._draining = True
