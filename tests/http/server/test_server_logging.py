"""The access log and the error log: one line each, and nothing of the peer's in them raw."""

from __future__ import annotations

import json
import logging
import re
import sysconfig
from collections.abc import Callable
from typing import Any

import pytest
from serving import Connect, Serve, Start

from flare.errors import HttpStatusError, ValidationError
from flare.http import Request, Response, ok, redirect
from flare.http.server import ServerConfig, stream_response
from flare.http.server.logs import escape

LOGGED = ServerConfig(access_log=True)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[str]]:
    """The lines of one logger so far."""
    caplog.set_level(logging.INFO, "flare")
    return lambda name: [r.getMessage() for r in caplog.records if r.name == name]


Lines = Callable[[str], list[str]]


def test_no_access_log_unless_asked_for(serve: Serve, connect: Connect, lines: Lines) -> None:
    peer = connect(serve(lambda _: ok()))
    peer.get("/")
    peer.read()
    assert lines("flare.access") == []


def test_one_access_line_a_request(serve: Serve, connect: Connect, lines: Lines) -> None:
    def handler(request: Request) -> Response:
        if request.url == "/bad":
            raise ValueError
        if request.url == "/stream":
            return stream_response([b"ab", b"c"])
        return ok("hello")

    peer = connect(serve(handler, LOGGED))
    for target in ("/a?q=1", "/bad", "/stream"):
        peer.get(target)
        peer.read()
    peer.send(b"HEAD /head HTTP/1.0\r\n\r\n")
    assert peer.rest()
    host, port = peer.sock.getsockname()
    found = [re.sub(r" \d+\.\dms$", "", line) for line in lines("flare.access")]
    assert found == [
        f'{host}:{port} "GET /a?q=1 HTTP/1.1" 200 5',
        f'{host}:{port} "GET /bad HTTP/1.1" 500 21',
        f'{host}:{port} "GET /stream HTTP/1.1" 200 3',
        f'{host}:{port} "HEAD /head HTTP/1.0" 200 0',
    ]


def test_a_response_that_is_cut_off_has_its_line_too(
    start: Start, connect: Connect, lines: Lines
) -> None:
    def body() -> Any:
        yield b"abc"
        raise ValueError("broken")

    running = start(lambda _: stream_response(body()), LOGGED)
    peer = connect(running.address)
    peer.get("/")
    peer.rest()
    running.stop()
    assert len(lines("flare.access")) == 1
    assert '"GET / HTTP/1.1" 200 3 ' in lines("flare.access")[0]
    assert len(lines("flare.error")) == 1


def test_a_quote_in_a_target_cannot_forge_a_field(
    serve: Serve, connect: Connect, lines: Lines
) -> None:
    peer = connect(serve(lambda _: ok(), LOGGED))
    peer.get('/"_200_0\\x1b[31m')
    peer.read()
    (line,) = lines("flare.access")
    assert line.count('"') == 2
    assert '"GET /%22_200_0\\\\x1b[31m HTTP/1.1" 200 0' in line


def test_a_handler_error_is_one_line_with_its_place(
    serve: Serve, connect: Connect, lines: Lines
) -> None:
    def handler(request: Request) -> Response:
        raise ValueError("first\nsecond\r\n\x1b[31mred\u2028")

    peer = connect(serve(handler))
    peer.get("/a", "X-Request-Id: id-7\xe9")
    peer.read()
    (line,) = lines("flare.error")
    host, port = peer.sock.getsockname()
    assert line.startswith(f"GET /a from {host}:{port} [id-7")
    assert "ValueError: first\\nsecond\\r\\n\\x1b[31mred\\u2028 at " in line
    assert line.endswith("in handler")
    assert line.isascii()
    assert line.isprintable()


def refused(_: Request) -> Response:
    raise ValueError("here")


def in_a_library(request: Request) -> Response:
    return ok(json.loads("{"))


def in_flare(request: Request) -> Response:
    return redirect("/", status=200)


def in_a_package(request: Request) -> Response:
    code = compile("def call():\n    raise KeyError('it')\n", PACKAGE, "exec")
    names: dict[str, Any] = {}
    exec(code, names)
    names["call"]()
    raise AssertionError


PACKAGE = sysconfig.get_path("stdlib") + "/site-packages/thing.py"


@pytest.mark.parametrize(
    ("handler", "place"),
    [
        (refused, rf" at {__file__}:\d+ in refused"),
        (
            in_a_library,
            rf" at \S+/json/decoder.py:\d+ in \w+ < ... < {__file__}:\d+ in in_a_library",
        ),
        (in_flare, rf" at \S+/response.py:\d+ in redirect < {__file__}:\d+ in in_flare"),
        (in_a_package, rf" at {PACKAGE}:2 in call"),
    ],
)
def test_the_place_of_an_error_is_the_applications(
    serve: Serve, connect: Connect, lines: Lines, handler: Any, place: str
) -> None:
    peer = connect(serve(handler))
    peer.get("/")
    peer.read()
    (line,) = lines("flare.error")
    assert re.search(place + "$", line), line


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (ValueError("x"), "ERROR"),
        (HttpStatusError(500), "ERROR"),
        (HttpStatusError(404), "INFO"),
        (ValidationError("name", "x"), "INFO"),
    ],
)
def test_a_refusal_of_the_handler_is_no_error_of_the_server(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture, error: Exception, level: str
) -> None:
    caplog.set_level(logging.INFO, "flare.error")

    def handler(_: Request) -> Response:
        raise error

    peer = connect(serve(handler))
    peer.get("/")
    peer.read()
    assert [record.levelname for record in caplog.records] == [level]


def test_a_traceback_is_there_for_those_who_debug(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "flare.error")

    def handler(_: Request) -> Response:
        raise ValueError("why")

    peer = connect(serve(handler))
    peer.get("/")
    peer.read()
    assert [r.levelname for r in caplog.records] == ["ERROR", "DEBUG"]
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /\x1b[31m HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\nX-Forged: line\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization : Basic c2VjcmV0\r\n\r\n",
        b"\xff\xfe\x00\n" * 100 + b"\r\n\r\n",
    ],
)
def test_a_refused_request_is_one_printable_line(
    serve: Serve, connect: Connect, lines: Lines, request_bytes: bytes
) -> None:
    peer = connect(serve(lambda _: ok()))
    peer.send(request_bytes + b"more\r\n\r\n" * 50)
    assert peer.read().status == 400
    peer.rest()
    (line,) = lines("flare.error")
    assert line.startswith("400 to 127.0.0.1:")
    assert line.isascii()
    assert line.isprintable()
    assert "c2VjcmV0" not in line
    assert len(line) < 300


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("/plain?a=b&c=%20", "/plain?a=b&c=%20"),
        ("a\nb", "a\\nb"),
        ("\r\0\x1b\x7f", "\\r\\x00\\x1b\\x7f"),
        ("\\n", "\\\\n"),
        ("caf\u00e9 \u202e\U0001f600 \udcff", "caf\\xe9 \\u202e\\U0001f600 \\udcff"),
        ("x" * 5000, "x" * 2048),
        ("", ""),
    ],
)
def test_what_a_peer_can_choose_is_escaped(text: str, escaped: str) -> None:
    assert escape(text) == escaped


class Broken(logging.Handler):
    """What an application may have installed."""

    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("the log is full")


@pytest.mark.parametrize("access_log", [False, True])
def test_a_log_that_fails_takes_nobody_along(
    serve: Serve, connect: Connect, capfd: pytest.CaptureFixture[str], access_log: bool
) -> None:
    def handler(request: Request) -> Response:
        if request.url == "/bad":
            raise ValueError
        if request.url == "/cut":
            return stream_response([1])  # type: ignore[list-item]
        return ok("hello")

    broken = Broken()
    logger = logging.getLogger("flare")
    logger.addHandler(broken)
    try:
        address = serve(handler, ServerConfig(access_log=access_log))
        peer = connect(address)
        for _ in range(3):
            for target, status in (("/", 200), ("/bad", 500)):
                peer.get(target)
                assert peer.read().status == status
        peer.get("/cut")
        assert peer.rest().endswith(b"\r\n\r\n")
        peer = connect(address)
        peer.get("/")
        assert peer.read().body == b"hello"
    finally:
        logger.removeHandler(broken)
    assert "the log is full" in capfd.readouterr().err
