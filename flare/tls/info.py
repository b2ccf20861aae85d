"""What a TLS connection was agreed to be."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["TlsInfo"]


@dataclass(frozen=True, slots=True)
class TlsInfo:
    """The outcome of a handshake; each field is ``""`` where there is nothing to say.

    ``sni_host`` is the host name the client asked for, in lower case: text of the client's making,
    to be checked before it picks anything. ``client_cert_subject`` is the subject of the
    certificate the client proved to hold, in one line (``/O=Ex/CN=client``): for people to read,
    not to authorise by. ``client_cert`` is that certificate, in DER.
    """

    protocol: str = ""
    cipher: str = ""
    sni_host: str = ""
    alpn_protocol: str = ""
    client_cert_subject: str = ""
    client_cert: bytes = field(default=b"", repr=False)
