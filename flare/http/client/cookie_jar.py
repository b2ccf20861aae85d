"""The cookies a client keeps (RFC 6265 section 5 and its revision, 6265bis).

Which response may set which cookie, and which request gets it, is decided here and nowhere else.
The jar of ``flare.http.proto.cookie`` is the one of a single message, keyed by name alone; this one
is keyed by name, domain, path, and whether the cookie belongs to one host only.

A request is taken to be the user's own wish, so ``SameSite`` matters only once a redirect from
another site has led somewhere: then ``Strict`` cookies stay behind, and ``Lax`` ones too unless
the method is safe. Cookies know no ports; but a redirect to another port of a host is not the
user's choice either, and takes along no cookie that belongs to that host alone.
"""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from time import time

from flare.errors import ValidationError
from flare.http.proto.cookie import Cookie, SameSite, parse_set_cookie_header
from flare.http.proto.cookie_rules import (
    canonical_host,
    default_path,
    domain_matches,
    expiry,
    is_address,
    is_secure,
    keeps_prefix,
    path_matches,
)
from flare.http.proto.public_suffix import is_public_suffix
from flare.http.proto.url import Url

__all__ = ["ClientCookieJar", "StoredCookie"]

# 6265bis section 5.6; how many is section 6.1 of RFC 6265.
MAX_PAIR_BYTES = 4096
MAX_ATTRIBUTE_BYTES = 1024
MAX_PER_DOMAIN = 50
MAX_TOTAL = 3000
# How many go at once when there are too many: to find them, all are looked at.
_EVICTED = 64
# Keeps the cookies of one response in order.
_TICK = 1e-6

_SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))


@dataclass(slots=True)
class StoredCookie:
    """A cookie in a ``ClientCookieJar``.

    ``domain`` is in lower case without a leading dot; with ``host_only`` the cookie goes to that
    very host, else to those under it as well. ``expires`` is seconds since 1970, ``None`` for one
    that ends with the jar. ``port`` is where it came from, 0 for one that the program set.
    """

    name: str
    value: str = field(repr=False)
    domain: str
    path: str = "/"
    host_only: bool = True
    secure: bool = False
    http_only: bool = False
    same_site: str = ""
    expires: float | None = None
    created: float = 0.0
    used: float = 0.0
    port: int = 0

    def is_expired(self, now: float) -> bool:
        """Whether its time is over at *now*, in seconds since 1970."""
        return self.expires is not None and self.expires <= now


_find_unsendable = re.compile(r"[\x00-\x08\x0a-\x1f\x7f;]|[^\x00-\xff]").search


def check_stored(cookie: StoredCookie) -> StoredCookie:
    """*cookie*, if it can be kept and sent. What a server once set may have characters that a
    program may not use. Raises ``ValidationError``."""
    if not cookie.name or "=" in cookie.name or _find_unsendable(cookie.name):
        raise ValidationError("name", "not the name of a cookie")
    if _find_unsendable(cookie.value):
        raise ValidationError("value", "not the value of a cookie")
    if len(cookie.name) + len(cookie.value) > MAX_PAIR_BYTES:
        raise ValidationError("value", f"a cookie has at most {MAX_PAIR_BYTES} bytes")
    if not cookie.domain or cookie.domain != canonical_host(cookie.domain):
        raise ValidationError("domain", "a cookie needs one, or a client with base_url")
    if not cookie.path.startswith("/"):
        raise ValidationError("path", "must begin with '/'")
    if not keeps_prefix(cookie.name, cookie.secure, not cookie.host_only, cookie.path):
        raise ValidationError("name", "the cookie is not what its prefix promises")
    return cookie


_Key = tuple[str, str, bool]  # name, path, host_only


class ClientCookieJar:
    """Cookies by domain, path and name. Safe from any thread; several clients may share one.

    What a response may not set is left out in silence, as RFC 6265 asks: a foreign domain, a public
    suffix, ``Secure`` over plain http (but within this machine), a broken ``__Secure-`` or
    ``__Host-`` promise. One of more than 4,096 bytes is not taken. At most 50 for a domain and
    3,000 in all are kept, and those unused longest go first. None lives past 400 days.

    *host* is where a cookie goes that is set by name and value alone, and *port* where it is taken
    to come from (0: anywhere); a client with a base URL fills both in. *public_suffix* tells
    whether a domain is one, in place of the few rules that come with flare
    (``flare.http.proto.public_suffix``).

    >>> jar = ClientCookieJar(host="example.com")
    >>> jar.set("id", "42")
    >>> jar["id"], len(jar)
    ('42', 1)
    """

    def __init__(
        self,
        *,
        host: str = "",
        port: int = 0,
        public_suffix: Callable[[str], bool] = is_public_suffix,
    ) -> None:
        self.host = host
        self.port = port
        self._is_public_suffix = public_suffix
        self._domains: dict[str, dict[_Key, StoredCookie]] = {}
        self._count = 0
        self._lock = threading.Lock()  # guards _domains, what is in it, and _count
        _jars.add(self)

    # What goes over the wire

    def store(self, url: Url, set_cookies: Iterable[str]) -> None:
        """Take what the ``Set-Cookie`` fields of a response from *url* may set."""
        now = time()
        for text in set_cookies:
            try:
                parsed = parse_set_cookie_header(text)
            except ValueError:
                continue
            cookie = self._accepted(url, parsed, now)
            if cookie is not None:
                self._put(cookie, now, from_secure=is_secure(url))
                now += _TICK

    def _accepted(self, url: Url, parsed: Cookie, now: float) -> StoredCookie | None:
        """The cookie to store, or ``None`` where *url* may not set it (6265bis section 5.7)."""
        if len(parsed.name) + len(parsed.value) > MAX_PAIR_BYTES:
            return None
        host = canonical_host(url.host)
        domain = parsed.domain if len(parsed.domain) <= MAX_ATTRIBUTE_BYTES else ""
        path = parsed.path if len(parsed.path) <= MAX_ATTRIBUTE_BYTES else ""
        host_only = not domain
        if domain:
            if not domain_matches(host, domain):
                return None
            if is_address(host) or self._is_public_suffix(domain):
                if domain != host:
                    return None
                host_only = True
        if parsed.secure and not is_secure(url):
            return None
        if not keeps_prefix(parsed.name, parsed.secure, bool(domain), path):
            return None
        return StoredCookie(
            parsed.name, parsed.value, host if host_only else domain,
            path or default_path(url.path), host_only, parsed.secure, parsed.http_only,
            parsed.same_site, expiry(parsed, now), now, now, url.port,
        )  # fmt: skip

    def matching(
        self, url: Url, method: str = "GET", *, redirected: bool = False, cross_site: bool = False
    ) -> list[StoredCookie]:
        """The cookies a request to *url* gets, in the order they are sent: longest path first,
        then the oldest (RFC 6265 section 5.4).

        *redirected* says that a redirect from another origin led there, *cross_site* one from
        another site.
        """
        if not self._domains:
            return []
        now = time()
        host = canonical_host(url.host)
        secure = is_secure(url)
        held_back = _held_back(method) if cross_site else ()
        found: list[StoredCookie] = []
        with self._lock:
            for domain in _domains_of(host):
                for cookie in self._domains.get(domain, _NONE).values():
                    if cookie.host_only and (
                        domain != host or (redirected and not _same_port(cookie, url))
                    ):
                        continue
                    if (
                        path_matches(url.path, cookie.path)
                        and (secure or not cookie.secure)
                        and cookie.same_site not in held_back
                        and not cookie.is_expired(now)
                    ):
                        cookie.used = now
                        found.append(cookie)
        if len(found) > 1:
            found.sort(key=lambda cookie: (-len(cookie.path), cookie.created))
        return found

    def header_for(self, url: str | Url, method: str = "GET") -> str:
        """The ``Cookie`` field a request to *url* gets; ``""`` for none."""
        if isinstance(url, str):
            url = Url.parse(url)
        return "; ".join(f"{each.name}={each.value}" for each in self.matching(url, method))

    # What a program does

    def set(
        self, cookie: str | Cookie | StoredCookie, value: str = "", *, domain: str = "",
        path: str = "/",
    ) -> None:  # fmt: skip
        """Add a cookie, in place of one with its name, domain and path.

        By name and *value*, it goes to *domain*, and with a leading dot to all under that as well;
        without, to ``host``. A ``Cookie`` says all that itself. One whose time is over removes
        what it would replace. Raises ``ValidationError`` and ``HeaderInjectionError``
        for what could not be sent, and where no domain is known.
        """
        now = time()
        if isinstance(cookie, StoredCookie):
            stored = check_stored(replace(cookie))
        else:
            if isinstance(cookie, str):
                cookie = Cookie(cookie, value, domain, path)
            cookie.to_request_pair()
            stored = check_stored(self._made(cookie, now))
        self._put(stored, now, from_secure=True)

    def _made(self, cookie: Cookie, now: float) -> StoredCookie:
        host_only = not cookie.domain.startswith(".")
        domain = canonical_host(cookie.domain.removeprefix(".") or self.host)
        return StoredCookie(
            cookie.name, cookie.value, domain, cookie.path or "/", host_only or is_address(domain),
            cookie.secure, cookie.http_only, cookie.same_site, expiry(cookie, now), now, now,
            0 if cookie.domain else self.port,
        )  # fmt: skip

    def update(self, cookies: Mapping[str, str] | Iterable[Cookie | StoredCookie]) -> None:
        """``set`` each of *cookies*: names with values, or cookies, another jar among them."""
        if isinstance(cookies, Mapping):
            cookies = [Cookie(name, value) for name, value in cookies.items()]
        for cookie in cookies:
            self.set(cookie)

    def get(self, name: str, default: str = "", *, domain: str = "", path: str = "") -> str:
        """The value of a cookie, or *default*. Of several the newest; *domain* and *path* tell
        them apart."""
        found = self._find(name, domain, path)
        return max(found, key=lambda cookie: cookie.created).value if found else default

    def remove(self, name: str, *, domain: str = "", path: str = "") -> bool:
        """Forget every cookie of that name, of that *domain* and *path* where given; whether
        there was one."""
        found = self._find(name, domain, path)
        with self._lock:
            for cookie in found:
                self._drop(cookie)
        return bool(found)

    def _find(self, name: str, domain: str, path: str) -> list[StoredCookie]:
        domain = canonical_host(domain.removeprefix("."))
        return [
            cookie
            for cookie in self
            if cookie.name == name
            and (not domain or cookie.domain == domain)
            and (not path or cookie.path == path)
        ]

    def clear(self) -> None:
        """Forget every cookie."""
        with self._lock:
            self._domains.clear()
            self._count = 0

    def clear_session_cookies(self) -> None:
        """Forget those without an end of their own, as a browser does when it is closed."""
        for cookie in self:
            if cookie.expires is None:
                with self._lock:
                    self._drop(cookie)

    def to_dict(self) -> dict[str, str]:
        """Names and values; of several with one name the newest."""
        return {each.name: each.value for each in sorted(self, key=lambda each: each.created)}

    def save(self, path: str | os.PathLike[str], *, session: bool = True) -> None:
        """Write the cookies to a file of JSON that only its owner may read, in place of what is
        there; without *session* only those with an end of their own. Raises ``OSError``."""
        from flare.http.client.cookie_file import write_cookies

        write_cookies(path, [each for each in self if session or each.expires is not None])

    def load(self, path: str | os.PathLike[str]) -> None:
        """Add what ``save`` wrote. Raises ``OSError``, and ``ValidationError`` for a file that is
        something else; then nothing was added."""
        from flare.http.client.cookie_file import read_cookies

        now = time()
        for cookie in read_cookies(path, now):
            self._put(cookie, now, from_secure=True)

    def __getitem__(self, name: str) -> str:
        found = self._find(name, "", "")
        if not found:
            raise KeyError(name)
        return max(found, key=lambda cookie: cookie.created).value

    def __setitem__(self, name: str, value: str) -> None:
        self.set(name, value)

    def __delitem__(self, name: str) -> None:
        if not self.remove(name):
            raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return any(cookie.name == name for cookie in self)

    def __iter__(self) -> Iterator[StoredCookie]:
        """The cookies there are now, but for those whose time is over."""
        now = time()
        with self._lock:
            held = [each for cookies in self._domains.values() for each in cookies.values()]
        return iter([each for each in held if not each.is_expired(now)])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return bool(self._domains)

    def __repr__(self) -> str:
        return f"<ClientCookieJar {len(self)} cookies>"

    # The store

    def _put(self, cookie: StoredCookie, now: float, *, from_secure: bool) -> None:
        key = (cookie.name, cookie.path, cookie.host_only)
        with self._lock:
            if not from_secure and self._shadows_secure(cookie):
                return
            old = self._domains.get(cookie.domain, _NONE).get(key)
            if old is not None:
                cookie.created = min(cookie.created, old.created)
                self._drop(old)
            if not cookie.is_expired(now):
                self._domains.setdefault(cookie.domain, {})[key] = cookie
                self._count += 1
                self._make_room(cookie.domain, now)

    def _shadows_secure(self, cookie: StoredCookie) -> bool:
        """Whether *cookie*, which came in clear, would hide a ``Secure`` one (6265bis section 5.7,
        "leave secure cookies alone"); the lock is held."""
        return any(
            other.secure
            and other.name == cookie.name
            and path_matches(cookie.path, other.path)
            and (
                domain_matches(other.domain, cookie.domain)
                or domain_matches(cookie.domain, other.domain)
            )
            for cookies in self._domains.values()
            for other in cookies.values()
        )

    def _make_room(self, domain: str, now: float) -> None:
        """Keep to the limits after one was added to *domain*; the lock is held."""
        cookies = self._domains[domain]
        if len(cookies) > MAX_PER_DOMAIN:
            # Those that came in clear go before Secure ones, which somebody on the way to the
            # server could otherwise push out.
            self._evict(list(cookies.values()), len(cookies) - MAX_PER_DOMAIN, now)
        if self._count > MAX_TOTAL:
            held = [each for some in self._domains.values() for each in some.values()]
            self._evict(held, self._count - MAX_TOTAL + _EVICTED, now)

    def _evict(self, cookies: list[StoredCookie], count: int, now: float) -> None:
        """Drop *count* of *cookies*; the lock is held."""
        cookies.sort(key=lambda each: (not each.is_expired(now), each.secure, each.used))
        for each in cookies[:count]:
            self._drop(each)

    def _drop(self, cookie: StoredCookie) -> None:
        """Take *cookie* out if it is still there; the lock is held."""
        cookies = self._domains.get(cookie.domain, _NONE)
        if cookies.pop((cookie.name, cookie.path, cookie.host_only), None) is not None:
            self._count -= 1
            if not cookies:
                del self._domains[cookie.domain]

    def _forget_lock_in_child(self) -> None:
        self._lock = threading.Lock()


_NONE: dict[_Key, StoredCookie] = {}


def _domains_of(host: str) -> Iterator[str]:
    """*host*, and every domain it is under."""
    yield host
    if not is_address(host):
        while "." in host:
            host = host.partition(".")[2]
            yield host


def _held_back(method: str) -> tuple[str, ...]:
    if method in _SAFE_METHODS:
        return (SameSite.STRICT,)
    return (SameSite.STRICT, SameSite.LAX)


def _same_port(cookie: StoredCookie, url: Url) -> bool:
    """Whether *cookie* came from the port of *url*, or from port 80 where that is https's own."""
    return (
        cookie.port in (0, url.port)
        or (cookie.port == 80 and url.port == 443 and url.scheme == "https")
    )  # fmt: skip


_jars: weakref.WeakSet[ClientCookieJar] = weakref.WeakSet()


def _renew_locks_in_child() -> None:
    # A thread that is not here may have held them.
    for jar in list(_jars):
        jar._forget_lock_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks_in_child)
