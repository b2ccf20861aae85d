"""The first bytes of a connection without TLS, which tell HTTP/2 from HTTP/1.1.

A client that knows what it talks to begins HTTP/2 with a preface that no HTTP/1.1 server takes for
a request (RFC 9113 section 3.4). The first byte that differs from it settles the matter, mostly
the very first; from then on the connection has another wire, and nobody asks again.
"""

from __future__ import annotations

from flare.http.server.wire import HEAD, IDLE, SWITCH, BodyWriter, Exchange, Switch
from flare.http2 import H2_PREFACE

__all__ = ["PrefaceWire"]


class PrefaceWire:
    """Waits until it is clear what is spoken; see ``Wire``. It has no exchanges and no output."""

    __slots__ = (
        "_received",
        "clean",
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

    def __init__(self) -> None:
        self._received = b""
        self.switch: Switch | None = None
        self.phase = IDLE
        self.clean = self.linger = False
        self.out: list[bytes | memoryview] = []
        self.out_bytes = self.status = self.sent = self.served = self.refused = 0

    def receive(self, data: bytes) -> None:
        if self._received:
            data = self._received + data
        if data.startswith(H2_PREFACE):
            self._settle(True, data)
        elif H2_PREFACE.startswith(data):
            self._received = data
            self.phase = HEAD
        else:
            self._settle(False, data)

    def _settle(self, h2: bool, data: bytes) -> None:
        self.switch = Switch(h2, data)
        self.phase = SWITCH

    def take(self, data: bytes) -> Exchange | None:
        self.receive(data)
        return None

    def receive_eof(self) -> None:
        self._settle(False, self._received)

    def next_exchange(self) -> Exchange | None:
        return None

    def respond(self, exchange: Exchange, result: object) -> BodyWriter | None:
        raise RuntimeError("nothing was asked yet")

    def body_sent(self) -> None:
        """No body is streamed."""

    def expire(self) -> None:
        self._settle(False, self._received)

    def drain(self) -> None:
        """The wire that comes next is told."""
