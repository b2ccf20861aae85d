"""What ``HttpServer.stats`` says, whatever the workers are."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from programs import Load, Program
from serving import PATIENCE, Connect, Peer, Running, Start

from flare.http import Request, Response, ServerStats, ok, precompute_response
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
        stats = until(running.server, lambda stats: stats.requests == 5)
        assert (stats.in_flight, stats.pool_depth, stats.takeovers) == (5, 3, 0)
    finally:
        let_go.set()
    for peer in peers:
        peer.read()
    until(running.server, lambda stats: (stats.in_flight, stats.pool_depth) == (0, 0))


def test_takeovers_are_counted(start: Start, connect: Connect) -> None:
    let_go = threading.Event()

    def handler(request: Request) -> Response:
        let_go.wait(PATIENCE)
        return ok()

    running = start(handler)
    peer = connect(running.address)
    peer.get()
    try:
        stats = until(running.server, lambda stats: stats.takeovers == 1)
        assert (stats.in_flight, stats.pool_depth) == (1, 0)
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


@pytest.fixture
def program() -> Iterator[Callable[..., Program]]:
    begun: list[Program] = []

    def begin(**options: Any) -> Program:
        begun.append(Program(**options))
        return begun[-1]

    yield begin
    for one in begun:
        one.end()


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
def test_every_worker_process_knows_the_sum_of_all(
    program: Callable[..., Program], connect: Connect
) -> None:
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
    program: Callable[..., Program],
) -> None:
    running = program()
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
    assert total["connections"] == total["in_flight"] == 0


@processes
def test_the_numbers_of_a_killed_worker_stay_in_the_sum(
    program: Callable[..., Program], connect: Connect
) -> None:
    running = program(workers=1, kind="process")
    (worker,) = running.await_workers(1)
    peer = connect(running.address)
    for _ in range(10):
        peer.get()
        peer.read()
    peer.get("/stats")
    peer.read()
    os.kill(worker, signal.SIGKILL)
    running.await_workers(2)
    again = connect(running.address)
    found = stats_of(again)
    assert found["requests"] >= 10
    assert found["connections"] == 1
