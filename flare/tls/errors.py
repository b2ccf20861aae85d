"""What goes wrong in TLS, told apart by cause.

::

    NetworkError, ssl.SSLError (both OSError)
    ├── TlsHandshakeError                  as a client: set-up or handshake failed
    │   ├── CertificateExpired             (ssl.SSLCertVerificationError, a ValueError too)
    │   ├── CertificateHostnameMismatch    (the same)
    │   └── CertificateUntrusted           (the same)
    ├── TlsServerError                     as a server: files, set-up or handshake
    │   └── TlsServerNotImplemented        (NotImplementedError)
    └── TlsTruncated                       the stream ended without TLS's own end

``except TlsHandshakeError`` catches whatever a client's handshake can end with but a timeout and a
cut connection, which are ``Timeout`` and ``ConnectionReset`` as everywhere. Certificate errors are
told apart by OpenSSL's verify code, never by its text.
"""

from __future__ import annotations

import ssl
from typing import Any

from flare.errors import NetworkError

__all__ = [
    "CertificateExpired",
    "CertificateHostnameMismatch",
    "CertificateUntrusted",
    "InsecureTlsWarning",
    "TlsHandshakeError",
    "TlsServerError",
    "TlsServerNotImplemented",
    "TlsTruncated",
    "handshake_error",
    "load_cause",
    "read_error",
    "server_error",
]

# X509_V_ERR_* of <openssl/x509_vfy.h>: part of its ABI, the same in every version.
_NOT_YET_VALID = 9
_EXPIRED = 10
_HOSTNAME_MISMATCH = 62
_IP_ADDRESS_MISMATCH = 64

# What a server that refuses our certificate says (RFC 8446 section 6.2), as OpenSSL spells it.
_CERTIFICATE_ALERTS = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")


class InsecureTlsWarning(UserWarning):
    """A connection was made without looking at who answers."""


class TlsHandshakeError(NetworkError, ssl.SSLError):
    """The client's handshake failed, or what it needs could not be loaded.

    ``reason`` is OpenSSL's name for it, where OpenSSL said no; ``verify_code`` and
    ``verify_message`` are its verdict on the certificate (0 and ``""`` where that is not what
    failed).
    """

    reason: str = ""
    verify_code: int = 0
    verify_message: str = ""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)

    def __str__(self) -> str:
        return f"{type(self).__name__}: {self.message}"

    def _arguments(self) -> tuple[Any, ...]:
        return (self.message,)

    def _verdict(self) -> str:
        return f" ({self.verify_message})" if self.verify_message else ""


class CertificateExpired(TlsHandshakeError, ssl.SSLCertVerificationError):
    """The peer's certificate, or one it rests on, has expired or is not valid yet."""

    def __init__(self, subject: str = "") -> None:
        super().__init__(f"subject={subject}")
        self.subject = subject

    def __str__(self) -> str:
        return f"CertificateExpired: subject={self.subject}{self._verdict()}"

    def _arguments(self) -> tuple[Any, ...]:
        return (self.subject,)


class CertificateHostnameMismatch(TlsHandshakeError, ssl.SSLCertVerificationError):
    """The peer's certificate is for somebody else than ``expected``, a host name or address."""

    def __init__(self, expected: str, subject: str = "") -> None:
        super().__init__(f"expected={expected} subject={subject}")
        self.expected = expected
        self.subject = subject

    def __str__(self) -> str:
        who = f"expected={self.expected} subject={self.subject}"
        return f"CertificateHostnameMismatch: {who}{self._verdict()}"

    def _arguments(self) -> tuple[Any, ...]:
        return self.expected, self.subject


class CertificateUntrusted(TlsHandshakeError, ssl.SSLCertVerificationError):
    """The peer's certificate does not lead to anybody we trust: self-signed, unknown, revoked."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class TlsServerError(NetworkError, ssl.SSLError):
    """A server's certificates could not be loaded, or its handshake with a client failed.

    ``code`` is OpenSSL's number (``ssl.SSLErrorNumber``) or 0; ``reason`` is its name for what
    happened; ``verify_code`` and ``verify_message`` are its verdict on a client's certificate.
    """

    reason: str = ""
    verify_code: int = 0
    verify_message: str = ""

    def __str__(self) -> str:
        return f"{type(self).__name__}({self.message} code={self.code})"


class TlsServerNotImplemented(TlsServerError, NotImplementedError):
    """Never raised: servers shake hands without blocking. Kept for programs that catch it."""

    def __init__(self) -> None:
        super().__init__("the server's side of TLS is not available")

    def _arguments(self) -> tuple[Any, ...]:
        return ()


class TlsTruncated(NetworkError, ssl.SSLEOFError):
    """The connection ended without a close_notify: somebody may have cut off what was to come."""

    reason: str = ""

    def __init__(self, message: str = "TLS read error: unexpected EOF") -> None:
        super().__init__(message)

    def _arguments(self) -> tuple[Any, ...]:
        return (self.message,)


def handshake_error(exc: ssl.SSLError, host: str, subject: str = "") -> TlsHandshakeError:
    """The error for a client's handshake with *host* that OpenSSL ended with *exc*.

    *subject* is that of the peer's certificate, where it is known.
    """
    error: TlsHandshakeError
    if isinstance(exc, ssl.SSLCertVerificationError):
        code, verdict = exc.verify_code, exc.verify_message
        if code in (_EXPIRED, _NOT_YET_VALID):
            error = CertificateExpired(subject)
        elif code in (_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH):
            error = CertificateHostnameMismatch(host, subject)
        else:
            error = CertificateUntrusted(f"{verdict} (certificate of {host})")
        error.verify_code, error.verify_message = code, verdict
        if not isinstance(error, CertificateUntrusted):
            error.reason = _reason(exc)
        return error
    if isinstance(exc, ssl.SSLEOFError):
        text = "the server closed the connection"
    elif _reason(exc) == "WRONG_VERSION_NUMBER":
        text = "what answers does not speak TLS, or no version in common (WRONG_VERSION_NUMBER)"
    else:
        text = _text(exc)
    error = TlsHandshakeError(f"handshake with {host} failed: {text}")
    error.reason = _reason(exc)
    return error


def server_error(exc: ssl.SSLError) -> TlsServerError:
    """The error for a server's handshake that OpenSSL ended with *exc*."""
    code, verdict = 0, ""
    if isinstance(exc, ssl.SSLCertVerificationError):
        code, verdict = exc.verify_code, exc.verify_message
        text = f"the client's certificate was refused: {verdict}"
    elif isinstance(exc, ssl.SSLEOFError):
        text = "the client closed the connection"
    elif _reason(exc) == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        text = "the client has no certificate to show"
    else:
        text = _text(exc)
    error = TlsServerError(f"TLS handshake failed: {text}", exc.errno or 0)
    error.reason, error.verify_code, error.verify_message = _reason(exc), code, verdict
    return error


def read_error(exc: ssl.SSLError, host: str, early: bool) -> NetworkError:
    """The error for a read that OpenSSL ended with *exc*; *early*: before any byte was read.

    In TLS 1.3 a client is done with the handshake before the server has looked at the client's
    certificate, so a refusal comes with the first read.
    """
    reason = _reason(exc)
    if isinstance(exc, ssl.SSLEOFError):
        return TlsTruncated()
    if early and "ALERT" in reason and any(name in reason for name in _CERTIFICATE_ALERTS):
        refused = TlsHandshakeError(f"{host} refused our certificate: {_text(exc)}")
        refused.reason = reason
        return refused
    return NetworkError(f"TLS read error: {_text(exc)}")


def _reason(exc: ssl.SSLError) -> str:
    return getattr(exc, "reason", None) or ""


def _text(exc: ssl.SSLError) -> str:
    """OpenSSL's words, without Python's source position."""
    return _reason(exc) or (exc.strerror or type(exc).__name__).partition(" (_ssl.c:")[0]


def load_cause(exc: Exception, path: object) -> str:
    """Why the file at *path* could not be loaded, in one line."""
    if isinstance(exc, ssl.SSLError):
        return f"{_text(exc)} ({path})"
    return f"{exc.strerror or exc if isinstance(exc, OSError) else exc} ({path})"
