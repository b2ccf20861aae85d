"""A client that calls a handler in its own process: the same exchange without a network."""

from __future__ import annotations

import threading

import pytest

from flare.errors import HttpStatusError, ValidationError
from flare.http import Request, Response, Router, StreamingResponse, ok, ok_json_value, redirect
from flare.http.client import BasicAuth, HandlerTransport, HttpClient


def app() -> Router:
    router = Router()

    def echo(request: Request) -> Response:
        return ok_json_value(
            {
                "method": request.method,
                "url": request.url,
                "headers": dict(request.headers.items()),
                "text": request.text(),
            }
        )

    def login(request: Request) -> Response:
        response = redirect("/echo", 303)
        response.headers.append("Set-Cookie", "sid=7; Path=/")
        return response

    router.get("/echo", echo)
    router.post("/echo", echo)
    router.post("/login", login)
    router.get("/lines", lambda request: StreamingResponse(200, iter([b"one\n", b"", b"two\n"])))
    return router


@pytest.mark.parametrize("base", ["http://app.example", "https://app.example:8443"])
def test_calls_reach_the_handler_as_over_a_network(base):
    with HttpClient(base, BasicAuth("u", "p"), transport=app()) as client:
        got = client.post("/echo", json={"a": 1}, params={"q": "x y"})
        seen = got.json()
        assert got.url == f"{base}/echo?q=x+y"
        assert seen["method"] == "POST"
        assert seen["url"] == "/echo?q=x+y"
        assert seen["text"] == '{"a":1}'
        assert seen["headers"]["Host"] == base.partition("//")[2]
        assert seen["headers"]["Authorization"].startswith("Basic ")
        assert client.get("/none").status == 404
        assert client.head("/echo").body == b""


def test_redirects_and_cookies_work():
    with HttpClient("http://app", transport=app()) as client:
        got = client.post("/login", data={"user": "me"})
        assert [hop.status for hop in got.history] == [303]
        assert got.json()["headers"]["Cookie"] == "sid=7"


def test_streams_both_ways():
    with HttpClient("http://app", transport=app()) as client:
        with client.get("/lines", stream=True) as download:
            assert list(download.iter_lines()) == ["one", "two"]
        upload = client.post("/echo", iter([b"a", b"b" * 100_000, b"c"]))
        assert upload.json()["text"] == "a" + "b" * 100_000 + "c"
        asked = client.post("/echo", b"x", headers={"Expect": "100-continue"})
        assert asked.json()["text"] == "x"


def test_a_streamed_body_left_early_is_closed():
    closed = threading.Event()

    class Source:
        def next(self, cancel: object) -> bytes:
            return b"x" * 1000

        def close(self) -> None:
            closed.set()

    def endless(request: Request) -> StreamingResponse:
        return StreamingResponse(200, Source())

    with HttpClient("http://app", transport=endless) as client:
        with client.get("/", stream=True) as download:
            assert len(download.read(5000)) == 5000
        assert closed.is_set()


def raising(request: Request) -> Response:
    if request.path == "/teapot":
        raise HttpStatusError(418, "short and stout")
    raise ZeroDivisionError("a secret")


def test_what_the_handler_raises_comes_out_of_the_call():
    with HttpClient("http://app", transport=raising) as client:
        with pytest.raises(ZeroDivisionError, match="a secret"):
            client.get("/")
        with pytest.raises(HttpStatusError):
            client.get("/teapot")
        assert "active=0" in repr(client)


def test_or_is_answered_as_a_server_would():
    transport = HandlerTransport(raising, raise_errors=False)
    with HttpClient("http://app", transport=transport) as client:
        got = client.get("/")
        assert (got.status, "secret" in got.text()) == (500, False)
        assert client.get("/teapot").status == 418


def test_what_is_no_response_is_a_type_error():
    with HttpClient("http://app", transport=lambda request: "text") as client:
        with pytest.raises(TypeError):
            client.get("/")


@pytest.mark.parametrize("bad", [3, Router, object()])
def test_a_transport_connects_or_is_a_handler(bad):
    with pytest.raises(TypeError):
        HttpClient(transport=bad)


def test_threads_share_it():
    with HttpClient("http://app", transport=lambda request: ok(request.path)) as client:
        got: list[str] = []

        def call(number: int) -> None:
            got.extend(client.get(f"/{number}/{step}").text() for step in range(20))

        threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert sorted(got) == sorted(f"/{number}/{step}" for number in range(8) for step in range(20))


def test_a_broken_request_is_still_refused_before_the_handler():
    with HttpClient("http://app", transport=app()) as client, pytest.raises(ValidationError):
        client.post("/echo", b"x", headers={"Content-Length": "5"})
