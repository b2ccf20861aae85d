"""Message heads (RFC 9112 sections 2 to 5): request lines, status lines, and what they decide.

A head is immutable. Heads that came before, byte for byte, and hold neither a query nor a secret,
are remembered in a bounded memo and shared.
"""

from __future__ import annotations

import re
from typing import Protocol

from flare._record import Record
from flare.http.proto.errors import HttpParseError, excerpt
from flare.http.proto.fields import (
    EMPTY_BLOCK,
    FieldBlock,
    find_bare_line_end,
    parse_field_block,
)
from flare.http.proto.framing import LENGTH, NO_BODY, UNTIL_CLOSE, Framing, body_framing
from flare.http.proto.h1_leniency import STRICT, H1LeniencyConfig

__all__ = [
    "H1Limits",
    "RequestHead",
    "ResponseHead",
    "parse_h1_request_head",
    "parse_h1_response_head",
]

MAX_FIELDS = 100
# What leniency about sizes still stops at, in bytes.
HARD_HEAD_CAP = 1024 * 1024
# Room in a request line beside its target: a method, two spaces, the version.
_LINE_EXTRA = 64
_MAX_STATUS_LINE = 8192

_REQUEST_LINE = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Z]++) ([\x21-\x7e]++) HTTP/([0-9])\.([0-9])"
).fullmatch
_STATUS_LINE = re.compile(
    rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([^\x00-\x08\x0a-\x1f\x7f]*+))?"
).fullmatch
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_ABSOLUTE = re.compile(r"https?://([^/?]*)(.*)", re.IGNORECASE).fullmatch
# RFC 3986 section 3.2.2: a name or IPv4, or an IPv6 literal; then a port that may be empty.
_HOST = re.compile(
    r"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*+(?::[0-9]{0,5})?"
    r"|\[[0-9A-Fa-f:.]+\](?::[0-9]{0,5})?"
).fullmatch

_MEMO_HEADS = 1024
_MEMO_HEAD_BYTES = 1024
_head_memo: dict[bytes, RequestHead] = {}


class Limits(Protocol):
    """What bounds a head; ``H1Limits`` and the server's configuration both fit."""

    @property
    def max_header_size(self) -> int: ...
    @property
    def max_uri_length(self) -> int: ...
    @property
    def h1_leniency(self) -> H1LeniencyConfig: ...


class H1Limits(Record):
    """Bounds of a message, in bytes and counts; past one, the status in brackets.

    ``max_header_size``: all field lines of a head (431). ``max_uri_length``: the request target
    (414). ``max_body_size``: the decoded body, ``None`` for no bound (413). ``max_fields``: field
    lines (431).
    """

    __slots__ = (
        "max_header_size",
        "max_uri_length",
        "max_body_size",
        "max_fields",
        "h1_leniency",
    )

    def __init__(
        self,
        max_header_size: int = 8192,
        max_uri_length: int = 8192,
        max_body_size: int | None = 10 * 1024 * 1024,
        max_fields: int = MAX_FIELDS,
        h1_leniency: H1LeniencyConfig = STRICT,
    ) -> None:
        self.max_header_size = max_header_size
        self.max_uri_length = max_uri_length
        self.max_body_size = max_body_size
        self.max_fields = max_fields
        self.h1_leniency = h1_leniency


class RequestHead:
    """A request line with its fields.

    ``target`` is in origin form, ``*`` for OPTIONS, or ``host:port`` for CONNECT; of an absolute
    form the authority has become the ``Host`` field. ``version`` is ``"HTTP/1.0"`` or
    ``"HTTP/1.1"``, ``keep_alive`` what the peer wants (RFC 9112 section 9.3), and
    ``expect_continue`` whether it waits for a 100.
    """

    __slots__ = (
        "expect_continue",
        "fields",
        "framing",
        "keep_alive",
        "method",
        "minor",
        "target",
        "version",
    )

    def __init__(
        self, method: str, target: str, minor: int, fields: FieldBlock, framing: Framing
    ) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.version = "HTTP/1.1" if minor else "HTTP/1.0"
        self.fields = fields
        self.framing = framing
        connection = fields.connection
        if framing.ambiguous:
            self.keep_alive = False
        elif minor:
            self.keep_alive = "close" not in connection
        else:
            self.keep_alive = "keep-alive" in connection and "close" not in connection
        if method == "CONNECT":
            # A 2xx would make the rest a tunnel; a server that is none must not go on.
            self.keep_alive = False
        self.expect_continue = bool(fields.expect and minor and framing.kind != NO_BODY)

    def with_line(self, method: str, target: str, fields: FieldBlock) -> RequestHead:
        """The same head but for *method*, which is not CONNECT, *target*, and the *fields*, which
        decide the same."""
        other = RequestHead.__new__(RequestHead)
        other.method = method
        other.target = target
        other.minor = self.minor
        other.version = self.version
        other.fields = fields
        other.framing = self.framing
        other.keep_alive = self.keep_alive
        other.expect_continue = self.expect_continue
        return other

    def __repr__(self) -> str:
        return f"<RequestHead {self.method} {self.target.partition('?')[0]!a} {self.version}>"


class ResponseHead:
    """A status line with its fields; ``framing`` is that of a response to the method asked with.

    ``keep_alive`` says whether the connection may be used again once the body is read: not after
    a body that lasts until the connection ends, nor after a 101.
    """

    __slots__ = ("fields", "framing", "keep_alive", "minor", "reason", "status", "version")

    def __init__(
        self, status: int, reason: str, minor: int, fields: FieldBlock, framing: Framing
    ) -> None:
        self.status = status
        self.reason = reason
        self.minor = minor
        self.version = "HTTP/1.1" if minor else "HTTP/1.0"
        self.fields = fields
        self.framing = framing
        if framing.kind == UNTIL_CLOSE or status == 101 or "close" in fields.connection:
            self.keep_alive = False
        else:
            self.keep_alive = minor == 1 or "keep-alive" in fields.connection

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} {self.version}>"


def find_head_end(
    buf: bytes | bytearray, start: int, scan: int, leniency: H1LeniencyConfig
) -> tuple[int, int]:
    """Where the head at *start* ends, searching from *scan*: its end with the last line's CRLF,
    and the position behind the empty line. ``(-1, -1)`` where it is not complete."""
    if not leniency.allow_lf_only_line_endings:
        end = buf.find(b"\r\n\r\n", max(start, scan))
        return (end + 2, end + 4) if end >= 0 else (-1, -1)
    start = max(start, scan - 3)
    usual = buf.find(b"\n\r\n", start)
    bare = buf.find(b"\n\n", start, usual + 1 if usual >= 0 else len(buf))
    if bare >= 0:
        return bare + 1, bare + 2
    return (usual + 1, usual + 3) if usual >= 0 else (-1, -1)


def check_incomplete_head(buf: bytes | bytearray, start: int, scan: int, limits: Limits) -> None:
    """Raise what can be known already of a request head that has not ended yet.

    A head that breaks a limit, or the rule about line ends, must not be waited for. Nothing is
    raised that the whole head would not raise: where a limit is passed by one byte, that byte may
    be the CR of the line's end.
    """
    leniency = limits.h1_leniency
    held = len(buf) - start
    if held > HARD_HEAD_CAP + 1:
        raise _head_too_large()
    if not leniency.allow_lf_only_line_endings and find_bare_line_end(buf, max(start, scan)):
        raise HttpParseError(HttpParseError.BAD_LINE_END, "a bare CR or LF in the head")
    max_line = limits.max_uri_length + _LINE_EXTRA
    line_end = buf.find(b"\n", start, start + max_line + 2)
    if line_end < 0:
        if held > max_line + 1 and not leniency.allow_oversized_request_uri:
            raise _uri_too_long(limits)
    elif (
        len(buf) - line_end - 1 > limits.max_header_size + 1
        and not leniency.allow_oversized_header_list
    ):
        raise _fields_too_large(limits)


def parse_request_head(head: bytes, limits: Limits, max_fields: int = MAX_FIELDS) -> RequestHead:
    """Read one whole head, its last field line's CRLF included and the empty line not."""
    leniency = limits.h1_leniency
    strict = leniency is STRICT or leniency == STRICT
    if strict:
        leniency = STRICT
        known = _head_memo.get(head)
        # Measured whole, so that the answer holds for each part under any limits.
        if (
            known is not None
            and len(head) <= limits.max_header_size
            and len(head) <= limits.max_uri_length
            and len(known.fields.items) <= max_fields
        ):
            return known
    if len(head) > HARD_HEAD_CAP:
        raise _head_too_large()
    line, section = _split_line(head, leniency)
    if len(section) > limits.max_header_size and not leniency.allow_oversized_header_list:
        raise _fields_too_large(limits)
    method, target, minor = _request_line(line, limits)
    fields = parse_field_block(section, max_fields=max_fields, leniency=leniency)
    ordinary = minor == 1 and target[0] == "/" and method != "CONNECT"
    if ordinary and strict and fields.ordinary is not None:
        return _remember(head, fields.ordinary.with_line(method, target, fields))
    if target[0] != "/" or method == "CONNECT":
        target, fields = _unusual_target(method, target, minor, fields)
    _check_host(fields, minor)
    if fields.content_types > 1:
        raise HttpParseError(HttpParseError.BAD_FIELD_LINE, "more than one Content-Type")
    framing = body_framing(fields, minor=minor, method=method, leniency=leniency)
    if framing.ambiguous:
        fields = fields.without("content-length")
    if fields.expect and minor and fields.expect != "100-continue":
        raise HttpParseError(HttpParseError.UNKNOWN_EXPECTATION, excerpt(fields.expect.encode()))
    parsed = RequestHead(method, target, minor, fields, framing)
    if not strict:
        return parsed
    if ordinary and not fields.secret:  # only those are seen again
        # Without them, for a block that refers to itself goes only with the garbage.
        fields.ordinary = parsed.with_line(method, target, EMPTY_BLOCK)
    return _remember(head, parsed)


def _remember(head: bytes, parsed: RequestHead) -> RequestHead:
    """*parsed*, which will be known again by *head* unless it may hold a secret."""
    if not parsed.fields.secret and len(head) <= _MEMO_HEAD_BYTES and "?" not in parsed.target:
        if len(_head_memo) >= _MEMO_HEADS:
            _head_memo.clear()
        _head_memo[head] = parsed
    return parsed


def _split_line(head: bytes, leniency: H1LeniencyConfig) -> tuple[bytes, bytes]:
    if leniency.allow_lf_only_line_endings:
        line, _, section = head.partition(b"\n")
        return line.removesuffix(b"\r"), section
    line, _, section = head.partition(b"\r\n")
    return line, section


def _request_line(line: bytes, limits: Limits) -> tuple[str, str, int]:
    any_length = limits.h1_leniency.allow_oversized_request_uri
    if len(line) > limits.max_uri_length + _LINE_EXTRA and not any_length:
        raise _uri_too_long(limits)
    found = _REQUEST_LINE(line)
    if found is None and limits.h1_leniency.allow_mixed_case_method:
        method, space, rest = line.partition(b" ")
        if method.isalpha():
            found = _REQUEST_LINE(method.upper() + space + rest)
    if found is None:
        raise _request_line_error(line)
    raw_method, raw_target, major, minor = found.groups()
    if len(raw_target) > limits.max_uri_length and not any_length:
        raise _uri_too_long(limits)
    if major != b"1":
        raise HttpParseError(
            HttpParseError.UNSUPPORTED_VERSION, f"HTTP/{major.decode()}.{minor.decode()}"
        )
    # A later minor version is read as the latest we know (RFC 9110 section 2.5).
    return raw_method.decode("ascii"), raw_target.decode("ascii"), 0 if minor == b"0" else 1


def _request_line_error(line: bytes) -> HttpParseError:
    """Say which part of a bad request line is bad."""
    if b"\r" in line or b"\n" in line:
        return HttpParseError(HttpParseError.BAD_LINE_END, "a bare CR or LF in the request line")
    parts = line.split(b" ")
    if len(parts) != 3:
        return HttpParseError(
            HttpParseError.BAD_REQUEST_LINE,
            f"expected a method, a target and a version, got {excerpt(line)}",
        )
    method, target, version = parts
    if not _TOKEN(method) or method != method.upper():
        return HttpParseError(HttpParseError.BAD_METHOD, f"bad method {excerpt(method)}")
    if not re.fullmatch(rb"[\x21-\x7e]+", target):
        return HttpParseError(HttpParseError.BAD_TARGET, f"bad target {excerpt(target)}")
    return HttpParseError(HttpParseError.BAD_VERSION, f"bad version {excerpt(version)}")


def _unusual_target(
    method: str, target: str, minor: int, fields: FieldBlock
) -> tuple[str, FieldBlock]:
    """Check the three rarer target forms (RFC 9112 section 3.2)."""
    if method == "CONNECT":
        host, _, port = target.rpartition(":")
        if not (host and port) or target[-1] == "]" or not valid_host(target):
            raise _bad_target(f"CONNECT takes host:port, got {target[:40]!a}")
        return target, fields
    if target == "*":
        if method != "OPTIONS":
            raise _bad_target(f"* is for OPTIONS only, not for {method[:20]}")
        return target, fields
    absolute = _ABSOLUTE(target)
    if absolute is None:
        raise _bad_target(f"neither a path nor a URL: {target[:40]!a}")
    authority, path = absolute.groups()
    if not authority or authority[0] == ":" or not valid_host(authority):
        raise _bad_target(f"bad authority in {target[:40]!a}")
    # The field that is replaced must be sound too, or the two could be told apart downstream.
    # HTTP/1.0 may do without; HTTP/1.1 may not, and stays without one to be refused for it.
    if (not fields.hosts and minor == 0) or (
        len(fields.hosts) == 1 and valid_host(fields.hosts[0])
    ):
        fields = fields.replace_host(authority)
    if "#" in path:
        raise _bad_target("a fragment in the target")
    if not path:
        return ("*" if method == "OPTIONS" else "/"), fields
    return (path if path[0] == "/" else "/" + path), fields


def valid_host(value: str) -> bool:
    """Whether *value* can be a ``Host``: a name or an address, and a port up to 65535."""
    if not _HOST(value):
        return False
    port = value.rpartition(":")[2] if not value.endswith("]") and ":" in value else ""
    return not port or int(port) <= 65535


def _check_host(fields: FieldBlock, minor: int) -> None:
    hosts = fields.hosts
    if len(hosts) != 1:
        if hosts:
            raise HttpParseError(HttpParseError.BAD_HOST, "more than one Host")
        if minor:
            raise HttpParseError(HttpParseError.BAD_HOST, "no Host in an HTTP/1.1 request")
    elif not valid_host(hosts[0]):
        raise HttpParseError(HttpParseError.BAD_HOST, f"bad Host {hosts[0][:40]!a}")


def _bad_target(why: str) -> HttpParseError:
    return HttpParseError(HttpParseError.BAD_TARGET, why)


def _uri_too_long(limits: Limits) -> HttpParseError:
    return HttpParseError(HttpParseError.URI_TOO_LONG, f"target over {limits.max_uri_length} bytes")


def _fields_too_large(limits: Limits) -> HttpParseError:
    return HttpParseError(
        HttpParseError.FIELDS_TOO_LARGE, f"header section over {limits.max_header_size} bytes"
    )


def _head_too_large() -> HttpParseError:
    return HttpParseError(HttpParseError.FIELDS_TOO_LARGE, f"head over {HARD_HEAD_CAP} bytes")


def check_incomplete_response_head(buf: bytes | bytearray, start: int, limits: Limits) -> None:
    """Raise what can be known already of a response head that has not ended yet: its size."""
    line_end = buf.find(b"\n", start, start + _MAX_STATUS_LINE + 2)
    if line_end < 0:
        if len(buf) - start > _MAX_STATUS_LINE + 1:
            raise _status_line_too_long()
    elif len(buf) - line_end - 1 > limits.max_header_size + 1:
        raise _fields_too_large(limits)


def _status_line_too_long() -> HttpParseError:
    return HttpParseError(
        HttpParseError.BAD_STATUS_LINE, f"status line over {_MAX_STATUS_LINE} bytes"
    )


def parse_response_head(head: bytes, method: str, limits: Limits, max_fields: int) -> ResponseHead:
    """Read one whole response head to a request with *method*; see ``parse_request_head``."""
    leniency = limits.h1_leniency
    line, section = _split_line(head, leniency)
    if len(line) > _MAX_STATUS_LINE:
        raise _status_line_too_long()
    if len(section) > limits.max_header_size:
        raise _fields_too_large(limits)
    found = _STATUS_LINE(line)
    if found is None:
        raise HttpParseError(
            HttpParseError.BAD_STATUS_LINE, f"expected an HTTP/1.x status line, got {excerpt(line)}"
        )
    raw_minor, raw_status, raw_reason = found.groups()
    minor, status = int(raw_minor), int(raw_status)
    fields = parse_field_block(section, max_fields=max_fields, leniency=leniency)
    framing = body_framing(fields, minor=minor, method=method, status=status, leniency=leniency)
    return ResponseHead(status, (raw_reason or b"").decode("latin-1"), minor, fields, framing)


def parse_h1_request_head(
    buf: bytes | bytearray | memoryview, config: Limits
) -> tuple[RequestHead, int] | None:
    """Read the request head at the start of *buf*: the head and how many bytes it took.

    ``None`` while it is not complete. Strict by RFC 9112, but for ``config.h1_leniency``. Raises
    ``HttpParseError``, whose ``status`` is what a server answers with.
    """
    data = bytes(buf)
    start = leading_whitespace(data, config.h1_leniency, first=True)
    if start < 0:
        return None
    end, after = find_head_end(data, start, 0, config.h1_leniency)
    if end < 0:
        check_incomplete_head(data, start, 0, config)
        return None
    return parse_request_head(data[start:end], config), after


def parse_h1_response_head(
    buf: bytes | bytearray | memoryview, method: str, config: Limits, max_fields: int = 256
) -> tuple[ResponseHead, int] | None:
    """Read the head of a response to *method* at the start of *buf*, as the request's reader."""
    data = bytes(buf)
    end, after = find_head_end(data, 0, 0, config.h1_leniency)
    if end < 0:
        check_incomplete_response_head(data, 0, config)
        return None
    return parse_response_head(data[:end], method, config, max_fields), after


MAX_LEADING = 64


def leading_whitespace(buf: bytes | bytearray, leniency: H1LeniencyConfig, *, first: bool) -> int:
    """How many bytes before a request line to skip; -1 where more bytes must come to know.

    One CRLF before the second and later requests of a connection is skipped, for old clients end
    a body with it (RFC 9112 section 2.2); anything else only where leniency allows.
    """
    if not buf or buf[0] > 0x20:
        return 0
    if leniency.allow_leading_whitespace_before_request_line:
        skipped = len(buf) - len(buf.lstrip(b"\r\n \t"))
        if skipped > MAX_LEADING:
            raise HttpParseError(
                HttpParseError.BAD_REQUEST_LINE, f"over {MAX_LEADING} bytes of leading whitespace"
            )
        return skipped if skipped < len(buf) else -1
    if not first:
        if buf == b"\r" or buf == b"\r\n":
            return -1
        if buf[:2] == b"\r\n" and buf[2] > 0x20:
            return 2
    raise HttpParseError(
        HttpParseError.BAD_REQUEST_LINE, f"whitespace before the request line: {excerpt(buf[:4])}"
    )


def has_body(head: RequestHead) -> bool:
    """Whether body bytes follow the head."""
    return head.framing.kind != NO_BODY and (head.framing.kind != LENGTH or head.framing.length > 0)
