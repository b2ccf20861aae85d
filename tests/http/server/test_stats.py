"""What ``HttpServer.stats`` says, whatever the workers are."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from programs import Begin, Load, Program
from serving import PATIENCE, Connect, Peer, Running, Start

from flare.http import (
    Request,
    Response,
    ServerStats,
    StreamingResponse,
    ok,
    precompute_response,
)
from flare.http.server import HttpServer, ServerConfig
from flare.net import SocketAddr

processes = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def hello(request: Request) -> Response:
    return ok("hello")


def until(server: HttpServer, condition: Callable[[ServerStats], bool]) -> ServerStats:
    """The first snapshot that is as wanted."""
    deadline = time.monotonic() + PATIENCE
    while True:
        stats = server.stats()
        if condition(stats):
            return stats
        assert time.monotonic() < deadline, stats
        time.sleep(0.005)


def test_before_it_serves_a_server_has_done_nothing() -> None:
    with HttpServer.bind(SocketAddr.localhost(0)) as server:
        assert server.stats() == ServerStats()


def test_a_snapshot_does_not_change(start: Start, connect: Connect) -> None:
    running = start(hello)
    peer = connect(running.address)
    peer.get()
    peer.read()
    before = running.server.stats()
    peer.get()
    peer.read()
    assert before.requests == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.requests = 2  # type: ignore[misc]


@pytest.mark.parametrize("workers", [1, 3])
def test_connections_and_requests_are_counted(start: Start, connect: Connect, workers: int) -> None:
    server = HttpServer.bind_many([SocketAddr.localhost(0), SocketAddr.localhost(0)])
    running = start(hello, server=server, workers=workers)
    peers = [connect(address) for address in running.addresses * 5]
    for peer in peers:
        for _ in range(3):
            peer.get()
            peer.read()
    stats = server.stats()
    assert (stats.connections, stats.accepted, stats.requests) == (10, 10, 30)
    assert (stats.in_flight, stats.pool_depth) == (0, 0)
    for peer in peers[:4]:
        peer.close()
    until(server, lambda stats: stats.connections == 6)
    running.stop()
    stats = server.stats()
    assert (stats.connections, stats.accepted, stats.requests) == (0, 10, 30)


def test_static_responses_are_counted(connect: Connect) -> None:
    with HttpServer.bind(SocketAddr.localhost(0)) as server:
        answer = precompute_response(200, "text/plain", b"static")
        thread = threading.Thread(target=server.serve_static, args=(answer,))
        thread.start()
        try:
            peer = connect(("127.0.0.1", server.local_addr().port))
            for _ in range(3):
                peer.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 5)
                for _ in range(5):
                    peer.read()
            assert server.stats().requests == 15
        finally:
            server.close()
            thread.join(PATIENCE)


def test_handlers_that_run_and_those_that_wait_are_counted(start: Start, connect: Connect) -> None:
    let_go = threading.Event()

    def handler(request: Request) -> Response:
        let_go.wait(PATIENCE)
        return ok()

    running = start(handler, ServerConfig(dispatch="pool", handler_threads=2))
    peers = [connect(running.address) for _ in range(5)]
    for peer in peers:
        peer.get()
    try:
        counted = (5, 5, 3)  # one after the other
        stats = until(
            running.server,
            lambda stats: (stats.requests, stats.in_flight, stats.pool_depth) == counted,
        )
        assert stats.takeovers == 0
    finally:
        let_go.set()
    for peer in peers:
        peer.read()
    until(running.server, lambda stats: (stats.in_flight, stats.pool_depth) == (0, 0))


@pytest.mark.parametrize("dispatch", ["auto", "inline", "pool"])
def test_every_request_is_counted_once(start: Start, connect: Connect, dispatch: str) -> None:
    def handler(request: Request) -> Response | StreamingResponse[Any]:
        if request.url == "/stream":
            return StreamingResponse(200, iter([b"x"] * 40))
        if request.url == "/fail":
            raise LookupError("no")
        return ok()

    running = start(handler, ServerConfig(dispatch=dispatch))
    peer = connect(running.address)
    for target in ["/", "/stream", "/fail", "/?q", "/"] * 8:
        peer.get(target)
        peer.read()
    peer.post(b"x" * 1000)
    peer.read()
    assert running.server.stats().requests == 41


@pytest.mark.parametrize("how", ["plain", "big", "stream", "static"])
def test_bytes_are_counted_as_they_stand_on_the_wire(connect: Connect, how: str) -> None:
    def handler(request: Request) -> Response | StreamingResponse[Any]:
        if how == "stream":
            return StreamingResponse(200, iter([b"x" * 70_000] * 20))
        return ok("x" * (3_000_000 if how == "big" else 100))

    get = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    last = get.replace(b"Host", b"Connection: close\r\nHost")
    post = last.replace(b"GET", b"POST").replace(b"Host", b"Content-Length: 500000\r\nHost")
    post += b"x" * 500_000
    with HttpServer.bind(SocketAddr.localhost(0)) as server:
        answer = precompute_response(200, "text/plain", b"static" * 1000)
        serve = (lambda: server.serve_static(answer)) if how == "static" else None
        thread = threading.Thread(target=serve or (lambda: server.serve(handler)))
        thread.start()
        try:
            total = 0
            for requests in ([get, get, get, last], [post]):
                peer = connect(("127.0.0.1", server.local_addr().port))
                for request in requests:
                    peer.send(request)
                total += len(peer.rest())
            until(server, lambda stats: stats.connections == 0)
            stats = server.stats()
            assert stats.bytes_in == 3 * len(get) + len(last) + len(post)
            assert stats.bytes_out == total
        finally:
            server.close()
            thread.join(PATIENCE)


@pytest.mark.parametrize("dispatch", ["auto", "inline", "pool"])
def test_errors_are_counted_by_status(start: Start, connect: Connect, dispatch: str) -> None:
    def handler(request: Request) -> Response | StreamingResponse[Any]:
        if request.url == "/fail":
            raise LookupError("no")
        if request.url == "/stream":
            return StreamingResponse(502, iter([b"x"] * 3))
        return Response(int(request.url[1:]), body="as asked")

    running = start(handler, ServerConfig(dispatch=dispatch))
    peer = connect(running.address)
    for target in ["/200", "/404", "/302", "/404", "/404", "/599", "/fail", "/stream", "/999"]:
        peer.get(target)
        peer.read()
    assert running.server.stats().errors == {404: 3, 500: 1, 502: 1, 599: 1}


def test_refused_requests_are_counted_among_the_errors(start: Start, connect: Connect) -> None:
    config = ServerConfig(max_body_size=10, header_timeout_ms=50, expose_error_messages=True)
    running = start(hello, config)
    for sent in (b"GET / HTTP/9.9\r\n\r\n", b"bad\r\n\r\n", b"GET / HTTP/1.1\r\n"):
        peer = connect(running.address)
        peer.send(sent)
        peer.read()
        assert peer.is_ended()
    peer = connect(running.address)
    peer.get()
    peer.read()
    peer.post(b"x" * 11)
    assert peer.read().status == 413
    assert peer.is_ended()
    stats = running.server.stats()
    assert stats.errors == {400: 1, 408: 1, 413: 1, 505: 1}
    assert stats.requests == 1


def test_takeovers_are_counted(start: Start, connect: Connect) -> None:
    let_go = threading.Event()

    def handler(request: Request) -> Response:
        let_go.wait(PATIENCE)
        return ok()

    running = start(handler)
    peer = connect(running.address)
    peer.get()
    try:
        stats = until(running.server, lambda stats: (stats.takeovers, stats.in_flight) == (1, 1))
        assert stats.pool_depth == 0
    finally:
        let_go.set()
    peer.read()


def test_a_handler_may_ask(start: Start, connect: Connect) -> None:
    running: Running

    def handler(request: Request) -> Response:
        stats = running.server.stats()
        return ok(f"{stats.requests} {stats.in_flight}")

    running = start(handler)
    peer = connect(running.address)
    peer.get()
    assert peer.read().body == b"1 1"


def stats_of(peer: Peer) -> dict[str, Any]:
    peer.get("/stats")
    found: dict[str, Any] = json.loads(peer.read().body)
    return found


def in_all(program: Program) -> dict[str, Any]:
    """What the parent says at the end."""
    program.signal(signal.SIGTERM)
    assert program.wait() == 0
    (line,) = program.until(r"^in all (.*)")
    found: dict[str, Any] = json.loads(line)
    return found


@processes
def test_every_worker_process_knows_the_sum_of_all(program: Begin, connect: Connect) -> None:
    running = program()
    running.await_workers(2)
    peers = [connect(running.address) for _ in range(20)]
    for peer in peers:
        for _ in range(5):
            peer.get()
            peer.read()
    deadline = time.monotonic() + PATIENCE
    while True:  # another worker publishes after it has answered
        found = stats_of(peers[0])
        if found["requests"] >= 100:
            break
        assert time.monotonic() < deadline, found
    assert (found["connections"], found["accepted"]) == (20, 20)
    for peer in peers:
        peer.close()
    total = in_all(running)
    assert (total["connections"], total["accepted"]) == (0, 20)
    assert total["requests"] > 100


@processes
def test_workers_that_were_replaced_or_killed_stay_in_the_sum(
    program: Begin,
) -> None:
    running = program(patient=True)
    first = set(running.await_workers(2))
    with Load(running.address) as load:
        load.until(lambda answers: all(answers.get(pid, 0) > 20 for pid in first))
        running.signal(signal.SIGHUP)
        second = set(running.await_workers(4)) - first
        load.until(lambda answers: all(answers.get(pid, 0) > 20 for pid in second))
    answered = sum(load.answers.values())
    assert not load.failures
    total = in_all(running)
    assert total["requests"] == answered
    assert total["errors"] == {}
    assert total["bytes_in"] > 20 * answered
    assert total["bytes_out"] > 60 * answered
    assert total["connections"] == total["in_flight"] == 0


@processes
def test_the_numbers_of_a_killed_worker_stay_in_the_sum(program: Begin, connect: Connect) -> None:
    running = program(workers=1, kind="process")
    (worker,) = running.await_workers(1)
    peer = connect(running.address)
    for _ in range(10):
        peer.get()
        peer.read()
    peer.get("/fail")
    assert peer.read().status == 500
    peer.get("/stats")
    peer.read()
    os.kill(worker, signal.SIGKILL)
    running.await_workers(2)
    again = connect(running.address)
    found = stats_of(again)
    assert found["requests"] >= 10
    assert found["connections"] == 1
    assert found["errors"] == {"500": 1}
