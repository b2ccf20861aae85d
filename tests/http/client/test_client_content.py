"""Request bodies: their type, their framing, and sending them twice."""

from __future__ import annotations

import io

import pytest

from flare.errors import ValidationError
from flare.http.client.content import UNSET, Content, encode_content, encode_pairs
from flare.http.proto.headers import HeaderMap


@pytest.mark.parametrize(
    ("body", "data", "content_type"),
    [
        (None, b"", ""),
        ('{"a":1}', b'{"a":1}', "application/json"),
        ("é", "é".encode(), "application/json"),
        ("", b"", "application/json"),
        (b"raw", b"raw", ""),
        (bytearray(b"raw"), b"raw", ""),
        (memoryview(b"raw"), b"raw", ""),
        ({"a": [1, None]}, b'{"a":[1,null]}', "application/json"),
        ([1, "é"], '[1,"é"]'.encode(), "application/json"),
        (3, b"3", "application/json"),
        (1.5, b"1.5", "application/json"),
        (True, b"true", "application/json"),
    ],
)
def test_the_body_argument(body, data, content_type):
    content = encode_content(body)
    assert (content.data, content.content_type) == (data, content_type)


@pytest.mark.parametrize(
    ("value", "data"), [(None, b"null"), ("text", b'"text"'), ({"a": 1}, b'{"a":1}')]
)
def test_the_json_argument_takes_any_value(value, data):
    content = encode_content(None, json=value)
    assert (content.data, content.content_type) == (data, "application/json")


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ({"a": "1", "b c": "d&e=é"}, "a=1&b+c=d%26e%3D%C3%A9"),
        ({"a": [1, "2"], "b": (True,)}, "a=1&a=2&b=true"),
        ({"a": None, "b": ""}, "b="),
        ([("a", "1"), ("a", 2.5)], "a=1&a=2.5"),
        ({}, ""),
    ],
)
def test_forms_are_encoded(pairs, expected):
    assert encode_pairs(pairs) == expected
    content = encode_content(None, data=pairs)
    assert content.data == expected.encode()
    assert content.content_type == "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    "arguments",
    [
        {"body": b"x", "json": 1},
        {"body": b"x", "data": {}},
        {"body": None, "json": 1, "data": {}},
        {"body": "x", "json": None},
    ],
)
def test_only_one_of_body_json_and_data(arguments):
    with pytest.raises(ValidationError):
        encode_content(**arguments)


@pytest.mark.parametrize("data", ["a=1", b"a=1", bytearray(b"a=1"), io.BytesIO(b"a=1")])
def test_data_that_is_no_form_is_sent_as_it_is(data):
    content = encode_content(None, json=UNSET, data=data)
    assert b"".join(content.pieces()) == b"a=1"
    assert (content.length, content.content_type) == (3, "")


@pytest.mark.parametrize("value", [float("nan"), {"a": {1, 2}}])
def test_what_has_no_json_form_is_an_error(value):
    with pytest.raises((TypeError, ValueError)):
        encode_content(None, json=value)


@pytest.mark.parametrize("body", [io.StringIO("x"), object()])
def test_what_has_no_bytes_is_refused(body):
    with pytest.raises(ValidationError):
        encode_content(body)


@pytest.mark.parametrize(
    ("content", "method", "headers", "expected"),
    [
        (Content(), "GET", None, None),
        (Content(), "DELETE", None, None),
        (Content(), "POST", None, ("Content-Length", "0")),
        (Content(), "PUT", None, ("Content-Length", "0")),
        (Content(), "PATCH", None, ("Content-Length", "0")),
        (Content(b"abc"), "POST", None, ("Content-Length", "3")),
        (Content(b"abc"), "GET", None, ("Content-Length", "3")),
        (Content(b"abc"), "POST", {"content-length": "3"}, ("Content-Length", "3")),
        (Content(source=io.BytesIO(b"abcd")), "POST", None, ("Content-Length", "4")),
        (Content(source=iter([b"a"])), "POST", None, ("Transfer-Encoding", "chunked")),
        (Content(source=iter([b"a"])), "POST", {"Content-Length": "1"}, ("Content-Length", "1")),
        (Content(source=io.BytesIO(b"a")), "POST", {"Transfer-Encoding": "Chunked"},
         ("Transfer-Encoding", "chunked")),
    ],
)  # fmt: skip
def test_framing(content, method, headers, expected):
    assert content.frame(method, HeaderMap(headers)) == expected


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (Content(b"abc"), [("Content-Length", "4")]),
        (Content(b"abc"), [("Content-Length", "+3")]),
        (Content(b"abc"), [("Content-Length", "3"), ("Content-Length", "3")]),
        (Content(b"abc"), [("Transfer-Encoding", "chunked")]),
        (Content(), [("Transfer-Encoding", "chunked")]),
        (Content(source=iter([b"a"])), [("Transfer-Encoding", "gzip")]),
        (Content(source=iter([b"a"])), [("Transfer-Encoding", "chunked"), ("Content-Length", "1")]),
        (Content(source=io.BytesIO(b"abc")), [("Content-Length", "2")]),
    ],
)
def test_framing_that_is_not_true_is_refused(content, headers):
    with pytest.raises(ValidationError):
        content.frame("POST", HeaderMap(headers))


def test_a_streamed_body_is_chunked_without_empty_chunks():
    content = Content(source=iter([b"abc", b"", bytearray(b"d" * 16)]))
    wire = b"".join(bytes(piece) for piece in content.pieces())
    assert wire == b"3\r\nabc\r\n10\r\n" + b"d" * 16 + b"\r\n0\r\n\r\n"


def test_a_counted_source_that_ends_early_is_an_error_and_more_is_left_alone():
    short = Content(source=iter([b"ab"]))
    short.frame("POST", HeaderMap({"Content-Length": "3"}))
    with pytest.raises(ValidationError, match="1 bytes short"):
        list(short.pieces())
    long = Content(source=iter([b"ab", b"cd", b"ef"]))
    long.frame("POST", HeaderMap({"Content-Length": "3"}))
    assert b"".join(long.pieces()) == b"abc"


def test_a_chunk_that_is_no_bytes_is_an_error():
    with pytest.raises(ValidationError, match="str"):
        list(Content(source=iter(["text"])).pieces())


def test_a_file_can_be_sent_again_from_where_it_stood_and_stays_open():
    file = io.BytesIO(b"skip this")
    file.seek(5)
    content = Content(source=file)
    for _ in range(2):
        assert b"".join(content.pieces()) == b"this"
        assert content.rewind()
    content.close()
    assert not file.closed


def test_an_iterator_cannot_and_is_closed():
    def chunks():
        try:
            yield b"a"
            yield b"b"
        finally:
            closed.append(True)

    closed: list[bool] = []
    content = Content(source=chunks())
    next(iter(content.pieces()))
    assert not content.rewind()
    content.close()
    assert closed == [True]


def test_the_data_argument_streams_an_iterator():
    content = encode_content(None, data=(each for each in [b"a", b"b"]))
    assert (content.length, content.content_type) == (None, "")
    assert b"".join(bytes(each) for each in content.payload()) == b"ab"


@pytest.mark.parametrize("pairs", [[b"a", b"b"], b"ab", ["ab"], [("a", "b", "c")]])
def test_what_is_no_pairs(pairs):
    with pytest.raises(ValidationError, match="names and values"):
        encode_pairs(pairs)
