"""A header section read in place: nothing is copied until it is asked for.

``parse_header_view`` checks the whole section once and remembers where each name and value
stands (RFC 9112 section 5); ``HeaderMapView`` turns them into text on demand. It is for heads
that are looked at once; whoever keeps them takes ``into_owned()``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from flare.http.proto.ascii import BytesLike
from flare.http.proto.errors import HttpParseError, excerpt
from flare.http.proto.headers import HeaderMap

__all__ = ["HeaderMapView", "parse_header_view"]

Span = tuple[int, int, int, int]  # where the name begins and ends, and the value

# Possessive, so that a line that fails does so in one pass.
_match_field = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++):[ \t]*+([^\x00-\x08\x0a-\x1f\x7f]*+)(?:\r?\n|\Z)"
).match
_match_empty_line = re.compile(rb"\r?\n").match
_match_line = re.compile(rb"[^\n]*+").match
_BLANKS = b" \t"


class HeaderMapView:
    """The fields of a header section as they stand in *buf*; read-only.

    *offsets* has for each field where its name begins and ends and where its value does. The view
    keeps *buf* alive and reads it at each call: over a ``memoryview`` that has been released every
    method that reads it raises ``ValueError``. Iteration gives (name, value) pairs in order.
    """

    __slots__ = ("_buf", "_offsets")

    def __init__(self, buf: BytesLike, offsets: Sequence[Span]) -> None:
        self._buf = buf
        self._offsets = offsets

    def len(self) -> int:
        """How many fields there are, repeated ones counted each time."""
        return len(self._offsets)

    def get(self, name: str) -> str:
        """The first value of *name*, or ``""``."""
        for start, end in self._find(name):
            return str(self._buf[start:end], "latin-1")
        return ""

    def get_all(self, name: str) -> list[str]:
        """Every value of *name*, in order."""
        return [str(self._buf[start:end], "latin-1") for start, end in self._find(name)]

    def contains(self, name: str) -> bool:
        """Whether there is a field of that name."""
        return next(self._find(name), None) is not None

    def into_owned(self) -> HeaderMap:
        """The same fields as a ``HeaderMap`` that no longer needs the buffer."""
        return HeaderMap._from_items([(name.lower(), name, value) for name, value in self])

    def _find(self, name: str) -> Iterator[tuple[int, int]]:
        if not name.isascii():
            return
        wanted = name.encode("ascii").lower()
        size = len(wanted)
        for start, end, value_start, value_end in self._offsets:
            if end - start == size and bytes(self._buf[start:end]).lower() == wanted:
                yield value_start, value_end

    def __len__(self) -> int:
        return len(self._offsets)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.contains(name)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        buf = self._buf
        for start, end, value_start, value_end in self._offsets:
            yield str(buf[start:end], "latin-1"), str(buf[value_start:value_end], "latin-1")

    def __repr__(self) -> str:
        return f"HeaderMapView({self.into_owned()!r})"


def parse_header_view(data: BytesLike) -> HeaderMapView:
    """Read a header section that begins with its first field line.

    It ends with the first empty line or with *data*; what follows an empty line is not looked at.
    A line may end in CRLF or LF, the last one also in nothing. Blanks round a value are no part of
    it. Raises ``HttpParseError``: ``BAD_FIELD_LINE`` for a line with no colon, no name or a name
    that is not a token, ``BAD_FIELD_VALUE`` for a control character other than HTAB in a value.
    """
    if isinstance(data, memoryview):
        data = data.cast("B")
    spans: list[Span] = []
    position, size = 0, len(data)
    while position < size:
        field = _match_field(data, position)
        if field is None:
            if _match_empty_line(data, position):
                break
            raise _refusal(data, position)
        start, end = field.span(2)
        while end > start and data[end - 1] in _BLANKS:
            end -= 1
        spans.append((*field.span(1), start, end))
        position = field.end()
    return HeaderMapView(data, spans)


def _refusal(data: BytesLike, position: int) -> HttpParseError:
    """What is wrong with the line at *position*; never quotes its value."""
    line = _match_line(data, position)
    assert line is not None, "the pattern matches nothing as well"
    name, colon, _ = bytes(line[0]).partition(b":")
    if not colon:
        return HttpParseError(HttpParseError.BAD_FIELD_LINE, f"no colon after {excerpt(name)}")
    if not _match_field(name + b":"):
        return HttpParseError(HttpParseError.BAD_FIELD_LINE, f"bad name {excerpt(name)}")
    return HttpParseError(
        HttpParseError.BAD_FIELD_VALUE, f"a control character in the value of {excerpt(name)}"
    )
