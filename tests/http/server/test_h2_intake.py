"""Handlers that read the body of their request while it arrives, over HTTP/2."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dispatching import is_quiet, until, worker_of
from h2_peer import DATA, END_STREAM, HEADERS, H2Peer, build_frame
from serving import PATIENCE, Serve, Start

from flare.errors import HttpStatusError
from flare.http import Request, Response, Router, ok
from flare.http.request_stream import RequestBodyTruncated
from flare.http.server import ServerConfig, stream_response

SpeakH2 = Callable[..., H2Peer]


def routes(handler: Callable[[Request], Any], **options: Any) -> Router:
    router = Router()
    router.post("/up", handler, stream_body=True, **options)
    router.post("/whole", lambda request: ok(str(len(request.body))))
    router.get("/", lambda request: ok("fine"))
    return router


def test_the_handler_reads_while_the_body_arrives(serve: Serve, speak_h2: SpeakH2) -> None:
    read: list[bytes] = []
    begun = threading.Event()

    def handler(request: Request) -> Response:
        begun.set()
        while piece := request.stream.read1():
            read.append(piece)
        return ok(f"{len(b''.join(read))} {list(request.trailers.items())}")

    peer = speak_h2(serve(routes(handler)))
    sid = peer.ask("/up", "POST", end=False)
    assert begun.wait(PATIENCE)
    for number in range(3):
        peer.body(sid, b"part%d" % number, end=False)
        until(lambda number=number: b"".join(read).endswith(b"part%d" % number))
        assert peer.fetch("/").body == b"fine"
    peer.send(build_frame(HEADERS, 5, sid, peer.encoder.encode([("x-sum", "1")])))
    assert peer.read(sid).body == b"15 [('x-sum', '1')]"


def test_a_slow_reader_holds_the_peer_back(serve: Serve, speak_h2: SpeakH2) -> None:
    """No more than the window, the queue, and what the reader took before it stopped."""
    go_on = threading.Event()

    def handler(request: Request) -> Response:
        request.stream.read(1)
        assert go_on.wait(PATIENCE)
        return ok(str(1 + len(request.stream.read())))

    peer = speak_h2(serve(routes(handler)))
    total = 1 << 20
    sid = peer.ask("/up", "POST", end=False, fields=[("content-length", str(total))])
    room, conn_room, sent = 65_535, 65_535, 0

    def push() -> None:
        nonlocal room, conn_room, sent
        while sent < total and min(room, conn_room):
            size = min(16_384, room, conn_room, total - sent)
            peer.send(build_frame(DATA, int(sent + size == total), sid, bytes(size)))
            room, conn_room, sent = room - size, conn_room - size, sent + size

    def take() -> None:
        nonlocal room, conn_room
        frame = peer.take()
        if frame.kind == 8:
            size = int.from_bytes(frame.payload, "big")
            room, conn_room = room + size * (frame.sid > 0), conn_room + size * (frame.sid == 0)

    while True:  # until nothing moves any more
        push()
        before = sent
        peer.ping(b"%08d" % sent)
        while b"%08d" % sent not in peer.pongs:
            take()
        push()
        if sent == before:
            break
    assert sent <= 4 * 65_536
    assert peer.fetch("/").body == b"fine" if room < 0 else True
    go_on.set()
    while not peer.streams[sid].ended:
        push()
        take()
    assert peer.streams[sid].body == str(total).encode()


def test_an_echo_streams_both_ways(serve: Serve, speak_h2: SpeakH2) -> None:
    def handler(request: Request) -> Any:
        def pieces() -> Iterator[bytes]:
            while piece := request.stream.read1():
                yield piece

        return stream_response(pieces())

    peer = speak_h2(serve(routes(handler)))
    sid = peer.ask("/up", "POST", end=False)
    for number in range(5):
        peer.body(sid, b"%d" % number, end=False)
        while not peer.streams[sid].body.endswith(b"%d" % number):
            peer.take()
    peer.send(build_frame(DATA, END_STREAM, sid))
    assert peer.read(sid).body == b"01234"


def test_an_answer_before_the_end_resets_the_rest(serve: Serve, speak_h2: SpeakH2) -> None:
    peer = speak_h2(serve(routes(lambda request: ok("enough"))))
    sid = peer.ask("/up", "POST", end=False)
    peer.body(sid, b"some", end=False)
    assert peer.read(sid).body == b"enough"
    while peer.streams[sid].reset is None:
        peer.take()
    assert peer.streams[sid].reset == 0
    assert peer.fetch("/").body == b"fine"


@pytest.mark.parametrize("announced", [True, False])
def test_the_limit_is_the_routes(serve: Serve, speak_h2: SpeakH2, announced: bool) -> None:
    router = routes(lambda request: ok(str(len(request.stream.read()))), max_body_size=2000)
    peer = speak_h2(serve(router, ServerConfig(max_body_size=1000)))
    for target, limit in (("/up", 2000), ("/whole", 1000)):
        for size in (limit, limit + 1):
            fields = [("content-length", str(size))] if announced else []
            sid = peer.ask(target, "POST", end=False, fields=fields)
            peer.body(sid, bytes(size))
            answer = peer.read(sid)
            expected = (200, str(size).encode()) if size == limit else (413, answer.body)
            assert (answer.status, answer.body) == expected


def test_a_body_that_stalls_is_408(serve: Serve, speak_h2: SpeakH2) -> None:
    router = routes(lambda request: ok(str(len(request.stream.read()))))
    peer = speak_h2(serve(router, ServerConfig(read_body_timeout_ms=100)))
    sid = peer.ask("/up", "POST", end=False)
    peer.body(sid, b"some", end=False)
    assert peer.read(sid).status == 408
    assert peer.fetch("/").body == b"fine"


@pytest.mark.parametrize("how", ["reset", "close", "finish"])
def test_a_peer_that_leaves_ends_the_read(start: Start, speak_h2: SpeakH2, how: str) -> None:
    raised: list[BaseException] = []
    entered = threading.Event()

    def handler(request: Request) -> Response:
        entered.set()
        try:
            request.stream.read()
        except RequestBodyTruncated as error:
            raised.append(error)
        return ok()

    running = start(routes(handler))
    peer = speak_h2(running.address)
    sid = peer.ask("/up", "POST", end=False)
    peer.body(sid, b"some", end=False)
    assert entered.wait(PATIENCE)  # one whose peer leaves before is never called
    if how == "reset":
        peer.rst(sid)
    elif how == "close":
        peer.close()
    else:
        peer.finish_sending()
    until(lambda: raised)
    until(lambda: is_quiet(worker_of(running)))


def test_too_late_a_handler_is_answered_for(start: Start, speak_h2: SpeakH2) -> None:
    release = threading.Event()

    def handler(request: Request) -> Response:
        request.stream.read()
        assert release.wait(PATIENCE)
        return ok()

    running = start(routes(handler), ServerConfig(handler_timeout_ms=100))
    peer = speak_h2(running.address)
    sid = peer.ask("/up", "POST", end=False)
    peer.body(sid, b"all")
    assert peer.read(sid).status == 503
    release.set()
    until(lambda: is_quiet(worker_of(running)))


def test_a_request_without_a_body(serve: Serve, speak_h2: SpeakH2) -> None:
    peer = speak_h2(serve(routes(lambda request: ok(str(request.stream.read())))))
    assert peer.fetch("/up", "POST").body == b"b''"


# -- Expect -----------------------------------------------------------------------------------

EXPECT = [("expect", "100-continue")]


class Held:
    """Reads when told."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.raised: list[BaseException] = []

    def __call__(self, request: Request) -> Response:
        self.begun.set()
        assert self.go_on.wait(PATIENCE)
        try:
            return ok(request.stream.read())
        except RequestBodyTruncated as error:
            self.raised.append(error)
            raise


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.go_on.set()


def test_a_waiting_client_is_told_when_the_handler_first_reads(
    serve: Serve, speak_h2: SpeakH2, held: Held
) -> None:
    peer = speak_h2(serve(routes(held)))
    sid = peer.ask("/up", "POST", end=False, fields=EXPECT)
    assert held.begun.wait(PATIENCE)
    peer.await_pong()
    assert not peer.streams[sid].interim
    held.go_on.set()
    while not peer.streams[sid].interim:
        peer.take()
    peer.body(sid, b"hello")
    answer = peer.read(sid)
    assert (answer.interim, answer.body) == (["100"], b"hello")


def test_a_client_that_did_not_wait_is_not_told(
    serve: Serve, speak_h2: SpeakH2, held: Held
) -> None:
    peer = speak_h2(serve(routes(held)))
    sid = peer.ask("/up", "POST", end=False, fields=EXPECT)
    peer.body(sid, b"hel", end=False)
    peer.await_pong()
    held.go_on.set()
    peer.body(sid, b"lo")
    answer = peer.read(sid)
    assert (answer.interim, answer.body) == ([], b"hello")


@pytest.mark.parametrize("how", ["answer", "error", "refuse"])
def test_a_waiting_client_that_is_refused_is_never_told(
    serve: Serve, speak_h2: SpeakH2, how: str
) -> None:
    def handler(request: Request) -> Response:
        if how == "error":
            raise HttpStatusError(403, "no")
        return Response(403)

    router = Router()
    router.post("/up", handler, stream_body=True, max_body_size=10)
    peer = speak_h2(serve(router))
    length = [("content-length", "11" if how == "refuse" else "10")]
    sid = peer.ask("/up", "POST", end=False, fields=EXPECT + length)
    answer = peer.read(sid)
    assert (answer.interim, answer.status) == ([], 413 if how == "refuse" else 403)
    peer.await_pong()
    assert not answer.interim
    assert answer.reset in (0, None)


def test_a_waiting_client_of_another_handler_is_told_at_once(
    serve: Serve, speak_h2: SpeakH2
) -> None:
    peer = speak_h2(serve(routes(lambda request: ok())))
    sid = peer.ask("/whole", "POST", end=False, fields=EXPECT)
    while not peer.streams[sid].interim:
        peer.take()
    peer.body(sid, b"hello")
    answer = peer.read(sid)
    assert (answer.interim, answer.body) == (["100"], b"5")


def test_what_makes_a_streamed_answer_may_be_what_reads(serve: Serve, speak_h2: SpeakH2) -> None:
    """100 cannot come behind the head of the answer, so it comes in front."""

    def handler(request: Request) -> Any:
        def pieces() -> Iterator[bytes]:
            yield request.stream.read()

        return stream_response(pieces())

    peer = speak_h2(serve(routes(handler)))
    sid = peer.ask("/up", "POST", end=False, fields=EXPECT)
    while not peer.streams[sid].interim:
        peer.take()
    peer.body(sid, b"hello")
    answer = peer.read(sid)
    assert (answer.interim, answer.status, answer.body) == (["100"], 200, b"hello")


def test_who_waits_for_leave_has_the_handlers_time_not_its_own(
    start: Start, speak_h2: SpeakH2, held: Held
) -> None:
    running = start(routes(held), ServerConfig(read_body_timeout_ms=50, handler_timeout_ms=150))
    peer = speak_h2(running.address)
    sid = peer.ask("/up", "POST", end=False, fields=EXPECT)
    answer = peer.read(sid)  # once the handler has had its time
    assert (answer.interim, answer.status) == ([], 503)
    held.go_on.set()
    until(lambda: is_quiet(worker_of(running)))


def test_a_handler_that_reads_after_its_client_has_left(
    start: Start, speak_h2: SpeakH2, held: Held
) -> None:
    running = start(routes(held))
    peer = speak_h2(running.address)
    sid = peer.ask("/up", "POST", end=False, fields=EXPECT)
    assert held.begun.wait(PATIENCE)
    peer.rst(sid)
    peer.await_pong()
    held.go_on.set()
    until(lambda: held.raised)
    assert peer.fetch("/").body == b"fine"
    until(lambda: is_quiet(worker_of(running)))
