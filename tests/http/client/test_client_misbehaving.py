"""Servers that go on for ever, lie about lengths, or say more than they were asked."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest
from scripted import (
    Head,
    ScriptedServer,
    Send,
    Set,
    Wait,
    Whole,
    answers,
    response,
    wait_for_input,
)

from flare.errors import NetworkError
from flare.http.client import CallTimeout, HttpClient
from flare.http.errors import HttpProtocolError, TooManyRedirects

OK = response(b"hello")
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@contextmanager
def endless(start: bytes, again: Iterable[bytes]) -> Iterator[str]:
    """A server that answers with *start* and then *again* for as long as anybody reads."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(10)
            try:
                connection.recv(65536)
                connection.sendall(start)
                for each in again:
                    connection.sendall(each)
            except OSError:
                pass  # the client has had enough

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            thread.join(20)


for_ever = itertools.repeat


@pytest.mark.parametrize(
    ("start", "again"),
    [
        (b"HTTP/1.1 200 ", b"O" * 4096),
        (HEAD, b"X-Filler: 0123456789\r\n" * 200),
        (HEAD + b"X: ", b"y" * 4096),
        (HEAD + b"X: y\r\n", b" folded\r\n" * 400),
        (b"", b"\r\n" * 2000),
        (b"", b"garbage " * 500),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 100),
        (CHUNKED, b"1;" + b"e" * 4000),
        (CHUNKED, b"1;extension=0123456789\r\nx\r\n" * 100),
        (CHUNKED, b"0" * 4096),
        (CHUNKED + b"0\r\n", b"X-Trailer: 0123456789\r\n" * 200),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_goes_on_for_ever_is_cut_off_as_no_http(start, again, stream):
    with endless(start, for_ever(again)) as base, HttpClient(base, timeout_ms=20_000) as client:
        with pytest.raises(HttpProtocolError):
            client.get("/", stream=stream).read_all() if stream else client.get("/")
        assert "active=0 idle=0" in repr(client)


@pytest.mark.parametrize(
    "start", [CHUNKED, HEAD + b"\r\n", HEAD + b"Content-Length: 9999999\r\n\r\n"]
)
def test_an_endless_body_is_bounded_by_what_the_caller_allows(start):
    piece = b"1000\r\n" + b"x" * 4096 + b"\r\n" if start is CHUNKED else b"x" * 4096
    with (
        endless(start, for_ever(piece)) as base,
        HttpClient(base, max_response_bytes=100_000) as client,
    ):
        with pytest.raises(NetworkError, match="max_response_bytes, 100000"):
            client.get("/")
        assert "active=0 idle=0" in repr(client)


def test_an_endless_body_that_is_streamed_ends_with_its_reader():
    with endless(HEAD + b"\r\n", for_ever(b"x" * 4096)) as base, HttpClient(base) as client:
        with client.get_streaming("/") as download:
            assert download.read(1_000_000) == b"x" * 1_000_000
        assert "active=0 idle=0" in repr(client)


@pytest.mark.parametrize("start", [CHUNKED, HEAD + b"X: ", HEAD + b"Content-Length: 99999\r\n\r\n"])
def test_bytes_that_keep_coming_one_by_one_run_into_the_total(start, ticking):
    ticking(1)

    def drip() -> Iterator[bytes]:
        pause = threading.Event()
        while not pause.wait(0.005):
            yield b"1"  # a digit more of a size, a byte more of a field or of the body

    with endless(start, drip()) as base, HttpClient(base, timeout_ms=20_000) as client:
        # A size line may grow too long before the time is up.
        with pytest.raises((CallTimeout, HttpProtocolError)) as caught:
            client.get("/")
        if start is not CHUNKED:
            assert isinstance(caught.value, CallTimeout)
            assert caught.value.phase == "total"


def test_interim_responses_do_not_stretch_the_total(ticking):
    ticking(2)

    def hints() -> Iterator[bytes]:
        pause = threading.Event()
        while not pause.wait(0.02):
            yield b"HTTP/1.1 102 Processing\r\n\r\n"

    with (
        endless(b"", hints()) as base,
        HttpClient(base, timeout_ms=20_000) as client,
        pytest.raises((CallTimeout, HttpProtocolError)),
    ):
        client.get("/")


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (response(b"hello") + b"more than it said", b"hello"),
        (response(b"hello") + response(b"and another"), b"hello"),
        (response(b"") + b"x", b""),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", b""),
        (b"HTTP/1.1 304 Not Modified\r\n\r\nhello", b""),
        (CHUNKED + b"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", b"hello"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_bytes_behind_a_response_answer_nobody(answer, body, stream):
    with (
        ScriptedServer([answers(answer), answers(OK)]) as server,
        HttpClient(server.base) as client,
    ):
        with client.get("/", stream=stream) as got:
            assert got.body == body
        assert client.idle_count() == 0
        assert client.get("/").body == b"hello"
        assert server.connections == 2


def test_bytes_that_come_while_the_connection_is_idle_answer_nobody():
    idle, sent = threading.Event(), threading.Event()
    script = [Whole(), Send(OK), Wait(idle), Send(response(b"poison")), Set(sent), Head()]
    with (
        ScriptedServer([script, answers(OK)]) as server,
        HttpClient(server.base) as client,
    ):
        assert client.get("/").body == b"hello"
        assert client.idle_count() == 1
        idle.set()
        assert sent.wait(10)
        wait_for_input(client)
        assert client.get("/").body == b"hello"
        assert server.connections == 2


def test_a_head_request_is_not_answered_by_the_body_it_must_not_have():
    with (
        ScriptedServer([answers(OK), answers(response(b"next"))]) as server,
        HttpClient(server.base) as client,
    ):
        assert client.head("/").body == b""
        assert client.get("/").body == b"next"
        assert server.connections == 2


@pytest.mark.parametrize("length", [6, 100, 2**40, 2**63 - 1])
@pytest.mark.parametrize("stream", [False, True])
def test_a_body_shorter_than_it_said_is_incomplete(length, stream):
    answer = HEAD + b"Content-Length: %d\r\n\r\nhello" % length
    with ScriptedServer([answers(answer)]) as server, HttpClient(server.base) as client:
        with pytest.raises(HttpProtocolError, match=f"incomplete.*{length - 5} bytes"):
            client.get("/", stream=stream).read_all() if stream else client.get("/")
        assert "active=0 idle=0" in repr(client)


def test_redirects_that_lead_in_a_circle_or_nowhere_new_end():
    there = response(b"", "302 Found", "Location: /there")
    back = response(b"", "307 Temporary Redirect", "Location: /")
    script = answers(*[there, back] * 6)
    with (
        ScriptedServer([script]) as server,
        HttpClient(server.base) as client,
        pytest.raises(TooManyRedirects) as caught,
    ):
        client.get("/")
    assert caught.value.count == 10
    assert len(server.requests()) == 11


def test_a_redirect_with_an_endless_body_is_followed_all_the_same():
    with ScriptedServer([answers(response(b"there"))]) as target:
        moved = f"HTTP/1.1 302 Found\r\nLocation: {target.base}/\r\n\r\n".encode()
        with endless(moved, for_ever(b"x" * 4096)) as base, HttpClient() as client:
            got = client.get(f"{base}/", timeout=10)
            assert got.body == b"there"
            assert client.idle_count() == 1
