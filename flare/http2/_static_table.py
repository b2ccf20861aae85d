"""The static table of HPACK (RFC 7541 appendix A)."""

from __future__ import annotations

from typing import Final

from flare.http.proto.hpack_fields import HpackHeader

__all__ = ["NAME_INDEX", "PAIR_INDEX", "STATIC_TABLE", "STATIC_TABLE_LEN"]

_TEXT = """\
:authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate"""

_ENTRIES = [HpackHeader(*line.partition(" ")[::2]) for line in _TEXT.splitlines()]

STATIC_TABLE: Final = (HpackHeader(), *_ENTRIES)
"""Entry *i* at index *i*; index 0 names nothing."""
STATIC_TABLE_LEN: Final = len(_ENTRIES)
PAIR_INDEX: Final = {(name, value): i for i, (name, value, _) in enumerate(_ENTRIES, 1)}
NAME_INDEX: Final[dict[str, int]] = {}
for _index, _entry in enumerate(_ENTRIES, 1):
    NAME_INDEX.setdefault(_entry.name, _index)
