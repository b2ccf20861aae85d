"""What a client gets, and what it does not get to see, when a handler fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from serving import PATIENCE, Connect, Serve, Start

from flare.errors import HttpStatusError, NetworkError, ValidationError
from flare.http import HttpClient, Request, Response, StreamingResponse, ok
from flare.http.server import ServerConfig, stream_response

SECRET = "the-inside-of-it"


def raising(error: Any) -> Callable[[Request], Response]:
    def handler(request: Request) -> Response:
        if request.url == "/fine":
            return ok("fine")
        raise error

    return handler


class Wordless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text either")


FAILURES = [
    (ValueError(SECRET), 500, b"Internal Server Error"),
    (OSError(2, SECRET), 500, b"Internal Server Error"),
    (NetworkError(SECRET), 500, b"Internal Server Error"),
    (TimeoutError(SECRET), 500, b"Internal Server Error"),
    (BlockingIOError(SECRET), 500, b"Internal Server Error"),
    (StopIteration(SECRET), 500, b"Internal Server Error"),
    (RecursionError(SECRET), 500, b"Internal Server Error"),
    (MemoryError(), 500, b"Internal Server Error"),
    (ExceptionGroup(SECRET, [ValueError(SECRET)]), 500, b"Internal Server Error"),
    (Wordless(), 500, b"Internal Server Error"),
    (ValidationError("name", SECRET), 400, b"Bad Request"),
    (HttpStatusError(404, "no such thing"), 404, b"no such thing"),
    (HttpStatusError(404), 404, b"Not Found"),
    (HttpStatusError(418, "caf\u00e9"), 418, "caf\u00e9".encode()),
    (HttpStatusError(599, "x"), 599, b"x"),
    (HttpStatusError(600, SECRET), 500, b"Internal Server Error"),
    (HttpStatusError(99, SECRET), 500, b"Internal Server Error"),
    (HttpStatusError("abc", SECRET), 500, b"Internal Server Error"),
    (HttpStatusError(400, 5), 500, b"Internal Server Error"),
    (HttpStatusError(400, "\udcff"), 400, b"\\udcff"),
]


def test_a_body_in_the_place_of_the_reason_gets_500(serve: Serve) -> None:
    address = serve(lambda _: Response(200, {"a": 1}))
    with HttpClient() as h1, HttpClient(prefer_h2c=True) as h2:
        for client in (h1, h2):
            for _ in range(3):
                assert client.get(f"http://{address[0]}:{address[1]}/").status == 500


@pytest.mark.parametrize(("error", "status", "body"), FAILURES, ids=lambda value: repr(value)[:40])
def test_an_exception_gets_its_status_and_the_connection_stays(
    serve: Serve, connect: Connect, error: Exception, status: int, body: bytes
) -> None:
    peer = connect(serve(raising(error)))
    for _ in range(2):
        peer.post(b"a body", target="/bad")
        reply = peer.read()
        assert (reply.status, reply.body) == (status, body)
        assert reply.get("connection") == "keep-alive"
        content_type = reply.get("content-type")
        assert content_type is not None
        assert content_type.startswith("text/plain")
        assert SECRET.encode() not in reply.head + reply.body
        assert b"Traceback" not in reply.body
    peer.get("/fine")
    assert peer.read().body == b"fine"


@pytest.mark.parametrize(
    ("error", "status", "shown"),
    [
        (ValueError("<b>why</b>"), 500, b"<b>why</b>"),
        (ValidationError("name", "why"), 400, b"why"),
        (HttpStatusError(404, "why"), 404, b"why"),
    ],
)
def test_messages_are_shown_where_the_configuration_says_so(
    serve: Serve, connect: Connect, error: Exception, status: int, shown: bytes
) -> None:
    peer = connect(serve(raising(error), ServerConfig(expose_error_messages=True)))
    peer.get("/bad")
    reply = peer.read()
    assert reply.status == status
    assert shown in reply.body
    assert b"Traceback" not in reply.body
    assert reply.get("content-type") == "text/plain; charset=utf-8"
    assert reply.get("x-content-type-options") == "nosniff"


def test_an_interim_status_is_no_answer(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(raising(HttpStatusError(103, "early"))))
    peer.get("/")
    assert peer.read().status == 500


def changed(**attributes: Any) -> Response:
    response = ok("body")
    for name, value in attributes.items():
        setattr(response, name, value)
    return response


WRONG = [
    lambda: None,
    lambda: "text",
    lambda: b"bytes",
    lambda: {"a": 1},
    lambda: (200, "x"),
    lambda: Response,
    lambda: changed(status=99),
    lambda: changed(status=100),
    lambda: changed(status=1000),
    lambda: changed(status="abc"),
    lambda: changed(status=None),
    lambda: changed(body=None),
    lambda: changed(body="text"),
    lambda: changed(body=[b"a"]),
    lambda: changed(headers=None),
    lambda: changed(headers={"a": "b"}),
    lambda: changed(reason=5),
    lambda: changed(body_stream=[b"x"]),
    lambda: changed(body_stream=5),
    lambda: StreamingResponse(100, [b"x"]),
    lambda: stream_response([b"x"], 1000),
]


@pytest.mark.parametrize("make", WRONG)
def test_what_is_no_response_gets_500_and_the_connection_stays(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture, make: Callable[[], Any]
) -> None:
    peer = connect(serve(lambda request: ok("fine") if request.url == "/fine" else make()))
    peer.get("/bad")
    reply = peer.read()
    assert (reply.status, reply.body) == (500, b"Internal Server Error")
    assert len([r for r in caplog.records if r.levelno >= logging.ERROR]) == 1
    peer.get("/fine")
    assert peer.read().body == b"fine"


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: changed(status=200.0), "HTTP/1.1 200 OK"),
        (lambda: changed(status=299), "HTTP/1.1 299 OK"),
        (lambda: changed(status=999), "HTTP/1.1 999 Unknown"),
        (lambda: changed(reason="Fine"), "HTTP/1.1 200 Fine"),
        (lambda: changed(reason="a\r\nX: y"), "HTTP/1.1 200 OK"),
        (lambda: changed(reason="a\0"), "HTTP/1.1 200 OK"),
        (lambda: changed(reason="\u20ac"), "HTTP/1.1 200 OK"),
        (lambda: changed(reason=None), "HTTP/1.1 200 OK"),
        (lambda: changed(body=bytearray(b"body")), "HTTP/1.1 200 OK"),
        (lambda: changed(body=memoryview(b"body")), "HTTP/1.1 200 OK"),
    ],
)
def test_what_can_be_sent_is_sent(
    serve: Serve, connect: Connect, make: Callable[[], Response], line: str
) -> None:
    peer = connect(serve(lambda _: make()))
    peer.get("/")
    reply = peer.read()
    assert (reply.line, reply.body) == (line, b"body")


def test_a_subclass_of_response_is_a_response(serve: Serve, connect: Connect) -> None:
    class Page(Response):
        pass

    peer = connect(serve(lambda _: Page(201, "", b"page")))
    peer.get("/")
    reply = peer.read()
    assert (reply.status, reply.body, reply.get("content-length")) == (201, b"page", "4")


def test_one_response_may_be_returned_again_and_again(serve: Serve, connect: Connect) -> None:
    response = ok("same")
    peer = connect(serve(lambda _: response))
    for _ in range(3):
        peer.get("/")
        assert peer.read().body == b"same"


def test_a_request_spoilt_by_its_handler_is_answered_all_the_same(
    serve: Serve, connect: Connect
) -> None:
    def handler(request: Request) -> Response:
        if request.url == "/fine":
            return ok("fine")
        request.headers = 5  # type: ignore[assignment]
        request.method = None  # type: ignore[assignment]
        raise ValueError

    address = serve(handler, ServerConfig(access_log=True))
    spoilt = connect(address)
    spoilt.get("/")
    assert spoilt.read().status == 500
    peer = connect(address)
    peer.get("/fine")
    assert peer.read().body == b"fine"


class Forced(BaseException):
    pass


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), Forced()])
@pytest.mark.parametrize("where", ["handler", "source"])
def test_what_is_meant_to_end_the_program_comes_out_of_serve(
    start: Start, connect: Connect, error: BaseException, where: str
) -> None:
    def body() -> Any:
        yield b"x"
        raise error

    def handler(_: Request) -> Response:
        if where == "source":
            return stream_response(body())
        raise error

    running = start(handler)
    peer, other = connect(running.address), connect(running.address)
    peer.get("/")
    running.join()
    assert running.error is error
    running.error = None
    other.sock.settimeout(PATIENCE)
    assert other.is_ended()
