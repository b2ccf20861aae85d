"""The chunked transfer coding (RFC 9112 section 7.1): reading and writing.

The reader's states::

    SIZE --size line--> DATA --all bytes--> DATA_END --CRLF--> SIZE
    SIZE --"0" line--> TRAILERS --empty line--> DONE

Every line must end in CRLF and match its grammar from end to end, so that no byte of it can mean
something else to another reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum, auto

from flare.http.proto.errors import HttpParseError, excerpt
from flare.http.proto.fields import (
    EMPTY_BLOCK,
    FieldBlock,
    find_bare_line_end,
    parse_field_block,
)
from flare.http.proto.h1_leniency import STRICT, H1LeniencyConfig

__all__ = [
    "FORBIDDEN_TRAILERS",
    "ChunkedDecoder",
    "encode_chunk",
    "encode_last_chunk",
    "is_forbidden_trailer",
]

# Extensions mean nothing to us, so a body needs few of them: hyper's cap, in bytes per body.
MAX_EXTENSION_BYTES = 16 * 1024
_MAX_SIZE_LINE = 4096

_EXT_NAME = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_EXT_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
_EXT = (
    rb"(?:;[ \t]*+"
    + _EXT_NAME
    + rb"(?:[ \t]*+=[ \t]*+(?:"
    + _EXT_NAME
    + rb"|"
    + _EXT_QUOTED
    + rb"))?+)*+"
)
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(" + _EXT + rb")").fullmatch
_SIZE_LINE_EMPTY_EXT = re.compile(
    rb"([0-9A-Fa-f]{1,16})((?:" + _EXT.removesuffix(b"*+") + rb"|;)*+)"
).fullmatch
_PLAIN_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n").match
_SIZE_LINE_ANY_EXT = re.compile(rb"([0-9A-Fa-f]{1,16})((?:;[^\r\n]*+)?+)").fullmatch

# RFC 9110 section 6.5.1: framing, routing, authentication, request modifiers, content fields.
FORBIDDEN_TRAILERS = frozenset(
    "accept age authorization cache-control connection content-encoding content-length "
    "content-range content-type cookie date expect expires host keep-alive location max-forwards "
    "pragma proxy-authenticate proxy-authorization proxy-connection range retry-after set-cookie "
    "te trailer transfer-encoding upgrade vary warning www-authenticate".split()
)


def is_forbidden_trailer(lower: str) -> bool:
    """Whether the field of this lower-case name must not come as a trailer."""
    return lower in FORBIDDEN_TRAILERS or lower.startswith(("if-", "x-forwarded"))


class _State(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILERS = auto()
    DONE = auto()


class ChunkedDecoder:
    """Reads one chunked body, given in pieces of any size.

    After each ``receive``: ``done`` says whether the body is complete; then ``trailers`` holds its
    trailer fields, and ``unused`` says how many of the last bytes given lie behind it. In bytes,
    *max_body_size* bounds the decoded body, ``None`` for no bound, and *max_trailer_size* the
    trailer section.
    """

    def __init__(
        self,
        *,
        max_body_size: int | None = None,
        max_trailer_size: int = 8192,
        max_fields: int = 100,
        leniency: H1LeniencyConfig = STRICT,
    ) -> None:
        self._state = _State.SIZE
        self._left = 0
        self._partial = b""
        self._section = bytearray()
        self._extension_bytes = 0
        self._decoded = 0
        self.max_body_size = max_body_size
        self._max_trailer_size = max_trailer_size
        self._max_fields = max_fields
        if leniency.accept_invalid_chunk_extension_chars:
            self._size_line = _SIZE_LINE_ANY_EXT
        elif leniency.accept_empty_chunk_extensions:
            self._size_line = _SIZE_LINE_EMPTY_EXT
        else:
            self._size_line = _SIZE_LINE
        self.done = False
        self.trailers: FieldBlock = EMPTY_BLOCK
        self.unused = 0

    def receive(self, data: bytes, pos: int = 0) -> bytes:
        """The body bytes that *data*, from *pos* on, completes.

        Raises ``HttpParseError``: BAD_CHUNK, BODY_TOO_LARGE at the size line that passes the
        bound, FIELDS_TOO_LARGE, or what ``parse_field_block`` raises for the trailers.
        """
        if self._partial:
            data = self._partial + data[pos:]
            self._partial = b""
            pos = 0
        out = bytearray()
        size = len(data)
        while pos < size:
            match self._state:
                case _State.DATA:
                    end = min(pos + self._left, size)
                    if pos == 0 and end == size and not out:
                        self._left -= end
                        self._state = _State.DATA if self._left else _State.DATA_END
                        return data
                    out += data[pos:end]
                    self._left -= end - pos
                    pos = end
                    if not self._left:
                        self._state = _State.DATA_END
                case _State.SIZE:
                    pos = self._take_whole(data, pos, out)
                    if pos == size:
                        break
                    after = self._read_size(data, pos)
                    if after < 0:
                        break
                    pos = after
                case _State.DATA_END:
                    if data[pos : pos + 2] == b"\r\n":
                        pos += 2
                        self._state = _State.SIZE
                    elif data[pos:] == b"\r":
                        self._partial = b"\r"
                        break
                    else:
                        raise _bad_chunk(
                            f"expected CRLF after it, got {excerpt(data[pos : pos + 2])}"
                        )
                case _State.TRAILERS:
                    pos = self._read_trailers(data, pos)
                case _State.DONE:
                    break
        self.unused = size - pos if self.done else 0
        return bytes(out)

    def _take_whole(self, data: bytes, pos: int, out: bytearray) -> int:
        """Take the chunks at *pos* that are all there and have no extension; the position behind.

        What is wrong with the next one, if anything is, shows when it is read state by state.
        """
        room = self.max_body_size - self._decoded if self.max_body_size is not None else None
        taken = len(out)
        while found := _PLAIN_SIZE_LINE(data, pos):
            start = found.end()
            end = start + int(found[1], 16)
            if end == start or data[end : end + 2] != b"\r\n":
                break
            if room is not None and len(out) - taken + end - start > room:
                break
            out += data[start:end]
            pos = end + 2
        self._decoded += len(out) - taken
        return pos

    def _read_size(self, data: bytes, pos: int) -> int:
        """Read a size line at *pos*; the position behind it, or -1 where it is not complete."""
        end = data.find(b"\n", pos, pos + _MAX_SIZE_LINE)
        if end < 0:
            if len(data) - pos >= _MAX_SIZE_LINE:
                raise _bad_chunk("its size line is too long")
            self._partial = data[pos:]
            return -1
        line = data[pos : end - 1]
        found = self._size_line(line) if data[end - 1 : end] == b"\r" else None
        if found is None:
            raise _bad_chunk(f"bad size line {excerpt(data[pos:end])}")
        digits, extension = found.groups()
        self._extension_bytes += len(extension)
        if self._extension_bytes > MAX_EXTENSION_BYTES:
            raise _bad_chunk(f"more than {MAX_EXTENSION_BYTES} bytes of extensions in a body")
        self._left = int(digits, 16)
        self._decoded += self._left
        if self.max_body_size is not None and self._decoded > self.max_body_size:
            raise HttpParseError(
                HttpParseError.BODY_TOO_LARGE, f"body over {self.max_body_size} bytes"
            )
        self._state = _State.DATA if self._left else _State.TRAILERS
        return end + 1

    def _read_trailers(self, data: bytes, pos: int) -> int:
        """Take trailer bytes at *pos*; the position behind those taken."""
        section = self._section
        known = len(section)
        section += data[pos : pos + self._max_trailer_size + 2 - known]
        if section.startswith(b"\r\n"):
            self._finish(EMPTY_BLOCK)
            return pos + 2 - known
        end = section.find(b"\r\n\r\n", max(0, known - 3))
        if find_bare_line_end(section, max(0, known - 1), end + 4 if end >= 0 else len(section)):
            raise HttpParseError(HttpParseError.BAD_LINE_END, "a bare CR or LF in the trailers")
        if end >= 0:
            self._finish(parse_field_block(bytes(section[: end + 2]), max_fields=self._max_fields))
            return pos + end + 4 - known
        if len(section) > self._max_trailer_size + 1:
            raise HttpParseError(
                HttpParseError.FIELDS_TOO_LARGE,
                f"trailer section over {self._max_trailer_size} bytes",
            )
        return len(data)

    def _finish(self, trailers: FieldBlock) -> None:
        self._state = _State.DONE
        self._section = bytearray()
        self.done = True
        self.trailers = trailers


def _bad_chunk(why: str) -> HttpParseError:
    return HttpParseError(HttpParseError.BAD_CHUNK, f"chunk: {why}")


def encode_chunk(data: bytes | bytearray | memoryview) -> bytes:
    """One chunk around *data*, which must not be empty: an empty chunk ends the body."""
    if not data:
        raise ValueError("an empty chunk would end the body")
    return b"".join((b"%x\r\n" % len(data), data, b"\r\n"))


def encode_last_chunk(trailers: Iterable[tuple[str, str]] = ()) -> bytes:
    """The end of a chunked body, with *trailers* less those RFC 9110 section 6.5.1 forbids."""
    lines = "".join(
        f"{name}: {value}\r\n" for name, value in trailers if not is_forbidden_trailer(name.lower())
    )
    return b"0\r\n" + lines.encode("latin-1") + b"\r\n"
