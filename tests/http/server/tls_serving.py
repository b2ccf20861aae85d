"""A server with TLS in a thread, and clients of it: for the tests beside it."""

from __future__ import annotations

import re
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving import Peer, Running

from flare.http.server import HttpServer, ServerConfig
from flare.net import SocketAddr
from flare.tls import TlsServerConfig

sys.path.append(str(Path(__file__).parents[2] / "tls"))
from tls_peers import Pki

StartTls = Callable[..., Running]
ConnectTls = Callable[..., Peer]


def tls_server(pki: Pki, config: ServerConfig | None = None, **settings: Any) -> HttpServer:
    """Bound to a free port, with *settings* for TLS."""
    settings.setdefault("cert_file", pki.server)
    return HttpServer.bind(SocketAddr.localhost(0), config, tls=TlsServerConfig(**settings))


def secure(
    peer: Peer,
    context: ssl.SSLContext,
    host: str = "localhost",
    session: ssl.SSLSession | None = None,
) -> Peer:
    """Shake hands on the connection of *peer*."""
    peer.sock = context.wrap_socket(
        peer.sock, server_hostname=host, suppress_ragged_eofs=False, session=session
    )
    return peer


def tls(peer: Peer) -> ssl.SSLSocket:
    """What the standard library knows of the connection."""
    assert isinstance(peer.sock, ssl.SSLSocket)
    return peer.sock


def der_of(path: Path) -> bytes:
    """The first certificate in a PEM file."""
    pem = re.search("-----BEGIN CERTIFICATE.*?END CERTIFICATE-----", path.read_text(), re.DOTALL)
    assert pem is not None
    return ssl.PEM_cert_to_DER_cert(pem[0])
