"""While a handler runs off the loop: who touches what, who may leave, and the deadlines."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from dispatching import (
    AMPLE,
    Gate,
    Source,
    ask,
    echo,
    force,
    is_quiet,
    pieces,
    reset,
    seize,
    skip,
    until,
    wanted,
    worker_of,
)
from serving import PATIENCE, Connect, Peer, Start

from flare.errors import NetworkError
from flare.http import Request, Response, Router, StreamingResponse, dispatch, ok
from flare.http.server import ServerConfig, stream_response
from flare.http.server.worker import Worker


def test_no_handler_runs_on_the_thread_that_serves(start: Start, connect: Connect) -> None:
    def handler(request: Request) -> Response:
        seen.append(threading.get_ident())
        return ok()

    for mode in ("auto", "inline", "pool"):
        seen: list[int] = []
        running = start(handler, ServerConfig(dispatch=mode))
        peer = connect(running.address)
        for _ in range(5):
            ask(peer, "/")
        assert running.thread.ident not in seen
        assert set(seen) <= worker_of(running).threads.idents


@pytest.mark.usefixtures("asleep", "no_exile")
def test_only_the_leader_touches_the_reactor(
    start: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong: list[str] = []
    leaders: set[int] = set()
    running = start(echo)
    worker = worker_of(running)
    lead = worker._loop

    def loop() -> None:
        leaders.clear()
        leaders.add(threading.get_ident())
        lead()

    def check(name: str) -> None:
        call = getattr(worker.reactor, name)

        def checked(*arguments: Any) -> Any:
            if leaders and threading.get_ident() not in leaders:
                wrong.append(name)
            return call(*arguments)

        monkeypatch.setattr(worker.reactor, name, checked)

    for name in ("_poll_raw", "modify", "register", "unregister", "arm_oneshot_hup"):
        check(name)
    monkeypatch.setattr(worker, "_loop", loop)
    lease = force(running, "before", wanted)
    peers = [connect(running.address) for _ in range(4)]
    for _ in range(20):
        for peer in peers:
            peer.get("/take")
        for peer in peers:
            assert peer.read().status == 200
    assert lease.taken == 80
    assert not wrong


def run_out_of_time(worker: Worker, ms: int) -> None:
    """Have the handler that runs off the loop on the only connection take *ms*."""
    [connection] = worker.connections.values()
    until(lambda: connection._task is not None)
    skip(worker, ms)


def test_what_comes_after_the_503_is_dropped_and_its_body_closed(
    start: Start, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source()
    gate = Gate(lambda _: stream_response(source))
    running = start(
        lambda request: gate(request) if request.url == "/slow" else ok("fine"),
        ServerConfig(handler_timeout_ms=AMPLE),
    )
    worker = worker_of(running)
    peer = connect(running.address)
    peer.send(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\nGET /behind HTTP/1.1\r\nHost: h\r\n\r\n")
    gate.await_entry()
    run_out_of_time(worker, AMPLE)
    with caplog.at_level(logging.WARNING, "flare.error"):
        reply = peer.read()
    assert (reply.status, reply.get("connection")) == (503, "close")
    assert "the handler took" in caplog.text
    assert peer.rest() == b""  # and nothing for the request behind
    assert ask(connect(running.address), "/") == b"fine"
    assert worker.dispatch.away == 1
    gate.release.set()
    assert source.closed.wait(PATIENCE)
    until(lambda: is_quiet(worker))


@pytest.mark.parametrize("mode", ["auto", "pool"])
def test_a_body_whose_close_fails_is_logged_and_harms_nobody(
    start: Start, connect: Connect, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Source):
        def close(self) -> None:
            super().close()
            raise ValueError("cannot close")

    source = Broken()
    gate = Gate(lambda _: StreamingResponse(200, source))
    running = start(
        lambda request: gate(request) if request.url == "/slow" else ok("fine"),
        ServerConfig(handler_timeout_ms=AMPLE, dispatch=mode),
    )
    peer = connect(running.address)
    peer.get("/slow")
    gate.await_entry()
    run_out_of_time(worker_of(running), AMPLE)
    assert peer.read().status == 503
    with caplog.at_level(logging.ERROR, "flare.error"):
        gate.release.set()
        assert source.closed.wait(PATIENCE)
        until(lambda: "cannot close" in caplog.text)
    assert "given up" not in caplog.text
    assert ask(connect(running.address), "/") == b"fine"


@pytest.mark.usefixtures("asleep")
@pytest.mark.parametrize("mode", ["auto", "pool"])
def test_an_error_that_is_nobodys_ends_one_connection_alone(
    start: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    def fails(*_: object) -> Response:
        raise RuntimeError("the error page is broken")

    def handler(request: Request) -> Response:
        if request.url == "/":
            return ok("fine")
        if mode == "auto":
            seize(worker)
        raise ValueError

    monkeypatch.setattr("flare.http.server.wire.error_response", fails)
    running = start(handler, ServerConfig(dispatch=mode))
    worker = worker_of(running)
    peer = connect(running.address)
    peer.get("/fail")
    assert peer.is_ended()
    assert ask(connect(running.address), "/") == b"fine"
    until(lambda: is_quiet(worker))


def test_a_loop_that_cannot_go_on_ends_serve(start: Start, connect: Connect) -> None:
    running = start(lambda _: worker.reactor.close() or ok())
    worker = worker_of(running)
    peer = connect(running.address)
    peer.get("/")
    running.join()
    assert isinstance(running.error, NetworkError)
    running.error = None
    assert worker.ended
    peer.rest()


@pytest.mark.usefixtures("asleep")
def test_a_body_that_exits_when_closed_does_not_keep_serve_from_returning(
    start: Start, connect: Connect
) -> None:
    class Exits(Source):
        def close(self) -> None:
            raise SystemExit(4)

    running = start(lambda _: stream_response(Exits(1_000_000)))
    peer = connect(running.address, receive_buffer=4096)
    peer.get("/")
    peer.sock.recv(1)
    other = connect(running.address)
    running.server.close()
    running.join()
    assert isinstance(running.error, SystemExit)
    running.error = None
    assert other.is_ended()


def test_a_dispatch_key_that_fails_gets_500(start: Start, connect: Connect) -> None:
    class Keyed:
        def serve(self, request: Request) -> Response:
            return ok("fine")

        def dispatch_key(self, request: Request) -> object:
            if request.url == "/bad":
                raise ValueError("no key")
            return self

    peer = connect(start(Keyed()).address)
    peer.get("/bad")
    assert peer.read().status == 500
    assert ask(peer, "/") == b"fine"


# -- while a handler runs off the loop ----------------------------------------------------


@pytest.mark.parametrize("leave", [Peer.close, reset, Peer.finish_sending])
@pytest.mark.parametrize("kind", ["handler", "body"])
def test_a_peer_that_leaves_makes_no_spin(
    start: Start, connect: Connect, leave: Callable[[Peer], None], kind: str
) -> None:
    gate = Gate(lambda _: ok("late"))
    source = Source(1, lambda: gate(None))  # type: ignore[arg-type]
    running = start(gate if kind == "handler" else lambda _: stream_response(source))
    worker = worker_of(running)
    peer = connect(running.address)
    peer.get("/")
    gate.await_entry()
    until(lambda: worker.dispatch.away == 1)
    leave(peer)
    before = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - before < 0.1
    gate.release.set()
    if leave is Peer.finish_sending:
        assert peer.read().body == (b"late" if kind == "handler" else b"chunk")
        assert peer.is_ended()
    until(lambda: not worker.connections)
    until(lambda: is_quiet(worker))


def test_bytes_that_came_meanwhile_are_served_after(start: Start, connect: Connect) -> None:
    gate = Gate(echo)
    running = start(lambda request: gate(request) if request.url == "/slow" else echo(request))
    peer = connect(running.address)
    peer.get("/slow")
    gate.await_entry()
    until(lambda: worker_of(running).dispatch.away == 1)
    for number in range(30):
        peer.get(f"/{number}")
    peer.finish_sending()
    gate.release.set()
    assert peer.read().body == b"/slow"
    assert [peer.read().body for _ in range(30)] == [b"/%d" % number for number in range(30)]
    assert peer.is_ended()


class Clogged:
    """A connection's socket that takes nothing until it is told to."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.open = False
        self.credit = 0

    def send(self, data: bytes) -> int:
        if self.open:
            return self._sock.send(data)
        if self.credit:
            self.credit -= 1
            return self._sock.send(data[:1])
        raise BlockingIOError

    def sendmsg(self, parts: list[bytes]) -> int:
        return self.send(b"".join(parts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class Unsent:
    """A connection with an answer that the peer does not take, and a call away behind it."""

    def __init__(self, start: Start, connect: Connect, config: ServerConfig, slow: int = 1) -> None:
        self.gate = Gate(echo)
        router = Router()
        router.get("/", echo)
        router.get("/slow", self.gate, dispatch="pool")
        running = start(router, config)
        self.worker = worker_of(running)
        self.peer = connect(running.address)
        ask(self.peer, "/")
        [self.connection] = self.worker.connections.values()
        self.socket = Clogged(self.connection.sock)
        self.connection.sock = self.socket  # type: ignore[assignment]
        lines = ["GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET /slow HTTP/1.1\r\nHost: h\r\n\r\n"]
        self.peer.send((lines[0] + lines[1] * slow).encode())
        self.gate.await_entry()
        until(lambda: self.connection._writing)

    def left_ms(self) -> int:
        return self.connection.deadline - self.worker.clock_ns() // 1_000_000


FAR, NEAR = 60_000, 20_000


def test_the_handler_has_its_own_time_again_once_the_answer_before_it_is_sent(
    start: Start, connect: Connect
) -> None:
    config = ServerConfig(write_timeout_ms=NEAR, handler_timeout_ms=FAR, read_body_timeout_ms=0)
    unsent = Unsent(start, connect, config)
    until(lambda: unsent.left_ms() <= NEAR)
    unsent.socket.open = True
    until(lambda: not unsent.connection._writing and unsent.left_ms() > NEAR)
    unsent.gate.release.set()
    assert [unsent.peer.read().body for _ in range(2)] == [b"/", b"/slow"]


def test_a_handler_is_given_up_on_though_the_answer_before_it_is_unsent(
    start: Start, connect: Connect
) -> None:
    config = ServerConfig(write_timeout_ms=FAR, handler_timeout_ms=NEAR, read_body_timeout_ms=0)
    unsent = Unsent(start, connect, config)
    run_out_of_time(unsent.worker, NEAR)
    until(lambda: unsent.connection._task is None and unsent.left_ms() > FAR - NEAR)
    unsent.socket.open = True
    assert [unsent.peer.read().status for _ in range(2)] == [200, 503]
    assert unsent.peer.rest() == b""
    unsent.gate.release.set()
    until(lambda: is_quiet(unsent.worker))


def test_a_peer_that_takes_a_byte_now_and_then_gives_the_handler_no_more_time(
    start: Start, connect: Connect
) -> None:
    config = ServerConfig(write_timeout_ms=FAR, handler_timeout_ms=NEAR, read_body_timeout_ms=0)
    unsent = Unsent(start, connect, config)
    until(lambda: unsent.left_ms() <= NEAR)
    unsent.socket.credit = 1
    until(lambda: not unsent.socket.credit)
    time.sleep(0.02)  # until the loop has noted the progress
    assert unsent.left_ms() <= NEAR
    unsent.gate.release.set()
    unsent.socket.open = True
    assert [unsent.peer.read().body for _ in range(2)] == [b"/", b"/slow"]


def test_an_answer_that_joins_others_unsent_has_the_time_to_write(
    start: Start, connect: Connect
) -> None:
    config = ServerConfig(write_timeout_ms=FAR, handler_timeout_ms=NEAR, read_body_timeout_ms=0)
    unsent = Unsent(start, connect, config)
    until(lambda: unsent.left_ms() <= NEAR)
    unsent.gate.release.set()
    until(lambda: unsent.connection._task is None and unsent.left_ms() > NEAR)
    unsent.socket.open = True
    assert [unsent.peer.read().body for _ in range(2)] == [b"/", b"/slow"]


def test_the_next_handler_behind_answers_unsent_has_a_deadline_too(
    start: Start, connect: Connect
) -> None:
    config = ServerConfig(write_timeout_ms=FAR, handler_timeout_ms=NEAR, read_body_timeout_ms=0)
    unsent = Unsent(start, connect, config, slow=2)
    unsent.gate.release.set()
    unsent.gate.release = threading.Event()
    unsent.gate.await_entry()
    until(lambda: unsent.connection._task is not None and unsent.left_ms() <= NEAR)
    unsent.gate.release.set()
    unsent.socket.open = True
    assert [unsent.peer.read().body for _ in range(3)] == [b"/", b"/slow", b"/slow"]


def test_a_reader_that_stops_is_dropped_though_a_handler_runs(
    start: Start, connect: Connect
) -> None:
    config = ServerConfig(write_timeout_ms=NEAR, handler_timeout_ms=FAR, read_body_timeout_ms=0)
    unsent = Unsent(start, connect, config)
    assert unsent.connection._task is not None
    run_out_of_time(unsent.worker, NEAR)
    until(lambda: not unsent.worker.connections)
    assert unsent.worker.dispatch.away == 1
    unsent.gate.release.set()
    until(lambda: is_quiet(unsent.worker))


@pytest.mark.usefixtures("asleep")
def test_a_pulled_body_whose_reader_stops_is_dropped(start: Start, connect: Connect) -> None:
    def body() -> Iterator[bytes]:
        while True:
            yield b"x" * 65536

    @dispatch("pool")
    def handler(request: Request) -> Response:
        return stream_response(body())

    running = start(handler, ServerConfig(write_timeout_ms=100))
    worker = worker_of(running)
    force(running, "after", lambda task: pieces(task) and task.sent % (5 * 65536) == 0)
    connect(running.address, receive_buffer=4096).get("/")
    until(lambda: worker.tally.accepted)
    until(lambda: not worker.connections)
    until(lambda: is_quiet(worker))


@pytest.mark.usefixtures("asleep")
def test_a_drain_keeps_requests_that_were_read_and_wait_for_their_turn(
    start: Start, connect: Connect
) -> None:
    def handler(request: Request) -> Response:
        return gate(request) if request.url == "/gate" else echo(request)

    gate = Gate(echo)
    running = start(handler)
    worker = worker_of(running)
    first, peer = connect(running.address), connect(running.address)
    ask(peer, "/hello")
    first.get("/gate")
    gate.await_entry()
    # Both in one batch: a turn of sixteen, then the drain, which finds two read and not served.
    peer.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(18)))
    with ThreadPoolExecutor(1) as pool:
        report = pool.submit(running.server.drain, AMPLE)
        until(lambda: worker._commands)
        worker.reactor.wakeup()  # which drain is about to do
        gate.release.set()
        replies = [peer.read() for _ in range(17)]
        assert [reply.body for reply in replies] == [b"/%d" % number for number in range(17)]
        assert replies[-1].get("connection") == "close"
        first.close()
        peer.close()
        report.result(PATIENCE)
    running.join()
