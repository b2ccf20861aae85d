"""Known requests on plain connections, which the leader answers by the short lane."""

from __future__ import annotations

import re
import socket
import threading
import time
import weakref
from enum import Enum
from typing import Any

import pytest
from dispatching import STEPS, Gate, ask, force, is_quiet, reset, seize, skip, until, worker_of
from serving import PATIENCE, Connect, Peer, Reply, Running, Start

from flare.http import Request, Response, Router, ok, precompute_response, redirect
from flare.http.proto.heads import parse_request_head
from flare.http.server import ServerConfig, stream_response
from flare.http.server.kinds import Static

GET = b"GET /known HTTP/1.1\r\nHost: h\r\n\r\n"


class Lane:
    """Stands before the lane of *running*: how often it was called, had returned, and had a
    request that was known."""

    def __init__(self, running: Running) -> None:
        worker = worker_of(running)
        inner = worker.lane
        self.called = self.returned = self.known = 0

        def lane(connection: Any, data: bytes) -> bytes | None:
            self.called += 1
            self.known += bool(worker.h1.known)
            answer = inner(connection, data)
            self.returned += 1
            return answer

        worker.lane = lane


def prime(peer: Peer, target: str = "/known") -> None:
    """Have the server know *target*, and the connection of *peer* plain."""
    for _ in range(2):
        assert ask(peer, target)


def without_date(reply: Reply) -> tuple[bytes, bytes]:
    return re.sub(rb"Date: [^\r]*", b"Date:", reply.head), reply.body


@pytest.mark.usefixtures("asleep")
def test_a_request_that_is_known_goes_by_the_lane(start: Start, connect: Connect) -> None:
    router = Router()
    router.get("/known", lambda request: ok(f"{request.method} {request.headers.get('host')}"))
    running = start(router)
    lane = Lane(running)
    peer = connect(running.address)
    prime(peer)
    assert lane.called == lane.known == 1  # the first told
    for _ in range(5):
        assert ask(peer, "/known") == b"GET h"
    until(lambda: lane.returned == 6)
    assert lane.known == 6


@pytest.mark.parametrize(
    "config", [ServerConfig(access_log=True), ServerConfig(max_keepalive_requests=9)]
)
def test_what_must_be_logged_or_counted_takes_the_road(
    start: Start, connect: Connect, config: ServerConfig
) -> None:
    running = start(lambda request: ok("hello"), config)
    lane = Lane(running)
    peer = connect(running.address)
    for _ in range(5):
        assert ask(peer, "/known") == b"hello"
    assert lane.called == 0


def raising(request: Request) -> Response:
    raise ValueError("no")


def cookie(request: Request) -> Response:
    return Response(200, body=b"a", headers=[("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")])


def reason(request: Request) -> Response:
    return Response(200, "Fine", b"a", headers={"X-One": "1", "X-Two": "2"})


def replaced(request: Request) -> Response:
    response = ok("x")
    response.headers = {"not": "a map"}  # type: ignore[assignment]
    return response


class Phrase(str, Enum):  # noqa: UP042 - its format is not its text
    FINE = "Fine"


def without_a_body(request: Request) -> Response:
    response = ok("x")
    del response.body
    return response


def without_a_stream(request: Request) -> Response:
    response = ok("x")
    del response.body_stream
    return response


def streamed(request: Request) -> Any:
    return stream_response(iter([b"a", b"b"]))


ANSWERS: dict[str, Any] = {
    "plain": lambda request: ok("x"),
    "empty": lambda request: ok(),
    "largest known length": lambda request: ok("x" * 1024),
    "longer": lambda request: ok("x" * 1025),
    "largest sent in one piece with its head": lambda request: ok("x" * 8192),
    "larger": lambda request: ok("x" * 8193),
    "large and no content": lambda request: Response(205, body=b"x" * 10_000),
    "large and not found": lambda request: Response(404, body=b"?" * 10_000),
    "megabyte": lambda request: ok(b"x" * 1_000_000),
    "not found": lambda request: Response(404, body=b"?"),
    "no content": lambda request: Response(204),
    "reset content": lambda request: Response(205, body=b"x"),
    "redirect": lambda request: redirect("/elsewhere"),
    "own date": lambda request: Response(200, body=b"x", headers={"Date": "today"}),
    "bytearray": lambda request: Response(200, body=bytearray(b"x")),  # type: ignore[arg-type]
    "status as text": lambda request: Response("201", body=b"x"),  # type: ignore[arg-type]
    "status as float": lambda request: Response(200.0, body=b"x"),  # type: ignore[arg-type]
    "interim": lambda request: Response(100),
    "nothing": lambda request: None,
    "unhashable": lambda request: Response([200], body=b"x"),  # type: ignore[arg-type]
    "raising": raising,
    "cookie": cookie,
    "reason": reason,
    "replaced": replaced,
    "reason of an enum": lambda request: Response(200, Phrase.FINE, b"a"),
    "without a body": without_a_body,
    "without a stream": without_a_stream,
    "streamed": streamed,
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_answer_is_that_of_the_road(start: Start, connect: Connect, name: str) -> None:
    running = start(ANSWERS[name])
    lane = Lane(running)
    peer = connect(running.address)
    replies = []
    for _ in range(6):
        peer.send(GET)
        replies.append(without_date(peer.read()))
    assert replies == [replies[0]] * 6
    assert lane.called
    peer.send(b"HEAD /known HTTP/1.1\r\nHost: h\r\n\r\n" + GET)
    peer.read("HEAD")
    assert without_date(peer.read()) == replies[0]


@pytest.mark.usefixtures("asleep")
def test_the_lease_is_left_where_even_the_answer_to_a_failure_fails(
    start: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: Request, error: Exception) -> Response:
        raise RuntimeError("no answer either")

    monkeypatch.setattr("flare.http.server.lane.error_response", answer)
    running = start(lambda request: ok("x") if request.url == "/known" else raising(request))
    lane = Lane(running)
    for _ in range(3):
        peer = connect(running.address)
        prime(peer)
        peer.get("/fails")
        assert peer.is_ended()
    assert lane.called == 6
    assert worker_of(running).counts().in_flight == 0


def test_a_last_response_ends_the_connection(start: Start, connect: Connect) -> None:
    ends = threading.Event()

    def handler(request: Request) -> Response:
        response = ok("x")
        if ends.is_set():
            response.headers.set("Connection", "close")
        return response

    running = start(handler)
    peer = connect(running.address)
    prime(peer)
    prime(peer)
    ends.set()
    peer.send(GET)
    assert peer.read().get("connection") == "close"
    assert peer.is_ended()


@pytest.mark.parametrize(
    "request_lines",
    [
        b"GET /?token=1 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nCookie: a=b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Basic YQ==\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 1024 + b"\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
    ],
)
def test_no_secret_and_nothing_long_or_with_a_body_is_known(
    start: Start, connect: Connect, request_lines: bytes
) -> None:
    running = start(lambda request: ok("hello"))
    peer = connect(running.address)
    assert ask(peer, "/known") == b"hello"
    for _ in range(3):
        peer.send(request_lines)
        assert peer.read().body == b"hello"
    assert set(worker_of(running).h1.known) <= {GET}


def test_what_is_known_is_bounded(start: Start, connect: Connect) -> None:
    running = start(lambda request: ok(request.url))
    peer = connect(running.address)
    for number in range(2100):
        assert ask(peer, f"/{number}") == b"/%d" % number
    assert len(worker_of(running).h1.known) <= 1024


def test_a_known_request_in_two_reads_or_with_another_behind_it_is_no_surprise(
    start: Start, connect: Connect
) -> None:
    running = start(lambda request: ok(request.url))
    peer = connect(running.address)
    prime(peer)
    worker = worker_of(running)
    for cut in (1, 9, len(GET) - 1):
        peer.send(GET[:cut])
        [connection] = worker.connections.values()
        until(lambda c=connection: not c.plain)
        peer.send(GET[cut:])
        assert peer.read().body == b"/known"
        peer.send(GET + GET.replace(b"/known", b"/other") + GET)
        assert [peer.read().body for _ in range(3)] == [b"/known", b"/other", b"/known"]
        assert ask(peer, "/known") == b"/known"


@pytest.mark.usefixtures("asleep")
def test_a_peer_that_does_not_read_is_owed_the_rest(start: Start, connect: Connect) -> None:
    body = b"x" * 1024
    running = start(lambda request: ok(body), ServerConfig(write_timeout_ms=60_000))
    lane = Lane(running)
    peer = connect(running.address, receive_buffer=2048)
    prime(peer)
    [connection] = worker_of(running).connections.values()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    asked = 0
    while not connection._writing:
        peer.send(GET)
        asked += 1
        assert asked < 1000
        # It is sent behind the lane, so that one more may have been asked for, in vain.
        until(lambda asked=asked: lane.returned == asked + 1 or connection._writing)
    for _ in range(asked):
        assert peer.read().body == body
    assert ask(peer, "/known") == body


def test_the_idle_deadline_counts_from_the_last_answer(start: Start, connect: Connect) -> None:
    running = start(lambda request: ok("hello"), ServerConfig(idle_timeout_ms=10_000))
    worker = worker_of(running)
    peer = connect(running.address)
    prime(peer)
    for _ in range(3):  # together longer than it
        skip(worker, 6_000)
        prime(peer)
    skip(worker, 10_000)
    assert peer.is_ended()


def test_a_peer_that_leaves_is_noticed(start: Start, connect: Connect) -> None:
    running = start(lambda request: ok("hello"))
    worker = worker_of(running)
    for leave in (Peer.close, reset):
        peer = connect(running.address)
        prime(peer)
        leave(peer)
        until(lambda: not worker.connections)


def test_a_drain_ends_a_plain_connection(start: Start, connect: Connect) -> None:
    running = start(lambda request: ok("hello"))
    peer = connect(running.address)
    prime(peer)
    prime(peer)
    assert running.server.drain(PATIENCE * 1000).timed_out == 0
    assert peer.is_ended()


@pytest.mark.usefixtures("asleep")
def test_an_answer_in_the_batch_in_which_a_drain_begins_is_the_last(
    start: Start, connect: Connect
) -> None:
    gate = Gate(lambda request: ok("held"))
    running = start(lambda request: gate(request) if request.url == "/hold" else ok("hello"))
    holding, other = connect(running.address), connect(running.address)
    for peer in (holding, other):
        prime(peer)
        prime(peer)
    holding.get("/hold")
    gate.await_entry()
    # The loop stands still: the next thing it sees is the drain, and right behind it a request.
    drain = threading.Thread(target=running.server.drain, args=(PATIENCE * 1000,))
    drain.start()
    until(lambda: worker_of(running)._commands)
    worker_of(running).reactor.wakeup()  # as the drain does, just now or in a moment
    other.get("/known")
    gate.release.set()
    reply = other.read()
    assert (reply.body, reply.get("connection")) == (b"hello", "close")
    drain.join(PATIENCE)
    assert not drain.is_alive()


# -- with a body ------------------------------------------------------------------------------


def describe(request: Request) -> Response:
    return ok(f"{request.method} {request.url} ".encode() + request.body)


@pytest.mark.usefixtures("asleep")
def test_a_request_with_its_body_in_one_read_goes_by_the_lane(
    start: Start, connect: Connect
) -> None:
    running = start(describe)
    lane = Lane(running)
    peer = connect(running.address)
    prime(peer)
    for number in range(5):
        peer.post(b"body %d" % number)
        assert peer.read().body == b"POST / body %d" % number
    assert len(worker_of(running).h1.bodied) == 1
    peer.post(b"longer than before")  # another head
    assert peer.read().body == b"POST / longer than before"
    assert len(worker_of(running).h1.bodied) == 2
    until(lambda: lane.returned == 7)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "GET", "OPTIONS"])
def test_any_method_may_have_a_body(start: Start, connect: Connect, method: str) -> None:
    peer = connect(start(describe).address)
    prime(peer)
    for body in (b"abc", b"def"):
        peer.send(f"{method} /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n".encode() + body)
        assert peer.read().body == f"{method} /x ".encode() + body


def test_a_body_that_comes_in_pieces_or_with_another_request_behind_it(
    start: Start, connect: Connect
) -> None:
    peer = connect(start(describe).address)
    prime(peer)
    head = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\n"
    for _ in range(2):
        peer.send(head + b"abcdef")
        assert peer.read().body == b"POST /x abcdef"
        for pieces in (
            (head, b"abcdef"),
            (head + b"abc", b"def"),
            (head[:20], head[20:] + b"abcdef"),
        ):
            for piece in pieces:
                peer.send(piece)
                time.sleep(0.01)
            assert peer.read().body == b"POST /x abcdef"
        peer.send(head + b"abcdef" + head + b"ghijkl" + GET)
        assert [peer.read().body for _ in range(3)] == [
            b"POST /x abcdef",
            b"POST /x ghijkl",
            b"GET /known ",
        ]
        # What looks like a request in a body is none.
        peer.send(head.replace(b"6", b"%d" % len(GET)) + GET)
        assert peer.read().body == b"POST /x " + GET


def test_bodies_that_are_not_for_the_lane(start: Start, connect: Connect) -> None:
    running = start(describe, ServerConfig(max_body_size=8, max_header_size=8192))
    peer = connect(running.address)
    prime(peer)
    post = b"POST /x HTTP/1.1\r\nHost: h\r\n"
    for _ in range(2):
        peer.send(post + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        assert peer.read().body == b"POST /x abc"
        peer.send(post + b"Content-Length: 0\r\n\r\n")
        assert peer.read().body == b"POST /x "
        peer.send(post + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc")
        assert peer.read().body == b"POST /x abc"
        peer.send(post + b"Authorization: Basic x\r\nContent-Length: 3\r\n\r\nabc")
        assert peer.read().body == b"POST /x abc"
    assert len(worker_of(running).h1.bodied) == 0
    assert not any(b"Authorization" in read for read in worker_of(running).h1.known)
    for wrong, status in (
        (b"Content-Length: 9\r\n\r\n123456789", 413),
        (b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (b"Content-Length: +3\r\n\r\nabc", 400),
        (b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", 400),
    ):
        other = connect(running.address)
        prime(other)
        other.send(post + wrong)
        assert other.read().status == status
        assert other.is_ended()


def test_a_handler_that_reads_the_body_itself_gets_it(start: Start, connect: Connect) -> None:
    router = Router()
    router.get("/known", lambda request: ok("known"))
    router.post("/stream", lambda request: ok(request.stream.read()), stream_body=True)
    router.post("/whole", describe)
    running = start(router)
    peer = connect(running.address)
    prime(peer)
    for _ in range(3):
        peer.post(b"abc", target="/stream")
        assert peer.read().body == b"abc"
        peer.post(b"abc", target="/whole")
        assert peer.read().body == b"POST /whole abc"


SECRET = b"Host: h\r\nCookie: a=b\r\n"


@pytest.mark.parametrize(
    ("read", "answers"),
    [
        (b"POST /x HTTP/1.1\r\n" + SECRET + b"Content-Length: 9000\r\n\r\n" + b"x" * 9000, 1),
        (b"POST /x HTTP/1.1\r\n" + SECRET + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 1),
        (b"POST /x HTTP/1.1\r\n" + SECRET + b"content-length:\t01 \r\n\r\nx", 1),
        ((b"GET /x HTTP/1.1\r\n" + SECRET + b"\r\n") * 3, 3),
    ],
)
def test_a_head_that_is_not_remembered_is_read_once(
    start: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch, read: bytes, answers: int
) -> None:
    parsed = []

    def parse(*arguments: Any) -> Any:
        parsed.append(arguments)
        return parse_request_head(*arguments)

    monkeypatch.setattr("flare.http.server.h1_shared.parse_request_head", parse)
    monkeypatch.setattr("flare.http.proto.decoder.parse_request_head", parse)
    peer = connect(start(lambda request: ok("x")).address)
    prime(peer)
    parsed.clear()
    peer.send(read)
    for _ in range(answers):
        assert peer.read().body == b"x"
    assert len(parsed) == answers


class Mark:
    """Lives as long as the request it is given to."""

    def __init__(self, request: Request, marks: list[weakref.ref[Mark]]) -> None:
        request.params_mut()["mark"] = self  # type: ignore[assignment]
        marks.append(weakref.ref(self))


def test_nothing_is_kept_of_a_request_that_is_over(start: Start, connect: Connect) -> None:
    marks: list[weakref.ref[Mark]] = []

    def handler(request: Request) -> Response:
        Mark(request, marks)
        return describe(request)

    running = start(handler)
    worker = worker_of(running)
    peer = connect(running.address)
    prime(peer)
    peer.post(b"password=secret", "Authorization: Basic x")
    assert peer.read().body == b"POST / password=secret"
    # While the connection is open, and idle.
    until(lambda: not any(mark() for mark in marks))
    until(lambda: worker.spare.head is None)  # with its fields


@pytest.mark.usefixtures("asleep", "no_exile")
def test_nothing_is_kept_of_a_request_that_was_overtaken(start: Start, connect: Connect) -> None:
    marks: list[weakref.ref[Mark]] = []

    def handler(request: Request) -> Response:
        Mark(request, marks)
        if request.url == "/slow":
            seize(worker)
        return describe(request)

    running = start(handler)
    worker = worker_of(running)
    peer = connect(running.address)
    prime(peer)
    peer.post(b"password=secret", target="/slow")
    assert peer.read().body == b"POST /slow password=secret"
    until(lambda: not any(mark() for mark in marks))


@pytest.mark.usefixtures("asleep", "no_exile")
@pytest.mark.parametrize("step", STEPS)
def test_a_takeover_of_a_request_with_a_body(start: Start, connect: Connect, step: str) -> None:
    def handler(request: Request) -> Response:
        if request.method == "POST":
            lease.within()
        return describe(request)

    running = start(handler)
    lease = force(running, step, lambda task: task.request.method == "POST")
    peer = connect(running.address)
    prime(peer)
    for number in range(3):
        peer.post(b"body %d" % number)
        assert peer.read().body == b"POST / body %d" % number
    assert lease.taken == 3
    until(lambda: is_quiet(worker_of(running)))


@pytest.fixture
def lane_ahead(start: Start, connect: Connect, step: str) -> Any:
    """A gate's worth of server: arm it, and the next request in the lane loses its lease."""

    class Ahead:
        armed = False

        def __init__(self) -> None:
            self.gate: Gate | None = None
            self.running = start(self.handle)
            self.lease = force(self.running, step, lambda task: self.armed)
            self.peer = connect(self.running.address)

        def handle(self, request: Request) -> Any:
            if self.armed:
                self.lease.within()
                self.armed = False
                if self.gate is not None:
                    return self.gate(request)
            return ok(f"{request.url} {request.peer}")

    return Ahead()


@pytest.mark.usefixtures("asleep", "no_exile")
@pytest.mark.parametrize("step", STEPS)
class TestTakeover:
    """The lease is seized from a request in the lane."""

    def test_the_answer_comes_and_the_connection_goes_on(self, lane_ahead: Any) -> None:
        peer = lane_ahead.peer
        prime(peer)
        answer = ask(peer, "/known")
        for _ in range(3):
            lane_ahead.armed = True
            for _ in range(5):
                assert ask(peer, "/known") == answer
        assert lane_ahead.lease.taken == 3
        assert is_quiet(worker_of(lane_ahead.running))


@pytest.mark.usefixtures("asleep", "no_exile")
@pytest.mark.parametrize("step", STEPS[:2])
class TestTakeoverInside:
    """It is seized before the handler is over."""

    def test_others_are_served_meanwhile(self, lane_ahead: Any, connect: Connect) -> None:
        others = [connect(lane_ahead.running.address) for _ in range(3)]
        for peer in (lane_ahead.peer, *others):
            prime(peer)
        lane_ahead.gate = gate = Gate(lambda request: ok("late"))
        lane_ahead.armed = True
        lane_ahead.peer.get("/known")
        gate.await_entry()
        for _ in range(3):
            answers = {ask(peer, "/known") for peer in others}
            assert len(answers) == len(others), "each sees its own address"
        gate.release.set()
        assert lane_ahead.peer.read().body == b"late"

    def test_a_peer_that_left_meanwhile_gets_nothing_and_leaks_nothing(
        self, lane_ahead: Any, connect: Connect
    ) -> None:
        prime(lane_ahead.peer)
        lane_ahead.gate = gate = Gate(lambda request: ok("late"))
        lane_ahead.armed = True
        lane_ahead.peer.get("/known")
        gate.await_entry()
        reset(lane_ahead.peer)
        gate.release.set()
        worker = worker_of(lane_ahead.running)
        until(lambda: not worker.connections and is_quiet(worker))
        assert ask(connect(lane_ahead.running.address), "/known")

    def test_a_drain_waits_for_it(self, lane_ahead: Any) -> None:
        prime(lane_ahead.peer)
        lane_ahead.gate = gate = Gate(lambda request: ok("late"))
        lane_ahead.armed = True
        lane_ahead.peer.get("/known")
        gate.await_entry()
        report: list[Any] = []
        drain = threading.Thread(
            target=lambda: report.append(lane_ahead.running.server.drain(PATIENCE * 1000))
        )
        drain.start()
        until(lambda: worker_of(lane_ahead.running).draining)
        gate.release.set()
        reply = lane_ahead.peer.read()
        assert (reply.body, reply.get("connection")) == (b"late", "close")
        drain.join(PATIENCE)
        assert report[0].drained == 1


@pytest.mark.usefixtures("asleep", "no_probe")
def test_a_handler_that_is_caught_twice_leaves_the_lane(start: Start, connect: Connect) -> None:
    slow = threading.Event()

    def handler(request: Request) -> Response:
        if slow.is_set():
            seize(worker)
        return ok("hello")

    running = start(handler)
    worker = worker_of(running)
    peer = connect(running.address)
    prime(peer)
    slow.set()
    for _ in range(2):
        assert ask(peer, "/known") == b"hello"
    slow.clear()
    until(lambda: is_quiet(worker))
    [plan] = worker.h1.known.values()
    assert plan.fate.exiled
    requests, serial = worker.dispatch.requests, worker.lease.serial
    assert ask(peer, "/known") == b"hello"
    assert (worker.dispatch.requests, worker.lease.serial) == (requests + 1, serial)


class TestStatic:
    """What ``serve_static`` answers goes by a lane of its own."""

    @pytest.fixture
    def running(self, start: Start) -> Running:
        return start(Static(precompute_response(200, "text/plain", "Hello!")))

    @pytest.mark.parametrize("count", [1, 2, 16, 17, 40])
    def test_every_request_of_a_read_is_answered(
        self, running: Running, connect: Connect, count: int
    ) -> None:
        lane = Lane(running)
        peer = connect(running.address)
        replies = []
        for _ in range(5):
            peer.send(GET * count)
            replies += [peer.read() for _ in range(count)]
        assert {(reply.head, reply.body) for reply in replies} == {(replies[0].head, b"Hello!")}
        until(lambda: worker_of(running).requests == 5 * count)
        assert lane.called

    def test_a_peer_that_does_not_read_is_owed_the_rest(
        self, running: Running, connect: Connect
    ) -> None:
        lane = Lane(running)
        peer = connect(running.address, receive_buffer=2048)
        prime(peer)
        [connection] = worker_of(running).connections.values()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        asked = 0
        while not connection._writing:
            peer.send(GET)
            asked += 1
            assert asked < 10_000
            until(lambda asked=asked: lane.returned == asked + 1 or connection._writing)
        for _ in range(asked):
            assert peer.read().body == b"Hello!"
        assert ask(peer, "/known") == b"Hello!"

    def test_a_head_request_and_a_last_one_take_the_road(
        self, running: Running, connect: Connect
    ) -> None:
        peer = connect(running.address)
        prime(peer)
        prime(peer)
        peer.send(b"HEAD /known HTTP/1.1\r\nHost: h\r\n\r\n")
        assert peer.read("HEAD").get("content-length") == "6"
        assert ask(peer, "/known") == b"Hello!"
        peer.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert peer.read().body == b"Hello!"
        assert peer.is_ended()
