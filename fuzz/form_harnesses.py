"""Fuzz harnesses of forms. What was read, and can be written, is read as the same again."""

from __future__ import annotations

from flare.http.client.multipart import MultipartFormBuilder
from flare.http.proto.errors import HttpParseError
from flare.http.proto.form import FormData, parse_form_urlencoded, urldecode
from flare.http.proto.multipart import (
    MultipartForm,
    MultipartPart,
    parse_multipart_form_data,
)
from flare.http.proto.parameters import parse_parameters
from fuzz.harnesses import text_of
from fuzz.registry import harness

_MAX_FIELDS = 20
_ESCAPES = (HttpParseError.TRAILING_PERCENT, HttpParseError.INVALID_HEX)
_MULTIPART = (HttpParseError.BAD_MULTIPART,)


def _check_error(error: HttpParseError, variants: tuple[int, ...]) -> None:
    assert error.variant in (*variants, HttpParseError.FORM_TOO_LARGE)
    text = str(error)
    assert text.isascii(), text
    assert text.isprintable(), text
    assert error.status in (400, 413, 415)


@harness(
    seeds=[
        b"name=J%C3%B6rg+M&tag=a;tag=b&&=x&y",
        b"a=%&b=%4&c=%zz&d=%%41",
        b"a&" * 30,
        "é=ü&\ufffd=%ff".encode(),
    ]
)
def form_urlencoded(data: bytes) -> None:
    """Text and bytes are read alike, no more fields than asked for, and written again they are
    the same."""
    try:
        form = parse_form_urlencoded(data, max_fields=_MAX_FIELDS)
    except HttpParseError as error:
        _check_error(error, _ESCAPES)
        return
    assert len(form) <= _MAX_FIELDS
    written = form.to_urlencoded()
    assert written.isascii()
    assert parse_form_urlencoded(written) == parse_form_urlencoded(written.encode()) == form
    assert FormData(form.items()) == form
    pairs = written.split("&") if written else []
    assert [urldecode(pair.partition("=")[2]) for pair in pairs] == form.values()


@harness(
    seeds=[
        b'form-data; name="a"; filename="b\\"c.txt"',
        b"text/plain; charset=utf-8; a=--=_x/y",
        b"a; b=\"c\\\"; d=e; f*=UTF-8''%41",
        b'multipart/form-data; boundary="a b"; boundary=c',
    ]
)
def parameters(data: bytes) -> None:
    """What was read is read again from its strict form."""
    parsed = parse_parameters(text_of(data))
    if parsed is None:
        return
    kind, found = parsed
    value = kind
    for name, text in found.items():
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        value += f'; {name}="{escaped}"'
    assert parse_parameters(value) == (kind, found)


_HEAD = b"Content-Disposition: form-data; name="


@harness(
    seeds=[
        b"b\n--b\r\n" + _HEAD + b'"a"\r\n\r\n1\r\n--b\r\n' + _HEAD
        + b'"f"; filename="x.txt"\r\nContent-Type: a/b\r\n\r\n\r\n--bc\r\n--b--\r\n',
        b'"a b"\npreamble\r\n--a b \r\n' + _HEAD + b"a\r\n\r\n--a b--epilogue",
        b"b\n--b\r\n" + _HEAD + b"a; filename*=UTF-8''%e2%82%ac\r\nX: y\r\n\r\n1\r\n--b--",
        b"b:\n--b:\r\n" + _HEAD + b"a\r\n--b:\r\n\r\n1\r\n--b:--",
        b"b; boundary=c\n--b--",
        b"b\n--b\r\n\r\n\r\n--b",
    ]
)  # fmt: skip
def multipart(data: bytes) -> None:
    """The parts lie in the body one after the other, and what our client makes of them is the same
    form."""
    boundary, _, body = data.partition(b"\n")
    content_type = f"multipart/form-data; boundary={text_of(boundary)}"
    try:
        form = parse_multipart_form_data(body, content_type, max_parts=_MAX_FIELDS)
    except HttpParseError as error:
        _check_error(error, _MULTIPART)
        return
    assert parse_multipart_form_data(memoryview(body), content_type) == form
    assert len(form) <= _MAX_FIELDS
    position = 0
    for part in form:
        position = body.index(part.body, position) + len(part.body)
        safe = part.safe_filename()
        assert not set(safe) & set("/\\\0")
        assert safe not in (".", "..")
        part.text()
    _check_written_again(form)


def _check_written_again(form: MultipartForm) -> None:
    builder = MultipartFormBuilder()
    kept: list[MultipartPart] = []
    for part in form:
        names = part.name + part.filename
        if "\\\\" in names or "%22" in names:  # mean something else where they are escapes
            continue
        if part.is_file():
            builder.file(part.name, part.filename, "a/b", part.body)
        else:
            builder.field(part.name, part.body)
        kept.append(part)
    again = parse_multipart_form_data(builder.finish(), builder.content_type())
    assert [(p.name, p.filename, p.body) for p in again] == [
        (p.name, p.filename, p.body) for p in kept
    ]
