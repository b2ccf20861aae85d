"""Message heads to bytes (RFC 9112 sections 3 to 5), from fields that are valid already.

``HeaderMap`` lets no bad name or value in, so nothing is checked here twice; what is checked is
what does not come from one: the method, the target, the reason phrase.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from flare.errors import ValidationError, http_reason_phrase
from flare.http.proto.fields import Item, is_secret_name

__all__ = ["encode_request_head", "field_line", "field_lines", "status_line"]

_METHOD = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_TARGET = re.compile(r"[\x21-\x7e]+").fullmatch
_REASON = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch

_MEMO_LINES = 1024
_MEMO_LINE_CHARS = 256
_line_memo: dict[tuple[str, str], bytes] = {}
_status_memo: dict[int, bytes] = {}


def status_line(status: int, reason: str = "") -> bytes:
    """``HTTP/1.1 200 OK`` and CRLF. An empty *reason*, or one that could split the response, is
    replaced by the registered phrase."""
    if not reason:
        line = _status_memo.get(status)
        if line is None:
            line = _status_memo[status] = (
                f"HTTP/1.1 {status:03d} {http_reason_phrase(status)}\r\n".encode("latin-1")
            )
        return line
    if not _REASON(reason):
        return status_line(status)
    reason = str.__str__(reason)  # and not what a member of an enum has for its format
    return f"HTTP/1.1 {status:03d} {reason}\r\n".encode("latin-1")


def field_line(name: str, value: str) -> bytes:
    """``Name: value`` and CRLF, from a memo where the field is no secret and was seen before."""
    line = _line_memo.get((name, value))
    if line is None:
        line = f"{name}: {value}\r\n".encode("latin-1")
        if len(line) <= _MEMO_LINE_CHARS and not is_secret_name(name.lower()):
            if len(_line_memo) >= _MEMO_LINES:
                _line_memo.clear()
            _line_memo[name, value] = line
    return line


def field_lines(items: Iterable[Item], without: frozenset[str]) -> bytes:
    """The lines of *items* in order, less those whose lower-case name is in *without*."""
    return b"".join(
        [field_line(name, value) for lower, name, value in items if lower not in without]
    )


def encode_request_head(method: str, target: str, items: Iterable[Item]) -> bytes:
    """A request head with the empty line. Raises ``ValidationError`` for a method that is no
    token, or a target with a blank, a control or a non-ASCII character in it."""
    if not _METHOD(method):
        raise ValidationError("method", f"not a token: {method[:40]!a}")
    if not _TARGET(target):
        raise ValidationError("target", f"not a request target: {target[:40]!a}")
    lines = b"".join([field_line(name, value) for _, name, value in items])
    return f"{method} {target} HTTP/1.1\r\n".encode("ascii") + lines + b"\r\n"
