"""Requests, as handlers and tests of handlers see them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flare.http import Request
from flare.http.proto import HeaderInjectionError, HeaderMap
from flare.net import SocketAddr


def get(url: str, **headers: str) -> Request:
    return Request("GET", url, headers={k.replace("_", "-"): v for k, v in headers.items()})


def test_the_defaults_of_a_request() -> None:
    request = Request("GET", "/")
    assert (request.method, request.url, request.body) == ("GET", "/", b"")
    assert request.version == "HTTP/1.1"
    assert request.peer == SocketAddr.localhost(0)
    assert request.expose_errors is False
    assert request.tls_info is None
    assert len(request.headers) == len(request.trailers) == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"A": "1", "B": "2"},
        [("A", "1"), ("B", "2")],
        HeaderMap([("A", "1"), ("B", "2")]),
        (pair for pair in [("A", "1"), ("B", "2")]),
    ],
)
def test_headers_come_in_any_usual_shape(headers: Any) -> None:
    request = Request("GET", "/", headers=headers)
    assert list(request.headers.items()) == [("A", "1"), ("B", "2")]


def test_headers_given_are_copied() -> None:
    headers = HeaderMap({"A": "1"})
    request = Request("GET", "/", headers=headers)
    request.headers.set("A", "2")
    assert headers.get("a") == "1"


def test_a_header_that_would_split_the_request_is_refused() -> None:
    with pytest.raises(HeaderInjectionError):
        Request("GET", "/", headers={"A": "1\r\nB: 2"})


def test_text_bodies_are_utf8() -> None:
    assert Request("POST", "/", "caf\u00e9").body == b"caf\xc3\xa9"


@pytest.mark.parametrize(
    ("url", "path", "query"),
    [
        ("/", "/", ""),
        ("/a%20b?x=1", "/a%20b", "x=1"),
        ("/a?", "/a", ""),
        ("/a?x?y", "/a", "x?y"),
        ("/a?x#f", "/a", "x"),
        ("/a#f?x", "/a", ""),
        ("*", "*", ""),
        ("", "", ""),
    ],
)
def test_the_parts_of_a_target(url: str, path: str, query: str) -> None:
    request = get(url)
    assert (request.path, request.query) == (path, query)


@pytest.mark.parametrize(
    ("query", "name", "value"),
    [
        ("a=1", "a", "1"),
        ("a=1&a=2", "a", "1"),
        ("b=2&a=1", "a", "1"),
        ("A=1", "a", None),
        ("a", "a", ""),
        ("a=", "a", ""),
        ("a=b=c", "a", "b=c"),
        ("a=x+y%20z", "a", "x y z"),
        ("caf%C3%A9=%E2%82%AC", "caf\u00e9", "\u20ac"),
        ("a=%ff", "a", "\ufffd"),
        ("a=100%", "a", "100%"),
        ("a=%zz%4", "a", "%zz%4"),
        ("a+b=1", "a b", "1"),
        ("a%3D=1", "a=", "1"),
        ("&&a=1&", "a", "1"),
        ("&&", "", None),
        ("=1", "", "1"),
        ("", "a", None),
    ],
)
def test_query_parameters_are_form_decoded(query: str, name: str, value: str | None) -> None:
    request = get("/?" + query)
    assert request.query_param_opt(name) == value
    assert request.query_param(name) == (value or "")
    assert request.query_param_or(name, "default") == ("default" if value is None else value)
    assert request.has_query_param(name) is (value is not None)


def test_path_parameters_are_those_of_the_route() -> None:
    request = get("/")
    assert not request.has_params()
    assert request.params() == {}
    assert request.param_opt("id") is None
    assert request.param_or("id", "none") == "none"
    with pytest.raises(KeyError, match="path param not found: id"):
        request.param("id")
    request.params_mut()["id"] = "7"
    assert request.has_params()
    assert request.has_param("id")
    assert request.param("id") == request.param_opt("id") == request.param_or("id") == "7"
    request.params()["id"] = "8"
    assert request.param("id") == "7"


@pytest.mark.parametrize(
    ("value", "length"),
    [("5", 5), ("0", 0), ("", 0), ("-1", 0), ("+1", 0), ("1_0", 0), ("\xb2", 0), ("9" * 30, 0)],
)
def test_content_length_is_a_number_or_0(value: str, length: int) -> None:
    assert get("/", Content_Length=value).content_length() == length
    assert get("/").content_length() == 0


@pytest.mark.parametrize(
    ("values", "close"),
    [
        (["close"], True),
        (["Close"], True),
        (["keep-alive, close"], True),
        (["a", "b,\tCLOSE ,c"], True),
        (["keep-alive"], False),
        (["not-close", "closed"], False),
        ([], False),
    ],
)
def test_connection_close_is_one_of_the_options(values: list[str], close: bool) -> None:
    request = Request("GET", "/", headers=[("Connection", value) for value in values])
    assert request.connection_close() is close


def test_cookies_of_all_fields_count() -> None:
    request = Request("GET", "/", headers=[("Cookie", "a=1; b=2"), ("Cookie", "a=3; e=")])
    assert request.cookie("a") == "1"
    assert request.cookies().get("a") == "3"
    assert request.cookie("e") == ""
    assert (request.cookie_opt("e"), request.cookie_opt("x")) == ("", None)
    assert (request.cookie_or("b", "d"), request.cookie_or("x", "d")) == ("2", "d")
    assert request.has_cookie("e")
    assert not request.has_cookie("A")


def test_bodies_as_text_and_as_json() -> None:
    assert Request("POST", "/", b"caf\xc3\xa9 \xff").text() == "caf\u00e9 \ufffd"
    assert Request("POST", "/", '{"a": [1]}').json() == {"a": [1]}
    for body in (b"", b"{", b"\xff\xfe\x00"):
        with pytest.raises(ValueError):
            Request("POST", "/", body).json()
    with pytest.raises(json.JSONDecodeError):
        Request("POST", "/", b"{").json()


def test_shortcuts_for_tests_of_handlers() -> None:
    assert Request.test_get("/x?y=1").query_param("y") == "1"
    request = Request.test_post("/x", "body")
    assert (request.method, request.body) == ("POST", b"body")
    assert request.headers.get("content-type") == "application/octet-stream"
    assert Request.test_post("/x", b"{}", "application/json").json() == {}


def test_repr_tells_neither_query_nor_body_nor_secrets() -> None:
    request = Request(
        "POST", "/us\ners?token=abc", "secret", headers={"Authorization": "Basic secret"}
    )
    assert repr(request) == "<Request POST /us\\ners>"


def test_misspelt_attributes_are_refused() -> None:
    with pytest.raises(AttributeError):
        Request("GET", "/").bdoy = b""  # type: ignore[attr-defined]
