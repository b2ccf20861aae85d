"""Which connections stay open after a response, and which do not."""

from __future__ import annotations

import pytest
from serving import Connect, Serve

from flare.http import Request, Response, StreamingResponse, ok
from flare.http.server import ServerConfig


def hello(request: Request) -> Response:
    return ok(request.url)


def test_a_connection_serves_one_request_after_another(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(hello))
    for number in range(5):
        peer.get(f"/{number}")
        reply = peer.read()
        assert (reply.status, reply.body) == (200, f"/{number}".encode())
        assert reply.get("connection") == "keep-alive"


@pytest.mark.parametrize(
    ("version", "lines", "stays"),
    [
        ("1.1", [], True),
        ("1.1", ["Connection: keep-alive"], True),
        ("1.1", ["Connection: close"], False),
        ("1.1", ["Connection: CLOSE"], False),
        ("1.1", ["Connection: foo,\tclose"], False),
        ("1.1", ["Connection: foo", "Connection: close"], False),
        ("1.1", ["Connection: keep-alive, close"], False),
        ("1.1", ["Connection: closed"], True),
        ("1.0", [], False),
        ("1.0", ["Connection: keep-alive"], True),
        ("1.0", ["Connection: Keep-Alive"], True),
        ("1.0", ["Connection: keep-alive, close"], False),
        ("1.9", [], True),
    ],
)
def test_version_and_connection_options_decide(
    serve: Serve, connect: Connect, version: str, lines: list[str], stays: bool
) -> None:
    peer = connect(serve(hello))
    request = "\r\n".join([f"GET / HTTP/{version}", "Host: h", *lines, "", ""]).encode()
    peer.send(request)
    assert peer.read().get("connection") == ("keep-alive" if stays else "close")
    if stays:
        peer.send(request)
        assert peer.read().status == 200
    else:
        assert peer.is_ended()


def test_keep_alive_off_closes_after_each_response(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(hello, ServerConfig(keep_alive=False)))
    peer.get("/")
    assert peer.read().get("connection") == "close"
    assert peer.is_ended()


def test_the_last_request_of_a_connection_is_announced(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(hello, ServerConfig(max_keepalive_requests=3)))
    said = []
    for _ in range(3):
        peer.get("/")
        said.append(peer.read().get("connection"))
    assert said == ["keep-alive", "keep-alive", "close"]
    assert peer.is_ended()


@pytest.mark.parametrize("value", ["close", "Close", "x, close"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_handler_may_end_the_connection(
    serve: Serve, connect: Connect, value: str, streamed: bool
) -> None:
    def handler(request: Request) -> object:
        headers = {"Connection": value}
        if streamed:
            return StreamingResponse(200, [b"bye"], headers=headers)
        return Response(200, "", b"bye", headers=headers)

    peer = connect(serve(handler))
    peer.get("/")
    reply = peer.read()
    assert (reply.body, reply.get("connection")) == (b"bye", "close")
    assert peer.is_ended()


@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_that_ends_the_connection_is_read_though_more_was_sent(
    serve: Serve, connect: Connect, streamed: bool
) -> None:
    """What lies unread when a connection is closed makes the kernel send a reset."""

    def handler(request: Request) -> object:
        headers = {"Connection": "close"}
        if streamed:
            return StreamingResponse(200, [b"x" * 50_000], headers=headers)
        return Response(200, "", b"x" * 50_000, headers=headers)

    peer = connect(serve(handler))
    peer.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 1000)
    assert len(peer.read().body) == 50_000
    assert peer.rest() == b""


def test_a_handler_cannot_keep_what_the_client_wants_closed(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(lambda _: Response(200, headers={"Connection": "keep-alive"})))
    peer.get("/", "Connection: close")
    assert peer.read().get("connection") == "close"
    assert peer.is_ended()


def test_what_the_server_owns_comes_once_whatever_the_handler_sets(
    serve: Serve, connect: Connect
) -> None:
    headers = {
        "content-LENGTH": "99",
        "Transfer-Encoding": "chunked",
        "Keep-Alive": "timeout=5",
        "date": "yesterday",
        "X-Mine": "kept",
    }
    peer = connect(serve(lambda _: Response(200, "", b"abc", headers=headers)))
    peer.get("/")
    reply = peer.read()
    assert (reply.body, reply.get("content-length"), reply.get("x-mine")) == (b"abc", "3", "kept")
    assert reply.get("transfer-encoding") is reply.get("keep-alive") is None
    date = reply.get("date")
    assert date is not None
    assert date.endswith(" GMT")


def test_a_blank_line_between_requests_is_forgiven(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(hello))
    for _ in range(3):
        peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi\r\n")
        assert peer.read().status == 200


def test_half_closing_clients_get_their_answers(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(hello))
    peer.send(b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n")
    peer.finish_sending()
    assert [peer.read().body, peer.read().body] == [b"/1", b"/2"]
    assert peer.is_ended()


@pytest.mark.parametrize(
    "part", [b"", b"GET", b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab"]
)
def test_a_client_that_leaves_inside_a_request_gets_no_answer(
    serve: Serve, connect: Connect, part: bytes
) -> None:
    peer = connect(serve(hello))
    peer.get("/")
    peer.read()
    peer.send(part)
    peer.finish_sending()
    assert peer.is_ended()


def test_nagle_is_off_on_both_ends_of_a_response(serve: Serve, connect: Connect) -> None:
    """Two small writes, the second of which Nagle's algorithm would hold back for the first's
    acknowledgement; twenty such responses would take most of a second."""
    peer = connect(serve(lambda _: StreamingResponse(200, [b"a", b"b", b"c"])))
    for _ in range(20):
        peer.get("/")
        assert peer.read().body == b"abc"
