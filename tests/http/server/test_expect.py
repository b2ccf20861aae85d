"""``Expect: 100-continue``: who is told to go on, and who is not (RFC 9110 section 10.1.1)."""

from __future__ import annotations

import pytest
from serving import Connect, Peer, Serve

from flare.http import Request, Response, ok
from flare.http.server import ServerConfig

EXPECT = "Expect: 100-continue"


def echo(request: Request) -> Response:
    return ok(request.body)


def head(*lines: str, version: str = "1.1") -> bytes:
    return "\r\n".join([f"POST / HTTP/{version}", "Host: h", *lines, "", ""]).encode()


def is_told_to_go_on(peer: Peer) -> bool:
    reply = peer.read()
    return reply.head == b"HTTP/1.1 100 Continue"


@pytest.mark.parametrize("value", ["100-continue", "100-Continue", " 100-CONTINUE "])
def test_a_client_that_waits_is_told_once(serve: Serve, connect: Connect, value: str) -> None:
    peer = connect(serve(echo))
    for _ in range(2):
        peer.send(head("Content-Length: 10", f"Expect: {value}"))
        assert is_told_to_go_on(peer)
        peer.send(b"hello")
        peer.send(b"world")
        assert peer.read().body == b"helloworld"


def test_a_client_that_waits_to_send_chunks_is_told(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(echo))
    peer.send(head("Transfer-Encoding: chunked", EXPECT))
    assert is_told_to_go_on(peer)
    peer.send(b"5\r\nhello\r\n0\r\n\r\n")
    assert peer.read().body == b"hello"


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(head("Content-Length: 2", EXPECT) + b"hi", id="the body is there"),
        pytest.param(head("Content-Length: 0", EXPECT), id="an empty body"),
        pytest.param(head(EXPECT), id="no body"),
        pytest.param(head("Content-Length: 2", EXPECT, version="1.0") + b"hi", id="1.0"),
        pytest.param(
            head("Content-Length: 2", "Expect: nonsense", version="1.0") + b"hi", id="1.0 other"
        ),
    ],
)
def test_a_client_that_does_not_wait_is_not_told(
    serve: Serve, connect: Connect, request_bytes: bytes
) -> None:
    peer = connect(serve(echo))
    peer.send(request_bytes)
    assert peer.read().status == 200


def test_a_body_that_has_begun_to_arrive_waits_for_nothing(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(echo))
    peer.send(head("Content-Length: 4", EXPECT) + b"ha")
    peer.send(b"lf")
    assert peer.read().status == 200


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Content-Length: 101", EXPECT], 413),
        (["Content-Length: 1", "Content-Length: 2", EXPECT], 400),
        (["Transfer-Encoding: gzip, chunked", EXPECT], 501),
        (["Content-Length: 5", "Expect: something"], 417),
        (["Content-Length: 5", "Expect: 100-continue, something"], 417),
        (["Content-Length: 5", EXPECT, "Expect: something"], 417),
        (["Expect: something"], 417),
    ],
)
def test_a_refusal_comes_instead_of_100(
    serve: Serve, connect: Connect, lines: list[str], status: int
) -> None:
    peer = connect(serve(echo, ServerConfig(max_body_size=100)))
    peer.send(head(*lines))
    reply = peer.read()
    assert (reply.status, reply.get("connection")) == (status, "close")
    assert peer.rest() == b""


def test_leave_is_given_in_turn_behind_pipelined_requests(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(echo))
    peer.send(head("Content-Length: 1") + b"a" + head("Content-Length: 1", EXPECT))
    assert peer.read().body == b"a"
    assert is_told_to_go_on(peer)
    peer.send(b"b")
    assert peer.read().body == b"b"
