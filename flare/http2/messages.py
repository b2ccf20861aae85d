"""What HTTP messages may look like in HTTP/2 (RFC 9113 section 8): heads, trailers, both ways.

A field list becomes a head, or a ``MessageError`` that names the rule it broke: what HTTP/1.1
would frame or split differently must not get past here. Outgoing fields are checked and put into
the form of the wire.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from flare.http.proto.ascii import ascii_lower
from flare.http.proto.chunked import is_forbidden_trailer
from flare.http.proto.errors import HttpParseError
from flare.http.proto.fields import FieldBlock, Item
from flare.http.proto.framing import LENGTH, body_framing
from flare.http.proto.headers import HeaderMap
from flare.http.proto.heads import valid_host
from flare.http.proto.hpack_fields import HpackHeader

__all__ = [
    "FieldSource",
    "MessageError",
    "RequestHead",
    "ResponseHead",
    "is_protocol",
    "outgoing_fields",
    "parse_request_head",
    "parse_response_head",
    "parse_trailers",
]

FieldSource: TypeAlias = (
    "HeaderMap | Mapping[str, str] | Iterable[tuple[str, str] | tuple[str, str, bool]]"
)
"""Fields that a program made: names in any case, values to be checked."""

# Of one hop, and of HTTP/1.1 (section 8.2.2).
CONNECTION_FIELDS = frozenset(
    {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}
)
_REQUEST_PSEUDO = frozenset({":method", ":scheme", ":authority", ":path", ":protocol"})
_RESPONSE_PSEUDO = frozenset({":status"})
_NO_PSEUDO: frozenset[str] = frozenset()

_is_name = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_is_value = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch
_is_method = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Z]+").fullmatch
_is_scheme = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*").fullmatch
_is_path = re.compile(r"/[\x21-\x7e]*").fullmatch
is_protocol = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_is_status = re.compile(r"[1-9][0-9]{2}").fullmatch
_is_authority_with_port = re.compile(r".+:[0-9]{1,5}").fullmatch

# Names seen to be in order. Peers use few; the bound is for those that make them up.
_MAX_KNOWN = 1024
_MAX_KNOWN_LENGTH = 64
_known_names: set[str] = set()


class MessageError(ValueError):
    """A malformed message: its stream ends with PROTOCOL_ERROR. Quotes no value."""


class RequestHead:
    """The head of a request. Immutable, and shared by requests whose heads are the same.

    ``target`` is ``:path``, or for CONNECT the authority; ``protocol`` is that of an extended
    CONNECT, or ``""``; ``content_length`` is -1 where none is given. ``fields`` has ``host``
    first, from ``:authority`` where there is one, and the pieces of a cookie joined.
    """

    __slots__ = (
        "authority",
        "content_length",
        "expect_continue",
        "fields",
        "method",
        "protocol",
        "scheme",
        "target",
    )
    version = "HTTP/2"
    keep_alive = True

    def __init__(
        self,
        method: str,
        scheme: str,
        authority: str,
        target: str,
        protocol: str,
        fields: FieldBlock,
        content_length: int,
    ) -> None:
        self.method = method
        self.scheme = scheme
        self.authority = authority
        self.target = target
        self.protocol = protocol
        self.fields = fields
        self.content_length = content_length
        self.expect_continue = fields.expect == "100-continue"

    def __repr__(self) -> str:
        return f"<RequestHead {self.method} {self.target.partition('?')[0]!a} HTTP/2>"


class ResponseHead:
    """The head of a response; ``content_length`` is -1 where none is given."""

    __slots__ = ("content_length", "fields", "no_body", "status")

    def __init__(self, status: int, fields: FieldBlock, content_length: int, no_body: bool) -> None:
        self.status = status
        self.fields = fields
        self.content_length = content_length
        self.no_body = no_body

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} HTTP/2>"


def _split(
    headers: Sequence[HpackHeader], allowed: frozenset[str]
) -> tuple[dict[str, str], list[Item]]:
    """The pseudo-fields by name, and the fields, all of them sound by themselves."""
    pseudo: dict[str, str] = {}
    items: list[Item] = []
    crumbs: list[str] = []
    cookie_at = -1
    for name, value, _ in headers:
        if not (value.isascii() and value.isprintable()) and not _is_value(value):
            raise MessageError("a control character in a value")
        if value and (value[0] in " \t" or value[-1] in " \t"):
            raise MessageError("a value that begins or ends with a blank")
        if name[:1] == ":":
            if items:
                raise MessageError("a pseudo-field behind a field")
            if name not in allowed:
                raise MessageError("a pseudo-field that does not belong here")
            if name in pseudo:
                raise MessageError(f"{name} twice")
            pseudo[name] = value
            continue
        if name not in _known_names:
            _check_name(name)
        if name == "te" and ascii_lower(value) != "trailers":
            raise MessageError("te may only say trailers")
        if name == "cookie":
            crumbs.append(value)
            if cookie_at >= 0:
                continue
            cookie_at = len(items)
        items.append((name, name, value))
    if len(crumbs) > 1:
        items[cookie_at] = ("cookie", "cookie", "; ".join(crumbs))
    return pseudo, items


def _check_name(name: str) -> None:
    if not _is_name(name):
        raise MessageError("a field name that is not lower-case letters and such")
    if name in CONNECTION_FIELDS:
        raise MessageError(f"{name} is of HTTP/1.1")
    if len(name) <= _MAX_KNOWN_LENGTH:
        if len(_known_names) >= _MAX_KNOWN:
            _known_names.clear()
        _known_names.add(name)


def _length_of(fields: FieldBlock, method: str, status: int | None) -> int:
    """The value of ``content-length``, by the rules that HTTP/1.1 has for it; -1 without one."""
    if not fields.content_lengths:
        return -1
    try:
        framing = body_framing(fields, minor=1, method=method, status=status)
    except HttpParseError as error:
        raise MessageError(error.detail) from None
    return framing.length if framing.kind == LENGTH else 0


def parse_request_head(headers: Sequence[HpackHeader]) -> RequestHead:
    """The head of a request that *headers* are. Raises ``MessageError``."""
    pseudo, items = _split(headers, _REQUEST_PSEUDO)
    method = pseudo.get(":method", "")
    if not _is_method(method):
        raise MessageError("no sound :method")
    scheme = pseudo.get(":scheme")
    path = pseudo.get(":path")
    protocol = pseudo.get(":protocol")
    hosts = [value for name, _, value in items if name == "host"]
    authority = pseudo.get(":authority", hosts[0] if hosts else "")
    if not authority or authority[0] == ":" or not valid_host(authority):
        raise MessageError("no sound :authority, nor host")
    if hosts and (len(hosts) > 1 or ascii_lower(hosts[0]) != ascii_lower(authority)):
        raise MessageError("host is not :authority, or is there twice")
    if protocol is not None and (method != "CONNECT" or not is_protocol(protocol)):
        raise MessageError(":protocol belongs to CONNECT")
    if method == "CONNECT" and protocol is None:
        if scheme is not None or path is not None or ":authority" not in pseudo:
            raise MessageError("CONNECT takes :authority, no :scheme and no :path")
        if not _is_authority_with_port(authority):
            raise MessageError("CONNECT takes host:port")
        target = authority
    else:
        if scheme is None or not _is_scheme(scheme):
            raise MessageError("no sound :scheme")
        if protocol is not None and ":authority" not in pseudo:
            raise MessageError("extended CONNECT takes :authority")
        if path is None or not (_is_path(path) or (path == "*" and method == "OPTIONS")):
            raise MessageError("no sound :path")
        target = path
    if hosts:
        items = [item for item in items if item[0] != "host"]
    fields = FieldBlock((("host", "host", authority), *items))
    if fields.content_types > 1:
        raise MessageError("content-type twice")
    length = _length_of(fields, method, None)
    return RequestHead(method, scheme or "", authority, target, protocol or "", fields, length)


def parse_response_head(headers: Sequence[HpackHeader], method: str) -> ResponseHead:
    """The head of a response to *method* that *headers* are. Raises ``MessageError``."""
    pseudo, items = _split(headers, _RESPONSE_PSEUDO)
    text = pseudo.get(":status", "")
    if not _is_status(text):
        raise MessageError("no sound :status")
    status = int(text)
    if status == 101:
        raise MessageError("101 is of HTTP/1.1")
    fields = FieldBlock(tuple(items))
    no_body = method == "HEAD" or status in (204, 304)
    # What follows a CONNECT that succeeds is no content, whatever it says (RFC 9110 section 9.3.6).
    tunnel = method == "CONNECT" and status < 300
    length = -1 if no_body or tunnel or status < 200 else _length_of(fields, "GET", status)
    return ResponseHead(status, fields, length, no_body)


def parse_trailers(headers: Sequence[HpackHeader]) -> FieldBlock:
    """The fields behind a body, without those that may not stand there. Raises ``MessageError``."""
    _, items = _split(headers, _NO_PSEUDO)
    return FieldBlock(tuple(item for item in items if not is_forbidden_trailer(item[0])))


def outgoing_fields(
    source: FieldSource, dropped: frozenset[str] = CONNECTION_FIELDS
) -> list[tuple[str, str] | HpackHeader]:
    """The fields of *source* for the wire: lower-case names, without those in *dropped*.

    Where one field of a name is sensitive, all of that name are.
    Raises ``HeaderInjectionError`` for a name or value that would be something else there.
    """
    sensitive: set[str] = set()
    if isinstance(source, HeaderMap):
        checked = source._items
    else:
        pairs = list(source.items() if isinstance(source, Mapping) else source)
        checked = HeaderMap([(pair[0], pair[1]) for pair in pairs])._items
        sensitive = {ascii_lower(pair[0]) for pair in pairs if len(pair) > 2 and pair[2]}
    fields: list[tuple[str, str] | HpackHeader] = [
        (lower, value)
        for lower, _, value in checked
        if lower not in dropped and (lower != "te" or ascii_lower(value) == "trailers")
    ]
    if sensitive:
        return [HpackHeader(*p[:2], True) if p[0] in sensitive else p for p in fields]
    return fields
