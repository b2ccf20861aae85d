"""Which HTTP a connection is to speak, from what TLS or an upgrade settled on.

For who accepts connections by himself; ``HttpServer`` and ``HttpClient`` choose on their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

__all__ = [
    "ALPN_HTTP_1_1",
    "ALPN_HTTP_2",
    "ALPN_HTTP_3",
    "WireProtocol",
    "dispatch_alpn",
    "dispatch_h2c_upgrade",
    "negotiate_alpn",
    "wire_protocol_name",
]

# As registered with IANA (RFC 7301, 9113, 9114).
ALPN_HTTP_1_1: Final = "http/1.1"
ALPN_HTTP_2: Final = "h2"
ALPN_HTTP_3: Final = "h3"


class WireProtocol(IntEnum):
    """A version of HTTP on the wire; ``H2C`` is HTTP/2 without TLS."""

    UNKNOWN = 0
    HTTP_1_1 = 1
    H2C = 2
    HTTP_2 = 3
    HTTP_3 = 4


_BY_ALPN = {
    "": WireProtocol.HTTP_1_1,
    ALPN_HTTP_1_1: WireProtocol.HTTP_1_1,
    ALPN_HTTP_2: WireProtocol.HTTP_2,
    ALPN_HTTP_3: WireProtocol.HTTP_3,
}
_NAMES = {
    WireProtocol.UNKNOWN: "unknown",
    WireProtocol.HTTP_1_1: "HTTP/1.1",
    WireProtocol.H2C: "h2c",
    WireProtocol.HTTP_2: "HTTP/2",
    WireProtocol.HTTP_3: "HTTP/3",
}


def dispatch_alpn(alpn: str) -> WireProtocol:
    """What the protocol that TLS settled on means; none at all is HTTP/1.1, another ``UNKNOWN``."""
    return _BY_ALPN.get(alpn, WireProtocol.UNKNOWN)


def dispatch_h2c_upgrade(detected: bool) -> WireProtocol:
    """What to go on in without TLS: HTTP/2 where ``detect_h2c_upgrade`` found that asked for."""
    return WireProtocol.H2C if detected else WireProtocol.HTTP_1_1


def negotiate_alpn(client_advertised: Sequence[str], server_supports: Sequence[str]) -> str:
    """The first of the server's protocols that the client has too (RFC 7301 section 3.2); ``""``
    where there is none."""
    return next((name for name in server_supports if name in client_advertised), "")


def wire_protocol_name(protocol: WireProtocol) -> str:
    """As people write it: ``"HTTP/2"``."""
    return _NAMES[protocol]
