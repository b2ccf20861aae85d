"""Byte scanners of the wire formats.

The names are the original's, which wrote them in vector instructions; here each is one pass of
the C code behind ``bytes`` and ``re``. All take any bytes-like object.
"""

from __future__ import annotations

import re
from binascii import unhexlify

from flare.http.proto.ascii import BytesLike
from flare.http.proto.errors import HttpParseError

__all__ = ["HttpParseError", "simd_cookie_scan", "simd_memmem", "simd_percent_decode"]

_find_bad_escape = re.compile(rb"%(?![0-9A-Fa-f]{2})").search
_replace_escapes = re.compile(rb"(?:%[0-9A-Fa-f]{2})++").sub
_find_semicolons = re.compile(rb";").finditer


def simd_memmem(haystack: BytesLike, needle: BytesLike) -> int:
    """Where *needle* first occurs in *haystack*, or -1. An empty needle is at 0."""
    if isinstance(haystack, memoryview):
        haystack = bytes(haystack)
    return haystack.find(needle)


def simd_percent_decode(input: BytesLike, output: bytearray | None = None) -> bytes:
    """Undo percent-encoding, and ``+`` for a space, as in a form (RFC 3986 section 2.1).

    Appends to *output* where given. Raises ``HttpParseError``: ``TRAILING_PERCENT`` for a ``%``
    with fewer than two bytes behind it, ``INVALID_HEX`` for one with something else than two hex
    digits; nothing has been appended then.
    """
    data = bytes(input).replace(b"+", b" ")
    if b"%" in data:
        bad = _find_bad_escape(data)
        if bad:
            cut = len(data) - bad.end() < 2
            variant = HttpParseError.TRAILING_PERCENT if cut else HttpParseError.INVALID_HEX
            raise HttpParseError(variant, f"at offset {bad.start()}")
        data = _replace_escapes(_escaped_bytes, data)
    if output is not None:
        output += data
    return data


def _escaped_bytes(escapes: re.Match[bytes]) -> bytes:
    return unhexlify(escapes[0].replace(b"%", b""))


def simd_cookie_scan(input: BytesLike, offsets: list[int] | None = None) -> list[int]:
    """Where each ``;`` stands, in order; appended to *offsets* where given, which is returned."""
    found = [semicolon.start() for semicolon in _find_semicolons(input)]
    if offsets is None:
        return found
    offsets += found
    return offsets
