"""What both sides of TLS hold to: versions, cipher suites, options, and how files are loaded.

Contexts start from ``ssl.SSLContext`` itself and not from ``create_default_context``, which reads
SSLKEYLOGFILE unasked and differs between Python versions in how strict it is.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path

from flare.errors import ValidationError
from flare.tls.errors import load_cause

__all__ = [
    "TLS_PROTOCOL_TLS12",
    "TLS_PROTOCOL_TLS13",
    "ChainError",
    "FilePath",
    "apply_policy",
    "check_alpn",
    "check_protocol",
    "file_stamp",
    "load_chain",
]

TLS_PROTOCOL_TLS12 = 0x0303
TLS_PROTOCOL_TLS13 = 0x0304

FilePath = str | Path

_MAX_PEM_BYTES = 1024 * 1024
_MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")

# Forward secret and authenticated, the ones RFC 9113 appendix A leaves to HTTP/2. TLS 1.3 has its
# own suites, all good.
_TLS12_CIPHERS = ":".join(
    f"ECDHE-{key}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for key in ("ECDSA", "RSA")
)


class ChainError(OSError):
    """A certificate or its key cannot be used: errno or 0, and why, with the file."""

    def __str__(self) -> str:
        return str(self.strerror)


def apply_policy(context: ssl.SSLContext, min_protocol: int, alpn: Iterable[str]) -> None:
    """Set what client and server contexts have in common."""
    context.minimum_version = ssl.TLSVersion(min_protocol)
    context.set_ciphers(_TLS12_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    protocols = list(alpn)
    if protocols:
        context.set_alpn_protocols(protocols)


def load_chain(
    context: ssl.SSLContext, cert: FilePath, key: FilePath, password: str | Callable[[], str]
) -> None:
    """Load a certificate chain and its key; an empty *key* is in the same file.

    Raises ``ChainError``. Always with a password, if only an empty one: OpenSSL would ask for it at
    the terminal.
    """
    asked = False

    def answer() -> str:
        nonlocal asked
        asked = True
        return password() if callable(password) else password

    try:
        context.load_cert_chain(cert, key or None, answer)
    except (OSError, ValueError) as exc:
        code, text = _chain_cause(exc, cert, key or cert, asked, password)
        raise ChainError(code, text) from exc


def _chain_cause(
    exc: Exception, cert: FilePath, key: FilePath, asked: bool, password: object
) -> tuple[int, str]:
    """The errno, or 0, and the words for what OpenSSL, which tells of no file, gave up with."""
    for path, what in ((cert, "certificate"), (key, "private key")):
        try:
            with open(path, "rb") as file:
                pem = file.read(_MAX_PEM_BYTES)
        except OSError as unread:
            return unread.errno or 0, f"{unread.strerror or unread} ({path})"
        except ValueError as unread:
            return 0, f"{unread} ({path})"
        if what.upper().encode() + b"-----" not in pem:
            return 0, f"there is no {what} in PEM form ({path})"
    if isinstance(exc, ssl.SSLError):
        if exc.reason in _MISMATCHES:
            return 0, f"the key ({key}) is not that of the certificate ({cert})"
        if asked:
            what = "is the wrong one" if password else "is missing"
            return 0, f"the key is encrypted, and its password {what} ({key})"
    return 0, load_cause(exc, cert)


def check_alpn(alpn: Iterable[str]) -> None:
    """Raise ``ValidationError`` for protocol names that cannot be sent (RFC 7301 section 3.1)."""
    total = 0
    for name in alpn:
        if not isinstance(name, str) or not name.isascii() or not 1 <= len(name) <= 255:
            raise ValidationError("alpn", f"a protocol is 1..255 ASCII characters, not {name!r}")
        total += 1 + len(name)
    if total > 255:
        raise ValidationError("alpn", f"the list takes {total} bytes, more than 255")


def check_protocol(value: int) -> None:
    """Raise ``ValidationError`` for a version older than TLS 1.2, or unknown."""
    if value not in (TLS_PROTOCOL_TLS12, TLS_PROTOCOL_TLS13):
        raise ValidationError(
            "min_protocol", f"must be TLS_PROTOCOL_TLS12 or TLS_PROTOCOL_TLS13, got {value!r}"
        )


def file_stamp(path: FilePath) -> tuple[int, ...]:
    """What changes when the file at *path* does; empty where there is none."""
    if not path:
        return ()
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino
