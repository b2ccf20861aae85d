"""Frequent methods and field values as one string object each.

For whoever compares such text by identity, or holds a lot of it.
"""

from __future__ import annotations

from typing import Final

from flare.http.proto.ascii import BytesLike
from flare.http.proto.method import Method

__all__ = [
    "MethodIntern",
    "ValueIntern",
    "intern_common_value",
    "intern_common_value_string",
    "intern_method_bytes",
    "intern_method_string",
]

MethodIntern = Method


class ValueIntern:
    """Field values that most messages carry."""

    CONTENT_TYPE_TEXT_HTML: Final = "text/html"
    CONTENT_TYPE_TEXT_PLAIN: Final = "text/plain"
    CONTENT_TYPE_JSON: Final = "application/json"
    CONTENT_TYPE_OCTET: Final = "application/octet-stream"
    ENCODING_GZIP: Final = "gzip"
    ENCODING_BR: Final = "br"
    ENCODING_DEFLATE: Final = "deflate"
    ENCODING_IDENTITY: Final = "identity"
    CONNECTION_KEEP_ALIVE: Final = "keep-alive"
    CONNECTION_CLOSE: Final = "close"
    VERSION_1_0: Final = "HTTP/1.0"
    VERSION_1_1: Final = "HTTP/1.1"


def _constants(namespace: type) -> dict[str, str]:
    return {text: text for name, text in vars(namespace).items() if name.isupper()}


_METHODS = _constants(Method)
_VALUES = _constants(ValueIntern)
_METHOD_BYTES = {text.encode(): text for text in _METHODS}
_VALUE_BYTES = {text.encode(): text for text in _VALUES}
_LONGEST = max(map(len, [*_METHODS, *_VALUES]))


def intern_method_bytes(data: BytesLike) -> str | None:
    """The constant of ``MethodIntern`` with exactly these bytes, or ``None``."""
    return _METHOD_BYTES.get(bytes(data)) if len(data) <= _LONGEST else None


def intern_method_string(s: str) -> str | None:
    """The constant of ``MethodIntern`` that equals *s*, or ``None``."""
    return _METHODS.get(s)


def intern_common_value(data: BytesLike) -> str | None:
    """The constant of ``ValueIntern`` with exactly these bytes, or ``None``."""
    return _VALUE_BYTES.get(bytes(data)) if len(data) <= _LONGEST else None


def intern_common_value_string(s: str) -> str | None:
    """The constant of ``ValueIntern`` that equals *s*, or ``None``."""
    return _VALUES.get(s)
