"""Field sections as they stand on the wire (RFC 9110 section 5, RFC 9112 section 5).

A section becomes a ``FieldBlock``: its fields in order, and the few facts about them that framing
and connection handling need. Clients repeat themselves, so a bounded memo keyed on raw bytes
turns a line, and a whole section, seen before into the ready value. Lines that may carry a secret
never enter it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from flare.http.proto.errors import HttpParseError, excerpt
from flare.http.proto.h1_leniency import STRICT, H1LeniencyConfig

if TYPE_CHECKING:
    from flare.http.proto.heads import RequestHead

__all__ = ["FieldBlock", "Item", "is_secret_name", "parse_field_block"]

Item = tuple[str, str, str]
"""A field: the name in lower case, the name as it came, the value."""

# ASCII by explicit sets: str and bytes methods such as isdigit() or strip() know other characters.
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_LINE = re.compile(rb"(" + _TOKEN + rb"++):([^\x00-\x08\x0a-\x1f\x7f]*+)").fullmatch
_LINE_OWS = re.compile(rb"(" + _TOKEN + rb"++)[ \t]*+:([^\x00-\x08\x0a-\x1f\x7f]*+)").fullmatch
# The last two are URLs, and a query may hold anything.
_SECRET = re.compile(
    r"auth|cookie|token|secret|key|session|passw|passphrase|pwd|csrf|xsrf|signature|credential"
    r"|jwt|bearer|assertion|oidc|otp|referer|location"
)
# A CR that ends the data may yet be followed by its LF.
find_bare_line_end = re.compile(rb"(?<!\r)\n|\r(?![\n]|\Z)").search

_MEMO_LINES = 2048
_MEMO_LINE_BYTES = 256
_MEMO_BLOCKS = 512
_MEMO_BLOCK_BYTES = 1024
_line_memo: dict[bytes, Item] = {}
_block_memo: dict[bytes, FieldBlock] = {}


def is_secret_name(lower: str) -> bool:
    """Whether a field of this lower-case name may carry a credential."""
    return lower not in _HARMLESS and _SECRET.search(lower) is not None


# What framing and connection handling ask for, and what nearly every client sends besides.
_TELLING = frozenset(
    "host content-length content-type transfer-encoding connection expect upgrade".split()
)
_HARMLESS = frozenset(
    "user-agent accept accept-encoding accept-language accept-charset cache-control pragma dnt te "
    "origin priority upgrade-insecure-requests sec-fetch-dest sec-fetch-mode sec-fetch-site "
    "sec-fetch-user sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform range if-none-match "
    "if-modified-since x-requested-with".split()
)


class FieldBlock:
    """The fields of one message, immutable, shared between messages that send the same bytes.

    The facts: ``hosts``, ``content_lengths``, ``content_types`` and ``transfer_encodings`` are
    all values of those fields, ``connection`` the lower-case options of ``Connection``,
    ``expect`` and ``upgrade`` lower-case values or ``""``. ``ordinary`` is the head, but for its
    fields, of an HTTP/1.1 request for a path that was found to be good with these.
    """

    __slots__ = (
        "connection",
        "content_lengths",
        "content_types",
        "expect",
        "hosts",
        "items",
        "ordinary",
        "secret",
        "transfer_encodings",
        "upgrade",
    )

    def __init__(self, items: tuple[Item, ...]) -> None:
        self.items = items
        self.hosts: tuple[str, ...] = ()
        self.content_lengths: tuple[str, ...] = ()
        self.content_types = 0
        self.transfer_encodings: tuple[str, ...] = ()
        self.connection: frozenset[str] = frozenset()
        self.expect = ""
        self.upgrade = ""
        self.secret = False
        self.ordinary: RequestHead | None = None
        for lower, _, value in items:
            if lower in _TELLING:
                self._note(lower, value)
            elif not self.secret and is_secret_name(lower):
                self.secret = True

    def _note(self, lower: str, value: str) -> None:
        match lower:
            case "host":
                self.hosts += (value,)
            case "content-length":
                self.content_lengths += (value,)
            case "content-type":
                self.content_types += 1
            case "transfer-encoding":
                self.transfer_encodings += (value,)
            case "connection":
                self.connection |= {option.strip(" \t") for option in value.lower().split(",")} - {
                    ""
                }
            case "expect":
                self.expect = f"{self.expect}, {value}".lower() if self.expect else value.lower()
            case "upgrade":
                self.upgrade = value.lower()

    def __len__(self) -> int:
        return len(self.items)

    def get(self, lower: str) -> str:
        """The first value of the field with this lower-case name, or ``""``."""
        for name, _, value in self.items:
            if name == lower:
                return value
        return ""

    def replace_host(self, authority: str) -> FieldBlock:
        """The same fields with ``Host`` set to *authority* (RFC 9112 section 3.2.2)."""
        rest = (item for item in self.items if item[0] != "host")
        return FieldBlock((("host", "Host", authority), *rest))

    def without(self, lower: str) -> FieldBlock:
        """The same fields less those of this lower-case name."""
        return FieldBlock(tuple(item for item in self.items if item[0] != lower))


EMPTY_BLOCK = FieldBlock(())


def parse_field_block(
    section: bytes, *, max_fields: int, leniency: H1LeniencyConfig = STRICT
) -> FieldBlock:
    """Read a field section: lines that each end in CRLF, without the empty line behind them.

    Strict unless *leniency* says otherwise. Raises ``HttpParseError``: BAD_FIELD_LINE,
    BAD_FIELD_VALUE, BAD_LINE_END, or FIELDS_TOO_LARGE past *max_fields* lines.
    """
    if leniency is not STRICT:
        if section[-2:] == b"\r\n":
            try:
                # Most of what may bend the rules does not; then it is remembered as any other.
                return parse_field_block(section, max_fields=max_fields)
            except HttpParseError:
                pass
        return FieldBlock(_parse_lines(_split_leniently(section, leniency), max_fields, leniency))
    block = _block_memo.get(section)
    if block is not None and len(block.items) <= max_fields:
        return block
    if not section:
        return EMPTY_BLOCK
    block = FieldBlock(_parse_lines(section[:-2].split(b"\r\n", max_fields), max_fields, STRICT))
    if not block.secret and len(section) <= _MEMO_BLOCK_BYTES:
        if len(_block_memo) >= _MEMO_BLOCKS:
            _block_memo.clear()
        _block_memo[section] = block
    return block


def _parse_lines(
    lines: list[bytes], max_fields: int, leniency: H1LeniencyConfig
) -> tuple[Item, ...]:
    if len(lines) > max_fields:
        raise HttpParseError(HttpParseError.FIELDS_TOO_LARGE, f"more than {max_fields} field lines")
    pattern = _LINE_OWS if leniency.allow_ows_around_colon else _LINE
    items: list[Item] = []
    for line in lines:
        item = _line_memo.get(line)
        if item is None:
            found = pattern(line)
            if found is None:
                raise _line_error(line)
            raw_name, raw_value = found.groups()
            name = raw_name.decode("ascii")
            item = (name.lower(), name, raw_value.strip(b" \t").decode("latin-1"))
            # Only what the strict pattern takes may be remembered for strict readers.
            if pattern is _LINE and len(line) <= _MEMO_LINE_BYTES and not is_secret_name(item[0]):
                if len(_line_memo) >= _MEMO_LINES:
                    _line_memo.clear()
                _line_memo[line] = item
        items.append(item)
    return tuple(items)


def _line_error(line: bytes) -> HttpParseError:
    # What stands outside a name is not quoted: it may be the rest of a credential.
    name, colon, _ = line.partition(b":")
    if b"\r" in line or b"\n" in line:
        return HttpParseError(HttpParseError.BAD_LINE_END, "a bare CR or LF in a field line")
    if line[:1] in (b" ", b"\t"):
        return HttpParseError(HttpParseError.BAD_FIELD_LINE, "a field line begins with a blank")
    if not colon:
        return HttpParseError(HttpParseError.BAD_FIELD_LINE, "no colon in a field line")
    if not re.fullmatch(_TOKEN + rb"+", name):
        return HttpParseError(HttpParseError.BAD_FIELD_LINE, f"bad field name {excerpt(name)}")
    return HttpParseError(
        HttpParseError.BAD_FIELD_VALUE, f"control character in the value of {excerpt(name)}"
    )


def _split_leniently(section: bytes, leniency: H1LeniencyConfig) -> list[bytes]:
    """The lines of *section*, with bare LFs and folded lines undone as *leniency* allows."""
    if leniency.allow_lf_only_line_endings:
        lines = [line.removesuffix(b"\r") for line in section.split(b"\n")][:-1]
    else:
        lines = section.split(b"\r\n")[:-1]
    if not leniency.allow_obs_fold:
        return lines
    unfolded: list[list[bytes]] = []
    for line in lines:
        if line[:1] in (b" ", b"\t") and unfolded:
            if more := line.strip(b" \t"):
                unfolded[-1].append(more)
        else:
            unfolded.append([line.rstrip(b" \t")])
    return [b" ".join(parts) for parts in unfolded]
