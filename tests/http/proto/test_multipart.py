"""Forms in multipart bodies."""

from __future__ import annotations

import tracemalloc
from email.message import Message
from email.mime.application import MIMEApplication
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.parser import BytesParser
from email.policy import HTTP

import pytest
from hypothesis import given
from hypothesis import strategies as st
from linear_time import takes_linear_time

from flare.http.client import MultipartFormBuilder
from flare.http.proto.errors import HttpParseError
from flare.http.proto.multipart import (
    MAX_PART_HEADER_BYTES,
    MAX_PART_HEADERS,
    MAX_PARTS,
    MultipartForm,
    MultipartPart,
    parse_multipart_form_data,
)

TYPE = "multipart/form-data; boundary=b"


def part(disposition: bytes, content: bytes = b"", more: bytes = b"") -> bytes:
    return b"--b\r\nContent-Disposition: %b\r\n%b\r\n%b\r\n" % (disposition, more, content)


def field(name: bytes, content: bytes = b"") -> bytes:
    return part(b'form-data; name="%b"' % name, content)


END = b"--b--\r\n"


def parse(body: bytes, content_type: str = TYPE, **limits: int) -> MultipartForm:
    return parse_multipart_form_data(body, content_type, **limits)


def refused(body: bytes, content_type: str = TYPE, **limits: int) -> HttpParseError:
    with pytest.raises(HttpParseError) as caught:
        parse(body, content_type, **limits)
    text = str(caught.value)
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 200
    return caught.value


def outcome(
    body: bytes, content_type: str = TYPE, **limits: int
) -> list[tuple[str, bytes]] | HttpParseError:
    """What is found, or why it is refused."""
    try:
        return names(parse(body, content_type, **limits))
    except HttpParseError as error:
        return error


def names(form: MultipartForm) -> list[tuple[str, bytes]]:
    return [(each.name, each.body) for each in form]


def test_a_form_of_fields_and_files():
    form = parse(
        field(b"title", b"At sea")
        + part(b'form-data; name="photo"; filename="a.png"', b"\x89PNG\r\n\x1a\n\0",
               b"Content-Type: image/png\r\nX-Note:  a b \r\n")
        + field(b"tag", b"a") + field(b"tag", b"b")
        + part(b'form-data; name="none"; filename=""', b"", b"Content-Type: a/b\r\n")
        + END
    )  # fmt: skip
    assert form.len() == len(form) == len(form.parts) == 5
    assert [each.name for each in form] == ["title", "photo", "tag", "tag", "none"]
    assert form.value("title") == "At sea"
    assert form.value("missing") == ""
    assert [each.text() for each in form.get_all("tag")] == ["a", "b"]
    assert form.get_all("missing") == []
    assert form.get("tag") is form.parts[2]
    assert form.get("missing") is None
    assert form.contains("photo")
    assert "photo" in form
    assert "Photo" not in form
    photo = form.file("photo")
    assert photo is form.parts[1]
    assert photo.is_file()
    assert (photo.filename, photo.content_type) == ("a.png", "image/png")
    assert photo.body == b"\x89PNG\r\n\x1a\n\0"
    assert photo.header_keys == ["Content-Disposition", "Content-Type", "X-Note"]
    assert photo.header_values[1:] == ["image/png", "a b"]
    assert photo.header("x-note") == "a b"
    assert photo.header("missing") == ""
    assert form.parts[0].content_type == form.parts[0].filename == ""
    assert form.file("title") is form.file("none") is form.file("missing") is None


def test_a_file_is_found_behind_a_field_of_its_name():
    file = part(b'form-data; name="f"; filename="x"', b"2")
    form = parse(field(b"f", b"1") + file + END)
    assert form.value("f") == "1"
    assert form.file("f") is form.parts[1]


def test_what_a_form_shows_is_not_its_content():
    form = parse(field(b"password", b"hunter2") + END)
    assert "password" in repr(form)
    assert "hunter2" not in repr(form)


@pytest.mark.parametrize(
    "content_type",
    [TYPE, 'multipart/form-data; boundary="b"', "Multipart/Form-Data;BOUNDARY=b",
     "multipart/form-data; charset=utf-8; boundary=b; x=y", "multipart/form-data;boundary=b;"],
)  # fmt: skip
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_types_that_say_the_same(content_type, kind):
    form = parse(kind(field(b"a", b"1") + END), content_type)
    assert names(form) == [("a", b"1")]
    assert type(form.parts[0].body) is bytes


@pytest.mark.parametrize("boundary", ["x" * 70, "a b", "'()+_,-./:=?", "--", "\\", "%{}$*@!~", "0"])
def test_boundaries(boundary):
    body = (field(b"a", b"1") + END).replace(b"--b", b"--" + boundary.encode())
    for quoted in [f'"{boundary}"'] + [boundary] * (" " not in boundary):
        assert names(parse(body, f"multipart/form-data; boundary={quoted}")) == [("a", b"1")]


@pytest.mark.parametrize(
    ("content_type", "status", "detail"),
    [
        ("", 415, "no Content-Type"),
        ("application/x-www-form-urlencoded", 415, "not multipart/form-data"),
        ("multipart/mixed; boundary=b", 415, "multipart/mixed"),
        ("multipart/form-data\xe9; boundary=b", 415, "malformed"),
        ("multipart/form-data, x; boundary=b", 415, "malformed"),
        ("multipart/form-data; boundary=b; boundary=c", 415, "malformed"),
        ('multipart/form-data; boundary="b', 415, "malformed"),
        ("multipart/form-data; boundary=a, multipart/form-data; boundary=b", 415, "malformed"),
        ("multipart/form-data", 400, "no boundary"),
        ("multipart/form-data; x=b", 400, "no boundary"),
        ('multipart/form-data; boundary=""', 400, "boundary"),
        ('multipart/form-data; boundary="b "', 400, "boundary"),
        ('multipart/form-data; boundary="b\r\nc"', 400, "boundary"),
        ("multipart/form-data; boundary=é", 400, "boundary"),
        (f"multipart/form-data; boundary={'x' * 71}", 400, "70"),
    ],
)
def test_a_type_that_is_none_is_refused(content_type, status, detail):
    error = refused(field(b"a", b"1") + END, content_type)
    assert error.variant_name() == "BAD_MULTIPART"
    assert error.status == status
    assert detail in error.detail


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (b"--b--", []),
        (END, []),
        (b"--b-- \r\nanything", []),
        (b"\r\n" + field(b"a", b"1") + END, [("a", b"1")]),
        (b"preamble --b\r\n\r\n--bc\r\n" + field(b"a", b"1") + END, [("a", b"1")]),
        (field(b"a", b"1") + b"--b--epilogue\r\n--b\r\n", [("a", b"1")]),
        (field(b"a", b"1").replace(b"--b\r\n", b"--b \t \r\n") + END, [("a", b"1")]),
        (field(b"a") + END, [("a", b"")]),
        # The blank line behind the headers is the delimiter's.
        (field(b"a")[:-2] + field(b"c") + END, [("a", b""), ("c", b"")]),
        (field(b"a")[:-2] + END, [("a", b"")]),
        (field(b"a", b"\r\n") + END, [("a", b"\r\n")]),
        (field(b"a", b"\r\n\r\n") + END, [("a", b"\r\n\r\n")]),
        (field(b"", b"1") + END, [("", b"1")]),
        # Not at the start of a line, not the whole line, not behind CRLF.
        (field(b"a", b"x--b\r\nx--b--\r\n") + END, [("a", b"x--b\r\nx--b--\r\n")]),
        (
            field(b"a", b"1\r\n--bc\r\n2\r\n--b c\r\n") + END,
            [("a", b"1\r\n--bc\r\n2\r\n--b c\r\n")],
        ),
        (field(b"a", b"\n--b\n--b--\n\r--b--") + END, [("a", b"\n--b\n--b--\n\r--b--")]),
        (field(b"a", b"\r\n--b \n") + END, [("a", b"\r\n--b \n")]),
        (field(b"a", b"\r\n --b\r\n") + END, [("a", b"\r\n --b\r\n")]),
        (field(b"a", b"\r\n--B\r\n") + END, [("a", b"\r\n--B\r\n")]),
    ],
)
def test_where_parts_begin_and_end(body, parts):
    assert names(parse(body)) == parts


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "not in the body"),
        (b"a=1&c=2", "not in the body"),
        (b"x" + field(b"a", b"1"), "not in the body"),
        (b"--c\r\n", "not in the body"),
        (b"--b", "no CRLF"),
        (b"--b\n\n--b--", "no CRLF"),
        (b"--b-", "no CRLF"),
        (b"--bc\r\n\r\n", "no CRLF"),
        (b"\r\n--b", "no CRLF"),
        (field(b"a", b"1"), "no closing boundary behind part 1"),
        (field(b"a", b"1") + field(b"c", b"1"), "no closing boundary behind part 2"),
        (field(b"a", b"1") + b"--b-", "no closing boundary"),
        (field(b"a", b"1") + b"--B--", "no closing boundary"),
        (b"--b\r\n", "no blank line"),
        (b"--b\r\n--b--", "no blank line"),
        (b"--b\r\nContent-Disposition: form-data; name=a", "no blank line"),
        (b"--b\r\nContent-Disposition: form-data; name=a\r\n", "no blank line"),
        (b"--b\r\nContent-Disposition: form-data; name=a\r\n--b--\r\n", "no blank line"),
        (b"--b\nContent-Disposition: form-data; name=a\n\n1\n--b--", "no CRLF"),
        (b"--b\r\nContent-Disposition: form-data; name=a\n\n1\r\n--b--", "no blank line"),
        (b"--b\r\nContent-Disposition: form-data; name=a\r\n" + field(b"c", b"1") + END,
         "a boundary within"),
        (b"--b\r\n" + field(b"c", b"1") + END, "a boundary within"),
    ],
)  # fmt: skip
def test_a_body_that_is_not_whole_is_refused(body, detail):
    error = refused(body)
    assert error.variant_name() == "BAD_MULTIPART"
    assert error.status == 400
    assert detail in error.detail


def test_a_boundary_that_looks_like_a_header_is_one_in_headers():
    """Else ``--b:`` would be the name of a header, and its part that of another."""
    body = b'--b:\r\nContent-Disposition: form-data; name="a"\r\n--b:\r\n' + field(b"c", b"1")[5:]
    assert "a boundary within" in refused(body + b"--b:--", f"{TYPE}:").detail


def test_a_body_cut_anywhere_is_refused():
    body = (
        field(b"a", b"1") + part(b"form-data; name=f; filename=x", b"2\r\n", b"X: y\r\n") + b"--b--"
    )
    assert len(parse(body)) == 2
    for end in range(len(body)):
        assert refused(body[:end]).variant_name() == "BAD_MULTIPART"


@pytest.mark.parametrize(
    ("disposition", "name", "filename"),
    [
        ("form-data; name=a", "a", ""),
        ("Form-Data ; NAME = a ; FILENAME = x", "a", "x"),
        ('form-data; name="a"; filename="x y.txt"', "a", "x y.txt"),
        ('form-data; filename="n; name=\\"c\\""; name="a"', "a", 'n; name="c"'),
        ('form-data; filename="name=%22c%22; name=c"; name="a"', "a", 'name="c"; name=c'),
        ('form-data; name="a%22\\"%0D%0A"', 'a""%0D%0A', ""),
        ('form-data; name="é"; filename="日本.txt"', "é", "日本.txt"),
        ('form-data; name="a"; filename="C:\\dir\\x.txt"', "a", "C:\\dir\\x.txt"),
        ('form-data; name="a\\"', "a\\", ""),
        ('form-data; name="a"; filename="../../etc/passwd"', "a", "../../etc/passwd"),
        ("form-data; name=a; filename*=UTF-8''%e2%82%ac%20x+y.txt", "a", "€ x+y.txt"),
        ("form-data; name=a; filename*=iso-8859-1'en'%A3", "a", "£"),
        ("form-data; name=a; filename*=UTF-8''%41; filename=x", "a", "x"),
        ("form-data; name=a; filename*=nonsense; filename=x", "a", "x"),
        ("form-data; name=a; filename*=UTF-8''", "a", ""),
        ("form-data; name=a; other=x; name*=UTF-8''b", "a", ""),
    ],
)
def test_names_and_filenames(disposition, name, filename):
    [found] = parse(part(disposition.encode(), b"1") + END)
    assert (found.name, found.filename) == (name, filename)


def test_names_that_are_no_utf_8_are_replaced():
    [found] = parse(part(b'form-data; name="\xe9"; filename="\xff"') + END)
    assert (found.name, found.filename) == ("\ufffd", "\ufffd")


@pytest.mark.parametrize(
    "head",
    [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Disposition: form-data\r\n",
        "Content-Disposition: form-data; filename=x\r\n",
        "Content-Disposition: form-data; name\r\n",
        "Content-Disposition: attachment; name=a\r\n",
        "Content-Disposition: name=a\r\n",
        "Content-Disposition: form-data; name=a; name=b\r\n",
        "Content-Disposition: form-data; name=a; filename=x; filename=y\r\n",
        'Content-Disposition: form-data; name=a; filename="x.txt\\"; filename="y.php"\r\n',
        "Content-Disposition: form-data; name=a; filename*=UTF-8''%41; filename*=UTF-8''%42\r\n",
        'Content-Disposition: form-data; name="a\r\n',
        'Content-Disposition: form-data; name="a"b\r\n',
        "Content-Disposition: form-data; name=a b\r\n",
        "Content-Disposition: form-data, name=a\r\n",
        "Content-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b\r\n",
        "Content-Disposition: form-data; name=a\r\ncontent-disposition: form-data; name=a\r\n",
        "Content-Disposition: form-data; name=a\r\nContent-Type: a/b\r\nContent-Type: a/b\r\n",
        "Content-Disposition: form-data;\r\n name=a\r\n",
        " Content-Disposition: form-data; name=a\r\n",
        "Content-Disposition : form-data; name=a\r\n",
        "Content-Disposition: form-data; name=a\r\nX\r\n",
        "Content-Disposition: form-data; name=a\r\n: x\r\n",
        "Content-Disposition: form-data; name=a\r\nX\xe9: x\r\n",
        "Content-Disposition: form-data; name=a\r\nX: \0\r\n",
        "Content-Disposition: form-data; name=a\nX: y\r\n",
        "Content-Disposition: form-data; name=a\rX: y\r\n",
        'Content-Disposition: form-data; name="a\tb"\r\n',
        "Content-Disposition: form-data; name=a; filename*=UTF-8''%00\r\n",
        "Content-Disposition: form-data; name=a; filename*=UTF-8''a%0D%0Ab\r\n",
        "Content-Disposition: form-data; name=a; filename*=UTF-8''%\r\n",
        "Content-Disposition: form-data; name=a; filename*=UTF-8''%zz\r\n",
        "Content-Disposition: form-data; name=a; filename*=UTF-8''%ff\r\n",
        "Content-Disposition: form-data; name=a; filename*=UTF-7''x\r\n",
        "Content-Disposition: form-data; name=a; filename*=x\r\n",
    ],
)
def test_a_part_whose_headers_can_be_read_two_ways_is_refused(head):
    error = refused(b"--b\r\n" + head.encode() + b"\r\n1\r\n" + END)
    assert error.variant_name() == "BAD_MULTIPART"
    assert error.status == 400


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [("", "é".encode(), "é"), ("", b"\xff", "\ufffd"),
     ("text/plain; charset=iso-8859-1", b"\xe9", "é"),
     ("text/plain; charset=utf-16-le", b"a\0", "a"), ("text/plain; charset=none", b"a", "a"),
     ("text/plain; charset=unicode_escape", b"\\q", "\\q")],
)  # fmt: skip
def test_text_is_by_its_charset(content_type, body, text):
    assert MultipartPart("a", content_type=content_type, body=body).text() == text


@pytest.mark.parametrize(
    ("filename", "safe"),
    [
        ("", ""),
        ("a.txt", "a.txt"),
        ("日本 1.txt", "日本 1.txt"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\dir\\a.txt", "a.txt"),
        ("\\\\server\\share\\a.txt", "a.txt"),
        ("C:a.txt", "Ca.txt"),
        ("a/", ""),
        (".", ""),
        ("..", ""),
        ("...", ""),
        (". .", ""),
        (".htaccess", "htaccess"),
        ("a.txt. .", "a.txt"),
        ("a\0.txt\r\n", "a.txt"),
        ("a.php\0.png", "a.php.png"),
        ("\u202egnp.exe", "gnp.exe"),
        ('<a>:"|?*', "a"),
        ("con", "_con"),
        ("NUL.tar.gz", "_NUL.tar.gz"),
        ("Com1.txt", "_Com1.txt"),
        ("LPT\u00b9", "_LPT\u00b9"),
        ("console.txt", "console.txt"),
        ("\ud800", ""),
    ],
)
def test_a_safe_filename_is_a_plain_name(filename, safe):
    assert MultipartPart("f", filename=filename).safe_filename() == safe


def test_a_safe_filename_fits_into_a_directory():
    for filename, end in [("x" * 300, "x"), ("é" * 200 + ".txt", ".txt"), ("." + "x" * 300, "x"),
                          ("x" * 300 + "." + "y" * 300, "x"),
                          ("日" * 86 + ".t", ".t")]:  # fmt: skip
        safe = MultipartPart("f", filename=filename).safe_filename()
        assert 250 < len(safe.encode()) <= 255
        assert safe.endswith(end)


@given(st.text())
def test_any_filename_becomes_a_name_that_stays_where_it_is_put(filename):
    safe = MultipartPart("f", filename=filename).safe_filename()
    assert len(safe.encode()) <= 255
    assert not set(safe) & set('/\\\0:*?"<>|\r\n')
    assert not safe.startswith(".")
    assert MultipartPart("f", filename=safe).safe_filename() == safe


class TestLimits:
    def test_parts(self):
        assert MAX_PARTS == 1000
        assert len(parse(field(b"a") * 1000 + END)) == 1000
        for count, limits in ((1001, {}), (3, {"max_parts": 2}), (1, {"max_parts": 0})):
            error = refused(field(b"a") * count + END, **limits)
            assert (error.variant_name(), error.status) == ("FORM_TOO_LARGE", 413)

    def test_bytes_of_headers(self):
        assert MAX_PART_HEADER_BYTES == 8192
        for limit in (8192, 100):
            line = b"Content-Disposition: form-data; name=a\r\nX: "
            fits = line + b"x" * (limit - len(line))
            rest = b"\r\n\r\n1\r\n" + END
            assert len(parse(b"--b\r\n" + fits + rest, max_header_size=limit)) == 1
            for body in (b"--b\r\n" + fits + b"x" + rest, b"--b\r\n" + b"x" * (limit + 1)):
                error = refused(body, max_header_size=limit)
                assert (error.variant_name(), error.status) == ("FORM_TOO_LARGE", 413)

    def test_lines_of_headers(self):
        more = b"a:\r\n" * (MAX_PART_HEADERS - 1)
        assert len(parse(part(b"form-data; name=a", b"1", more) + END)) == 1
        error = refused(part(b"form-data; name=a", b"1", more + b"a:\r\n") + END)
        assert (error.variant_name(), error.status) == ("FORM_TOO_LARGE", 413)

    def test_parts_that_are_refused_are_not_built(self):
        body = field(b"a") * 50_000 + END
        tracemalloc.start()
        try:
            refused(body)
            assert tracemalloc.get_traced_memory()[1] < 3_000_000
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize(
        "unit",
        [
            b"\r",
            b"\n",
            b"\r\n",
            b"\r\n-",
            b"\r\n--",
            b"\r\n--b",
            b"\r\n--b ",
            b"\r\n--bx",
            b"\r\n--b\t\n",
            b"-",
            b"--b",
            b" ",
        ],
    )
    @pytest.mark.parametrize("place", ["preamble", "content", "epilogue"])
    def test_hostile_bodies_take_linear_time(self, unit, place):
        def prepare(size):
            filler = unit * size
            body = {
                "preamble": b"x" + filler + b"\r\n" + field(b"a") + END,
                "content": field(b"a", b"x" + filler) + END,
                "epilogue": field(b"a") + END + filler,
            }[place]
            return lambda: outcome(body)

        assert takes_linear_time(prepare, 20_000)

    @pytest.mark.parametrize("unit", ["\\", '"', ";", "; a", ";a=b", "%22", '\\"', "=", " "])
    def test_hostile_headers_take_linear_time(self, unit):
        def prepare(size):
            body = part(b'form-data; name="' + unit.encode() * size) + END
            return lambda: outcome(body, max_header_size=1 << 24)

        assert takes_linear_time(prepare, 20_000)

    def test_parts_take_linear_time(self):
        def prepare(size):
            body = field(b"a", b"1") * size + END
            return lambda: parse(body, max_parts=size)

        assert takes_linear_time(prepare, 1000)


# What our client may send, less what its escapes cannot tell from itself: %22 and doubled
# backslashes mean one thing as text and another one escaped.
plain_names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])).filter(
    lambda name: "%22" not in name and "\\\\" not in name
)
filenames = plain_names.filter(bool)


@given(
    st.lists(st.tuples(plain_names, st.binary(), st.none() | filenames), max_size=6),
    st.none() | st.from_regex(r"[0-9A-Za-z'+_\-.]{20,70}", fullmatch=True),
)
def test_what_the_client_writes_is_read_back(fields, boundary):
    builder = MultipartFormBuilder(boundary)
    for name, content, filename in fields:
        if filename is None:
            builder.field(name, content)
        else:
            builder.file(name, filename, "a/b", content)
    form = parse_multipart_form_data(builder.finish(), builder.content_type())
    assert [(each.name, each.body, each.filename or None) for each in form] == fields
    assert all(each.content_type == ("a/b" if each.is_file() else "") for each in form)


@given(
    st.lists(st.tuples(plain_names.filter(bool), st.binary(), filenames), min_size=1, max_size=4),
    st.dictionaries(
        plain_names.filter(bool), st.text(st.characters(codec="utf-8"), min_size=1), max_size=3
    ),
)
def test_what_requests_writes_is_read(files, data):
    requests = pytest.importorskip("requests", reason="pip install requests")
    request = requests.Request(
        "POST",
        "http://h/",
        files=[(name, (filename, content, "a/b")) for name, content, filename in files],
        data=data,
    ).prepare()
    form = parse_multipart_form_data(request.body, request.headers["Content-Type"])
    assert [(each.name, each.body, each.filename) for each in form if each.is_file()] == files
    assert {each.name: each.text() for each in form if not each.is_file()} == data


def test_what_the_standard_library_writes_is_read():
    mail = MIMEMultipart("form-data")
    for content in (MIMEText('a "b"', policy=HTTP), MIMEApplication(b"\0\xff", policy=HTTP)):
        name = {"name": 'n "x" \\'} if content.get_content_maintype() == "text" else {"name": "f"}
        content.add_header("Content-Disposition", "form-data", filename="a\\b.txt", **name)
        mail.attach(content)
    text = mail.as_bytes(policy=HTTP.clone(max_line_length=None))
    head, _, body = text.partition(b"\r\n\r\n")
    content_type = BytesParser(policy=HTTP).parsebytes(head)["content-type"]
    one, other = parse_multipart_form_data(body, content_type)
    assert (one.name, one.text()) == ('n "x" \\', 'a "b"')
    assert one.filename == other.filename == "a\\b.txt"
    assert other.header("content-transfer-encoding") == "base64"


def as_mail(body: bytes) -> list[tuple[str | None, bytes]]:
    """The parts by the standard library's reader of mail."""
    whole = BytesParser().parsebytes(b"Content-Type: " + TYPE.encode() + b"\r\n\r\n" + body)
    assert not whole.defects
    found = []
    for each in whole.get_payload() if whole.is_multipart() else ():
        assert isinstance(each, Message)
        content = each.get_payload(decode=True)
        assert isinstance(content, bytes)
        found.append((each.get_param("name", header="content-disposition"), content))
    return found


pieces = st.sampled_from(
    [b"\r\n", b"--b", b"--", b"x", b" ", b"--bc", b"\t", b"1", b"-", b": ", b"\r\n\r\n"]
)


@given(st.lists(st.lists(pieces, max_size=8).map(b"".join), min_size=1, max_size=3))
def test_contents_without_the_boundary_are_as_mail_reads_them(contents):
    contents = [content for content in contents if b"\r\n--b" not in b"\r\n" + content]
    body = b"".join([field(b"n%d" % number, content) for number, content in enumerate(contents)])
    expected = [(f"n{number}", content) for number, content in enumerate(contents)]
    assert names(parse(body + END)) == expected
    if contents:
        assert as_mail(body + END) == expected


@given(st.lists(pieces | st.sampled_from([field(b"a", b"1"), END, b"--b\r\n"]), max_size=12))
def test_any_body_gives_parts_or_the_documented_error(parts):
    body = b"".join(parts)
    found = outcome(body)
    if isinstance(found, HttpParseError):
        return
    assert all(content in body for _, content in found)
    # A part has no delimiter in it, so written again it is read as the same.
    again = b"".join([field(name.encode(), content) for name, content in found])
    assert names(parse(again + END)) == found


@given(st.binary(), st.text())
def test_any_bytes_and_any_type_give_the_documented_error(body, content_type):
    for data, kind in ((body, TYPE), (body, content_type), (END, content_type)):
        found = outcome(data, kind)
        assert isinstance(found, list) or found.status in (400, 413, 415)
