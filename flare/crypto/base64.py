"""Base64 and base64url (RFC 4648 sections 4 and 5), read strictly.

Decoding takes either alphabet, with or without padding, and refuses every other character, white
space included; the standard library's decoders skip what they do not know. Spare bits of the last
symbol are ignored, so one value has several spellings: compare decoded bytes, never text.
"""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING

from flare.errors import ValidationError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["base64_decode", "base64_encode", "base64url_decode", "base64url_encode"]

_TO_URL = bytes.maketrans(b"+/", b"-_")
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def base64_encode(data: ReadableBuffer) -> str:
    """*data* in the standard alphabet, padded with ``=``."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def base64url_encode(data: ReadableBuffer) -> str:
    """*data* in the URL-safe alphabet, without padding."""
    text = binascii.b2a_base64(data, newline=False)
    return text.translate(_TO_URL, b"=").decode("ascii")


def base64_decode(s: str | ReadableBuffer) -> bytes:
    """The bytes in *s*: either alphabet, any number of ``=`` at the end, or none.

    Raises ``ValidationError("base64", ...)`` for any other character, and for a length that no
    number of bytes encodes to.
    """
    if isinstance(s, str):
        if not s.isascii():
            raise ValidationError("base64", "holds a character outside the alphabet")
        raw = s.encode("ascii")
    else:
        raw = bytes(s)
    text = raw.rstrip(b"=").translate(_TO_STANDARD)
    if text.translate(None, _ALPHABET):
        raise ValidationError("base64", "holds a character outside the alphabet")
    if len(text) % 4 == 1:
        raise ValidationError("base64", f"cannot be {len(text)} characters long")
    return binascii.a2b_base64(text + b"=" * (-len(text) % 4))


base64url_decode = base64_decode
