"""Whether an HTTP/1.1 request asks to go on in HTTP/2 (RFC 7540 section 3.2).

RFC 9113 has dropped the upgrade; clients still ask for it.
"""

from __future__ import annotations

from flare.crypto import base64url_decode
from flare.errors import ValidationError
from flare.http.proto.headers import HeaderMap

__all__ = ["decode_http2_settings", "detect_h2c_upgrade"]

_SETTING_SIZE = 6


def _tokens(headers: HeaderMap, name: str) -> set[str]:
    listed = ",".join(headers.get_all(name)).lower().split(",")
    return {token.strip(" \t") for token in listed}


def detect_h2c_upgrade(headers: HeaderMap) -> bool:
    """Whether the request asks for ``h2c`` and carries all that this takes.

    ``Upgrade`` lists ``h2c``, ``Connection`` lists both ``Upgrade`` and ``HTTP2-Settings``, and
    there is exactly one ``HTTP2-Settings``, which is not empty. What it holds is for
    ``decode_http2_settings``.
    """
    settings = headers.get_all("http2-settings")
    return (
        len(settings) == 1
        and settings[0] != ""
        and "h2c" in _tokens(headers, "upgrade")
        and {"upgrade", "http2-settings"} <= _tokens(headers, "connection")
    )


def decode_http2_settings(headers: HeaderMap) -> bytes | None:
    """The payload of a SETTINGS frame that ``HTTP2-Settings`` holds; ``None`` where it is none,
    and the request has to be answered in HTTP/1.1."""
    text = headers.get("http2-settings")
    if "=" in text or "+" in text or "/" in text:
        return None
    try:
        payload = base64url_decode(text)
    except ValidationError:
        return None
    return payload if len(payload) % _SETTING_SIZE == 0 else None
