"""HTTP/1.0 clients."""

from __future__ import annotations

from serving import Connect, Serve

from flare.http import Request, Response, StreamingResponse, ok
from flare.http.server import stream_response


def test_the_answer_is_an_http_11_one_and_ends_the_connection(
    serve: Serve, connect: Connect
) -> None:
    peer = connect(serve(lambda request: ok(request.version)))
    peer.send(b"GET / HTTP/1.0\r\n\r\n")
    reply = peer.read()
    assert (reply.version, reply.body) == ("HTTP/1.1", b"HTTP/1.0")
    assert reply.get("connection") == "close"
    assert peer.is_ended()


def test_a_body_of_unknown_length_ends_with_the_connection(serve: Serve, connect: Connect) -> None:
    def handler(_: Request) -> Response:
        response = stream_response([b"a" * 100_000, b"", b"b"])
        response.trailers.set("X-Sum", "1")
        return response

    peer = connect(serve(handler))
    peer.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    reply = peer.read()
    assert reply.body == b"a" * 100_000 + b"b"
    assert reply.get("transfer-encoding") is reply.get("content-length") is None
    assert reply.get("trailer") is None
    assert reply.get("connection") == "close"


def test_a_streamed_body_of_known_length_keeps_the_connection(
    serve: Serve, connect: Connect
) -> None:
    peer = connect(serve(lambda _: StreamingResponse(200, b"abc")))
    for _ in range(2):
        peer.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        reply = peer.read()
        assert (reply.body, reply.get("connection")) == (b"abc", "keep-alive")


def test_an_upload_with_a_length_is_read(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(lambda request: ok(request.body)))
    peer.send(b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello")
    assert peer.read().body == b"hello"


def test_a_source_that_fails_cannot_be_told_from_a_short_one_but_is_reset_or_ended(
    serve: Serve, connect: Connect
) -> None:
    def body() -> object:
        yield b"abc"
        raise ValueError

    peer = connect(serve(lambda _: stream_response(body())))
    peer.send(b"GET / HTTP/1.0\r\n\r\n")
    assert peer.rest().endswith(b"\r\n\r\nabc")
