"""The header section of a request: what the client sends by itself, and what the caller says.

A field of the caller's replaces the automatic one of the same name, it is never sent twice.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from flare.errors import ValidationError
from flare.http.client.content import Content
from flare.http.client.target import Target
from flare.http.proto.encoder import field_line
from flare.http.proto.fields import FieldBlock, Item
from flare.http.proto.headers import HeaderMap

if TYPE_CHECKING:
    from flare.http.client.call_options import CallHeaders

__all__ = [
    "CONTENT_FIELDS",
    "DefaultFields",
    "changed_section",
    "check_method",
    "is_credential",
    "join_absent",
    "split_absent",
]

CONTENT_FIELDS = frozenset(
    (
        "content-type",
        "content-length",
        "content-encoding",
        "content-language",
        "content-location",
        "transfer-encoding",
        "expect",
    )
)
"""What goes when a redirect drops the body."""

_CREDENTIAL_WORDS = (
    "authoriz",
    "authent",
    "cookie",
    "token",
    "secret",
    "passw",
    "credential",
    "session",
    "api-key",
    "apikey",
)
_FRAMING = frozenset(("content-length", "transfer-encoding"))
_NEEDED = _FRAMING | {"host"}
_NONE: frozenset[str] = frozenset()
_COMMON_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_is_token = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_valid_host = re.compile(r"[\x21-\x7e]+").fullmatch
_MEMO_AUTHORITIES = 256


def is_credential(lower: str) -> bool:
    """Whether a field that a caller gave must not leave its origin: what HTTP itself knows to be a
    credential, and names that say so, such as ``X-Api-Key``."""
    return any(word in lower for word in _CREDENTIAL_WORDS) or "auth" in lower.split("-")


def check_method(method: str, content: Content) -> str:
    """*method* as sent: common ones in upper case. Raises ``ValidationError`` for one that is no
    token, for CONNECT, and for TRACE with a body."""
    if method in _COMMON_METHODS:
        return method
    upper = method.upper()
    if upper in _COMMON_METHODS:
        return upper
    if not _is_token(method):
        raise ValidationError("method", f"not a token: {method[:40]!a}")
    if upper == "CONNECT":
        raise ValidationError("method", "CONNECT makes a tunnel, not a request")
    if upper == "TRACE" and content:
        raise ValidationError("method", "TRACE has no body")
    return method


def split_absent(headers: CallHeaders) -> tuple[HeaderMap, frozenset[str]]:
    """The fields of a call, and the names, in lower case, of those to be left out: they have
    ``None`` as value. Raises ``ValidationError`` where a request cannot be without."""
    if isinstance(headers, (HeaderMap, str)):
        return HeaderMap(headers), _NONE
    pairs: Any = headers
    if isinstance(headers, Mapping):
        if None not in headers.values():  # as always
            return HeaderMap(pairs), _NONE
        pairs = headers.items()
    pairs = list(pairs)
    absent = frozenset(str(name).lower() for name, value in pairs if value is None)
    for name in absent & _NEEDED:
        raise ValidationError("headers", f"{name} cannot be left out of a request")
    return HeaderMap([pair for pair in pairs if pair[1] is not None]), absent


def join_absent(headers: HeaderMap, absent: Iterable[str]) -> CallHeaders:
    """What ``split_absent`` makes *headers* and *absent* of."""
    return [*headers.items(), *((name, None) for name in absent)]


class DefaultFields:
    """The fields every request of a client begins with; *headers* are the client's own,
    *accept_encoding* what it can decode.

    Immutable. ``for_host`` gives them ready to send, the common case.
    """

    __slots__ = ("_last", "_memo", "items")

    def __init__(
        self,
        user_agent: str,
        headers: HeaderMap,
        *,
        keep_alive: bool,
        accept_encoding: str = "",
    ) -> None:
        for name in ("content-length", "transfer-encoding", "host"):
            if name in headers:
                raise ValidationError("headers", f"{name} belongs to one request, not to a client")
        automatic = HeaderMap()
        if user_agent:
            automatic.append("User-Agent", user_agent)
        automatic.append("Connection", "keep-alive" if keep_alive else "close")
        automatic.append("Accept", "*/*")
        if accept_encoding:
            automatic.append("Accept-Encoding", accept_encoding)
        self.items = _replaced(_items(automatic), _items(headers))
        self._forget()

    def without_credentials(self) -> DefaultFields:
        """The same, less what must not reach another origin."""
        return self.without({item[0] for item in self.items if is_credential(item[0])})

    def without(self, names: Collection[str]) -> DefaultFields:
        """The same, less *names*, which are in lower case."""
        if not names:
            return self
        fewer = DefaultFields.__new__(DefaultFields)
        fewer.items = tuple(item for item in self.items if item[0] not in names)
        fewer._forget()
        return fewer

    def _forget(self) -> None:
        self._memo: dict[str, tuple[bytes, FieldBlock]] = {}
        self._last: tuple[object, tuple[bytes, FieldBlock]] | None = None

    def for_host(self, authority: str) -> tuple[bytes, FieldBlock]:
        """The section of a request with nothing more to say, its end included."""
        known = self._memo.get(authority)
        if known is None:
            known = encode_section((("host", "Host", authority), *self.items))
            if len(self._memo) >= _MEMO_AUTHORITIES:
                self._memo.clear()
            self._memo[authority] = known
        return known

    def compose(
        self,
        target: Target,
        headers: HeaderMap | None,
        framing: tuple[str, str] | None,
        content_type: str,
        proof: HeaderMap | None = None,
        cookies: str = "",
    ) -> tuple[bytes, FieldBlock]:
        """The section of a request: Host, the client's, the caller's, *proof* of who asks,
        *cookies* unless there are some already, the content's."""
        if headers is None and framing is None:
            if not proof and not cookies:
                return self.for_host(target.authority)
            return self._for_caller(target.authority, proof, cookies)
        return self._composed(target.authority, headers, framing, content_type, proof, cookies)

    def _for_caller(
        self, authority: str, proof: HeaderMap | None, cookies: str
    ) -> tuple[bytes, FieldBlock]:
        """The section of a request with no more to say than who asks: mostly the last one again."""
        key = (authority, tuple(_items(proof)) if proof else (), cookies)
        known = self._last
        if known is None or known[0] != key:
            known = key, self._composed(authority, None, None, "", proof, cookies)
            self._last = known
        return known[1]

    def _composed(
        self,
        authority: str,
        headers: HeaderMap | None,
        framing: tuple[str, str] | None,
        content_type: str,
        proof: HeaderMap | None,
        cookies: str,
    ) -> tuple[bytes, FieldBlock]:
        asked = [item for item in _items(headers) if item[0] not in _FRAMING] if headers else []
        items = _replaced((("host", "Host", authority), *self.items), asked)
        if headers is not None and "range" in headers and "accept-encoding" not in headers:
            # A part of a coded body could not be decoded.
            items = tuple(item for item in items if item[0] != "accept-encoding")
        if proof:
            items = _replaced(items, _items(proof))
        _check_host(items)
        if cookies and not any(item[0] == "cookie" for item in items):
            items = (*items, ("cookie", "Cookie", cookies))
        last = HeaderMap()
        if content_type and not any(item[0] == "content-type" for item in items):
            last.append("Content-Type", content_type)
        if framing is not None:
            last.append(*framing)
        return encode_section((*items, *_items(last)))


def _items(headers: HeaderMap) -> list[Item]:
    return headers._items


def _replaced(items: Iterable[Item], by: list[Item]) -> tuple[Item, ...]:
    """*items* with those of the names in *by* replaced, Host in its place, the rest at the end."""
    if not by:
        return tuple(items)
    names = {item[0] for item in by}
    kept = [item for item in items if item[0] not in names]
    if "host" in names:
        hosts = [item for item in by if item[0] == "host"]
        return (*hosts, *kept, *(item for item in by if item[0] != "host"))
    return (*kept, *by)


def _check_host(items: Iterable[Item]) -> None:
    hosts = [item[2] for item in items if item[0] == "host"]
    if len(hosts) != 1 or not _valid_host(hosts[0]):
        raise ValidationError("Host", "must be one host, with or without a port")


def changed_section(items: tuple[Item, ...], by: tuple[Item, ...]) -> tuple[bytes, FieldBlock]:
    """The section *items* after a hook made *by* of it: Host stays first, and framing as it was.

    Raises ``ValidationError`` for a Host that is none.
    """
    _check_host(by)
    framing = tuple(item for item in items if item[0] in _FRAMING)
    hosts = tuple(item for item in by if item[0] == "host")
    rest = tuple(item for item in by if item[0] != "host" and item[0] not in _FRAMING)
    return encode_section((*hosts, *rest, *framing))


def encode_section(items: tuple[Item, ...]) -> tuple[bytes, FieldBlock]:
    """The bytes of *items* and of the empty line behind them, and the items as a block."""
    lines = [field_line(name, value) for _, name, value in items]
    lines.append(b"\r\n")
    return b"".join(lines), FieldBlock(items)
