from __future__ import annotations

import io

import pytest

from flare.errors import HttpStatusError, ValidationError
from flare.http.cancel import Cancel
from flare.http.handler import WithCancel
from flare.http.proto.headers import HeaderMap
from flare.http.request import Request
from flare.http.response import Response, StreamingResponse, ok, ok_json_value, stream_response
from flare.http.router import Router
from flare.net import SocketAddr
from flare.testing import TestClient


def echo(req: Request) -> Response:
    return ok_json_value(
        {
            "method": req.method,
            "url": req.url,
            "version": req.version,
            "body": req.text(),
            "headers": list(req.headers.items()),
        }
    )


def test_the_request_is_built_as_given():
    seen: list[Request] = []
    client = TestClient(lambda req: seen.append(req) or ok())
    client.request("PURGE", "/a?b=c#d", b"body", {"X-A": "1"})
    (req,) = seen
    assert (req.method, req.url, req.version, req.body) == (
        "PURGE",
        "/a?b=c#d",
        "HTTP/1.1",
        b"body",
    )
    assert (req.peer, req.expose_errors, req.tls_info) == (SocketAddr.localhost(0), True, None)
    assert list(req.headers.items()) == [("X-A", "1")]


@pytest.mark.parametrize("verb", ["get", "head", "options", "delete"])
def test_verbs_without_a_body(verb):
    answer = getattr(TestClient(echo), verb)("/x", {"A": "b"}).json()
    assert (answer["method"], answer["body"], answer["headers"]) == (
        verb.upper(),
        "",
        [["A", "b"]],
    )


@pytest.mark.parametrize("verb", ["post", "put", "patch"])
class TestVerbsWithABody:
    @pytest.mark.parametrize("body", [b"caf\xc3\xa9", "café", bytearray(b"caf\xc3\xa9")])
    def test_a_raw_body_goes_out_as_it_is(self, verb, body):
        answer = getattr(TestClient(echo), verb)("/x", body, {"A": "b"}).json()
        assert (answer["method"], answer["body"]) == (verb.upper(), "café")
        assert answer["headers"] == [["A", "b"]]

    @pytest.mark.parametrize(("value", "text"), [({"a": [1]}, '{"a":[1]}'), (None, "null")])
    def test_json(self, verb, value, text):
        answer = getattr(TestClient(echo), verb)("/x", json=value).json()
        assert answer["body"] == text
        assert answer["headers"] == [["Content-Type", "application/json"]]

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ({"a": "1 2", "b": "é"}, "a=1+2&b=%C3%A9"),
            ([("a", "1"), ("a", "2")], "a=1&a=2"),
            ({"a": [1, 2]}, "a=1&a=2"),
            ({"a": True, "b": None}, "a=true"),
        ],
    )
    def test_a_form(self, verb, value, text):
        answer = getattr(TestClient(echo), verb)("/x", data=value).json()
        assert answer["body"] == text
        assert answer["headers"] == [["Content-Type", "application/x-www-form-urlencoded"]]

    @pytest.mark.parametrize(
        "make", [lambda: "a=1", lambda: b"a=1", lambda: io.BytesIO(b"a=1"), lambda: iter([b"a=1"])]
    )
    def test_data_that_is_no_form_goes_out_as_it_is(self, verb, make):
        answer = getattr(TestClient(echo), verb)("/x", data=make()).json()
        assert (answer["body"], answer["headers"]) == ("a=1", [])

    @pytest.mark.parametrize(("given", "text"), [({}, ""), ({"json": [1]}, "[1]")])
    def test_data_of_none_is_as_if_not_given(self, verb, given, text):
        assert getattr(TestClient(echo), verb)("/x", data=None, **given).json()["body"] == text

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ({"a": 1}, '{"a":1}'),
            ([1, "b"], '[1,"b"]'),
            ({}, "{}"),
            ([], "[]"),
            (0, "0"),
            (True, "true"),
        ],
    )
    def test_a_body_that_is_a_value_goes_out_as_json(self, verb, value, text):
        answer = getattr(TestClient(echo), verb)("/x", value).json()
        assert answer["body"] == text
        assert answer["headers"] == [["Content-Type", "application/json"]]

    @pytest.mark.parametrize("kind", [list, iter, tuple])
    def test_pieces_are_joined(self, verb, kind):
        answer = getattr(TestClient(echo), verb)("/x", kind([b"a", b"b"])).json()
        assert (answer["body"], answer["headers"]) == ("ab", [])

    def test_no_body_is_none(self, verb):
        assert getattr(TestClient(echo), verb)("/x", None).json()["body"] == ""

    @pytest.mark.parametrize("make", [lambda: iter([b"a", "b"]), lambda: iter([None]), object])
    def test_what_is_no_body_is_refused(self, verb, make):
        with pytest.raises(TypeError, match=r"bytes, not|cannot stream"):
            getattr(TestClient(echo), verb)("/x", make())

    def test_a_content_type_of_the_caller_stays(self, verb):
        answer = getattr(TestClient(echo), verb)("/x", json=1, headers={"content-type": "a/b"})
        assert answer.json()["headers"] == [["content-type", "a/b"]]

    @pytest.mark.parametrize(
        "arguments",
        [
            {"body": b"x", "json": 1},
            {"json": 1, "data": {}},
            {"body": "x", "data": "y"},
            {"body": {}, "data": "y"},
            {"body": [], "json": 1},
        ],
    )
    def test_only_one_kind_of_body_is_taken(self, verb, arguments):
        with pytest.raises(ValidationError, match="one of body, json and data"):
            getattr(TestClient(echo), verb)("/x", **arguments)


@pytest.mark.parametrize("verb", ["get", "head", "options", "delete", "post", "put", "patch"])
@pytest.mark.parametrize(
    ("path", "params", "url"),
    [
        ("/x", {"q": "a b", "n": [1, 2], "none": None}, "/x?q=a+b&n=1&n=2"),
        ("/x?a=b#c", [("d", True)], "/x?a=b&d=true#c"),
        ("/x", "raw=%20", "/x?raw=%20"),
        ("/x", {}, "/x"),
    ],
)
def test_params_are_the_clients(verb, path, params, url):
    assert getattr(TestClient(echo), verb)(path, params=params).json()["url"] == url


def test_the_callers_headers_are_copied():
    headers = HeaderMap({"A": "b"})

    def spoil(req: Request) -> Response:
        req.headers.set("A", "spoilt")
        return ok()

    TestClient(spoil).post("/", json=1, headers=headers)
    assert list(headers.items()) == [("A", "b")]


def test_any_handler_will_do():
    router = Router()
    router.get("/users/:id", lambda req: ok(req.param("id")))
    with TestClient(router) as client:
        assert client.get("/users/7?x").text() == "7"
        assert client.get("/none").text() == "Not Found: /none"
    with pytest.raises(TypeError, match="not None"):
        TestClient(None)


class TestCancelHandlers:
    class Aware:
        def serve(self, req: Request, cancel: Cancel) -> Response:
            return ok(f"{cancel is Cancel.never()}")

    @pytest.mark.parametrize(
        "handler",
        [
            Aware(),
            lambda req, cancel: ok(f"{cancel is Cancel.never()}"),
            lambda req, cancel, *more: ok(f"{cancel is Cancel.never()}"),
        ],
    )
    def test_a_handler_that_needs_a_token_gets_one(self, handler):
        assert TestClient(handler).get("/").text() == "True"

    @pytest.mark.parametrize(
        "handler", [lambda req, cancel=None: ok(f"{cancel}"), lambda req, **more: ok("None")]
    )
    def test_one_that_can_do_without_gets_none(self, handler):
        assert TestClient(handler).get("/").text() == "None"

    def test_an_adapted_handler_works(self):
        assert TestClient(WithCancel(lambda req: ok("x"))).get("/").text() == "x"


class TestErrors:
    def raising(self, error: Exception):
        def handler(req: Request) -> Response:
            raise error

        return handler

    def test_what_the_handler_raises_comes_out(self):
        with pytest.raises(LookupError):
            TestClient(self.raising(LookupError("x"))).get("/")

    @pytest.mark.parametrize(
        ("error", "status", "text"),
        [
            (HttpStatusError(418, "short"), 418, "short"),
            (ValidationError("a", "b"), 400, "ValidationError(a): b"),
            (LookupError("inside"), 500, "inside"),
        ],
    )
    def test_or_becomes_what_the_server_would_answer(self, error, status, text):
        response = TestClient(self.raising(error), raise_errors=False).get("/")
        assert (response.status, response.text()) == (status, text)
        assert response.headers["X-Content-Type-Options"] == "nosniff"

    def test_an_interrupt_always_comes_out(self):
        with pytest.raises(KeyboardInterrupt):
            TestClient(self.raising(KeyboardInterrupt()), raise_errors=False).get("/")

    @pytest.mark.parametrize("result", [None, "text", b"bytes", {"a": 1}, Response])
    def test_a_result_that_is_no_response_is_an_error(self, result):
        with pytest.raises(TypeError, match="must return a Response"):
            TestClient(lambda req: result).get("/")
        assert TestClient(lambda req: result, raise_errors=False).get("/").status == 500


class TestStreamedBodies:
    def test_a_body_stream_is_read_into_the_body(self):
        response = TestClient(lambda req: stream_response(iter([b"a", b"", b"b"]))).get("/")
        assert (response.body, response.body_stream) == (b"ab", None)

    def test_a_streaming_response_becomes_a_response(self):
        def handler(req: Request) -> Response:
            response = StreamingResponse(201, iter([b"a", b"b"]), "Made", headers={"X-A": "1"})
            response.trailers.append("X-Sum", "2")
            return response

        response = TestClient(handler).get("/")
        assert isinstance(response, Response)
        assert (response.status, response.reason, response.body) == (201, "Made", b"ab")
        assert (response.headers["x-a"], response.trailers["x-sum"]) == ("1", "2")

    @pytest.mark.parametrize("raise_errors", [True, False])
    def test_what_a_body_raises_comes_out_and_the_body_is_closed(self, raise_errors):
        closed = []

        def source():
            try:
                yield b"x"
                raise LookupError("broken")
            finally:
                closed.append(True)

        client = TestClient(lambda req: stream_response(source()), raise_errors=raise_errors)
        with pytest.raises(LookupError):
            client.get("/")
        assert closed == [True]


def test_pytest_does_not_take_it_for_a_test_case():
    assert TestClient.__test__ is False
    assert repr(TestClient((3).__add__)).startswith("TestClient(")


@pytest.mark.parametrize(
    "result",
    [
        ok("x").body,
        None,
        5,
        Response(42),
        Response(100),
        Response(200, body={"a": 1}),
        Response(200, {"a": 1}),
        Response(200, b"body"),
        stream_response(iter([]), 42),
    ],
    ids=repr,
)
def test_what_a_server_could_not_send_is_an_error_here_too(result: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        TestClient(lambda request: result).get("/")
    assert TestClient(lambda request: result, raise_errors=False).get("/").status == 500
