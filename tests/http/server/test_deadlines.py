"""Every wait for a client has a deadline of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from dispatching import skip, until, worker_of
from serving import PATIENCE, Connect, Peer, Serve, Start

from flare.http import Request, Response, StreamingResponse, ok
from flare.http.server import ServerConfig
from flare.http.server.wire import HEAD

BRIEF, AMPLE = 60, 10_000
OFF = ServerConfig(
    idle_timeout_ms=0,
    header_timeout_ms=0,
    read_body_timeout_ms=0,
    write_timeout_ms=0,
    handler_timeout_ms=0,
    request_timeout_ms=0,
)
HEAD_PART = b"GET / HTTP/1.1\r\nHost: h"
BODY_PART = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf"
CHUNK_PART = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nha"


def hello(request: Request) -> Response:
    return ok("hello")


def only(**deadlines: int) -> ServerConfig:
    return replace(OFF, **deadlines)


def answers(peer: Peer) -> bool:
    peer.get("/")
    return peer.read().body == b"hello"


def test_a_silent_connection_is_closed_without_a_word(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(hello, only(idle_timeout_ms=BRIEF)))
    assert peer.is_ended()


def test_silence_between_requests_is_closed_without_a_word(start: Start, connect: Connect) -> None:
    running = start(hello, only(idle_timeout_ms=AMPLE))
    peer = connect(running.address)
    assert answers(peer)
    skip(worker_of(running), AMPLE)
    assert peer.is_ended()


def test_a_blank_line_behind_a_body_is_silence(start: Start, connect: Connect) -> None:
    """Old clients send one; a 408 would be taken for the answer to their next request."""
    running = start(hello, only(idle_timeout_ms=AMPLE, header_timeout_ms=AMPLE))
    worker = worker_of(running)
    peer = connect(running.address)
    peer.post(b"x")
    assert peer.read().status == 200
    before = worker.tally.bytes_in
    peer.send(b"\r\n")
    until(lambda: worker.tally.bytes_in == before + 2)
    skip(worker, AMPLE)
    assert peer.is_ended()


@pytest.mark.parametrize(
    ("part", "deadline"),
    [
        (b"G", "header_timeout_ms"),
        (HEAD_PART, "header_timeout_ms"),
        (BODY_PART, "read_body_timeout_ms"),
        (CHUNK_PART, "read_body_timeout_ms"),
        (b"G", "request_timeout_ms"),
        (HEAD_PART, "request_timeout_ms"),
        (BODY_PART, "request_timeout_ms"),
    ],
)
@pytest.mark.parametrize("before", [0, 1])
def test_half_a_request_gets_408(
    serve: Serve, connect: Connect, part: bytes, deadline: str, before: int
) -> None:
    peer = connect(serve(hello, only(**{deadline: BRIEF})))
    for _ in range(before):
        assert answers(peer)
    peer.send(part)
    reply = peer.read()
    assert (reply.status, reply.body) == (408, b"408 Request Timeout")
    assert reply.get("connection") == "close"
    assert peer.rest() == b""


def drip(peer: Peer, first: bytes, byte: bytes) -> None:
    """Send slowly until the server answers."""
    peer.send(first)
    peer.sock.settimeout(0.01)
    deadline = time.monotonic() + PATIENCE
    while not peer.buffer:
        assert time.monotonic() < deadline, "it lives for ever"
        peer.send(byte)
        try:
            peer._more()
        except TimeoutError:
            continue
    peer.sock.settimeout(PATIENCE)


@pytest.mark.parametrize(
    ("deadline", "first", "byte"),
    [
        ("header_timeout_ms", b"GET / HTTP/1.1\r\nHost: h\r\nX: ", b"y"),
        (
            "read_body_timeout_ms",
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9999\r\n\r\n",
            b"y",
        ),
        ("read_body_timeout_ms", CHUNK_PART[:-5], b"1\r\ny\r\n"),
        ("request_timeout_ms", b"GET / HTTP/1.1\r\nHost: h\r\nX: ", b"y"),
    ],
)
def test_a_byte_now_and_then_does_not_move_the_deadline(
    serve: Serve, connect: Connect, deadline: str, first: bytes, byte: bytes
) -> None:
    peer = connect(serve(hello, only(**{deadline: BRIEF})))
    drip(peer, first, byte)
    assert peer.read().status == 408


def test_the_second_request_of_a_connection_has_a_deadline_of_its_own(
    start: Start, connect: Connect
) -> None:
    running = start(hello, only(header_timeout_ms=AMPLE, request_timeout_ms=AMPLE))
    worker = worker_of(running)
    peer = connect(running.address)
    for _ in range(4):  # together longer than one deadline
        peer.send(b"GET / HTTP/1.1\r\n")
        until(lambda: [each.wire.phase for each in worker.connections.values()] == [HEAD])
        skip(worker, AMPLE // 2)
        peer.send(b"Host: h\r\n\r\n")
        assert peer.read().status == 200


def test_half_a_request_behind_a_whole_one_gets_its_408(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(hello, only(header_timeout_ms=BRIEF)))
    peer.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /two HT")
    assert peer.read().status == 200
    assert peer.read().status == 408


def buffered(_: Request) -> Response:
    return ok(b"x" * 30_000_000)


def streamed(_: Request) -> StreamingResponse:
    return StreamingResponse(200, (b"x" * 65536 for _ in range(500)))


@pytest.mark.parametrize("handler", [buffered, streamed])
def test_a_client_that_never_reads_is_dropped(
    serve: Serve, connect: Connect, handler: Callable[[Request], object]
) -> None:
    config = replace(OFF, write_timeout_ms=BRIEF, max_connections=1)
    address = serve(lambda request: handler(request) if request.url == "/big" else ok(), config)
    connect(address, receive_buffer=4096).get("/big")
    # The kernel keeps trying to deliver what it took, so the client sees no end; the place does.
    waiting = connect(address)
    waiting.get("/")
    assert waiting.read().status == 200


def test_a_slow_reader_that_makes_progress_is_kept(start: Start, connect: Connect) -> None:
    size = 50_000_000
    config = only(write_timeout_ms=AMPLE, request_timeout_ms=AMPLE)
    running = start(lambda _: ok(b"x" * size), config)
    worker = worker_of(running)
    peer = connect(running.address, receive_buffer=65_536)
    peer.get("/")
    until(lambda: worker.tally.bytes_out)
    seen = 0
    for _ in range(4):  # together longer than either deadline
        skip(worker, AMPLE // 2)
        gone = worker.tally.bytes_out
        while worker.tally.bytes_out == gone:
            seen += len(peer.sock.recv(65_536))
    assert worker.tally.bytes_out < size
    while seen < size:
        seen += len(peer.sock.recv(1 << 20))
    assert seen >= size


def test_without_deadlines_nothing_is_closed(serve: Serve, connect: Connect) -> None:
    address = serve(hello, OFF)
    silent, half = connect(address), connect(address)
    half.send(HEAD_PART)
    for peer in (silent, half):
        peer.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            peer._more()
        peer.sock.settimeout(PATIENCE)
    half.send(b"\r\n\r\n")
    assert half.read().status == 200
    assert answers(silent)


def test_two_hundred_clients_that_stall_in_every_phase_hold_nobody_up(
    start: Start, connect: Connect
) -> None:
    config = ServerConfig(
        idle_timeout_ms=AMPLE, header_timeout_ms=AMPLE, read_body_timeout_ms=AMPLE
    )
    running = start(hello, config)
    worker = worker_of(running)
    parts = [b"", b"G", HEAD_PART, BODY_PART, CHUNK_PART]
    stalled = [connect(running.address) for _ in range(200)]
    for number, peer in enumerate(stalled):
        peer.send(parts[number % len(parts)])
    assert answers(connect(running.address))
    until(lambda: worker.tally.bytes_in >= 40 * sum(map(len, parts)))
    skip(worker, AMPLE)
    for number, peer in enumerate(stalled):
        if number % len(parts):
            assert peer.read().status == 408
        else:
            assert peer.is_ended()


def is_at_rest() -> bool:
    before = time.process_time()
    time.sleep(0.3)
    return time.process_time() - before < 0.15


def test_connections_that_wait_take_no_processor_time(serve: Serve, connect: Connect) -> None:
    def handler(request: Request) -> object:
        if request.url == "/stream":
            return StreamingResponse(200, (b"x" * 65536 for _ in range(1000)))
        return ok(b"x" * (30_000_000 if request.url == "/big" else 1))

    address = serve(handler)
    for target in ("/big", "/stream"):
        for half_closed in (False, True):
            stuck = connect(address, receive_buffer=4096)
            stuck.get(target)
            if half_closed:
                stuck.finish_sending()
    for part in (b"", b"G", HEAD_PART, BODY_PART, b"BAD\r\n\r\n"):
        connect(address).send(part)
    time.sleep(0.1)  # until all of them wait, or nearly
    assert any(is_at_rest() for _ in range(5))


def slow(request: Request) -> Response:
    time.sleep(0.05)
    return ok("hello")


def test_a_handler_that_returns_late_on_the_loop_is_logged(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(only(handler_timeout_ms=10), dispatch="inline")
    with caplog.at_level(logging.WARNING, "flare.error"):
        peer = connect(serve(slow, config))
        assert answers(peer)
        assert answers(peer)
    assert "the handler took" in caplog.messages[0]


@pytest.mark.parametrize("mode", ["auto", "pool"])
def test_a_handler_that_takes_too_long_gets_503(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    released = threading.Event()

    def stuck(request: Request) -> Response:
        released.wait(PATIENCE)
        return ok("hello")

    config = replace(only(handler_timeout_ms=20), dispatch=mode)
    with caplog.at_level(logging.WARNING, "flare.error"):
        peer = connect(serve(stuck, config))
        peer.get("/")
        reply = peer.read()
    released.set()
    assert (reply.status, reply.get("connection")) == (503, "close")
    assert peer.rest() == b""
    assert "the handler took" in caplog.messages[0]
