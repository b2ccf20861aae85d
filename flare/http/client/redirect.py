"""Whether and how a redirect is followed (RFC 9110 section 15.4): a pure decision.

The one place where a method changes, a body is dropped, and credentials are found to belong to
another origin.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Self

from flare._record import FrozenRecord, Record
from flare.errors import ValidationError
from flare.http.proto.url import Url

__all__ = [
    "REDIRECT_STATUSES",
    "RedirectAction",
    "RedirectDecision",
    "RedirectMode",
    "RedirectPolicy",
    "same_origin",
    "same_site",
]

REDIRECT_STATUSES = frozenset((301, 302, 303, 307, 308))
"""Those that are followed; 300, 304, 305 and 306 are answers like any other."""


class RedirectMode(IntEnum):
    """Which redirects are followed."""

    FOLLOW_ALL = 0
    SAME_ORIGIN_ONLY = 1
    DENY = 2


class RedirectAction(IntEnum):
    """FOLLOW it, STOP at this response, or REJECT it as an error."""

    FOLLOW = 0
    STOP = 1
    REJECT = 2


class RedirectDecision(Record):
    """What to do about one response. ``forward_authorization`` is false where the next request
    goes to another origin: credentials and cookies of the caller must not go there."""

    __slots__ = (
        "action",
        "next_method",
        "next_url",
        "next_body_dropped",
        "forward_authorization",
    )

    def __init__(
        self,
        action: RedirectAction,
        next_method: str = "",
        next_url: str = "",
        next_body_dropped: bool = False,
        forward_authorization: bool = False,
    ) -> None:
        self.action = action
        self.next_method = next_method
        self.next_url = next_url
        self.next_body_dropped = next_body_dropped
        self.forward_authorization = forward_authorization


class RedirectPolicy(FrozenRecord):
    """How many redirects to follow, and where to.

    An origin is scheme, host and port. Credentials never leave theirs, whatever the mode.
    """

    __slots__ = ("max_redirects", "mode")

    max_redirects: int
    mode: int

    def __init__(self, max_redirects: int = 10, mode: int = RedirectMode.FOLLOW_ALL) -> None:
        if max_redirects < 0:
            raise ValidationError("max_redirects", f"must be >= 0, got {max_redirects}")
        self._set(max_redirects=max_redirects, mode=mode)

    @classmethod
    def follow_all(cls, max_redirects: int = 10) -> Self:
        """Follow at most *max_redirects* in a row."""
        return cls(max_redirects, RedirectMode.FOLLOW_ALL)

    @classmethod
    def same_origin_only(cls, max_redirects: int = 10) -> Self:
        """Follow those that stay at scheme, host and port; any other is an error."""
        return cls(max_redirects, RedirectMode.SAME_ORIGIN_ONLY)

    @classmethod
    def deny(cls) -> Self:
        """Follow none; the 3xx is the answer."""
        return cls(0, RedirectMode.DENY)

    def decide(
        self,
        current_url: str | Url,
        current_method: str,
        status: int,
        location: str,
        hops_so_far: int,
    ) -> RedirectDecision:
        """What to do with a response of *status* and *location* after *hops_so_far* redirects.

        *location* is the field as received, ``""`` where it is missing, resolved against
        *current_url* by RFC 3986 section 5. Raises ``UrlParseError`` where it is no ``http`` or
        ``https`` URL.
        """
        if (
            status not in REDIRECT_STATUSES
            or not location
            or self.mode == RedirectMode.DENY
            or hops_so_far >= self.max_redirects
        ):
            return RedirectDecision(RedirectAction.STOP)
        here = current_url if isinstance(current_url, Url) else Url.parse(current_url)
        there = here.join(_as_utf8(location))
        if not there.fragment:  # RFC 9110 section 10.2.2
            there.fragment = here.fragment
        same = same_origin(here, there)
        if self.mode == RedirectMode.SAME_ORIGIN_ONLY and not same:
            return RedirectDecision(RedirectAction.REJECT, next_url=str(there))
        method = current_method
        if (status == 303 and method not in ("GET", "HEAD")) or (
            status in (301, 302) and method == "POST"
        ):
            method = "GET"
        return RedirectDecision(
            RedirectAction.FOLLOW, method, str(there), method != current_method, same
        )


def same_origin(one: Url, other: Url) -> bool:
    """Whether both have the same scheme, host and port (RFC 9110 section 4.3.1)."""
    return (one.scheme, one.host, one.port) == (other.scheme, other.host, other.port)


def same_site(one: Url, other: Url) -> bool:
    """Whether both have the same scheme and belong to the same registered domain (6265bis section
    5.2). Ports do not matter."""
    if one.scheme != other.scheme:
        return False
    if one.host == other.host:
        return True
    from flare.http.proto.cookie_rules import canonical_host, is_address
    from flare.http.proto.public_suffix import registrable_domain

    here, there = canonical_host(one.host), canonical_host(other.host)
    if is_address(here) or is_address(there):
        return here == there
    return registrable_domain(here) == registrable_domain(there)


def _as_utf8(location: str) -> str:
    """The field's bytes, which came as Latin-1, as text whose UTF-8 is those bytes where they are
    UTF-8, else percent-encoded one by one; a blank, which is in no URL, as ``%20``."""
    location = location.replace(" ", "%20")
    if location.isascii():
        return location
    raw = location.encode("latin-1")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in raw)
