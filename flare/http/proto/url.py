"""``http`` and ``https`` URLs: parsing, printing, and resolving references (RFC 3986).

Strict where it decides whom we talk to: ``url.host`` is exactly the peer a client connects to,
so everything that two parsers could read as two hosts is refused, and so is every spelling of an
IPv4 address but four decimal numbers. Lenient where the server decides: a path or a query is kept
as given, only that characters past ASCII become percent-encoded UTF-8 (RFC 3987 section 3.1).
"""

from __future__ import annotations

import re

from flare._record import Record

__all__ = ["Url", "UrlParseError"]

_find_forbidden = re.compile(r"[\x00-\x20\x7f-\x9f]").search
_match_reference = re.compile(
    r"(?:([A-Za-z][A-Za-z0-9+.\-]*+):)?(?://([^/?#]*+))?([^?#]*+)(?:\?([^#]*+))?(?:#(.*+))?"
).fullmatch
_is_port = re.compile(r"[0-9]{1,5}").fullmatch
_is_host = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?").fullmatch
_ends_in_number = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?").fullmatch
_is_dotted_quad = re.compile(
    r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!\Z)|\Z)){4}"
).fullmatch
_find_bad_escape = re.compile(r"%(?![0-9A-Fa-f]{2})").search
_replace_non_ascii = re.compile(r"[^\x00-\x7f]+").sub

_DEFAULT_PORTS = {"http": 80, "https": 443}
_MAX_HOST = 253  # characters of a domain name in text, RFC 1035 section 2.3.4


class UrlParseError(ValueError):
    """Text that is no ``http`` or ``https`` URL we would connect to.

    The message never shows the part of the text that could hold a password.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return f"UrlParseError: {self.message}"


class Url(Record):
    """The parts of an absolute URL.

    ``scheme`` and ``host`` are in lower case, an IPv6 ``host`` stands without its brackets,
    ``port`` is the scheme's own where the text has none, and ``path`` is never empty. ``query``
    and ``fragment`` stand without ``?`` and ``#``; an empty one is the same as none. ``username``
    and ``password`` are decoded, and no part of ``str(url)``. A ``Url`` made by hand is not
    checked.

    >>> url = Url.parse("https://example.com/a/b?q=1")
    >>> url.host, url.port, url.request_target()
    ('example.com', 443, '/a/b?q=1')
    >>> str(url.join("../c"))
    'https://example.com/c'
    """

    __slots__ = (
        "scheme",
        "host",
        "port",
        "path",
        "query",
        "fragment",
        "username",
        "password",
    )
    _hidden = ("password",)

    def __init__(
        self,
        scheme: str,
        host: str,
        port: int,
        path: str,
        query: str = "",
        fragment: str = "",
        username: str = "",
        password: str = "",
    ) -> None:
        self.scheme = scheme
        self.host = host
        self.port = port
        self.path = path
        self.query = query
        self.fragment = fragment
        self.username = username
        self.password = password

    @classmethod
    def parse(cls, raw: str) -> Url:
        """Read an absolute URL; ``UrlParseError`` says what is wrong with it."""
        scheme, authority, path, query, fragment = _split(raw)
        if scheme is None or authority is None:
            raise UrlParseError("not an absolute URL: it does not begin with scheme://")
        return cls._build(scheme, authority, path or "/", query or "", fragment or "")

    @classmethod
    def _build(cls, scheme: str, authority: str, path: str, query: str, fragment: str) -> Url:
        scheme = scheme.lower()
        default_port = _default_port(scheme)
        userinfo, at, host_port = authority.rpartition("@")
        username = password = ""
        if at:
            username, password = _read_userinfo(userinfo)
        host, port = _read_host_port(host_port)
        return cls(
            scheme, host, port or default_port, path, query, fragment, username, password
        )  # fmt: skip

    def request_target(self) -> str:
        """The path and query, as a request line has them; never the fragment."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def authority(self) -> str:
        """Host and port as a ``Host`` field has them: IPv6 in brackets, no default port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS.get(self.scheme) else f"{host}:{self.port}"

    def is_tls(self) -> bool:
        """Whether the scheme is ``https``."""
        return self.scheme == "https"

    def join(self, ref: str) -> Url:
        """The URL that *ref* means when found in this one (RFC 3986 section 5.2, strict).

        *ref* may be absolute, ``//host/path``, ``/path``, ``path``, ``?query``, ``#fragment`` or
        empty. User name and password stay with the authority. Raises ``UrlParseError``, also where
        the result is neither ``http`` nor ``https``.
        """
        scheme, authority, path, query, fragment = _split(ref)
        fragment = fragment or ""
        if scheme is not None or authority is not None:
            scheme = self.scheme if scheme is None else scheme
            if authority is None:
                _default_port(scheme.lower())
                raise UrlParseError("a reference with a scheme must go on with //")
            path = _remove_dot_segments(path or "/")
            return self._build(scheme, authority, path, query or "", fragment)
        if not path:
            path = self.path
            query = self.query if query is None else query
        else:
            if not path.startswith("/"):
                path = (self.path[: self.path.rfind("/") + 1] or "/") + path
            path = _remove_dot_segments(path)
        return Url(
            self.scheme, self.host, self.port, path, query or "", fragment,
            self.username, self.password,
        )  # fmt: skip

    def __str__(self) -> str:
        text = f"{self.scheme}://{self.authority()}{self.request_target()}"
        return f"{text}#{self.fragment}" if self.fragment else text


def _default_port(scheme: str) -> int:
    port = _DEFAULT_PORTS.get(scheme)
    if port is None:
        raise UrlParseError(f"the scheme must be http or https, not {scheme[:40]!a}")
    return port


_Parts = tuple[str | None, str | None, str, str | None, str | None]


def _split(text: str) -> _Parts:
    """Scheme, authority, path, query and fragment (RFC 3986 appendix B), ``None`` if not there.

    All but the authority come out in ASCII.
    """
    bad = _find_forbidden(text)
    if bad:
        raise UrlParseError(f"{bad[0]!a} at offset {bad.start()} may not stand in a URL")
    parts = _match_reference(text)
    assert parts is not None, "the pattern matches any text"
    scheme, authority, path, query, fragment = parts.groups()
    if not text.isascii():
        path = _encode(path)
        query = query and _encode(query)
        fragment = fragment and _encode(fragment)
    return scheme, authority, path, query, fragment


def _encode(text: str) -> str:
    try:
        return _replace_non_ascii(_encoded_run, text)
    except UnicodeEncodeError:
        raise UrlParseError("half of a surrogate pair is no character") from None


def _encoded_run(run: re.Match[str]) -> str:
    return "".join([f"%{byte:02X}" for byte in run[0].encode("utf-8")])


def _read_userinfo(userinfo: str) -> tuple[str, str]:
    """User name and password, decoded. Messages here never quote."""
    # Browsers and older parsers part ways on these two, and so on which host follows.
    if "@" in userinfo or "\\" in userinfo:
        raise UrlParseError("'@' and '\\' in a user name or password must be percent-encoded")
    if _find_bad_escape(userinfo):
        raise UrlParseError("a '%' in the user name or password lacks its two hex digits")
    username, _, password = userinfo.partition(":")
    return _decode(username), _decode(password)


def _decode(text: str) -> str:
    if "%" not in text:
        return text
    try:
        data = re.sub(rb"%(..)", lambda escape: bytes.fromhex(escape[1].decode()), text.encode())
        return data.decode()
    except UnicodeError:
        raise UrlParseError("the user name or password is not UTF-8") from None


def _read_host_port(text: str) -> tuple[str, int]:
    """The checked host, and the port, 0 where the text has none."""
    if text.startswith("["):
        literal, bracket, rest = text[1:].partition("]")
        if not bracket:
            raise UrlParseError("the '[' of an IPv6 address is not closed")
        host = _read_ipv6(literal)
    else:
        name, colon, rest = text.partition(":")
        rest = colon + rest
        host = _read_name(name)
    if not rest:
        return host, 0
    if rest[0] != ":":
        raise UrlParseError("only a port may follow the ']' of an IPv6 address")
    port = int(rest[1:]) if _is_port(rest[1:]) else 0
    if not 1 <= port <= 65535:
        raise UrlParseError("the port is not a number from 1 to 65535")
    return host, port


def _read_ipv6(literal: str) -> str:
    from ipaddress import AddressValueError, IPv6Address

    # A zone names an interface of this machine alone, and means nothing in a URL.
    if "%" in literal:
        raise UrlParseError("an IPv6 address in a URL may not have a zone")
    try:
        IPv6Address(literal)
    except AddressValueError:
        raise UrlParseError(f"not an IPv6 address: {literal[:50]!a}") from None
    return literal.lower()


def _read_name(name: str) -> str:
    """A host name or an IPv4 address, in ASCII and lower case."""
    if not name:
        raise UrlParseError("the host is empty")
    if len(name) > _MAX_HOST + 1:  # the codec below takes quadratic time
        raise UrlParseError("the host is longer than a domain name can be")
    host = name.lower() if name.isascii() else _to_ascii(name)
    if not _is_host(host) or len(host.removesuffix(".")) > _MAX_HOST:
        raise UrlParseError(f"not a host name: {name[:50]!a}")
    # Resolvers read 0x7f.1, 2130706433 and 0177.0.0.1 as addresses; whoever checks hosts may not.
    if _ends_in_number(host) and not _is_dotted_quad(host):
        raise UrlParseError(f"an IPv4 address must be four decimal numbers, not {name[:50]!a}")
    return host


def _to_ascii(name: str) -> str:
    try:
        return name.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise UrlParseError(f"not an international domain name: {name[:50]!a}") from None


def _remove_dot_segments(path: str) -> str:
    """*path*, which begins with ``/``, without ``.`` and ``..`` (RFC 3986 section 5.2.4)."""
    if "." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            if kept:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)
