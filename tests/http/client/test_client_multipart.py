"""multipart/form-data: what goes over the wire, from memory and from files."""

from __future__ import annotations

import io
from email.message import Message
from email.parser import BytesParser

import pytest
from scripted import Eof, Head, ScriptedServer, answers, response

from flare.errors import ValidationError
from flare.http.client import HttpClient, MultipartFormBuilder
from flare.http.client.content import encode_content
from flare.http.client.multipart import encode_form
from flare.http.proto.headers import HeaderInjectionError

OK = response(b"hello")


def parts_of(content_type: str, body: bytes) -> list[tuple[str | None, str | None, str, bytes]]:
    """Name, filename, type and content of each part, by the standard library's reader of mail."""
    text = b"MIME-Version: 1.0\r\nContent-Type: " + content_type.encode() + b"\r\n\r\n" + body
    whole = BytesParser().parsebytes(text)
    assert whole.is_multipart()
    assert not whole.defects
    found = []
    for part in whole.get_payload():
        assert isinstance(part, Message)
        name = part.get_param("name", header="content-disposition")
        kind = part.get_content_type() if "content-type" in part else ""
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        found.append((name, part.get_filename(), kind, content))
    return found


def whole(form) -> bytes:
    chunks = []
    while (chunk := form.next_chunk()) is not None:
        chunks.append(chunk)
    return b"".join(chunks)


def test_the_wire_format():
    form = MultipartFormBuilder("b").field("n", "v\r\n").file("f", "a.txt", "text/plain", b"data")
    assert form.content_type() == "multipart/form-data; boundary=b"
    assert form.finish() == (
        b'--b\r\nContent-Disposition: form-data; name="n"\r\n\r\nv\r\n\r\n'
        b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\n'
        b"Content-Type: text/plain\r\n\r\ndata\r\n--b--\r\n"
    )


def test_an_empty_form_is_its_end():
    assert MultipartFormBuilder("b").finish() == b"--b--\r\n"


def test_boundaries_are_random_and_fit():
    one, other = MultipartFormBuilder(), MultipartFormBuilder()
    assert one.content_type() != other.content_type()
    assert one.content_type().startswith("multipart/form-data; boundary=----flareBoundary")


@pytest.mark.parametrize("boundary", ["", "a b", "a\r\nb", "a" * 71, 'a"', "é"])
def test_a_boundary_must_be_one(boundary):
    with pytest.raises(ValidationError, match="boundary"):
        MultipartFormBuilder(boundary)


def test_a_boundary_that_occurs_in_a_part_is_an_error(tmp_path):
    for content in (b"x\r\n--mark", b"--mark--", b"y" * 300_000 + b"\r\n--mark"):
        with pytest.raises(ValidationError, match="boundary"):
            MultipartFormBuilder("mark").file("f", "f", "", content).finish()
    path = tmp_path / "file"
    path.write_bytes(b"y" * (256 * 1024 - 3) + b"\r\n--mark")  # across two reads
    with pytest.raises(ValidationError, match="boundary"):
        MultipartFormBuilder("mark").file("f", "f", "", path).finish()
    assert b"no --mark" in MultipartFormBuilder("mark").field("f", "no --mark").finish()


class TestInjection:
    """Nothing a caller passes on from a user can end a part's header (attack: part headers)."""

    EVIL = 'a"; x="y\r\nContent-Type: text/html\r\n\r\n<script>'

    def test_names_and_filenames_are_escaped(self):
        form = MultipartFormBuilder("b").field(self.EVIL, "v").file("f", self.EVIL, "", b"d")
        escaped = b"a%22; x=%22y%0D%0AContent-Type: text/html%0D%0A%0D%0A<script>"
        data = form.finish()
        assert data.count(escaped) == 2
        assert data.count(b"\r\n\r\n") == 2
        assert data.count(b"\r\nContent-Type:") == 1

    @pytest.mark.parametrize("content_type", ["a/b\r\nX: y", "a/b\n", "a\0b"])
    def test_types_are_checked(self, content_type):
        with pytest.raises(HeaderInjectionError):
            MultipartFormBuilder().file("f", "f", content_type, b"")

    @pytest.mark.parametrize("headers", [{"X": "a\r\nb"}, {"X\r\n": "a"}, {"X y": "a"}])
    def test_more_headers_are_checked(self, headers):
        with pytest.raises(HeaderInjectionError):
            encode_form(None, {"f": ("f", b"", "a/b", headers)})

    def test_other_control_characters_are_refused(self):
        for name in ("a\0b", "a\x1bb", "a\x7f"):
            with pytest.raises(ValidationError, match="control"):
                MultipartFormBuilder().field(name, "v")

    def test_the_disposition_is_not_for_the_caller(self):
        form = MultipartFormBuilder("b")
        form.file("f", "f", "", b"", {"Content-Disposition": "form-data; name=other"})
        assert form.finish().count(b"Content-Disposition") == 1


def test_text_is_utf_8():
    form = MultipartFormBuilder("b").field("né", "ü€").file("f", "日本.txt", "", b"")
    data = form.finish()
    assert 'name="né"\r\n\r\nü€\r\n'.encode() in data
    assert 'filename="日本.txt"'.encode() in data


def test_values_of_fields():
    form = encode_form({"a": [1, "2", b"3"], "b": True, "c": None, "d": 1.5}, {})
    parts = parts_of(form.content_type, whole(form))
    assert [(name, content) for name, _, _, content in parts] == [
        ("a", b"1"), ("a", b"2"), ("a", b"3"), ("b", b"true"), ("d", b"1.5"),
    ]  # fmt: skip


def test_nothing_is_added_to_a_finished_form():
    form = MultipartFormBuilder()
    form.finish()
    with pytest.raises(ValidationError, match="finished"):
        form.field("a", "b")


def test_files_of_every_kind(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(b"png")
    named = (tmp_path / "notes.txt").open("w+b")
    named.write(b"skipped, text")
    named.seek(9)
    files = [
        ("path", path),
        ("file", named),
        ("memory", io.BytesIO(b"bytes io")),
        ("bytes", b"raw"),
        ("text", ("t.html", "<p>é")),
        ("typed", ("t", io.BytesIO(b"typed"), "x/y")),
        ("more", ("m", b"more", None, {"X-More": "1", "Content-Type": "x/z"})),
        ("told", ("t.png", b"told", None, {"Content-Type": "x/z"})),
    ]
    with named:
        form = encode_form([("first", "1")], files)
        length = form.content_length()
        body = whole(form)
        assert length == len(body)
        assert not named.closed
    assert b"X-More: 1\r\n" in body
    assert parts_of(form.content_type, body) == [
        ("first", None, "", b"1"),
        ("path", "photo.png", "image/png", b"png"),
        ("file", "notes.txt", "text/plain", b"text"),
        ("memory", "memory", "application/octet-stream", b"bytes io"),
        ("bytes", "bytes", "application/octet-stream", b"raw"),
        ("text", "t.html", "text/html", "<p>é".encode()),
        ("typed", "t", "x/y", b"typed"),
        ("more", "m", "x/z", b"more"),
        ("told", "t.png", "x/z", b"told"),
    ]


@pytest.mark.parametrize("content", ["content", b"content", io.BytesIO(b"content")])
def test_no_filename_makes_a_field_without_a_guessed_type(content):
    body = whole(encode_form(None, {"f.txt": (None, content)}))
    _, head, rest = body.split(b"\r\n", 2)
    assert head == b'Content-Disposition: form-data; name="f.txt"'
    assert rest.startswith(b"\r\ncontent\r\n")


def test_a_field_may_have_a_type_and_headers(tmp_path):
    path = tmp_path / "named.json"
    path.write_bytes(b"{}")
    files = {"a": (None, path, "application/json"), "b": (None, "x", "", {"Content-Type": "x/y"})}
    form = encode_form(None, files)
    assert parts_of(form.content_type, whole(form)) == [
        ("a", None, "application/json", b"{}"),
        ("b", None, "x/y", b"x"),
    ]


def test_one_file_in_two_parts_is_in_both():
    file = io.BytesIO(b"twice")
    form = encode_form(None, [("a", file), ("b", file)])
    assert [part[3] for part in parts_of(form.content_type, whole(form))] == [b"twice"] * 2


def test_a_form_is_sent_under_its_length_and_type(tmp_path):
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(700_000))
    with ScriptedServer([answers(OK, OK)]) as server, HttpClient(server.base) as client:
        assert client.post("/", files={"f": path}, data={"a": "b"}).ok
        assert client.get("/").ok
        raw = bytes(server.seen[0])
        assert server.connections == 1
    head, _, rest = raw.partition(b"\r\n\r\n")
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    body = rest[: int(fields[b"Content-Length"])]
    assert rest[len(body) :].startswith(b"GET / ")
    assert [part[3] for part in parts_of(fields[b"Content-Type"].decode(), body)] == [
        b"b",
        bytes(700_000),
    ]


def test_a_builder_is_a_body():
    form = MultipartFormBuilder("mark").field("a", "b")
    with ScriptedServer([answers(OK, OK)]) as server, HttpClient(server.base) as client:
        client.post("/", form)
        client.post("/", form.body())
        raw = bytes(server.seen[0])
    assert raw.count(b"Content-Type: multipart/form-data; boundary=mark\r\n") == 2
    assert raw.count(b"--mark--\r\n") == 2


def test_a_part_of_unknown_length_makes_it_chunked():
    closed = []

    def chunks():
        try:
            yield from (b"one", b"", b"two")
        finally:
            closed.append(True)

    with ScriptedServer([answers(OK)]) as server, HttpClient(server.base) as client:
        client.post("/", files={"f": ("f", chunks())})
        raw = bytes(server.seen[0])
    assert b"Transfer-Encoding: chunked" in raw
    assert b"onetwo" in raw.replace(b"\r\n", b"") or b"onetwo" in raw
    assert closed == [True]


def test_a_redirect_sends_the_form_again_unless_a_part_is_used_up():
    moved = response(b"", "307 Temporary Redirect", "Location: /there")
    with ScriptedServer([answers(moved, OK, moved)]) as server, HttpClient(server.base) as client:
        assert client.post("/", files={"f": io.BytesIO(b"content")}).ok
        assert bytes(server.seen[0]).count(b"content\r\n--") == 2
        with pytest.raises(OSError, match="cannot be sent again"):
            client.post("/", files={"f": ("f", iter([b"once"]))})


def test_a_file_that_changed_meanwhile(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    form = encode_form(None, {"f": path})
    path.write_bytes(b"0123456789 and more")
    assert len(whole(form)) == form.content_length()
    form = encode_form(None, {"f": path})
    path.write_bytes(b"less")
    with pytest.raises(ValidationError, match="short"):
        whole(form)
    form.close()
    with ScriptedServer([[Head(), Eof()]]) as server, HttpClient(server.base) as client:
        builder = MultipartFormBuilder().file("f", "f", "", path)
        path.write_bytes(b"")
        with pytest.raises(ValidationError, match="short"):
            client.post("/", builder)
        assert "active=0 idle=0" in repr(client)


@pytest.mark.parametrize(
    "arguments",
    [
        {"body": b"x", "files": {"f": b""}},
        {"json": 1, "files": {"f": b""}},
        {"data": b"x", "files": {"f": b""}},
        {"files": b"x"},
        {"files": {"f": io.StringIO("text")}},
        {"files": {"f": ("name",)}},
        {"files": {"f": object()}},
        {"files": {"f": ("name", b"", "", {}, 5)}},
    ],
)
def test_what_is_no_form_is_refused_before_anything_is_sent(arguments):
    with HttpClient("http://127.0.0.1:1") as client, pytest.raises(ValidationError):
        client.post("/", **arguments)


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"f": 5}, "'f': cannot stream a int"),
        ({"f": io.StringIO("text")}, "'f': open the file in binary mode"),
        ({"f": (5, b"x")}, "a filename must be text or None, not int"),
        ({5: b"x"}, "must be text"),
        (["f"], "a mapping or pairs"),
        (5, "a mapping or pairs"),
    ],
)
def test_an_error_in_files_names_files(files, text):
    with pytest.raises(ValidationError, match=text) as caught:
        encode_content(None, files=files)
    assert caught.value.field == "files"


def test_a_file_of_none_is_left_out():
    form = encode_form(None, {"a": b"x", "b": None, "c": ("c.txt", None)})
    assert [name for name, *_ in parts_of(form.content_type, whole(form))] == ["a"]


def test_a_path_that_is_not_there_is_an_error_at_once(tmp_path):
    with HttpClient("http://127.0.0.1:1") as client:
        with pytest.raises(FileNotFoundError):
            client.post("/", files={"f": tmp_path / "missing"})
        with pytest.raises(ValidationError, match="regular"):
            client.post("/", files={"f": tmp_path})
