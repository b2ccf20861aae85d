"""Responses whose bodies are made while they are sent."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import PATIENCE, Connect, Serve, Start

from flare.errors import HttpStatusError
from flare.http import Body, Cancel, ChunkedBody, InlineBody, Request, Response, StreamingResponse
from flare.http.server import stream_response


class Source:
    """A chunk source that notes how it ended."""

    def __init__(self, *chunks: Any) -> None:
        self.chunks = list(chunks)
        self.closed = threading.Event()
        self.closings = 0

    def next(self, cancel: Cancel) -> Any:
        if not self.chunks:
            return None
        chunk = self.chunks.pop(0)
        if isinstance(chunk, BaseException):
            raise chunk
        return chunk

    def close(self) -> None:
        self.closings += 1
        self.closed.set()


class Promise:
    """A body with the length it is told to claim."""

    def __init__(self, length: Any, *chunks: Any) -> None:
        self.length = length
        self.source = Source(*chunks)

    def content_length(self) -> Any:
        if isinstance(self.length, Exception):
            raise self.length
        return self.length

    def next_chunk(self, cancel: Cancel) -> Any:
        return self.source.next(cancel)

    def close(self) -> None:
        self.source.close()


@pytest.mark.parametrize(
    "make",
    [
        lambda: [b"ab", b"", b"c"],
        lambda: (piece for piece in (b"ab", b"", b"c")),
        lambda: iter([bytearray(b"ab"), memoryview(b"c")]),
        lambda: Source(b"ab", b"", b"c"),
        lambda: ChunkedBody(Source(b"a", b"bc")),
        lambda: Promise(None, b"abc"),
    ],
)
@pytest.mark.parametrize("wrap", [stream_response, lambda body: StreamingResponse(200, body)])
def test_a_body_of_unknown_length_is_chunked(
    serve: Serve, connect: Connect, make: Callable[[], Any], wrap: Callable[[Any], Any]
) -> None:
    peer = connect(serve(lambda _: wrap(make())))
    for _ in range(2):
        peer.get("/")
        reply = peer.read()
        assert (reply.body, reply.get("transfer-encoding")) == (b"abc", "chunked")
        assert reply.get("date")
        assert reply.get("connection") == "keep-alive"


@pytest.mark.parametrize(
    "make",
    [
        lambda: InlineBody("abc"),
        lambda: b"abc",
        lambda: io.BytesIO(b"abc"),
        lambda: Promise(3, b"a", b"", b"bc"),
        lambda: Promise(3, b"a", b"bcdef", b"g"),
    ],
)
def test_a_body_of_known_length_is_counted(
    serve: Serve, connect: Connect, make: Callable[[], Any]
) -> None:
    peer = connect(serve(lambda _: stream_response(make())))
    for _ in range(2):
        peer.get("/")
        reply = peer.read()
        assert (reply.body, reply.get("content-length")) == (b"abc", "3")


def test_an_empty_body_of_either_kind_ends_at_once(serve: Serve, connect: Connect) -> None:
    bodies = {"/none": [], "/zero": b""}
    peer = connect(serve(lambda request: stream_response(bodies[request.url])))
    for target in ("/none", "/zero", "/none"):
        peer.get(target)
        assert peer.read().body == b""


def test_a_file_is_sent_from_where_it_stands_and_closed(
    serve: Serve, connect: Connect, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 1000)
    files = []

    def handler(_: Request) -> Response:
        file = path.open("rb")
        file.seek(6)
        files.append(file)
        return stream_response(file)

    peer = connect(serve(handler))
    peer.get("/")
    assert peer.read().body == path.read_bytes()[6:]
    peer.get("/")
    peer.read()
    assert files[0].closed


def test_chunks_are_framed_as_the_rfc_says(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(lambda _: stream_response([b"a" * 26, b"bc"])))
    peer.get("/", "Connection: close")
    _, _, body = peer.rest().partition(b"\r\n\r\n")
    assert body == b"1a\r\n" + b"a" * 26 + b"\r\n2\r\nbc\r\n0\r\n\r\n"


def test_trailers_follow_a_chunked_body_and_are_announced(serve: Serve, connect: Connect) -> None:
    def handler(_: Request) -> StreamingResponse[Any]:
        response = StreamingResponse(200, [b"x"])
        response.trailers.set("X-Sum", "1")
        response.trailers.set("Content-Length", "99")
        return response

    peer = connect(serve(handler))
    peer.get("/")
    reply = peer.read()
    assert reply.get("trailer") == "X-Sum"
    assert reply.trailers == [("X-Sum", "1")]


def test_trailers_set_while_the_body_is_made_are_sent(serve: Serve, connect: Connect) -> None:
    def handler(_: Request) -> StreamingResponse[Any]:
        def body() -> Iterator[bytes]:
            yield b"x"
            response.trailers.set("X-Sum", "1")

        response = StreamingResponse(200, body())
        return response

    peer = connect(serve(handler))
    peer.get("/")
    assert peer.read().trailers == [("X-Sum", "1")]


def test_framing_fields_of_the_handler_are_dropped(serve: Serve, connect: Connect) -> None:
    headers = {"content-length": "9", "TRANSFER-ENCODING": "gzip", "trailer": "x", "X-Mine": "1"}
    peer = connect(serve(lambda _: StreamingResponse(200, [b"abc"], headers=headers)))
    peer.get("/")
    reply = peer.read()
    assert reply.get("content-length") is reply.get("trailer") is None
    assert (reply.get("transfer-encoding"), reply.get("x-mine")) == ("chunked", "1")


def test_a_body_that_is_too_short_is_cut_off(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    body = Promise(10, b"abc")
    peer = connect(serve(lambda _: stream_response(body)))
    peer.get("/")
    assert peer.rest().endswith(b"\r\n\r\nabc")
    assert "7 bytes less than its Content-Length" in caplog.text
    assert body.source.closings == 1


@pytest.mark.parametrize(
    "failure", [ValueError("inside"), HttpStatusError(404, "inside"), "text", 5, OSError("inside")]
)
def test_a_source_that_fails_is_cut_off_without_a_last_chunk(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture, failure: Any
) -> None:
    source = Source(b"abc", failure, b"never")
    peer = connect(serve(lambda _: stream_response(source)))
    peer.get("/")
    assert peer.rest().endswith(b"\r\n\r\n3\r\nabc\r\n")
    assert source.closings == 1
    assert len([r for r in caplog.records if r.levelno >= logging.ERROR]) == 1


def test_a_source_that_fails_to_close_harms_nobody(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    class Bad(Source):
        def close(self) -> None:
            raise OSError("stuck")

    peer = connect(serve(lambda _: stream_response(Bad(b"abc"))))
    for _ in range(2):
        peer.get("/")
        assert peer.read().body == b"abc"
    assert "stuck" in caplog.text


@pytest.mark.parametrize("length", ["3", -1, 3.0, RuntimeError("no"), [3]])
def test_a_length_that_is_none_gets_500(serve: Serve, connect: Connect, length: Any) -> None:
    body = Promise(length, b"abc")
    peer = connect(serve(lambda _: stream_response(body)))
    for _ in range(2):
        peer.get("/")
        assert peer.read().status == 500
    assert body.source.closed.is_set()


@pytest.mark.parametrize("source", ["text", None, 5, io.StringIO("text")])
def test_a_source_that_is_none_is_no_fault_of_the_clients(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture, source: Any
) -> None:
    peer = connect(serve(lambda _: StreamingResponse(200, source)))
    peer.get("/")
    assert peer.read().status == 500
    assert [r.levelno for r in caplog.records] == [logging.ERROR]


def test_a_file_that_is_open_as_text_is_refused(
    serve: Serve, connect: Connect, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("text")

    def handler(_: Request) -> StreamingResponse[Any]:
        with open(tmp_path / "file") as file:
            return StreamingResponse(200, file)

    peer = connect(serve(handler))
    peer.get("/")
    assert peer.read().status == 500


def test_a_source_is_closed_once_it_is_read(serve: Serve, connect: Connect) -> None:
    source = Source(b"abc")
    peer = connect(serve(lambda _: stream_response(source)))
    peer.get("/")
    peer.read()
    assert source.closed.wait(PATIENCE)
    assert source.closings == 1


def test_a_source_is_closed_when_the_client_leaves(serve: Serve, connect: Connect) -> None:
    source = Source(*[b"x" * 100_000] * 1000)
    peer = connect(serve(lambda _: stream_response(source)))
    peer.get("/")
    peer.sock.recv(10)
    peer.close()
    assert source.closed.wait(PATIENCE)
    assert source.chunks


def test_a_source_is_closed_when_the_server_is(start: Start, connect: Connect) -> None:
    source = Source(*[b"x" * 100_000] * 1000)
    running = start(lambda _: stream_response(source))
    peer = connect(running.address)
    peer.get("/")
    peer.sock.recv(10)
    running.stop()
    assert source.closings == 1


def test_a_generator_ends_with_its_connection(serve: Serve, connect: Connect) -> None:
    ended = threading.Event()

    def body() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 65536
        finally:
            ended.set()

    peer = connect(serve(lambda _: stream_response(body())))
    peer.get("/")
    peer.sock.recv(10)
    peer.close()
    assert ended.wait(PATIENCE)


def test_endless_streams_leave_turns_for_other_clients(serve: Serve, connect: Connect) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 1000

    def handler(request: Request) -> Response:
        return stream_response(endless()) if request.url == "/endless" else Response()

    address = serve(handler)
    greedy, other = connect(address), connect(address)
    greedy.get("/endless")
    stop = threading.Event()

    def drink() -> None:
        while not stop.is_set():
            greedy.sock.recv(1 << 20)

    reader = threading.Thread(target=drink)
    reader.start()
    for _ in range(20):
        other.get("/")
        assert other.read().status == 200
    stop.set()
    reader.join(PATIENCE)


def test_a_body_is_made_no_faster_than_it_is_read(serve: Serve, connect: Connect) -> None:
    made: list[int] = []

    def body() -> Iterator[bytes]:
        for number in range(2000):
            made.append(number)
            yield b"x" * 65536

    peer = connect(serve(lambda _: stream_response(body())), receive_buffer=4096)
    peer.get("/")
    peer.sock.recv(10)
    other = connect(peer.sock.getpeername())
    other.get("/")
    other.sock.recv(10)
    assert len(made) < 1000


def test_a_protocol_check_knows_the_shapes() -> None:
    assert isinstance(InlineBody(b""), Body)
    assert isinstance(Promise(None), Body)
