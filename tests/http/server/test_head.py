"""Responses that have no body, whatever the handler says, and what follows them."""

from __future__ import annotations

import pytest
from serving import Connect, Peer, Serve

from flare.http import Request, Response, StreamingResponse, ok
from flare.http.server import stream_response


class Once:
    """A chunk source that must not be read."""

    closed = False

    def next(self, cancel: object) -> bytes:
        raise AssertionError("nobody wants the body")

    def close(self) -> None:
        self.closed = True


def next_is_in_step(peer: Peer) -> bool:
    peer.get("/next")
    return peer.read().body == b"next"


def beside(response: object) -> object:
    return lambda request: ok("next") if request.url == "/next" else response


def test_head_gets_the_length_of_the_body_and_not_the_body(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(beside(ok("four"))))
    peer.send(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
    reply = peer.read("HEAD")
    assert (reply.status, reply.get("content-length")) == (200, "4")
    assert next_is_in_step(peer)


def test_head_keeps_the_length_only_the_handler_knows(serve: Serve, connect: Connect) -> None:
    response = Response(200, headers={"Content-Length": "1234"})
    peer = connect(serve(beside(response)))
    peer.send(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert peer.read("HEAD").get("content-length") == "1234"
    assert next_is_in_step(peer)
    peer.get("/")
    assert peer.read().get("content-length") == "0"


@pytest.mark.parametrize("value", ["-1", "+5", "1_0", "\xb2", "", "abc", "5, 5"])
def test_head_gets_no_length_that_is_none(serve: Serve, connect: Connect, value: str) -> None:
    peer = connect(serve(beside(Response(200, headers={"Content-Length": value}))))
    peer.send(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert peer.read("HEAD").get("content-length") == "0"
    assert next_is_in_step(peer)


@pytest.mark.parametrize("source", [Once(), None])
def test_head_of_a_streamed_response_is_its_head(
    serve: Serve, connect: Connect, source: Once | None
) -> None:
    response = stream_response(source) if source else StreamingResponse(200, b"abc")
    peer = connect(serve(beside(response)))
    peer.send(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
    reply = peer.read("HEAD")
    if source is not None:
        assert reply.get("transfer-encoding") == "chunked"
        assert next_is_in_step(peer)
        assert source.closed
    else:
        assert reply.get("content-length") == "3"
        assert next_is_in_step(peer)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_error_of_a_handler_for_head_has_no_body(
    serve: Serve, connect: Connect, method: str
) -> None:
    def handler(request: Request) -> Response:
        if request.url == "/next":
            return ok("next")
        raise ValueError

    peer = connect(serve(handler))
    peer.send(f"{method} / HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    reply = peer.read(method)
    assert (reply.status, reply.get("content-length")) == (500, "21")
    assert next_is_in_step(peer)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("status", "length"),
    [(204, None), (304, None), (205, "0")],
)
def test_some_statuses_have_no_body(
    serve: Serve, connect: Connect, status: int, length: str | None, method: str, streamed: bool
) -> None:
    response = stream_response([b"body"], status) if streamed else Response(status, "", b"body")
    peer = connect(serve(beside(response)))
    peer.send(f"{method} / HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    reply = peer.read(method)
    assert (reply.status, reply.body) == (status, b"")
    assert reply.get("content-length") == length
    assert reply.get("transfer-encoding") is None
    assert next_is_in_step(peer)


def test_a_pipelined_mix_stays_in_step(serve: Serve, connect: Connect) -> None:
    def handler(request: Request) -> Response:
        return Response(int(request.url[1:]), "", b"body")

    peer = connect(serve(handler))
    asked = [("HEAD", 200), ("GET", 204), ("GET", 200), ("GET", 304), ("HEAD", 404), ("GET", 205)]
    for method, status in asked * 10:
        peer.send(f"{method} /{status} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    for method, status in asked * 10:
        reply = peer.read(method)
        assert reply.status == status
        assert reply.body == (b"body" if (method, status) == ("GET", 200) else b"")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"Host: h\r\nExpect: x\r\n", 417),
        (b"Host: h\r\nContent-Length: 99999999999\r\n", 413),
        (b"Host: h\r\nHost: h\r\n", 400),
        (b"Host: h\r\nTransfer-Encoding: chunked\r\n\r\nzz", 400),
    ],
)
def test_a_refused_head_has_no_body(
    serve: Serve, connect: Connect, fields: bytes, status: int
) -> None:
    peer = connect(serve(beside(ok("four"))))
    peer.send(b"HEAD / HTTP/1.1\r\n" + fields + b"\r\n")
    peer.finish_sending()
    reply = peer.read("HEAD")
    assert reply.status == status
    assert reply.get("content-length") not in ("", "0")
    assert peer.rest() == b""
