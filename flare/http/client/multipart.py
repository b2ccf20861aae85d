"""``multipart/form-data`` bodies, made while they are sent (RFC 7578).

The length is known before the first byte is read wherever that of every part is, so that a form
with large files goes out under ``Content-Length`` and takes no memory to speak of.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, Self

from flare.errors import ValidationError
from flare.http.body import as_body, close_source
from flare.http.cancel import Cancel
from flare.http.client.content import as_source
from flare.http.proto.headers import HeaderMap

__all__ = ["FilesLike", "MultipartBody", "MultipartFormBuilder", "encode_form"]

FilesLike = Mapping[str, Any] | Iterable[tuple[str, Any]]

_READ_BYTES = 256 * 1024
_OCTETS = "application/octet-stream"
_NEVER = Cancel.never()
# RFC 2046 section 5.1.1, less what would need quotes in Content-Type, and the blank.
_is_boundary = re.compile(r"[0-9A-Za-z'+_\-.]{1,70}").fullmatch
_control = re.compile(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]").search
# How browsers write what would end a quoted name (WHATWG HTML, multipart/form-data encoding).
_ESCAPES = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


class _Part:
    """One part: its head, and where its content is: ``data``, a ``path``, or a ``source``.

    ``length`` is in bytes, ``None`` where it is unknown.
    """

    __slots__ = ("data", "head", "length", "path", "source", "start")

    def __init__(self, head: bytes, content: Any) -> None:
        self.head = head
        self.data: bytes | None = None
        self.path: str | None = None
        self.source: Any = None
        self.start: int | None = None
        self.length: int | None
        if isinstance(content, (bytes, bytearray, memoryview)):
            self.data = bytes(content)
            self.length = len(self.data)
        elif isinstance(content, str):
            self.data = content.encode()
            self.length = len(self.data)
        elif isinstance(content, os.PathLike):
            self.path = os.fspath(content)
            status = os.stat(self.path)
            if not stat.S_ISREG(status.st_mode):
                raise ValidationError("data", f"{self.path} is not a regular file")
            self.length = status.st_size
        else:
            self.source = content
            self.length = as_source(content, "data").content_length()
            self.start = _position(content)

    def chunks(self) -> Iterator[bytes]:
        """The content, exactly ``length`` bytes of it where that is known."""
        if self.data is not None:
            yield self.data
        elif self.path is not None:
            with open(self.path, "rb", buffering=0) as file:
                yield from _exactly(_read(file), self.length, self.path)
        elif hasattr(self.source, "read"):
            if self.start is not None:
                self.source.seek(self.start)
            yield from _exactly(_read(self.source), self.length, "a file")
        else:
            body = as_body(self.source)
            while (chunk := body.next_chunk(_NEVER)) is not None:
                yield chunk

    def is_repeatable(self) -> bool:
        """Whether the content can be read more than once."""
        return self.source is None or self.start is not None


def _position(file: Any) -> int | None:
    """Where *file* stands, if it can be set back there: to read it again, or once for each part
    it is in."""
    try:
        return int(file.tell()) if file.seekable() else None
    except (OSError, AttributeError):
        return None


def _read(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_READ_BYTES):
        yield chunk


def _exactly(chunks: Iterator[bytes], length: int | None, name: str) -> Iterator[bytes]:
    """*length* bytes of *chunks*: of more, the rest is left alone, fewer are an error."""
    if length is None:
        yield from chunks
        return
    left = length
    while left:
        chunk = next(chunks, b"")
        if not chunk:
            raise ValidationError("files", f"{name} ended {left} bytes short of its {length}")
        yield chunk[:left]
        left -= min(left, len(chunk))


class MultipartBody:
    """A form as a ``Body``: made by ``MultipartFormBuilder.body``, given as ``body=`` of a call.

    Files given by path are opened when their turn comes and closed behind it; those given open
    stay open.
    """

    __slots__ = ("_boundary", "_chunks", "_parts", "_scanned", "content_type")

    def __init__(self, boundary: str, parts: list[_Part], content_type: str, scan: bool) -> None:
        self._boundary = boundary.encode("ascii")
        self._parts = parts
        self._scanned = scan
        self._chunks: Iterator[bytes] | None = None
        self.content_type = content_type

    def content_length(self) -> int | None:
        """The exact length in bytes; ``None`` where a part's is unknown."""
        total = len(self._boundary) + 6
        for part in self._parts:
            if part.length is None:
                return None
            total += len(self._boundary) + 4 + len(part.head) + part.length + 2
        return total

    def next_chunk(self, cancel: Cancel = _NEVER) -> bytes | None:
        """The next piece, ``None`` at the end. Raises ``ValidationError`` where a file has become
        shorter or has the boundary in it, and ``OSError`` where it cannot be read."""
        if self._chunks is None:
            self._chunks = self._generate()
        return next(self._chunks, None)

    def _generate(self) -> Iterator[bytes]:
        # Small pieces are gathered: a form of fields goes out in one write.
        held = bytearray()
        for part in self._parts:
            held += b"--%b\r\n%b" % (self._boundary, part.head)
            for chunk in self._checked(part):
                if len(held) + len(chunk) > _READ_BYTES:
                    yield bytes(held)
                    held.clear()
                if len(chunk) >= _READ_BYTES:
                    yield chunk
                else:
                    held += chunk
            held += b"\r\n"
        held += b"--%b--\r\n" % self._boundary
        yield bytes(held)

    def _checked(self, part: _Part) -> Iterator[bytes]:
        """The chunks of *part*; that none has a boundary in it is looked at where it is not
        random."""
        if not self._scanned:
            yield from part.chunks()
            return
        mark = b"\r\n--" + self._boundary
        tail = b"\r\n"  # a delimiter may follow the head at once
        for chunk in part.chunks():
            if mark in tail + chunk:
                raise ValidationError("boundary", "occurs in a part")
            tail = (tail + chunk)[-len(mark) + 1 :]
            yield chunk

    def rewind(self) -> bool:
        """Make the form ready to be sent again; false where a part is used up."""
        self._stop()
        return all(part.is_repeatable() for part in self._parts)

    def close(self) -> None:
        """Close the iterators given as parts, and the file being read. Files given open stay."""
        self._stop()
        for part in self._parts:
            if part.source is not None and not hasattr(part.source, "read"):
                close_source(part.source)

    def _stop(self) -> None:
        if self._chunks is not None:
            close_source(self._chunks)
            self._chunks = None


class MultipartFormBuilder:
    """Puts a ``multipart/form-data`` body together, part by part.

    ``client.post(url, builder)`` sends it with its ``Content-Type``. *boundary* is random unless
    given; one that is given may not occur in a part, which raises ``ValidationError``.
    """

    def __init__(self, boundary: str | None = None) -> None:
        if boundary is None:
            import secrets

            self._boundary = f"----flareBoundary{secrets.token_hex(16)}"
            self._given = False
        elif _is_boundary(boundary):
            self._boundary = boundary
            self._given = True
        else:
            raise ValidationError("boundary", "1 to 70 letters, digits and '+_-. are allowed")
        self._parts: list[_Part] = []
        self._finished = False

    def field(self, name: str, value: str | bytes | int | float) -> Self:
        """Add a field; text goes as UTF-8, a number by ``str``, ``True`` as ``true``."""
        if isinstance(value, bool):
            value = "true" if value else "false"
        data = value if isinstance(value, (str, bytes)) else str(value)
        self._add(_disposition(name), HeaderMap(), data)
        return self

    def file(
        self,
        name: str,
        filename: str | None,
        content_type: str = "",
        data: Any = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Add a file: *data* is bytes or text, a ``Path``, a binary file (from where it stands to
        its end), or an iterator of bytes, whose length is not known.

        *content_type* is ``application/octet-stream`` unless given. With ``None`` as *filename* the
        part is a field, which has neither unless told. A path that cannot be read raises
        ``OSError`` here; *headers* of the part, or a *content_type*, that are no field values raise
        ``HeaderInjectionError``.
        """
        fields = HeaderMap(headers)
        if content_type:
            fields.set("Content-Type", content_type)
        elif filename is not None:
            fields.setdefault("Content-Type", _OCTETS)
        fields.remove("content-disposition")
        self._add(_disposition(name, filename), fields, data)
        return self

    def _add(self, disposition: str, fields: HeaderMap, content: Any) -> None:
        if self._finished:
            raise ValidationError("form", "it is finished")
        lines = [f"Content-Disposition: {disposition}"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        head = "\r\n".join([*lines, "", ""]).encode()
        self._parts.append(_Part(head, content))

    def content_type(self) -> str:
        """The ``Content-Type`` of the form, its boundary included."""
        return f"multipart/form-data; boundary={self._boundary}"

    def body(self) -> MultipartBody:
        """The form as it stands, to be streamed."""
        return MultipartBody(self._boundary, list(self._parts), self.content_type(), self._given)

    def finish(self) -> bytes:
        """The whole form in memory; nothing can be added any more."""
        self._finished = True
        body = self.body()
        chunks = []
        while (chunk := body.next_chunk()) is not None:
            chunks.append(chunk)
        return b"".join(chunks)


def _disposition(name: str, filename: str | None = None) -> str:
    text = f'form-data; name="{_escaped(name)}"'
    return text if filename is None else f'{text}; filename="{_escaped(filename)}"'


def _escaped(name: str) -> str:
    if not isinstance(name, str):
        raise ValidationError("name", f"must be text, not {type(name).__name__}")
    if _control(name):
        raise ValidationError("name", f"a control character in {name[:40]!a}")
    return name.translate(_ESCAPES)


def encode_form(data: Any, files: FilesLike) -> MultipartBody:
    """The form that *data* (fields: a mapping or pairs) and *files* mean.

    A value of *files* is a ``Path``, an open binary file, bytes or text, or a tuple of a filename
    and one of these, and optionally a content type, and optionally a mapping of more headers. The
    type is guessed by the filename where it is not given. ``None`` as filename makes a field of it,
    without a type unless that is given; ``None`` as content leaves it out.
    """
    builder = MultipartFormBuilder()
    for name, value in _pairs("data", data):
        for each in value if isinstance(value, (list, tuple)) else (value,):
            if each is not None:
                builder.field(name, each)
    for name, value in _pairs("files", files):
        _add_file(builder, name, value)
    return builder.body()


def _pairs(argument: str, given: Any) -> Iterable[tuple[str, Any]]:
    if given is None:
        return ()
    if hasattr(given, "items"):  # FormData too, which is no Mapping
        return given.items()  # type: ignore[no-any-return]
    texts = (str, bytes, bytearray, memoryview)
    if isinstance(given, texts) or hasattr(given, "read") or not isinstance(given, Iterable):
        raise ValidationError(argument, "takes a mapping or pairs with files")
    pairs = list(given)
    if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
        raise ValidationError(argument, "must be a mapping or pairs of a name and a value")
    return pairs


def _add_file(builder: MultipartFormBuilder, name: str, value: Any) -> None:
    content_type = ""
    headers = None
    if isinstance(value, tuple):
        if not 2 <= len(value) <= 4:
            raise ValidationError("files", "a tuple is (filename, content[, type[, headers]])")
        filename, content = value[0], value[1]
        content_type = (value[2] or "") if len(value) > 2 else ""
        headers = value[3] if len(value) > 3 else None
    else:
        content = value
        path: Any = content if isinstance(content, os.PathLike) else getattr(content, "name", None)
        known = isinstance(path, (str, os.PathLike))
        filename = os.path.basename(os.fspath(path)) if known else name
    if content is None:
        return
    if filename is not None and not isinstance(filename, str):
        kind = type(filename).__name__
        raise ValidationError("files", f"a filename must be text or None, not {kind}")
    if filename and not content_type and "content-type" not in HeaderMap(headers):
        from mimetypes import guess_type

        content_type = guess_type(filename)[0] or ""
    try:
        builder.file(name, filename, content_type, content, headers)
    except ValidationError as exc:
        raise ValidationError("files", f"{name!r}: {exc.reason}") from None
