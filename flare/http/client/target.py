"""Where a request goes: from what the caller wrote as URL to origin, peer and request target."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from flare.http.client.content import encode_pairs
from flare.http.proto.url import Url, UrlParseError

if TYPE_CHECKING:
    from flare.http.client.auth import BasicAuth
    from flare.http.client.route import Route

__all__ = ["Origin", "Params", "Target", "TargetResolver", "with_query"]

Params = str | Mapping[str, Any] | Iterable[tuple[str, Any]]

_has_scheme = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://").match
# Everything up to the end of the authority, which must not have a blank.
_match_authority = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.\-]*:)?//[^/?#]*").match

_MEMO_URLS = 512
_MEMO_URL_CHARS = 512


class Origin(NamedTuple):
    """Whose the resources are, and who may see credentials (RFC 9110 section 4.3.1)."""

    scheme: str
    host: str
    port: int


class Target:
    """One place to send a request to.

    ``peer`` is ``host:port`` for messages, ``authority`` what ``Host`` says, ``line`` the request
    target, ``text`` the whole URL without user name and password, which became ``auth``. ``route``
    is for ``Routes`` to remember the way by.
    """

    __slots__ = ("auth", "authority", "line", "origin", "peer", "route", "text", "url")

    def __init__(self, url: Url) -> None:
        self.url = url
        self.route: Route | None = None
        self.origin = Origin(url.scheme, url.host, url.port)
        host = f"[{url.host}]" if ":" in url.host else url.host
        self.peer = f"{host}:{url.port}"
        self.authority = url.authority()
        self.line = url.request_target()
        self.text = str(url)
        self.auth: BasicAuth | None = None
        if url.username or url.password:
            from flare.http.client.auth import BasicAuth

            self.auth = BasicAuth(url.username, url.password)

    @classmethod
    def parse(cls, text: str) -> Target:
        """The target of an absolute URL; blanks in path and query become ``%20``."""
        if " " in text:
            authority = _match_authority(text)
            if authority:
                end = authority.end()
                text = text[:end] + text[end:].replace(" ", "%20")
        return cls(Url.parse(text))


class TargetResolver:
    """Turns a caller's URLs into targets, by a base and with a bounded memo.

    A relative URL is appended to *base_url* with one ``/`` between. That is not RFC 3986, where
    ``/items`` would replace the path of the base. Safe from several threads.
    """

    __slots__ = ("_memo", "base", "base_url")

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.base: Target | None = None
        self._memo: dict[str, Target] = {}
        if base_url:
            self.base = Target.parse(base_url)
            if self.base.url.query or self.base.url.fragment:
                raise UrlParseError("base_url may not have a query or a fragment")

    def resolve(self, url: str, params: Params | None = None) -> Target:
        """The target of *url*, with *params* appended to its query.

        Raises ``UrlParseError`` for what is no URL, is relative without a base, or begins with
        ``//``; ``TypeError`` for what is no text.
        """
        if not isinstance(url, str):
            raise TypeError(f"url must be str, not {type(url).__name__}")
        if params is not None:
            url = with_query(url, params)
        target = self._memo.get(url)
        if target is None:
            target = Target.parse(url if _has_scheme(url) else self._join(url))
            # One with a password in it stays out of memory that outlives the call.
            if target.auth is None and len(url) <= _MEMO_URL_CHARS:
                if len(self._memo) >= _MEMO_URLS:
                    self._memo.clear()
                self._memo[url] = target
        return target

    def _join(self, url: str) -> str:
        if url.startswith("//"):
            raise UrlParseError("a URL that begins with // has no scheme")
        if self.base is None:
            raise UrlParseError("a relative URL needs a client with base_url")
        base = self.base_url
        if not url or url[0] in "?#":
            return base + url
        return f"{base.rstrip('/')}/{url.removeprefix('/')}"


def with_query(url: str, params: Params) -> str:
    """*url* with *params*, text or pairs to encode, appended to its query."""
    query = params if isinstance(params, str) else encode_pairs(params)
    if not query:
        return url
    before, mark, fragment = url.partition("#")
    separator = "" if before.endswith(("?", "&")) else "&" if "?" in before else "?"
    return f"{before}{separator}{query}{mark}{fragment}"
