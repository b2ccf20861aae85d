"""``RequestStream``: a request's body as a file, and the queue between it and the loop."""

from __future__ import annotations

import copy
import io
import pickle
import shutil
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from flare.errors import HttpStatusError, ValidationError
from flare.http import Request, RequestStream, Response, Router, ok, stream_body
from flare.http.proto.headers import HeaderMap
from flare.http.request_stream import (
    BodyQueue,
    RequestBodyError,
    RequestBodyTimeout,
    RequestBodyTruncated,
)
from flare.testing import TestClient

PATIENCE = 10.0
TEXT = b"first\nsecond\n\nlast without end"


class Apart(deque[bytes]):
    """A deque that never seems to have anything to join to."""

    def __getitem__(self, index: Any) -> Any:
        return bytes(1 << 20)


def in_pieces(data: bytes, size: int) -> RequestStream:
    """A stream of pieces that stay apart."""
    queue = BodyQueue()
    queue._chunks = Apart()
    for start in range(0, len(data), size):
        queue.put(data[start : start + size])
    queue.end()
    return RequestStream(queue)


@pytest.mark.parametrize("size", [1, 2, 5, 7, 1000])
@pytest.mark.parametrize(
    "read",
    [
        lambda file: file.read(),
        lambda file: file.read(-1),
        lambda file: file.read(None),
        lambda file: [file.read(3) for _ in range(12)],
        lambda file: [file.read(0), file.read(4), file.read()],
        lambda file: list(file),
        lambda file: file.readlines(),
        lambda file: [file.readline(4) for _ in range(10)],
        lambda file: [file.readline(), file.read(2), file.readline(), file.read()],
        lambda file: (file.readinto(buffer := bytearray(8)), bytes(buffer)),
        lambda file: (file.readable(), file.writable(), file.seekable()),
        lambda file: io.TextIOWrapper(file, "ascii").read(),
    ],
)
def test_it_reads_as_any_binary_file(size: int, read: Callable[[object], object]) -> None:
    class OneWay(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def writable(self) -> bool:
            return False

    assert read(in_pieces(TEXT, size)) == read(OneWay(TEXT))


def test_read1_and_readinto1_give_what_is_there() -> None:
    stream = in_pieces(b"abc" * 1000, 1500)
    buffer = bytearray(8)
    assert len(stream.read1()) == 1500
    assert stream.read1(2) == b"ab"
    assert stream.readinto1(buffer) == 8
    assert buffer == b"cabcabca"
    assert len(stream.read1()) == 1490
    assert stream.read1() == b""


def test_it_can_be_copied_into_a_file() -> None:
    target = io.BytesIO()
    shutil.copyfileobj(in_pieces(TEXT * 1000, 997), target)
    assert target.getvalue() == TEXT * 1000


def test_a_read_waits_for_all_it_was_asked_for() -> None:
    queue = BodyQueue()
    stream = RequestStream(queue)
    got: list[bytes] = []
    waits = threading.Semaphore(0)
    queue.connect(waits.release)
    reader = threading.Thread(target=lambda: got.append(stream.read(6)))
    reader.start()
    assert waits.acquire(timeout=PATIENCE)
    for piece in (b"ab", b"cd", b"ef"):
        assert got == []
        queue.put(piece)
    reader.join(PATIENCE)
    assert got == [b"abcdef"]
    queue.end()


def test_the_producer_is_told_once_when_there_is_room() -> None:
    queue = BodyQueue(8000)
    told: list[int] = []
    assert not queue.connect(lambda: told.append(queue.taken))
    for _ in range(4):
        assert not queue.full
        queue.put(b"ab" * 1000)
    assert queue.full
    assert queue.notify_when_half_empty()
    while not told:
        queue.take()
    assert told == [4000]
    assert not queue.full
    queue.take()
    assert told == [4000]
    assert not queue.notify_at(6000)


def test_an_error_comes_behind_what_was_received_and_stays() -> None:
    queue = BodyQueue()
    queue.put(b"some")
    queue.fail(RequestBodyTimeout(408, "too slow"))
    stream = RequestStream(queue)
    assert stream.read(4) == b"some"
    for _ in range(2):
        with pytest.raises(TimeoutError) as caught:
            stream.read(1)
        assert isinstance(caught.value, RequestBodyTimeout)
        assert caught.value.status == 408


def test_half_of_what_was_asked_for_is_an_error_and_no_end() -> None:
    for read in (lambda stream: stream.read(), lambda stream: stream.read(100)):
        queue = BodyQueue()
        queue.put(b"some")
        queue.fail(RequestBodyTruncated(400, "gone"))
        with pytest.raises(EOFError):
            read(RequestStream(queue))


def test_an_abort_does_not_wait_its_turn() -> None:
    queue = BodyQueue()
    queue.put(b"some")
    queue.abort(RequestBodyTruncated(400, "over"))
    with pytest.raises(RequestBodyTruncated):
        RequestStream(queue).read(1)


def test_a_body_that_has_ended_stays_whole() -> None:
    queue = BodyQueue()
    queue.put(b"some")
    queue.end(HeaderMap({"X-Sum": "1"}))
    queue.abort(RequestBodyTruncated(400, "over"))
    queue.fail(RequestBodyError(413))
    stream = RequestStream(queue)
    assert stream.read() == b"some"
    assert stream.trailers.get("x-sum") == "1"


def test_a_closed_stream_refuses_and_its_queue_drops() -> None:
    queue = BodyQueue()
    stream = RequestStream(queue)
    with stream:
        queue.put(b"ab")
        assert stream.read(1) == b"a"
    assert stream.closed
    assert queue.full
    assert queue.notify_when_half_empty()  # False would have the producer look again at once
    for read in (stream.read, stream.read1, stream.readline, stream.readable):
        with pytest.raises(ValueError):
            read()
    stream.close()


def test_a_million_bytes_cross_two_threads_in_order() -> None:
    queue = BodyQueue(4096)
    room = threading.Semaphore(0)
    queue.connect(room.release)
    data = bytes(range(256)) * 4096

    def produce() -> None:
        for start in range(0, len(data), 1000):
            while queue.full:
                if queue.notify_when_half_empty():
                    assert room.acquire(timeout=PATIENCE)
            queue.put(data[start : start + 1000])
        queue.end()

    producer = threading.Thread(target=produce)
    producer.start()
    assert RequestStream(queue).read() == data
    producer.join(PATIENCE)
    assert not producer.is_alive()


def test_a_body_that_comes_byte_by_byte_is_not_held_as_so_many_objects() -> None:
    queue = BodyQueue()
    for _ in range(60_000):
        queue.put(b"x")
    assert len(queue._chunks) < 100
    queue.end()
    assert RequestStream(queue).read() == b"x" * 60_000


def test_errors_are_status_errors_and_survive_pickling() -> None:
    for error in (
        RequestBodyError(413),
        RequestBodyTimeout(408, "slow"),
        RequestBodyTruncated(400, "cut"),
    ):
        assert isinstance(error, HttpStatusError)
        assert isinstance(error, OSError)
        copied = pickle.loads(pickle.dumps(error))
        assert (type(copied), copied.status, copied.message) == (
            type(error),
            error.status,
            error.message,
        )


def test_any_request_has_its_body_as_a_stream() -> None:
    request = Request("POST", "/", b"a\nb")
    assert request.stream.readline() == b"a\n"
    assert request.stream.read() == b"b"
    assert request.body == b"a\nb"
    assert copy.copy(Request("GET", "/")).stream.read() == b""


@stream_body(max_body_size=5)
def count(request: Request) -> Response:
    return ok(str(sum(map(len, request.stream))))


def test_a_test_client_takes_a_body_in_any_form() -> None:
    client = TestClient(count)
    for body in (b"abc", "abc", [b"a", b"bc"], io.BytesIO(b"abc"), iter([b"abc"])):
        assert client.post("/", body).text() == "3"


def test_marks_are_found_on_routes_and_through_adapters() -> None:
    from flare.http import App, FnHandler, WithRaises
    from flare.http.handler import may_stream_body

    router = Router()
    router.post("/a", count)
    router.post("/b", lambda request: ok(), stream_body=True)
    router.post("/c", count, stream_body=False)
    router.post("/d", WithRaises(FnHandler(count)))
    marks = [(route.flare_stream_body, route.flare_max_body_size) for route in router.routes()]
    assert marks == [(True, 5), (True, None), (False, 5), (True, 5)]
    outer = Router()
    assert not may_stream_body(outer)
    outer.mount("/x", router)
    for handler in (count, router, outer, App(None, router)):
        assert may_stream_body(handler)
    assert not may_stream_body(lambda request: ok())


def test_limits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValidationError):
        stream_body(-1)
    with pytest.raises(ValidationError):
        Router().post("/", count, stream_body=False, max_body_size=3)
    with pytest.raises(TypeError):
        stream_body()(3)
