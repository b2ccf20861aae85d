"""``multipart/form-data`` bodies that are whole in memory (RFC 7578, RFC 2046 section 5.1).

Strict about structure, since a body that two readers take apart differently carries a file past
one of them: lines end in CRLF, part headers are field lines as in RFC 9112, a boundary counts only
at the start of a line, nothing that decides is there twice. One pass over the body, linear in its
length. Writing is the client's ``MultipartFormBuilder``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from flare.http.proto.ascii import BytesLike
from flare.http.proto.charset import charset_of
from flare.http.proto.errors import HttpParseError, excerpt
from flare.http.proto.parameters import parse_parameters
from flare.http.proto.simd_parsers import simd_percent_decode

__all__ = [
    "MAX_PARTS",
    "MAX_PART_HEADERS",
    "MAX_PART_HEADER_BYTES",
    "MultipartForm",
    "MultipartPart",
    "parse_multipart_form_data",
]

MAX_PARTS = 1000
"""The most parts a form may have, unless told otherwise."""
MAX_PART_HEADER_BYTES = 8 * 1024
"""The most bytes of headers a part may have, unless told otherwise; what a whole head has."""
MAX_PART_HEADERS = 32
"""The most header lines a part may have. RFC 7578 section 4.8 knows three."""

_is_boundary = re.compile(r"[ -~]{0,69}[!-~]").fullmatch
_match_line_end = re.compile(rb"[ \t]*+\r\n").match
_match_field = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++):[ \t]*+([^\x00-\x08\x0a-\x1f\x7f]*+)"
).fullmatch
_match_extended = re.compile(
    r"(utf-8|iso-8859-1)'[0-9A-Za-z\-]*+'([^']*+)", re.IGNORECASE
).fullmatch
_find_control = re.compile(r"[\x00-\x1f\x7f]").search

_split_path = re.compile(r"[/\\]").split
_NOT_IN_NAMES = '<>:"|?*'
_is_device = re.compile(
    r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\.|\Z)", re.IGNORECASE
).match
_MAX_NAME_BYTES = 255


@dataclass(slots=True)
class MultipartPart:
    """One field or file of a form.

    ``filename`` and ``content_type`` are ``""`` where the part has none (RFC 7578 section 4.4: it
    is ``text/plain`` then). ``filename`` is what the peer says: never a path to open, see
    ``safe_filename``. ``header_keys`` and ``header_values`` are all headers of the part, as they
    came, in order; no ``Content-Transfer-Encoding`` is undone.
    """

    name: str
    filename: str = ""
    content_type: str = ""
    body: bytes = field(default=b"", repr=False)
    header_keys: list[str] = field(default_factory=list, repr=False)
    header_values: list[str] = field(default_factory=list, repr=False)

    def text(self) -> str:
        """The body as text: by the ``charset`` of its type where Python knows it, else UTF-8;
        bytes that do not fit become U+FFFD."""
        return self.body.decode(charset_of(self.content_type), "replace")

    def is_file(self) -> bool:
        """Whether it has a filename. A file input that was left empty has none."""
        return self.filename != ""

    def header(self, key: str) -> str:
        """The first header *key* of the part, in any case of letters, or ``""``."""
        wanted = key.lower()
        for name, value in zip(self.header_keys, self.header_values, strict=True):
            if name.lower() == wanted:
                return value
        return ""

    def safe_filename(self) -> str:
        r"""The filename as a plain name in any directory, ``""`` where nothing is left of it.

        The last piece of what may be a path (``/`` or ``\``), without leading dots, characters
        that are not printable or that Windows forbids, and blanks or dots at its end; a name of a
        device has ``_`` in front; at most 255 bytes of UTF-8, the suffix kept. Two uploads may
        have the same: it is no key.

        >>> MultipartPart("f", filename="../../.ssh/authorized_keys").safe_filename()
        'authorized_keys'
        """
        name = _split_path(self.filename)[-1]
        name = "".join([c for c in name if c.isprintable() and c not in _NOT_IN_NAMES])
        name = name.strip(" .")
        if _is_device(name):
            name = f"_{name}"
        data = name.encode()
        if len(data) <= _MAX_NAME_BYTES:
            return name
        stem, dot, suffix = name.rpartition(".")
        tail = f"{dot}{suffix}".encode()
        if not stem or len(tail) > 32:
            tail = b""
        stem = data[: _MAX_NAME_BYTES - len(tail)].decode("utf-8", "ignore").rstrip(" .")
        return f"{stem}{tail.decode()}"


@dataclass(slots=True)
class MultipartForm:
    """The parts of a form in the order they came; iteration gives them, ``name in form`` asks for
    one by name, and so do the methods, of several with a name for the first."""

    parts: list[MultipartPart] = field(default_factory=list)

    def len(self) -> int:
        """How many parts there are."""
        return len(self.parts)

    def get(self, name: str) -> MultipartPart | None:
        """The part *name*, or ``None``."""
        for part in self.parts:
            if part.name == name:
                return part
        return None

    def get_all(self, name: str) -> list[MultipartPart]:
        """Every part *name*, in order."""
        return [part for part in self.parts if part.name == name]

    def value(self, name: str) -> str:
        """The text of the part *name*, or ``""``."""
        part = self.get(name)
        return "" if part is None else part.text()

    def file(self, name: str) -> MultipartPart | None:
        """The part *name* that has a filename, or ``None``."""
        for part in self.parts:
            if part.name == name and part.is_file():
                return part
        return None

    def contains(self, name: str) -> bool:
        """Whether there is a part *name*."""
        return name in self

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[MultipartPart]:
        return iter(self.parts)

    def __contains__(self, name: object) -> bool:
        return any(part.name == name for part in self.parts)


def parse_multipart_form_data(
    body: BytesLike,
    content_type: str,
    *,
    max_parts: int = MAX_PARTS,
    max_header_size: int = MAX_PART_HEADER_BYTES,
) -> MultipartForm:
    """Take a form apart; *content_type* is the value of that field of its message.

    What stands before the first boundary and behind the last is ignored. The parts are copies: with
    *body* this takes about twice its length. Names and filenames are UTF-8. ``%22`` in them is
    ``"``; ``%0D`` and ``%0A`` stay, and no control character of ASCII is in them. ``filename*``
    (RFC 8187) counts where there is no ``filename``.

    Raises ``HttpParseError``: BAD_MULTIPART for a type that is not this one (status 415), a
    boundary that is missing, empty or longer than 70 characters, that does not open and close the
    body or has something else than CRLF behind it, and a part with malformed headers, or without
    ``Content-Disposition: form-data`` and a ``name``; FORM_TOO_LARGE (413) for more than
    *max_parts* parts, and for more than *max_header_size* bytes of headers, or 32 lines of them,
    in one.
    """
    mark = b"\r\n--" + _boundary_of(content_type)
    data = body if isinstance(body, bytes) else bytes(body)
    form = MultipartForm()
    at, last = _first_delimiter(data, mark)
    while not last:
        if len(form.parts) >= max_parts:
            raise _too_large(f"more than {max_parts} parts")
        part, start = _read_head(data, at, mark, max_header_size)
        # The blank line may be the delimiter's own line end: such a part has no body.
        found = _find_delimiter(data, mark, start - 2)
        if found is None:
            raise _malformed(f"no closing boundary behind part {len(form.parts) + 1}")
        end, at, last = found
        part.body = data[start:end]
        form.parts.append(part)
    return form


def _boundary_of(content_type: str) -> bytes:
    if not content_type:
        raise _malformed("no Content-Type", 415)
    parsed = parse_parameters(content_type)
    if parsed is None:
        raise _malformed("a malformed Content-Type", 415)
    kind, parameters = parsed
    if kind.lower() != "multipart/form-data":
        raise _malformed(f"the type is {excerpt(kind.encode())}, not multipart/form-data", 415)
    boundary = parameters.get("boundary")
    if boundary is None:
        raise _malformed("no boundary in the Content-Type")
    if not _is_boundary(boundary):
        raise _malformed("the boundary must be 1 to 70 printable characters, the last no blank")
    return boundary.encode("ascii")


def _first_delimiter(data: bytes, mark: bytes) -> tuple[int, bool]:
    """Where the line of the first boundary ends, and whether it is the closing one."""
    if data.startswith(mark[2:]):
        found = _delimiter_end(data, len(mark) - 2)
        if found is not None:
            return found
    behind = _find_delimiter(data, mark, 0)
    if behind is not None:
        return behind[1:]
    if data.startswith(mark[2:]) or mark in data:
        raise _malformed("no CRLF behind the boundary")
    raise _malformed("the boundary is not in the body")


def _find_delimiter(data: bytes, mark: bytes, at: int) -> tuple[int, int, bool] | None:
    """The next delimiter: where the content before it ends, where its line does, and whether it
    is the closing one. A line that only begins like it is content."""
    while (start := data.find(mark, at)) >= 0:
        at = start + len(mark)
        found = _delimiter_end(data, at)
        if found is not None:
            return start, *found
    return None


def _delimiter_end(data: bytes, at: int) -> tuple[int, bool] | None:
    if data.startswith(b"--", at):
        return at + 2, True
    line_end = _match_line_end(data, at)
    return None if line_end is None else (line_end.end(), False)


def _read_head(
    data: bytes, at: int, mark: bytes, max_header_size: int
) -> tuple[MultipartPart, int]:
    """The part whose headers begin at *at*, and where its body begins."""
    # Without headers the blank line comes at once, and the boundary's CRLF is before it.
    end = data.find(b"\r\n\r\n", at - 2, at + max_header_size + 4)
    if end < 0:
        if len(data) - at > max_header_size:
            raise _too_large(f"more than {max_header_size} bytes of headers in a part")
        raise _malformed("no blank line behind the headers of a part")
    section = data[at:end]
    if mark in b"\r\n" + section:
        raise _malformed("a boundary within the headers of a part")
    keys: list[str] = []
    values: list[str] = []
    lines = section.split(b"\r\n", MAX_PART_HEADERS) if section else []
    if len(lines) > MAX_PART_HEADERS:
        raise _too_large(f"more than {MAX_PART_HEADERS} headers in a part")
    for line in lines:
        found = _match_field(line)
        if found is None:
            raise _malformed("a malformed header of a part")
        keys.append(found[1].decode("ascii"))
        values.append(found[2].rstrip(b" \t").decode("utf-8", "replace"))
    content_type = _only("Content-Type", keys, values)
    name, filename = _names(_only("Content-Disposition", keys, values))
    part = MultipartPart(name, filename, content_type, b"", keys, values)
    return part, end + 4


def _only(name: str, keys: list[str], values: list[str]) -> str:
    """The value of that header, which may not be there twice; ``""`` where it is not there."""
    lower = name.lower()
    found = [value for key, value in zip(keys, values, strict=True) if key.lower() == lower]
    if len(found) > 1:
        raise _malformed(f"{name} twice in one part")
    return found[0] if found else ""


def _names(disposition: str) -> tuple[str, str]:
    """The name and the filename that a part has by its ``Content-Disposition``."""
    parsed = parse_parameters(disposition)
    if parsed is None or parsed[0].lower() != "form-data":
        raise _malformed("a part without Content-Disposition: form-data, or with a malformed one")
    parameters = parsed[1]
    if "name" not in parameters:
        raise _malformed("a part without a name")
    name = parameters["name"].replace("%22", '"')
    filename = parameters.get("filename")
    if filename is not None:
        filename = filename.replace("%22", '"')
    else:
        filename = _extended(parameters["filename*"]) if "filename*" in parameters else ""
    if _find_control(name) or _find_control(filename):
        raise _malformed("a control character in a name")
    return name, filename


def _extended(value: str) -> str:
    """The text of an extended value: ``UTF-8'en'%e2%82%ac`` (RFC 8187 section 3.2)."""
    found = _match_extended(value)
    if found is None:
        raise _malformed("a malformed filename*")
    try:
        data = simd_percent_decode(found[2].replace("+", "%2B").encode())
        return data.decode(found[1])
    except ValueError:
        raise _malformed("a malformed filename*") from None


def _malformed(detail: str, status: int | None = None) -> HttpParseError:
    return HttpParseError(HttpParseError.BAD_MULTIPART, detail, status)


def _too_large(detail: str) -> HttpParseError:
    return HttpParseError(HttpParseError.FORM_TOO_LARGE, detail)
