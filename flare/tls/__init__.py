"""TLS 1.2 and 1.3, both sides, on the standard library's ``ssl``.

``TlsStream`` connects as ``TlsConfig`` says; ``TlsAcceptor`` accepts as ``TlsServerConfig`` says;
``TlsEngine`` is either side without a socket.
"""

from flare.tls.acceptor import TlsAcceptor
from flare.tls.config import TlsConfig, TlsVerify
from flare.tls.engine import TlsEngine
from flare.tls.errors import (
    CertificateExpired,
    CertificateHostnameMismatch,
    CertificateUntrusted,
    InsecureTlsWarning,
    TlsHandshakeError,
    TlsServerError,
    TlsServerNotImplemented,
    TlsTruncated,
)
from flare.tls.handshake import TlsHandshake
from flare.tls.info import TlsInfo
from flare.tls.policy import TLS_PROTOCOL_TLS12, TLS_PROTOCOL_TLS13
from flare.tls.server_config import TlsServerConfig
from flare.tls.session import TlsSession
from flare.tls.stream import TlsStream

__all__ = [
    "TlsConfig",
    "TlsVerify",
    "TlsStream",
    "TlsSession",
    "TlsHandshakeError",
    "CertificateExpired",
    "CertificateHostnameMismatch",
    "CertificateUntrusted",
    "TlsTruncated",
    "InsecureTlsWarning",
    "TlsAcceptor",
    "TlsHandshake",
    "TlsServerConfig",
    "TlsInfo",
    "TlsServerError",
    "TlsServerNotImplemented",
    "TlsEngine",
    "TLS_PROTOCOL_TLS12",
    "TLS_PROTOCOL_TLS13",
]
