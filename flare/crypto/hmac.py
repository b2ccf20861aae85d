"""HMAC-SHA256 (RFC 2104, FIPS 180-4)."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["hmac_sha256", "hmac_sha256_verify"]

_MAC_BYTES = 32


def hmac_sha256(key: ReadableBuffer, msg: ReadableBuffer) -> bytes:
    """The 32 bytes that prove *msg* came from a holder of *key*. Both may be empty."""
    # hmac.digest takes any buffer for the message, but only bytes and bytearray for the key.
    return hmac.digest(key if isinstance(key, bytes) else bytes(key), msg, "sha256")


def hmac_sha256_verify(key: ReadableBuffer, msg: ReadableBuffer, mac: ReadableBuffer) -> bool:
    """Whether *mac* is the HMAC of *msg*; the time taken tells nothing about where they differ."""
    given = bytes(mac)
    return len(given) == _MAC_BYTES and hmac.compare_digest(hmac_sha256(key, msg), given)
