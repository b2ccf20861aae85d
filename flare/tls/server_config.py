"""How a server does TLS: who it is, whom it lets in, what it agrees to."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from flare.errors import ValidationError
from flare.tls.policy import TLS_PROTOCOL_TLS12, FilePath, check_alpn, check_protocol

__all__ = ["DEFAULT_TICKET_LIFETIME_S", "TlsServerConfig"]

DEFAULT_TICKET_LIFETIME_S = 7200
"""OpenSSL's own lifetime of sessions, which ``ssl`` has no way to change."""

_LONGEST_LIFETIME_S = 604_800  # RFC 8446 section 4.6.1: a week


@dataclass(slots=True)
class TlsServerConfig:
    """How to accept TLS connections. Only the certificate has no default.

    - ``cert_file``, ``key_file``: PEM, the server's certificate with its chain after it, and its
      key; an empty ``key_file`` means that it is in ``cert_file``. ``key_password`` opens it.
    - ``sni_certs``: more certificates, ``{"host": (cert_file, key_file)}``, for clients that ask
      for that host. ``"*.example.com"`` is for any one label in front. Others get the default.
    - ``alpn``: application protocols, our preference first. A client that offers none of them is
      let in without.
    - ``require_client_cert``, ``client_ca_bundle``: let only clients in whose certificate leads to
      one of the bundle's (mutual TLS). ``client_cert_mode="optional"`` lets those without any in,
      too; see ``TlsInfo.client_cert_subject``.
    - ``min_protocol``: ``TLS_PROTOCOL_TLS12`` or ``TLS_PROTOCOL_TLS13``.
    - ``enable_session_tickets``: let clients come back with a short handshake. The keys for it are
      this process's own, so with several processes a client has to hit the same one. Without them
      a TLS 1.2 client may still resume a session that this process remembers.
    - ``ticket_lifetime_s``: how long such keys are used. A ticket dies with its key, so none is
      good for longer; nor, whatever is set here, for longer than 7200 seconds.
    - ``handshake_timeout_ms``: how long a client may take (0: as long as it likes).
    - ``keylog_file``: where to write the secrets that let Wireshark decrypt the connections.
    - ``ssl_context``: use this one as it is; all that goes into a context is then its maker's, and
      ``TlsInfo.sni_host`` stays empty.

    What cannot be meant raises ``ValidationError`` here; a file that cannot be used,
    ``TlsServerError`` from ``TlsAcceptor``.
    """

    cert_file: FilePath = ""
    key_file: FilePath = ""
    alpn: list[str] = field(default_factory=list)
    require_client_cert: bool = False
    client_ca_bundle: FilePath = ""
    min_protocol: int = TLS_PROTOCOL_TLS12
    enable_session_tickets: bool = True
    ticket_lifetime_s: int = DEFAULT_TICKET_LIFETIME_S
    handshake_timeout_ms: int = 10_000
    client_cert_mode: Literal["none", "optional", "required"] = field(default="none", kw_only=True)
    sni_certs: dict[str, tuple[FilePath, FilePath]] = field(default_factory=dict, kw_only=True)
    key_password: str = field(default="", kw_only=True, repr=False)
    keylog_file: FilePath = field(default="", kw_only=True)
    ssl_context: ssl.SSLContext | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise ``ValidationError`` for settings that cannot be meant."""
        if not self.cert_file and self.ssl_context is None:
            raise ValidationError("cert_file", "a server needs a certificate")
        check_protocol(self.min_protocol)
        check_alpn(self.alpn)
        if self.client_cert_mode not in ("none", "optional", "required"):
            raise ValidationError(
                "client_cert_mode",
                f"must be 'none', 'optional' or 'required', got {self.client_cert_mode!r}",
            )
        if self.require_client_cert and self.client_cert_mode == "optional":
            raise ValidationError("client_cert_mode", "'optional', but require_client_cert is set")
        if self.verify_mode() != ssl.CERT_NONE and not self.client_ca_bundle:
            raise ValidationError(
                "client_ca_bundle", "client certificates are asked for, but none would be trusted"
            )
        if not 1 <= self.ticket_lifetime_s <= _LONGEST_LIFETIME_S:
            raise ValidationError(
                "ticket_lifetime_s",
                f"must be 1..{_LONGEST_LIFETIME_S}, got {self.ticket_lifetime_s}",
            )
        if self.handshake_timeout_ms < 0:
            raise ValidationError(
                "handshake_timeout_ms", f"must be >= 0, got {self.handshake_timeout_ms}"
            )
        for name in self.sni_certs:
            host = name.removeprefix("*.")
            if not host or not host.isascii() or "*" in host or " " in host:
                raise ValidationError("sni_certs", f"{name!r} is not a host name, or '*.' and one")

    def verify_mode(self) -> ssl.VerifyMode:
        """What is asked of clients, as ``ssl`` says it."""
        if self.require_client_cert or self.client_cert_mode == "required":
            return ssl.CERT_REQUIRED
        return ssl.CERT_OPTIONAL if self.client_cert_mode == "optional" else ssl.CERT_NONE

    def files(self) -> Iterator[FilePath]:
        """Every file that goes into a context."""
        yield from (self.cert_file, self.key_file, self.client_ca_bundle)
        for pair in self.sni_certs.values():
            yield from pair
