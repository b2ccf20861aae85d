"""Handlers that read the body of their request while it arrives."""

from __future__ import annotations

import hashlib
import random
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dispatching import is_quiet, reset, skip, until, worker_of
from serving import PATIENCE, Connect, Peer, Serve, Start

from flare.errors import HttpStatusError
from flare.http import (
    Cancel,
    Request,
    RequestBodyTimeout,
    RequestBodyTruncated,
    Response,
    Router,
    StreamingResponse,
    ok,
    stream_body,
)
from flare.http.server import ServerConfig, stream_response
from flare.http.server.connection import Connection
from flare.http.server.intake import Intake
from flare.http.server.wire import BODY, HEAD, IDLE
from flare.http.server.worker import Worker

EXPECT = "Expect: 100-continue"


def head(*lines: str, target: str = "/") -> bytes:
    return "\r\n".join([f"POST {target} HTTP/1.1", "Host: h", *lines, "", ""]).encode()


def streamed(handler: Callable[[Request], Any], limit: int | None = None) -> Router:
    """*handler* under ``/``, and a plain one besides."""
    router = Router()
    router.post("/", handler, stream_body=True, max_body_size=limit)
    router.post("/plain", lambda request: ok(request.body))
    router.get("/health", lambda request: ok("well"))
    return router


def whole(request: Request) -> Response:
    response = ok(request.stream.read())
    for name, value in request.trailers.items():
        response.headers.append(name, value)
    return response


class Reading:
    """Reads when told, and says what came of it."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.failed = threading.Semaphore(0)
        self.errors: list[Exception] = []

    def __call__(self, request: Request) -> Response:
        self.entered.release()
        assert self.go.acquire(timeout=PATIENCE)
        try:
            return ok(str(len(request.stream.read())))
        except Exception as error:
            self.errors.append(error)
            self.failed.release()
            raise

    def await_entry(self) -> None:
        assert self.entered.acquire(timeout=PATIENCE)


def test_a_body_is_read_whichever_way_it_is_framed(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(streamed(whole)))
    for _ in range(2):
        peer.post(b"counted")
        assert peer.read().body == b"counted"
        peer.send(head("Transfer-Encoding: chunked"))
        for piece in (b"5\r\nhel", b"lo\r\n", b"1\r\n!\r\n0\r\nX-Sum: 6\r\n", b"\r\n"):
            peer.send(piece)
        reply = peer.read()
        assert (reply.body, reply.get("x-sum")) == (b"hello!", "6")
        peer.post(b"")
        assert peer.read().body == b""
        peer.post(b"whole", target="/plain")
        assert peer.read().body == b"whole"


def test_a_handler_sees_the_first_bytes_before_the_last_are_sent(
    serve: Serve, connect: Connect
) -> None:
    seen: list[bytes] = []
    told = threading.Semaphore(0)

    def handler(request: Request) -> Response:
        for line in request.stream:
            seen.append(line)
            told.release()
        return ok()

    peer = connect(serve(streamed(handler)))
    peer.send(head("Content-Length: 9"))
    for line in (b"ab\n", b"cd\n", b"ef\n"):
        peer.send(line)
        assert told.acquire(timeout=PATIENCE)
    assert seen == [b"ab\n", b"cd\n", b"ef\n"]
    assert peer.read().status == 200


def test_a_marked_function_and_a_mounted_one_stream_too(serve: Serve, connect: Connect) -> None:
    @stream_body(max_body_size=5)
    def marked(request: Request) -> Response:
        return ok(type(request).__name__.encode() + request.stream.read())

    outer = Router()
    inner = Router()
    inner.post("/in", marked)
    outer.mount("/out", inner)
    for handler, target in ((marked, "/"), (outer, "/out/in")):
        peer = connect(serve(handler))
        peer.post(b"12345", target=target)
        assert peer.read().body == b"StreamedRequest12345"
        peer.post(b"123456", target=target)
        assert peer.read().status == 413


def test_it_never_runs_on_the_loop(start: Start, connect: Connect) -> None:
    config = ServerConfig(dispatch="inline")
    reading = Reading()
    running = start(streamed(reading), config)
    peer, other = connect(running.address), connect(running.address)
    peer.send(head("Content-Length: 5"))
    reading.await_entry()
    other.get("/health")
    assert other.read().body == b"well"
    reading.go.release()
    peer.send(b"hello")
    assert peer.read().body == b"5"


def test_text_json_and_body_read_it_all(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(streamed(lambda request: ok(request.json()["a"] + request.text()))))
    peer.post(b'{"a": "b"}')
    assert peer.read().body == b'b{"a": "b"}'


def test_pipelined_requests_stay_in_step(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(streamed(whole)))
    chunked = head("Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n"
    counted = head("Content-Length: 4") + b"POST"
    plain = head("Content-Length: 2", target="/plain") + b"xy"
    peer.send((chunked + counted + plain) * 10)
    for _ in range(10):
        assert [peer.read().body for _ in range(3)] == [b"abc", b"POST", b"xy"]


# -- back-pressure ----------------------------------------------------------------------------


def sends_until_it_blocks(peer: Peer, most: int) -> int:
    peer.sock.settimeout(0.2)
    sent = 0
    try:
        while sent < most:
            sent += peer.sock.send(b"x" * min(65536, most - sent))
    except TimeoutError:
        pass
    peer.sock.settimeout(PATIENCE)
    return sent


def test_nothing_is_received_that_the_handler_does_not_read(start: Start, connect: Connect) -> None:
    reading = Reading()
    size = 64 << 20
    running = start(streamed(reading, size))
    peer = connect(running.address)
    peer.send(head(f"Content-Length: {size}"))
    reading.await_entry()
    sent = sends_until_it_blocks(peer, size)
    assert sent < size // 2  # the kernel's buffers took the rest, and no more
    [connection] = worker_of(running).connections.values()
    intake = connection._intake
    assert intake is not None
    assert intake.queue.received <= 2 * 65536
    reading.go.release()
    peer.send(b"x" * (size - sent))
    assert peer.read().body == str(size).encode()


def test_a_large_upload_takes_little_memory(serve: Serve, connect: Connect) -> None:
    import tracemalloc

    size = 100 << 20

    def handler(request: Request) -> Response:
        digest = hashlib.sha256()
        while piece := request.stream.read(65536):
            digest.update(piece)
        return ok(digest.hexdigest())

    block = bytes(range(256)) * 256
    peer = connect(serve(streamed(handler, size)))
    expected = hashlib.sha256()
    tracemalloc.start()
    try:
        peer.send(head(f"Content-Length: {size}"))
        for _ in range(size // len(block)):
            peer.send(block)
            expected.update(block)
        assert peer.read().body == expected.hexdigest().encode()
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


# -- Expect -----------------------------------------------------------------------------------


def test_a_waiting_client_is_told_when_the_handler_first_reads(
    serve: Serve, connect: Connect
) -> None:
    reading = Reading()
    peer = connect(serve(streamed(reading)))
    peer.send(head("Content-Length: 5", EXPECT))
    reading.await_entry()
    peer.sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        peer.sock.recv(1)
    peer.sock.settimeout(PATIENCE)
    reading.go.release()
    assert peer.read().status == 100
    peer.send(b"hello")
    assert peer.read().body == b"5"
    peer.post(b"again", target="/plain")
    assert peer.read().body == b"again"


def test_a_client_that_did_not_wait_is_not_told(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(streamed(whole)))
    peer.send(head("Content-Length: 5", EXPECT) + b"hello")
    assert peer.read().body == b"hello"


def test_a_waiting_client_that_is_refused_is_never_told(serve: Serve, connect: Connect) -> None:
    def refuse(request: Request) -> Response:
        raise HttpStatusError(403, "no")

    peer = connect(serve(streamed(refuse)))
    peer.send(head("Content-Length: 5", EXPECT))
    reply = peer.read()
    assert (reply.status, reply.get("connection")) == (403, "close")
    peer.finish_sending()
    assert peer.is_ended()


def test_what_makes_a_streamed_answer_may_be_what_reads(serve: Serve, connect: Connect) -> None:
    """100 cannot come behind the head of the answer, so it comes in front."""

    def echo(request: Request) -> StreamingResponse:
        def pieces() -> Iterator[bytes]:
            yield request.stream.read()

        return stream_response(pieces())

    peer = connect(serve(streamed(echo)))
    peer.send(head("Content-Length: 5", EXPECT))
    assert peer.read().status == 100
    peer.send(b"hello")
    assert peer.read().body == b"hello"


# -- limits and errors ------------------------------------------------------------------------


def test_a_body_that_says_it_is_too_large_never_reaches_the_handler(
    serve: Serve, connect: Connect
) -> None:
    called: list[Request] = []
    address = serve(streamed(lambda request: called.append(request), 10))  # type: ignore[func-returns-value]
    peer = connect(address)
    peer.send(head("Content-Length: 11", EXPECT))
    assert peer.read().status == 413
    assert not called


def test_the_servers_own_limit_stays_for_other_routes(serve: Serve, connect: Connect) -> None:
    config = ServerConfig(max_body_size=4, max_header_size=8192)
    address = serve(streamed(whole, 100), config)
    peer = connect(address)
    peer.post(b"12345")
    assert peer.read().body == b"12345"
    peer.post(b"1234", target="/plain")
    assert peer.read().body == b"1234"
    peer.post(b"12345", target="/plain")
    assert peer.read().status == 413
    peer = connect(address)
    peer.send(head("Transfer-Encoding: chunked", target="/plain") + b"5\r\n12345\r\n0\r\n\r\n")
    assert peer.read().status == 413


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"5\r\nhello\r\n6\r\nworld!\r\n0\r\n\r\n", 413),
        (b"5\r\nhello\r\nnonsense\r\n", 400),
        (b"5\r\nhello!\r\n", 400),
    ],
)
def test_a_body_that_goes_wrong_is_the_handlers_error(
    serve: Serve, connect: Connect, body: bytes, status: int
) -> None:
    peer = connect(serve(streamed(whole, 10)))
    peer.send(head("Transfer-Encoding: chunked") + body + head("Content-Length: 0"))
    reply = peer.read()
    assert (reply.status, reply.get("connection")) == (status, "close")
    peer.finish_sending()
    assert peer.is_ended()


def test_a_handler_may_answer_for_a_body_that_went_wrong(serve: Serve, connect: Connect) -> None:
    def handler(request: Request) -> Response:
        try:
            request.stream.read()
        except OSError:
            return Response(422)
        return ok()

    peer = connect(serve(streamed(handler, 10)))
    peer.send(head("Transfer-Encoding: chunked") + b"b\r\nhello world\r\n")
    reply = peer.read()
    assert (reply.status, reply.get("connection")) == (422, "close")


# -- deadlines --------------------------------------------------------------------------------


def test_a_client_that_stops_sending_is_answered_408(serve: Serve, connect: Connect) -> None:
    reading = Reading()
    config = ServerConfig(read_body_timeout_ms=100, handler_timeout_ms=5000)
    peer = connect(serve(streamed(reading), config))
    peer.send(head("Content-Length: 5") + b"he")
    reading.await_entry()
    reading.go.release()
    reply = peer.read()
    assert (reply.status, reply.get("connection")) == (408, "close")
    assert isinstance(reading.errors[0], RequestBodyTimeout)


def test_a_client_that_drips_is_answered_408(serve: Serve, connect: Connect) -> None:
    config = ServerConfig(read_body_timeout_ms=300)
    peer = connect(serve(streamed(whole), config))
    peer.send(head("Content-Length: 5000"))
    ended = threading.Event()

    def drip() -> None:
        try:
            while not ended.wait(0.05):
                peer.send(b"x")
        except OSError:
            pass

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        assert peer.read().status == 408
    finally:
        ended.set()
        dripping.join(PATIENCE)


def intake_of(worker: Worker) -> Intake:
    """What takes in the body on the only connection."""
    until(lambda: [each._intake for each in worker.connections.values()] not in ([], [None]))
    [connection] = worker.connections.values()
    assert isinstance(connection, Connection)
    assert connection._intake is not None
    return connection._intake


def test_an_upload_may_take_longer_than_any_handler(start: Start, connect: Connect) -> None:
    config = ServerConfig(
        read_body_timeout_ms=4000, handler_timeout_ms=4000, request_timeout_ms=4000
    )
    running = start(streamed(whole), config)
    peer = connect(running.address)
    peer.send(head("Content-Length: 5000"))
    intake = intake_of(worker_of(running))
    for number in range(9):
        peer.send(b"x" * 500)
        until(lambda number=number: intake.queue.received == 500 * (number + 1))
        skip(worker_of(running), 500)  # a millisecond a byte
    peer.send(b"x" * 500)
    assert len(peer.read().body) == 5000


def test_a_handler_that_does_not_read_runs_out_of_time(start: Start, connect: Connect) -> None:
    reading = Reading()
    config = ServerConfig(handler_timeout_ms=10_000, read_body_timeout_ms=10_000)
    running = start(streamed(reading, 1 << 30), config)
    peer = connect(running.address)
    peer.send(head(f"Content-Length: {1 << 30}"))
    reading.await_entry()
    peer.send(b"x" * 100_000)
    intake = intake_of(worker_of(running))
    until(lambda: intake.queue.full and not intake._waits)
    skip(worker_of(running), 10_000)
    assert peer.read().status == 503
    reading.go.release()
    assert reading.failed.acquire(timeout=PATIENCE)
    assert isinstance(reading.errors[0], RequestBodyTruncated)


# -- who leaves early -------------------------------------------------------------------------


@pytest.mark.parametrize("leave", [lambda peer: peer.close(), reset])
def test_a_client_that_leaves_ends_the_read(
    start: Start, connect: Connect, leave: Callable[[Peer], None]
) -> None:
    reading = Reading()
    running = start(streamed(reading))
    peer = connect(running.address)
    peer.send(head("Content-Length: 5") + b"he")
    reading.await_entry()
    reading.go.release()
    leave(peer)
    assert reading.failed.acquire(timeout=PATIENCE)
    assert isinstance(reading.errors[0], RequestBodyTruncated)
    until(lambda: is_quiet(worker_of(running)) and not worker_of(running).connections)


def test_a_little_rest_is_skipped_and_the_connection_goes_on(
    serve: Serve, connect: Connect
) -> None:
    peer = connect(serve(streamed(lambda request: ok("early"))))
    peer.send(head("Content-Length: 6"))
    reply = peer.read()
    assert (reply.body, reply.get("connection")) == (b"early", "keep-alive")
    peer.send(b"POST /" + head("Content-Length: 2", target="/plain") + b"ok")
    assert peer.read().body == b"ok"


def test_the_next_request_has_its_own_time_after_a_rest_that_was_skipped(
    start: Start, connect: Connect
) -> None:
    config = ServerConfig(header_timeout_ms=10_000, read_body_timeout_ms=10_000)
    running = start(streamed(lambda request: ok("x")), config)
    worker = worker_of(running)
    clock, passed = worker.clock_ns, 0
    worker.clock_ns = lambda: clock() + passed
    peer = connect(running.address)
    for cut, phase in ((20, HEAD), (-1, BODY)):
        peer.send(head("Content-Length: 9") + b"some")
        assert peer.read().body == b"x"
        peer.send(b"bytes")
        [connection] = worker.connections.values()
        until(lambda c=connection: c.wire.phase == IDLE)
        passed += 20_000_000_000  # of the 30 s that it may be idle
        request = head("Content-Length: 2", target="/plain") + b"ok"
        peer.send(request[:cut])
        until(lambda c=connection, p=phase: c.wire.phase == p or not c.open)
        peer.send(request[cut:])
        assert peer.read().body == b"ok"


def test_a_rest_that_is_there_already_is_skipped(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(streamed(lambda request: ok("early"))))
    body = b"5\r\nhello\r\n0\r\n\r\n"
    peer.send((head("Transfer-Encoding: chunked") + body) * 3)
    for _ in range(3):
        reply = peer.read()
        assert (reply.body, reply.get("connection")) == (b"early", "keep-alive")


def test_a_large_rest_ends_the_connection_and_the_answer_is_read(
    serve: Serve, connect: Connect
) -> None:
    peer = connect(serve(streamed(lambda request: ok("early"), 1 << 30)))
    peer.send(head(f"Content-Length: {1 << 29}") + b"x" * 1000)
    reply = peer.read()
    assert (reply.body, reply.get("connection")) == (b"early", "close")
    peer.finish_sending()
    assert peer.is_ended()


def test_a_rest_that_does_not_come_is_not_waited_for_for_ever(
    serve: Serve, connect: Connect
) -> None:
    config = ServerConfig(read_body_timeout_ms=100)
    peer = connect(serve(streamed(lambda request: ok("early")), config))
    peer.send(head("Content-Length: 6") + b"abc")
    assert peer.read().body == b"early"
    assert peer.is_ended()


def test_a_stream_kept_past_its_request_is_refused(serve: Serve, connect: Connect) -> None:
    kept: list[Request] = []

    def handler(request: Request) -> Response:
        kept.append(request)
        return ok()

    peer = connect(serve(streamed(handler)))
    peer.send(head("Content-Length: 6"))
    assert peer.read().status == 200
    with pytest.raises(RequestBodyTruncated):
        kept[0].stream.read()


# -- answers beside the body ------------------------------------------------------------------


def test_a_response_is_streamed_while_the_body_is_read(serve: Serve, connect: Connect) -> None:
    def shout(request: Request) -> StreamingResponse[Any]:
        def lines() -> Iterator[bytes]:
            for line in request.stream:
                yield line.upper()

        return StreamingResponse(200, lines())

    peer = connect(serve(streamed(shout)))
    for _ in range(2):
        peer.send(head("Transfer-Encoding: chunked"))
        assert peer._until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        for word in (b"one", b"two"):
            peer.send(b"4\r\n%s\n\r\n" % word)
            assert peer._until(b"\r\n") == b"4"
            assert peer._exactly(6) == word.upper() + b"\n\r\n"
        peer.send(b"0\r\n\r\n")
        assert peer._exactly(5) == b"0\r\n\r\n"
    peer.post(b"ok", target="/plain")
    assert peer.read().body == b"ok"


def test_a_streamed_response_whose_body_goes_wrong_is_cut_off(
    serve: Serve, connect: Connect
) -> None:
    def echo(request: Request) -> StreamingResponse[Any]:
        return StreamingResponse(200, iter(lambda: request.stream.read1(), b""))

    peer = connect(serve(streamed(echo)))
    peer.send(head("Transfer-Encoding: chunked") + b"2\r\nab\r\n")
    assert peer._until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
    assert peer._exactly(7) == b"2\r\nab\r\n"
    peer.send(b"nonsense\r\n")
    assert peer.is_ended()


def test_a_streamed_response_that_leaves_a_large_body_ends_the_connection(
    serve: Serve, connect: Connect
) -> None:
    peer = connect(serve(streamed(lambda request: StreamingResponse(200, [b"early"]), 1 << 30)))
    peer.send(head(f"Content-Length: {1 << 29}") + b"x" * 1000)
    assert peer.read().body == b"early"
    peer.finish_sending()
    assert peer.is_ended()


# -- the server's end -------------------------------------------------------------------------


def test_a_drain_lets_an_upload_finish(start: Start, connect: Connect) -> None:
    reading = Reading()
    running = start(streamed(reading))
    peer = connect(running.address)
    peer.send(head("Content-Length: 5") + b"he")
    reading.await_entry()
    reports: list[Any] = []
    draining = threading.Thread(target=lambda: reports.append(running.server.drain(5000)))
    draining.start()
    until(lambda: worker_of(running).draining)
    reading.go.release()
    peer.send(b"llo")
    reply = peer.read()
    assert (reply.body, reply.get("connection")) == (b"5", "close")
    draining.join(PATIENCE)
    assert (reports[0].drained, reports[0].timed_out) == (1, 0)


def test_close_ends_a_read(start: Start, connect: Connect) -> None:
    reading = Reading()
    running = start(streamed(reading))
    peer = connect(running.address)
    peer.send(head("Content-Length: 5") + b"he")
    reading.await_entry()
    reading.go.release()
    running.stop()
    assert reading.failed.acquire(timeout=PATIENCE)
    assert isinstance(reading.errors[0], RequestBodyTruncated)


def test_cancel_flips_when_the_client_leaves(start: Start, connect: Connect) -> None:
    seen: list[int] = []
    entered, left = threading.Event(), threading.Event()

    class Handler:
        flare_stream_body = True
        flare_max_body_size = None

        def serve(self, request: Request, cancel: Cancel) -> Response:
            entered.set()
            assert cancel.wait(PATIENCE)
            seen.append(cancel.reason())
            left.set()
            return ok()

    from flare.http.server.kinds import Cancellable

    peer = connect(start(Cancellable(Handler())).address)
    peer.send(head("Content-Length: 5") + b"he")
    assert entered.wait(PATIENCE)
    peer.close()
    assert left.wait(PATIENCE)
    assert seen == [1]


# -- many of them -----------------------------------------------------------------------------


def test_slow_uploads_never_take_all_threads(start: Start, connect: Connect) -> None:
    config = ServerConfig(handler_threads=4, handler_queue=100)
    running = start(streamed(whole), config)
    uploads = [connect(running.address) for _ in range(20)]
    for peer in uploads:
        peer.send(head("Content-Length: 2") + b"a")
    worker = worker_of(running)
    until(lambda: len(worker.dispatch._held) == 18)
    other = connect(running.address)
    other.get("/health")
    assert other.read().body == b"well"
    for peer in uploads:
        peer.send(b"b")
    assert [peer.read().body for peer in uploads] == [b"ab"] * 20
    until(lambda: is_quiet(worker) and not worker.dispatch._streaming)


def test_uploads_past_the_queue_are_refused(start: Start, connect: Connect) -> None:
    config = ServerConfig(handler_threads=1, handler_queue=1)
    running = start(streamed(whole), config)
    first, second, third = (connect(running.address) for _ in range(3))
    for number, peer in enumerate((first, second), 1):
        peer.send(head("Content-Length: 2") + b"a")
        until(lambda number=number: worker_of(running).dispatch.away == number)
    third.send(head("Content-Length: 2") + b"a")
    reply = third.read()
    assert (reply.status, reply.get("retry-after"), reply.get("connection")) == (503, "1", "close")
    for peer in (first, second):
        peer.send(b"b")
        assert peer.read().body == b"ab"


def test_a_held_upload_whose_client_left_is_never_called(start: Start, connect: Connect) -> None:
    reading = Reading()
    running = start(streamed(reading), ServerConfig(handler_threads=1))
    first, second = connect(running.address), connect(running.address)
    first.send(head("Content-Length: 2") + b"a")
    reading.await_entry()
    second.send(head("Content-Length: 2") + b"a")
    worker = worker_of(running)
    until(lambda: len(worker.dispatch._held) == 1)
    reset(second)
    until(lambda: len(worker.connections) == 1)
    reading.go.release()
    first.send(b"b")
    assert first.read().body == b"2"
    until(lambda: is_quiet(worker))
    assert not reading.entered.acquire(blocking=False)


@pytest.mark.usefixtures("no_haste")
def test_bodies_of_every_size_stay_in_step(serve: Serve, connect: Connect) -> None:
    def handler(request: Request) -> Response:
        size = int(request.headers.get("x-read"))
        return ok(request.stream.read(size))

    peer = connect(serve(streamed(handler)))
    for number in range(300):
        size = number * 37 % 5000
        body = bytes([number % 256]) * size
        read = size // (1 + number % 3)
        if number % 2:
            peer.post(body, f"X-Read: {read}")
        else:
            peer.send(head("Transfer-Encoding: chunked", f"X-Read: {read}"))
            peer.send(b"%x\r\n%s\r\n" % (size, body) if size else b"")
            peer.send(b"0\r\n\r\n")
        reply = peer.read()
        assert reply.body == body[:read]
        if reply.get("connection") == "close":
            # A chunked rest that was not there yet: nobody knows how much of it would come.
            assert number % 2 == 0
            peer = connect(peer.sock.getpeername())


def test_a_handler_that_makes_room_just_now_gets_what_was_received_already(
    start: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue is full before the end of the body is in it, and empty a moment later."""
    go = threading.Event()
    watch = Intake.watch

    def let_it_read(intake: Intake) -> None:
        if intake.queue.full:
            go.set()
            until(lambda: intake.queue.taken == intake.queue.received)
        watch(intake)

    def handler(request: Request) -> Response:
        assert go.wait(PATIENCE)
        return ok(str(len(request.stream.read())))

    running = start(streamed(handler))
    peer = connect(running.address)
    monkeypatch.setattr(Intake, "watch", let_it_read)
    peer.send(head("Transfer-Encoding: chunked") + b"fff6\r\n" + bytes(0xFFF6) + b"\r\n")
    worker = worker_of(running)
    until(lambda: worker.connections)
    (connection,) = worker.connections.values()
    assert isinstance(connection, Connection)
    until(lambda: connection._intake is not None and connection._intake.queue.received == 0xFFF6)
    peer.send(b"a\r\n0123456789\r\n0\r\n\r\n")
    assert peer.read().body == b"65536"


def test_nothing_is_read_for_a_handler_that_has_closed_its_stream(
    start: Start, connect: Connect
) -> None:
    closed, go = threading.Event(), threading.Event()

    def handler(request: Request) -> Response:
        request.stream.read(5)
        request.stream.close()
        closed.set()
        assert go.wait(PATIENCE)
        return ok("answered")

    running = start(streamed(handler))
    peer = connect(running.address)
    peer.send(head("Content-Length: 100000") + b"begun")
    assert closed.wait(PATIENCE)
    (connection,) = worker_of(running).connections.values()
    assert isinstance(connection, Connection)
    intake = connection._intake
    assert intake is not None
    peer.send(b"more")
    until(lambda: not intake._waits)  # or it would be woken for that over and over
    assert connection.open
    go.set()
    assert peer.read().body == b"answered"


def test_every_answer_is_of_its_own_upload_while_others_leave(
    start: Start, connect: Connect
) -> None:
    """Threads that are switched all the time, uploads of every size, clients that go."""

    def handler(request: Request) -> Any:
        kind, size = request.headers.get("x-kind"), int(request.headers.get("x-size"))
        if kind == "early":
            return ok(request.stream.read(size // 2))
        if kind == "echo":
            return StreamingResponse(200, iter(request.stream.read1, b""))
        return ok(request.stream.read())

    config = ServerConfig(handler_threads=8)
    running = start(streamed(handler), config)
    errors: list[BaseException] = []

    def client(seed: int) -> None:
        chance = random.Random(seed)
        try:
            for _ in range(40):
                one(chance, bytes([seed]))
        except BaseException as error:
            errors.append(error)

    def one(chance: random.Random, byte: bytes) -> None:
        size = chance.choice([0, 1, 1000, 70_000, 200_000])
        kind = chance.choice(["whole", "early", "echo", "leave"])
        body = byte * size
        peer = Peer(running.address)
        try:
            lines = [f"X-Kind: {kind}", f"X-Size: {size}"]
            if kind == "leave":
                peer.send(head(f"Content-Length: {size + 9}", *lines) + body)
                if chance.random() < 0.5:
                    reset(peer)
                return
            for _ in range(2):
                if chance.random() < 0.5:
                    peer.post(body, *lines)
                else:
                    chunk = b"%x\r\n%s\r\n" % (size, body) if size else b""
                    peer.send(head("Transfer-Encoding: chunked", *lines) + chunk + b"0\r\n\r\n")
                reply = peer.read()
                assert reply.body == (body[: size // 2] if kind == "early" else body)
                if reply.get("connection") == "close":
                    return
        except (BrokenPipeError, ConnectionResetError):
            assert kind == "early"  # its rest was too large to wait for
        finally:
            peer.close()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        clients = [threading.Thread(target=client, args=(seed,)) for seed in range(1, 6)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join(50)
            assert not thread.is_alive()
    finally:
        sys.setswitchinterval(before)
    assert not errors
    worker = worker_of(running)
    until(lambda: is_quiet(worker) and not worker.connections)
    assert not worker.dispatch._streaming
    assert not worker.dispatch._held
