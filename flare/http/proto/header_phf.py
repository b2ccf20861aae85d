"""The seventy standard field names, by number.

``StandardHeader`` numbers them; the functions go from a name to its number and back. The original
used a perfect hash made when it was compiled; a ``dict`` is one already.
"""

from __future__ import annotations

from typing import Final

from flare.http.proto.ascii import BytesLike

__all__ = [
    "StandardHeader",
    "is_standard_header",
    "lookup_standard_header_bytes",
    "lookup_standard_header_string",
    "standard_header_count",
    "standard_header_name",
]


class StandardHeader:
    """The number of each standard field name; ``X_REQUEST_ID`` is that of ``x-request-id``."""

    HOST: Final = 0
    CONNECTION: Final = 1
    KEEP_ALIVE: Final = 2
    TRANSFER_ENCODING: Final = 3
    TRAILER: Final = 4
    UPGRADE: Final = 5
    CONTENT_LENGTH: Final = 6
    CONTENT_TYPE: Final = 7
    DATE: Final = 8
    VIA: Final = 9

    ETAG: Final = 10
    IF_MATCH: Final = 11
    IF_NONE_MATCH: Final = 12
    IF_MODIFIED_SINCE: Final = 13
    IF_UNMODIFIED_SINCE: Final = 14
    LAST_MODIFIED: Final = 15

    ACCEPT_RANGES: Final = 16
    RANGE: Final = 17
    IF_RANGE: Final = 18
    CONTENT_RANGE: Final = 19

    CACHE_CONTROL: Final = 20
    AGE: Final = 21
    EXPIRES: Final = 22
    PRAGMA: Final = 23
    WARNING: Final = 24

    AUTHORIZATION: Final = 25
    WWW_AUTHENTICATE: Final = 26
    PROXY_AUTHENTICATE: Final = 27
    PROXY_AUTHORIZATION: Final = 28

    ACCEPT: Final = 29
    ACCEPT_ENCODING: Final = 30
    ACCEPT_LANGUAGE: Final = 31
    ACCEPT_CHARSET: Final = 32
    ALLOW: Final = 33
    CONTENT_ENCODING: Final = 34
    CONTENT_LANGUAGE: Final = 35
    CONTENT_LOCATION: Final = 36

    CONTENT_DISPOSITION: Final = 37
    VARY: Final = 38
    FROM: Final = 39
    REFERER: Final = 40
    USER_AGENT: Final = 41
    SERVER: Final = 42
    LOCATION: Final = 43
    RETRY_AFTER: Final = 44

    COOKIE: Final = 45
    SET_COOKIE: Final = 46

    ORIGIN: Final = 47
    ACCESS_CONTROL_ALLOW_ORIGIN: Final = 48
    ACCESS_CONTROL_ALLOW_METHODS: Final = 49
    ACCESS_CONTROL_ALLOW_HEADERS: Final = 50
    ACCESS_CONTROL_ALLOW_CREDENTIALS: Final = 51
    ACCESS_CONTROL_EXPOSE_HEADERS: Final = 52
    ACCESS_CONTROL_MAX_AGE: Final = 53
    ACCESS_CONTROL_REQUEST_METHOD: Final = 54
    ACCESS_CONTROL_REQUEST_HEADERS: Final = 55

    FORWARDED: Final = 56
    X_FORWARDED_FOR: Final = 57
    X_FORWARDED_PROTO: Final = 58
    X_FORWARDED_HOST: Final = 59
    X_REAL_IP: Final = 60

    SEC_WEBSOCKET_KEY: Final = 61
    SEC_WEBSOCKET_VERSION: Final = 62
    SEC_WEBSOCKET_ACCEPT: Final = 63
    SEC_WEBSOCKET_PROTOCOL: Final = 64
    SEC_WEBSOCKET_EXTENSIONS: Final = 65

    EXPECT: Final = 66
    REFRESH: Final = 67
    X_REQUEST_ID: Final = 68
    STRICT_TRANSPORT_SECURITY: Final = 69


_NAMES = tuple(
    name.lower().replace("_", "-") for name in vars(StandardHeader) if not name.startswith("_")
)
_BY_TEXT = {name: index for index, name in enumerate(_NAMES)}
_BY_BYTES = {name.encode(): index for name, index in _BY_TEXT.items()}
_LONGEST = max(map(len, _NAMES))


def standard_header_count() -> int:
    """How many standard names there are: 70."""
    return len(_NAMES)


def standard_header_name(index: int) -> str:
    """The lower-case name with that number, or ``""`` where there is none."""
    return _NAMES[index] if 0 <= index < len(_NAMES) else ""


def lookup_standard_header_bytes(data: BytesLike) -> int:
    """The number of the name in *data*, in any ASCII case, or -1."""
    return _BY_BYTES.get(bytes(data).lower(), -1) if len(data) <= _LONGEST else -1


def lookup_standard_header_string(s: str) -> int:
    """The number of the name *s*, in any ASCII case, or -1."""
    return _BY_TEXT.get(s.lower(), -1) if len(s) <= _LONGEST and s.isascii() else -1


def is_standard_header(data: BytesLike | str) -> bool:
    """Whether *data* is a standard field name, in any ASCII case."""
    if isinstance(data, str):
        return lookup_standard_header_string(data) >= 0
    return lookup_standard_header_bytes(data) >= 0
