"""How a client does TLS: whom it trusts, who it says it is, what it offers."""

from __future__ import annotations

import ssl
from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import IntEnum

from flare.errors import ValidationError
from flare.tls.policy import TLS_PROTOCOL_TLS12, FilePath, check_alpn, check_protocol, file_stamp

__all__ = ["TlsConfig", "TlsVerify"]


class TlsVerify(IntEnum):
    """Whether the peer has to prove who it is. Not the values of ``ssl.VerifyMode``."""

    NONE = 0
    REQUIRED = 1


@dataclass(slots=True)
class TlsConfig:
    """How to connect over TLS. The defaults are right for the public Internet.

    - ``verify``: ``TlsVerify.REQUIRED``, or ``NONE`` to talk to anybody (see ``insecure``).
    - ``ca_bundle``: whom to trust: a PEM file, or a directory of them hashed by OpenSSL. Where it
      is empty: what the environment's SSL_CERT_FILE and SSL_CERT_DIR name, if one of them is set;
      else, with ``system_trust``, the system's store; else the certificates of ``certifi``.
    - ``cert_file``, ``key_file``: our own certificate, its chain after it, and its key, for servers
      that ask for one. Without ``key_file`` the key is in ``cert_file``. ``key_password`` opens it.
    - ``server_name``: the name asked for (SNI) and verified; empty for the host connected to.
      Names are looked for among the certificate's subject alternative names only.
    - ``alpn``: application protocols in order of preference, such as ``["h2", "http/1.1"]``.
    - ``min_protocol``: ``TLS_PROTOCOL_TLS12`` or ``TLS_PROTOCOL_TLS13``.
    - ``enable_session_resumption``: keep what ``TlsStream.session()`` returns.
    - ``keylog_file``: where to write the secrets that let Wireshark decrypt the connections.
    - ``ssl_context``: use this one as it is; all else that goes into a context is then ignored.

    Contexts are kept and shared by equal configurations, until one of their files changes. What
    cannot be meant raises ``ValidationError`` here; a file that cannot be used,
    ``TlsHandshakeError`` from whatever connects.
    """

    verify: int = TlsVerify.REQUIRED
    ca_bundle: FilePath = ""
    cert_file: FilePath = ""
    key_file: FilePath = ""
    server_name: str = ""
    alpn: list[str] = field(default_factory=list)
    enable_session_resumption: bool = True
    system_trust: bool = field(default=False, kw_only=True)
    min_protocol: int = field(default=TLS_PROTOCOL_TLS12, kw_only=True)
    key_password: str = field(default="", kw_only=True, repr=False)
    keylog_file: FilePath = field(default="", kw_only=True)
    ssl_context: ssl.SSLContext | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self.check()

    @classmethod
    def insecure(cls) -> TlsConfig:
        """A configuration that verifies nothing: anybody on the way can read and alter it all.

        Each connection made with it warns (``InsecureTlsWarning``). For a server with a certificate
        of its own making, ``TlsConfig(ca_bundle=that_certificate)`` is as easy, and safe.
        """
        return cls(verify=TlsVerify.NONE)

    def check(self) -> None:
        """Raise ``ValidationError`` for settings that cannot be meant; done before every use."""
        if self.verify not in (TlsVerify.NONE, TlsVerify.REQUIRED):
            raise ValidationError("verify", f"must be a TlsVerify, got {self.verify!r}")
        if self.key_file and not self.cert_file:
            raise ValidationError("key_file", "a key without a certificate: set cert_file too")
        check_protocol(self.min_protocol)
        check_alpn(self.alpn)

    def cache_key(self) -> Hashable:
        """What contexts have to agree in to be the same, the state of the files included."""
        if self.ssl_context is not None:
            return self.ssl_context
        files = (self.ca_bundle, self.cert_file, self.key_file)
        return (
            int(self.verify),
            tuple(str(path) for path in files),
            tuple(file_stamp(path) for path in files),
            tuple(self.alpn),
            self.system_trust,
            self.min_protocol,
            self.key_password,
            str(self.keylog_file),
        )
