"""Responses and the helpers that make them."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest

from flare.errors import ValidationError
from flare.http import (
    InlineBody,
    Response,
    ResponsePool,
    StreamingResponse,
    bad_request,
    forbidden,
    internal_error,
    not_found,
    ok,
    ok_json,
    ok_json_value,
    redirect,
    response_from_body,
    stream_response,
    unauthorized,
)
from flare.http.errors import HttpError
from flare.http.proto import HeaderInjectionError
from flare.http.proto.cookie import Cookie

PLAIN = "text/plain; charset=utf-8"


def test_the_defaults_of_a_response() -> None:
    response = Response()
    assert (response.status, response.reason, response.body) == (200, "", b"")
    assert response.version == "HTTP/1.1"
    assert response.body_stream is None
    assert len(response.headers) == len(response.trailers) == 0
    assert Response(body="caf\u00e9").body == b"caf\xc3\xa9"
    assert Response(headers={"A": "b"}).headers.get("a") == "b"
    assert repr(response) == "<Response 200>"


@pytest.mark.parametrize("make", [Response, lambda status: StreamingResponse(status, b"")])
@pytest.mark.parametrize(
    ("status", "true"),
    [
        (199, ""),
        (200, "ok"),
        (299, "ok"),
        (300, "is_redirect"),
        (304, "is_redirect"),
        (399, "is_redirect"),
        (400, "is_client_error"),
        (499, "is_client_error"),
        (500, "is_server_error"),
        (599, "is_server_error"),
        (600, "is_server_error"),
        (999, "is_server_error"),
    ],
)
def test_the_classes_of_statuses(make: Callable[[int], Any], status: int, true: str) -> None:
    response = make(status)
    for name in ("ok", "is_redirect", "is_client_error", "is_server_error"):
        assert getattr(response, name)() is (name == true)


def test_ok_works_with_and_without_a_call() -> None:
    assert Response(200).ok
    assert Response(200).ok()
    assert not Response(404).ok
    assert not Response(404).ok()
    assert repr(Response(404).ok) == str(Response(404).ok) == "False"


@pytest.mark.parametrize(
    ("make", "status", "body", "content_type"),
    [
        (lambda: ok(), 200, b"", ""),
        (lambda: ok("h\u00e9"), 200, b"h\xc3\xa9", PLAIN),
        (lambda: ok(b"\xff"), 200, b"\xff", PLAIN),
        (lambda: ok_json("[1]"), 200, b"[1]", "application/json"),
        (lambda: ok_json(""), 200, b"", "application/json"),
        (
            lambda: ok_json_value({"a": [1, None, "\u00e9"]}),
            200,
            b'{"a":[1,null,"\xc3\xa9"]}',
            "application/json",
        ),
        (lambda: bad_request(), 400, b"Bad Request", PLAIN),
        (lambda: bad_request("why"), 400, b"why", PLAIN),
        (lambda: unauthorized(), 401, b"Unauthorized", PLAIN),
        (lambda: forbidden(), 403, b"Forbidden", PLAIN),
        (lambda: not_found(), 404, b"Not Found", PLAIN),
        (lambda: not_found("/x"), 404, b"Not Found: /x", PLAIN),
        (lambda: not_found("/x\r\n\x1b[31my"), 404, b"Not Found: /x[31my", PLAIN),
        (lambda: internal_error(), 500, b"Internal Server Error", PLAIN),
    ],
)
def test_helpers_make_whole_responses(
    make: Callable[[], Response], status: int, body: bytes, content_type: str
) -> None:
    response = make()
    assert (response.status, response.body) == (status, body)
    assert response.headers.get("content-type") == content_type
    assert response.reason == ""


def test_a_path_of_nothing_but_a_surrogate_can_be_not_found() -> None:
    assert not_found("/\udcff").body == b"Not Found: /"


def test_the_challenge_of_a_401() -> None:
    assert unauthorized().headers.get("www-authenticate") == "Bearer"
    assert unauthorized("", 'Basic realm="x"').headers.get("www-authenticate") == 'Basic realm="x"'
    assert not unauthorized(challenge="").headers.contains("www-authenticate")


@pytest.mark.parametrize("value", [object(), float("nan"), float("inf"), {1, 2}])
def test_what_has_no_json_form_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        ok_json_value(value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_have_their_location(status: int) -> None:
    response = redirect("/there?x=1", status)
    assert (response.status, response.headers.get("location")) == (status, "/there?x=1")
    assert response.is_redirect()


@pytest.mark.parametrize("status", [200, 300, 304, 305, 306, 309])
def test_other_statuses_do_not_redirect(status: int) -> None:
    with pytest.raises(ValidationError, match="status"):
        redirect("/", status)


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("/caf\xe9/\u20ac?a=%20 b", "/caf%C3%A9/%E2%82%AC?a=%20%20b"),
        ("/raw?x=a b", "/raw?x=a%20b"),
        ('/"<>\\^`{|}\t', "/%22%3C%3E%5C%5E%60%7B%7C%7D%09"),
        ("/100%/%zz/%4/%2f%C3", "/100%25/%25zz/%254/%2f%C3"),
        ("http://u@[::1]:8/a;b=1,2/~x-._!$&'()*+?q=/?@:#f", None),
    ],
)
def test_a_redirect_percent_encodes_what_is_no_part_of_a_uri_and_nothing_else(
    url: str, location: str | None
) -> None:
    assert redirect(url).headers.get("location") == (location or url)


@pytest.mark.parametrize("url", ["/\r\nSet-Cookie: a=b", "/\n", "/\0", "/\u20ac\n"])
def test_a_location_that_would_split_the_response_is_refused(url: str) -> None:
    with pytest.raises(HeaderInjectionError):
        redirect(url)


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("", b"caf\xc3\xa9", "caf\u00e9"),
        ("text/plain; charset=latin-1", b"caf\xe9", "caf\u00e9"),
        ('text/plain; CHARSET="iso-8859-1"', b"caf\xe9", "caf\u00e9"),
        ("text/plain; x=y;charset=utf-16", "hi".encode("utf-16"), "hi"),
        ("text/plain; charset=nonsense", b"caf\xc3\xa9", "caf\u00e9"),
        ("text/plain; charset=hex", b"ab", "ab"),
        ("text/plain; charset=idna", b"caf\xc3\xa9", "caf\u00e9"),
        ("text/plain; charset=undefined", b"ab", "ab"),
        ("text/plain; charset=", b"\xff", "\ufffd"),
        ("text/plain; notcharset=latin-1", b"caf\xc3\xa9", "caf\u00e9"),
    ],
)
def test_text_goes_by_the_charset(content_type: str, body: bytes, text: str) -> None:
    response = Response(body=body, headers={"Content-Type": content_type} if content_type else None)
    assert response.text() == text


def test_json_and_slices_of_a_body() -> None:
    assert Response(body="[1, 2]").json() == [1, 2]
    with pytest.raises(ValueError):
        Response(body="{").json()
    response = Response(body=b"abcdefg")
    assert list(response.iter_bytes(3)) == [b"abc", b"def", b"g"]
    assert list(response.iter_bytes(0)) == list(response.iter_bytes(-1)) == [b"abcdefg"]
    assert list(Response().iter_bytes()) == []


@pytest.mark.parametrize("status", [101, 301, 304, 404, 500])
def test_raise_for_status_raises_for_all_but_success(status: int) -> None:
    response = Response(status)
    response.url = "http://user:secret@host/x"
    with pytest.raises(HttpError) as caught:
        response.raise_for_status()
    assert caught.value.status == status
    assert caught.value.response is response
    assert "secret" not in str(caught.value)
    assert str(status) in str(caught.value)


def test_raise_for_status_says_nothing_of_success() -> None:
    assert Response(204).raise_for_status() is None


def test_each_cookie_has_a_field_of_its_own() -> None:
    response = Response()
    response.set_cookie(Cookie("a", "1"))
    response.set_cookie(Cookie("b", "2"))
    response.headers.append("Set-Cookie", "no cookie at all")
    assert len(response.headers.get_all("set-cookie")) == 3
    assert response.cookies().get("a") == "1"
    assert response.cookies().get("b") == "2"


def test_reset_leaves_nothing_of_the_last_exchange() -> None:
    response = Response(404, "x", "body", headers={"A": "b"})
    response.trailers.set("T", "1")
    response.url, response.body_stream = "u", InlineBody(b"x")
    response.reset(201, "Made")
    assert (response.status, response.reason, response.body) == (201, "Made", b"")
    assert len(response.headers) == len(response.trailers) == 0
    assert (response.url, response.body_stream) == ("", None)


def test_a_body_of_known_length_becomes_a_buffered_response() -> None:
    response = response_from_body(InlineBody("abc"), 201)
    assert (response.status, response.body, response.body_stream) == (201, b"abc", None)
    streamed = response_from_body(StreamingResponse(200, [b"a"]).body)
    assert streamed.body == b""
    assert streamed.body_stream is not None


def test_streamed_responses_know_their_body() -> None:
    body = stream_response(io.BytesIO(b"abc"), 206).body_stream
    assert body is not None
    assert body.content_length() == 3
    response = StreamingResponse(200, [b"a"], "Fine", headers={"A": "b"})
    assert (response.reason, response.headers.get("a")) == ("Fine", "b")
    assert response.body.content_length() is None
    assert repr(response) == "<StreamingResponse 200>"


@pytest.mark.parametrize("body", ["text", 5, None])
def test_what_is_no_body_cannot_be_streamed(body: Any) -> None:
    for make in (stream_response, lambda source: StreamingResponse(200, source)):
        with pytest.raises(TypeError, match="stream"):
            make(body)


def test_a_pool_keeps_so_many_and_hands_out_the_last() -> None:
    pool = ResponsePool.with_capacity(2)
    first, second, third = pool.acquire(), pool.acquire(404), pool.acquire()
    assert second.status == 404
    second.body = b"left"
    for response in (first, second, third):
        pool.release(response)
    assert pool.size() == len(pool) == pool.capacity() == 2
    again = pool.acquire(201, "Made")
    assert again is second
    assert (again.status, again.reason, again.body) == (201, "Made", b"")
    assert ResponsePool().capacity() == 8
    assert ResponsePool.with_capacity(0).capacity() == ResponsePool(-3).capacity() == 1


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (b"", []), (b"a", ["a"]), (b"a\n", ["a"]), (b"a\r\nb\rc\n\nd", ["a", "b", "c", "", "d"]),
        ("ä\nb\u2028c".encode(), ["ä", "b\u2028c"]),
    ],
)  # fmt: skip
def test_a_body_is_also_lines(body, lines):
    assert list(Response(body=body).iter_lines()) == lines


def test_iteration_gives_the_bytes():
    assert b"".join(Response(body=b"x" * 20_000)) == b"x" * 20_000
    assert list(Response()) == []


def test_the_fields_of_a_small_answer_are_its_own() -> None:
    first, second = ok("one"), ok("two")
    first.headers.set("X-One", "1")
    assert [*first.headers.items()] == [
        ("Content-Type", "text/plain; charset=utf-8"), ("X-One", "1"),
    ]  # fmt: skip
    assert [*second.headers.items()] == [("Content-Type", "text/plain; charset=utf-8")]
    assert [*ok().headers.items()] == []
    assert copy.deepcopy(second).headers.get("content-type") == "text/plain; charset=utf-8"


def test_fields_must_be_a_map() -> None:
    response = ok("body")
    with pytest.raises(TypeError, match="not None"):
        response.headers = None  # type: ignore[assignment]
