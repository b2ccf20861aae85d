"""Who may set a cookie and who gets it back: the tests of RFC 6265 section 5.1 and of its revision.

Hosts are in lower case and without a trailing dot (``canonical_host``).
"""

from __future__ import annotations

import re

from flare.http.proto.cookie import Cookie
from flare.http.proto.dates import parse_http_date
from flare.http.proto.url import Url

__all__ = [
    "canonical_host",
    "default_path",
    "domain_matches",
    "expiry",
    "is_address",
    "is_secure",
    "keeps_prefix",
    "path_matches",
]

MAX_AGE_SECONDS = 400 * 24 * 3600
"""The longest life of a cookie (6265bis section 5.5)."""

_is_ipv4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}").fullmatch


def canonical_host(host: str) -> str:
    """*host* as cookies know it."""
    return host.lower().removesuffix(".")


def is_address(host: str) -> bool:
    """Whether *host* is an IP address, which has no domains above it."""
    return ":" in host or _is_ipv4(host) is not None


def domain_matches(host: str, domain: str) -> bool:
    """Whether *host* is *domain* or under it (RFC 6265 section 5.1.3)."""
    return host == domain or (host.endswith("." + domain) and not is_address(host))


def path_matches(path: str, cookie_path: str) -> bool:
    """Whether *path* is *cookie_path* or under it (RFC 6265 section 5.1.4)."""
    return path == cookie_path or (
        path.startswith(cookie_path)
        and (cookie_path.endswith("/") or path[len(cookie_path)] == "/")
    )


def default_path(path: str) -> str:
    """The path of a cookie that names none (RFC 6265 section 5.1.4)."""
    end = path.rfind("/")
    return path[:end] if end > 0 else "/"


def is_secure(url: Url) -> bool:
    """Whether ``Secure`` cookies may be set by *url* and sent to it: over TLS, or within this
    machine."""
    if url.scheme == "https":
        return True
    host = canonical_host(url.host)
    return (
        host in ("localhost", "::1")
        or host.endswith(".localhost")
        or (host.startswith("127.") and is_address(host))
    )


def keeps_prefix(name: str, secure: bool, has_domain: bool, path: str) -> bool:
    """Whether a cookie is what ``__Secure-`` or ``__Host-`` in its name says it is (6265bis
    section 4.1.3). *path* is its attribute, ``""`` for none."""
    lower = name.lower()
    if lower.startswith("__secure-"):
        return secure
    if lower.startswith("__host-"):
        return secure and not has_domain and path == "/"
    return True


def expiry(cookie: Cookie, now: float) -> float | None:
    """When *cookie*, received at *now*, ends, in seconds since 1970; ``None`` for never.

    ``Max-Age`` wins over ``Expires``, and a date that cannot be read is none.
    """
    if cookie.max_age >= 0:
        return now + min(cookie.max_age, MAX_AGE_SECONDS)
    if cookie.expires:
        end = parse_http_date(cookie.expires)
        if end is not None:
            return min(float(end), now + MAX_AGE_SECONDS)
    return None
