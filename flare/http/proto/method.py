"""The request methods of RFC 9110 section 9.3 and RFC 5789."""

from __future__ import annotations

from typing import Final

__all__ = ["IDEMPOTENT_METHODS", "Method"]

IDEMPOTENT_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))
"""What may be sent twice and takes effect once (RFC 9110 section 9.2.2)."""


class Method:
    """Request methods, as plain strings. Any other token is a method too."""

    GET: Final = "GET"
    HEAD: Final = "HEAD"
    POST: Final = "POST"
    PUT: Final = "PUT"
    DELETE: Final = "DELETE"
    CONNECT: Final = "CONNECT"
    OPTIONS: Final = "OPTIONS"
    TRACE: Final = "TRACE"
    PATCH: Final = "PATCH"
