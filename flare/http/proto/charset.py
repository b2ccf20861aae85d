"""The character encoding that a peer says its text is in (RFC 9110 section 8.3.2)."""

from __future__ import annotations

import codecs
import re

__all__ = ["charset_of"]

_CHARSET = re.compile(r';[ \t]*charset[ \t]*=[ \t]*"?([A-Za-z0-9_.:\-]{1,40})"?', re.IGNORECASE)
# Python calls them encodings: escapes of its own source text, which warn of what they do not know,
# and those of host names, which take quadratic time.
_NO_CHARSETS = frozenset("unicode-escape raw-unicode-escape punycode idna".split())


def charset_of(content_type: str) -> str:
    """The ``charset`` parameter of a ``Content-Type`` where Python can decode text by it and
    replace what does not fit; else ``utf-8``."""
    found = _CHARSET.search(content_type)
    if found is None:
        return "utf-8"
    name = found[1]
    if name.lower() not in ("utf-8", "iso-8859-1", "us-ascii"):
        try:
            if codecs.lookup(name).name.replace("_", "-") in _NO_CHARSETS:
                return "utf-8"
            b"\xff".decode(name, "replace")
        except (LookupError, ValueError):  # what refuses to replace
            return "utf-8"
    return name
