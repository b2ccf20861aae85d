"""Cookies: the ``Cookie`` and ``Set-Cookie`` fields (RFC 6265 sections 4.1, 4.2 and 5.2).

Reading is lenient, as section 5 asks, and takes time linear in the field's length, with no
pattern that could backtrack. Writing is strict, as section 4 asks: what could be read as another
cookie, another attribute or another field is refused before it is sent. The jar here is the one of
a single message, keyed by name alone; a client's store with domains and expiry is another class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from flare.errors import ValidationError
from flare.http.proto.ascii import ascii_lower
from flare.http.proto.errors import HttpParseError
from flare.http.proto.headers import HeaderInjectionError

__all__ = ["Cookie", "CookieJar", "SameSite", "parse_cookie_header", "parse_set_cookie_header"]

_is_token = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_find_not_cookie_octet = re.compile(r"[^!#-+\--:<-\[\]-~]").search
_is_domain = re.compile(r"\.?[0-9A-Za-z_-]++(?:\.[0-9A-Za-z_-]++)*").fullmatch
_find_not_attribute = re.compile(r"[^\x20-:<-~]").search
_find_line_break = re.compile(r"[\r\n\0]").search
_find_control = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search
_is_max_age = re.compile(r"-?[0-9]+").fullmatch

# A number a peer sends may have any number of digits; past this it only means "for ever".
_LONGEST_AGE = 10**12
_BLANKS = " \t"


class SameSite:
    """When a browser adds the cookie to requests that another site causes."""

    NONE: Final = "None"
    LAX: Final = "Lax"
    STRICT: Final = "Strict"


_SAME_SITE = {each.lower(): each for each in (SameSite.NONE, SameSite.LAX, SameSite.STRICT)}


@dataclass(slots=True)
class Cookie:
    """One cookie, with the attributes a ``Set-Cookie`` field can give it.

    ``max_age`` is in seconds: negative means not set, so that the cookie lives as long as the
    browser's session, and 0 deletes it. ``expires`` is an HTTP date as text, kept as it is. An
    empty string means that the attribute is not there. Nothing is checked before it is written.
    """

    name: str
    value: str = field(repr=False)
    domain: str = ""
    path: str = ""
    max_age: int = -1
    secure: bool = False
    http_only: bool = False
    same_site: str = ""
    expires: str = ""

    def to_request_pair(self) -> str:
        """``name=value``, for a ``Cookie`` field.

        Raises ``HeaderInjectionError`` for CR, LF or NUL, and ``ValidationError`` for any other
        character that RFC 6265 section 4.1.1 forbids in the name or the value. A value may stand
        in double quotes; none are added.
        """
        return self._pair("Cookie")

    def to_set_cookie_header(self) -> str:
        """The value of the ``Set-Cookie`` field that sets this cookie.

        Raises as ``to_request_pair`` does, for the attributes too, and ``ValidationError`` where a
        browser would drop the cookie: ``SameSite=None`` without ``Secure``, and a name beginning
        ``__Secure-`` or ``__Host-`` without what that promises.
        """
        parts = [self._pair("Set-Cookie")]
        if self.domain:
            _refuse_line_break("Set-Cookie", self.domain)
            if not _is_domain(self.domain):
                raise ValidationError("domain", "not a domain name")
            parts.append(f"Domain={self.domain}")
        if self.path:
            parts.append(f"Path={_attribute('path', self.path)}")
        if not isinstance(self.max_age, int):
            raise ValidationError("max_age", f"must be int, not {type(self.max_age).__name__}")
        if self.max_age >= 0:
            parts.append(f"Max-Age={int(self.max_age)}")
        if self.secure:
            parts.append("Secure")
        if self.http_only:
            parts.append("HttpOnly")
        if self.same_site:
            parts.append(f"SameSite={self._checked_same_site()}")
        if self.expires:
            parts.append(f"Expires={_attribute('expires', self.expires)}")
        self._check_prefix()
        return "; ".join(parts)

    def _pair(self, header: str) -> str:
        _refuse_line_break(header, self.name)
        _refuse_line_break(header, self.value)
        if not _is_token(self.name):
            raise ValidationError("name", "a cookie's name must be a token (RFC 9110 §5.6.2)")
        bare = self.value
        if len(bare) >= 2 and bare[0] == bare[-1] == '"':
            bare = bare[1:-1]
        bad = _find_not_cookie_octet(bare)
        if bad:
            raise ValidationError(
                "value", f"{bad[0]!a} may not stand in a cookie's value; encode it first"
            )
        return f"{self.name}={self.value}"

    def _checked_same_site(self) -> str:
        same_site = _SAME_SITE.get(self.same_site.lower())
        if same_site is None:
            raise ValidationError("same_site", "must be None, Lax or Strict")
        if same_site == SameSite.NONE and not self.secure:
            raise ValidationError("same_site", "None needs secure=True")
        return same_site

    def _check_prefix(self) -> None:
        name = self.name.lower()
        if name.startswith(("__secure-", "__host-")) and not self.secure:
            raise ValidationError("name", "the prefixes __Secure- and __Host- need secure=True")
        if name.startswith("__host-") and (self.domain or self.path != "/"):
            raise ValidationError("name", 'the prefix __Host- needs path="/" and no domain')


def _refuse_line_break(header: str, text: str) -> None:
    if _find_line_break(text):
        raise HeaderInjectionError(header, text)


def _attribute(name: str, value: str) -> str:
    _refuse_line_break("Set-Cookie", value)
    bad = _find_not_attribute(value)
    if bad:
        raise ValidationError(name, f"{bad[0]!a} may not stand in a cookie's attribute")
    return value


def parse_cookie_header(h: str) -> list[Cookie]:
    """The cookies of a ``Cookie`` field, in order, each with only its name and value.

    Parts without ``=`` are skipped; quotes stay, nothing is decoded, repeated names are all
    there. Never raises.
    """
    found = []
    for part in h.split(";"):
        name, equals, value = part.partition("=")
        if equals:
            found.append(Cookie(name.strip(_BLANKS), value.strip(_BLANKS)))
    return found


def parse_set_cookie_header(h: str) -> Cookie:
    """The cookie that a ``Set-Cookie`` field sets, read as RFC 6265 section 5.2 says.

    Attributes that are unknown, or whose value makes no sense, are ignored, and of a repeated one
    the last counts. A domain loses its leading dot and its upper case; a path that does not begin
    with ``/`` is none; a negative Max-Age is 0. Raises ``HttpParseError`` for a field that user
    agents ignore: one without a name, or with a control character.
    """
    if _find_control(h):
        raise HttpParseError(HttpParseError.BAD_FIELD_VALUE, "a control character in Set-Cookie")
    pair, *attributes = h.split(";")
    name, _, value = pair.partition("=")
    cookie = Cookie(name.strip(_BLANKS), value.strip(_BLANKS))
    if not cookie.name:
        raise HttpParseError(HttpParseError.BAD_FIELD_VALUE, "Set-Cookie without a name")
    for part in attributes:
        name, _, value = part.partition("=")
        _set_attribute(cookie, ascii_lower(name.strip(_BLANKS)), value.strip(_BLANKS))
    return cookie


def _set_attribute(cookie: Cookie, name: str, value: str) -> None:
    match name:
        case "domain":
            domain = ascii_lower(value.removeprefix("."))
            if domain:
                cookie.domain = domain
        case "path":
            cookie.path = value if value.startswith("/") else ""
        case "max-age":
            if _is_max_age(value):
                cookie.max_age = _seconds(value)
        case "expires":
            cookie.expires = value
        case "secure":
            cookie.secure = True
        case "httponly":
            cookie.http_only = True
        case "samesite":
            cookie.same_site = _SAME_SITE.get(ascii_lower(value), "")


def _seconds(digits: str) -> int:
    if digits.startswith("-"):
        return 0
    significant = digits.lstrip("0")
    if len(significant) > len(str(_LONGEST_AGE)):
        return _LONGEST_AGE
    return min(int(significant or "0"), _LONGEST_AGE)


class CookieJar:
    """The cookies of one message by name; setting a name again replaces it in its place.

    ``jar[name]`` and ``get`` give values; iteration gives the ``Cookie`` objects. Not to be changed
    by one thread while another uses it.

    >>> jar = CookieJar()
    >>> jar.set(Cookie("session", "abc123", secure=True, http_only=True))
    >>> jar.to_request_header()
    'session=abc123'
    """

    __slots__ = ("_cookies",)

    def __init__(self, cookies: Iterable[Cookie] = ()) -> None:
        self._cookies = {cookie.name: cookie for cookie in cookies}

    def set(self, cookie: Cookie) -> None:
        """Add *cookie*, in place of one with its name."""
        self._cookies[cookie.name] = cookie

    def get(self, name: str, default: str = "") -> str:
        """The value of that cookie, or *default*."""
        cookie = self._cookies.get(name)
        return cookie.value if cookie else default

    def remove(self, name: str) -> bool:
        """Forget that cookie; whether it was there."""
        return self._cookies.pop(name, None) is not None

    def contains(self, name: str) -> bool:
        """Whether there is a cookie of that name."""
        return name in self._cookies

    def len(self) -> int:
        """How many cookies there are."""
        return len(self._cookies)

    def to_request_header(self) -> str:
        """The value of a ``Cookie`` field with all but those whose ``max_age`` is 0.

        Raises as ``Cookie.to_request_pair`` does.
        """
        return "; ".join(each.to_request_pair() for each in self if each.max_age != 0)

    def __getitem__(self, name: str) -> str:
        return self._cookies[name].value

    def __contains__(self, name: object) -> bool:
        return name in self._cookies

    def __iter__(self) -> Iterator[Cookie]:
        return iter(self._cookies.values())

    def __len__(self) -> int:
        return len(self._cookies)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CookieJar):
            return NotImplemented
        return self._cookies == other._cookies

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"CookieJar({list(self)!r})"
