"""How a server ends: close and drain from other threads."""

from __future__ import annotations

import select
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from dispatching import until, worker_of
from serving import PATIENCE, Address, Connect, Start

from flare.errors import AddressInUse, NetworkError, ValidationError
from flare.http import Request, Response, ok
from flare.http.server import HttpServer, ShutdownReport, stream_response
from flare.net import SocketAddr

sys.path.append(str(Path(__file__).parents[2] / "_ffi"))
from half_open import begin_to_connect, hear_again

BRIEF = 100
AMPLE = 10_000


def hello(request: Request) -> Response:
    return ok("hello")


class Gate:
    """A handler that waits inside until it is let go."""

    def __init__(self, release: bool = False) -> None:
        self.entered = threading.Event()
        self.release = threading.Event()

    def serve(self, request: Request) -> Response:
        self.entered.set()
        self.release.wait(PATIENCE)
        return ok("late")


def endless() -> Iterator[bytes]:
    while True:
        yield b"x" * 65536


def bound() -> HttpServer:
    return HttpServer.bind(SocketAddr.localhost(0))


def test_close_ends_serve_and_every_connection(start: Start, connect: Connect) -> None:
    running = start(hello)
    idle, half = connect(running.address), connect(running.address)
    half.send(b"GET / HT")
    idle.get("/")
    idle.read()
    running.server.close()
    running.join()
    assert running.error is None
    assert idle.is_ended()
    assert half.is_ended()
    with pytest.raises(ConnectionRefusedError):
        connect(running.address)


def test_close_may_be_repeated_and_called_from_many_threads(start: Start) -> None:
    running = start(hello)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(32):
            pool.submit(running.server.close)
    running.join()
    running.server.close()


def test_a_server_closed_before_serve_does_not_serve() -> None:
    server = bound()
    server.close()
    with pytest.raises(NetworkError, match="closed"):
        server.serve(hello)


def test_close_at_any_moment_of_the_start_ends_serve() -> None:
    for _ in range(20):
        server = bound()
        thread = threading.Thread(target=lambda server=server: _serve_or_not(server))
        thread.start()
        server.close()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def _serve_or_not(server: HttpServer) -> None:
    try:
        server.serve(hello)
    except NetworkError:
        pass


def test_the_address_outlives_the_server() -> None:
    with bound() as server:
        address = server.local_addr()
        assert "bound" in repr(server)
    assert server.local_addr() == address
    assert "closed" in repr(server)


def test_a_server_serves_once(start: Start, connect: Connect) -> None:
    running = start(hello)
    peer = connect(running.address)
    peer.get("/")
    peer.read()
    with pytest.raises(ValidationError, match="already"):
        running.server.serve(hello)
    running.stop()
    with pytest.raises(NetworkError, match="closed"):
        running.server.serve(hello)


def test_the_port_is_free_again_after_the_end(start: Start, connect: Connect) -> None:
    running = start(hello)
    address = running.server.local_addr()
    with pytest.raises(AddressInUse):
        HttpServer.bind(address)
    peer = connect(running.address)
    peer.get("/")
    peer.read()
    running.stop()
    HttpServer.bind(address).close()


def test_connections_made_before_serve_are_served(connect: Connect) -> None:
    server = bound()
    peer = connect(("127.0.0.1", server.local_addr().port))
    peer.get("/")
    thread = threading.Thread(target=server.serve, args=(hello,))
    thread.start()
    try:
        assert peer.read().body == b"hello"
    finally:
        server.close()
        thread.join(PATIENCE)


def test_a_dropped_server_warns() -> None:
    servers = [bound()]
    with pytest.warns(ResourceWarning, match="unclosed"):
        servers.clear()


def until_refused(connect: Connect, address: Address) -> None:
    """Wait until a drain has begun."""
    try:
        while True:
            connect(address).close()
    except ConnectionError:
        pass


# -- drain --------------------------------------------------------------------------------


def test_drain_before_serve_is_all_zeros_and_forbids_serve() -> None:
    server = bound()
    assert server.drain(AMPLE) == ShutdownReport()
    with pytest.raises(NetworkError, match="closed"):
        server.serve(hello)


def test_drain_of_a_server_without_connections_returns_at_once(
    start: Start, connect: Connect
) -> None:
    running = start(hello)
    connect(running.address).close()
    running.server.drain(AMPLE)
    running.join()
    assert running.server.drain(AMPLE) == ShutdownReport()


@pytest.mark.parametrize("timeout_ms", [0, -5])
def test_drain_without_a_budget_is_close(start: Start, connect: Connect, timeout_ms: int) -> None:
    running = start(hello)
    peer = connect(running.address)
    peer.send(b"GET /")
    assert running.server.drain(timeout_ms) == ShutdownReport()
    running.join()
    assert peer.is_ended()


def test_idle_connections_are_closed_at_once_and_counted(start: Start, connect: Connect) -> None:
    running = start(hello)
    used, fresh = connect(running.address), connect(running.address)
    used.get("/")
    used.read()
    assert running.server.drain(AMPLE) == ShutdownReport(drained=2)
    assert used.is_ended()
    assert fresh.is_ended()
    running.join()


def test_half_a_request_may_be_finished(start: Start, connect: Connect) -> None:
    running = start(hello)
    peer = connect(running.address)
    peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nha")
    other = connect(running.address)
    other.get("/")
    other.read()
    with ThreadPoolExecutor(1) as pool:
        report = pool.submit(running.server.drain, AMPLE)
        assert other.is_ended()
        with pytest.raises(ConnectionRefusedError):
            connect(running.address)
        peer.send(b"lf")
        reply = peer.read()
        assert (reply.status, reply.get("connection")) == (200, "close")
        assert peer.is_ended()
        peer.close()
        assert report.result(PATIENCE) == ShutdownReport(drained=2)
    running.join()


def test_a_request_in_its_handler_is_finished(start: Start, connect: Connect) -> None:
    gate = Gate()
    running = start(gate)
    peer = connect(running.address)
    peer.get("/")
    assert gate.entered.wait(PATIENCE)
    with ThreadPoolExecutor(1) as pool:
        report = pool.submit(running.server.drain, AMPLE)
        gate.release.set()
        assert peer.read().body == b"late"
        peer.close()
        assert report.result(PATIENCE).timed_out == 0
    running.join()


def test_requests_that_wait_unread_are_answered(start: Start, connect: Connect) -> None:
    gate = Gate()
    running = start(lambda request: gate.serve(request) if request.url == "/gate" else ok())
    first, second = connect(running.address), connect(running.address)
    second.get("/")
    second.read()
    first.get("/gate")
    assert gate.entered.wait(PATIENCE)
    second.get("/")
    queued = connect(running.address)
    queued.get("/")
    with ThreadPoolExecutor(1) as pool:
        report = pool.submit(running.server.drain, AMPLE)
        gate.release.set()
        for peer in (first, second, queued):
            reply = peer.read()
            assert reply.status == 200
            peer.rest()
            peer.close()
        assert report.result(PATIENCE) == ShutdownReport(drained=3)
    running.join()


def test_what_is_not_done_in_time_is_cut_off_and_counted(start: Start, connect: Connect) -> None:
    running = start(lambda request: stream_response(endless()) if request.url == "/e" else ok())
    idle, half, streaming = (connect(running.address) for _ in range(3))
    idle.get("/")
    idle.read()
    half.send(b"GET / HT")
    streaming.get("/e")
    streaming.sock.recv(10)
    report = running.server.drain(BRIEF)
    assert report == ShutdownReport(drained=1, timed_out=2, in_flight_at_deadline=2)
    running.join()
    assert half.is_ended()


def test_a_stream_that_ends_within_the_budget_is_whole(start: Start, connect: Connect) -> None:
    resume = threading.Event()

    def body() -> Iterator[bytes]:
        for _ in range(200):
            yield b"x" * 65536
        resume.wait(PATIENCE)
        yield b"end"

    running = start(lambda _: stream_response(body()))
    peer = connect(running.address)
    peer.get("/")
    peer.sock.recv(1)
    peer.buffer = b"H"
    with ThreadPoolExecutor(1) as pool:
        report = pool.submit(running.server.drain, AMPLE)
        resume.set()
        assert peer.read().body.endswith(b"end")
        assert peer.is_ended()
        peer.close()
        assert report.result(PATIENCE) == ShutdownReport(drained=1)
    running.join()


def test_a_source_learns_of_the_drain_and_may_end(start: Start, connect: Connect) -> None:
    class Source:
        def next(self, cancel: Any) -> bytes | None:
            return None if cancel.cancelled() else b"x" * 65536

    running = start(lambda _: stream_response(Source()))
    peer = connect(running.address)
    peer.get("/")
    peer.sock.recv(1)
    peer.buffer = b"H"
    with ThreadPoolExecutor(1) as pool:
        report = pool.submit(running.server.drain, AMPLE)
        peer.read()
        peer.rest()
        peer.close()
        assert report.result(PATIENCE) == ShutdownReport(drained=1)
    running.join()


def test_a_large_answer_under_way_is_finished_and_the_drain_ends(
    start: Start, connect: Connect
) -> None:
    """It said keep-alive before the drain began; the connection must end all the same."""
    size = 20_000_000
    running = start(lambda _: ok(b"x" * size))
    peer = connect(running.address)
    peer.get("/")
    peer.sock.recv(1)
    peer.buffer = b"H"
    with ThreadPoolExecutor(1) as pool:
        report = pool.submit(running.server.drain, AMPLE)
        until_refused(connect, running.address)
        reply = peer.read()
        assert len(reply.body) == size
        assert reply.get("connection") == "keep-alive"
        began = time.monotonic()
        assert report.result(PATIENCE).timed_out == 0
        assert time.monotonic() - began < AMPLE / 2000
    assert peer.is_ended()
    running.join()


def test_a_client_that_never_reads_does_not_outlast_the_budget(
    start: Start, connect: Connect
) -> None:
    running = start(lambda _: ok(b"x" * 30_000_000))
    peer = connect(running.address, receive_buffer=4096)
    peer.get("/")
    peer.sock.recv(1)
    report = running.server.drain(BRIEF)
    assert report == ShutdownReport(timed_out=1, in_flight_at_deadline=1)
    running.join()


def test_several_drains_get_the_same_report(start: Start, connect: Connect) -> None:
    running = start(hello)
    peer = connect(running.address)
    peer.send(b"GET / HT")
    with ThreadPoolExecutor(4) as pool:
        reports = [pool.submit(running.server.drain, BRIEF) for _ in range(4)]
        found = {report.result(PATIENCE) for report in reports}
    assert ShutdownReport(timed_out=1, in_flight_at_deadline=1) in found
    assert found <= {ShutdownReport(timed_out=1, in_flight_at_deadline=1), ShutdownReport()}
    running.join()


def test_close_cuts_a_drain_short(start: Start, connect: Connect) -> None:
    running = start(hello)
    peer = connect(running.address)
    peer.send(b"GET / HT")
    other = connect(running.address)
    with ThreadPoolExecutor(1) as pool:
        report = pool.submit(running.server.drain, 60_000)
        assert other.is_ended()  # the drain has begun
        running.server.close()
        assert report.result(PATIENCE).timed_out == 1
    running.join()


def test_drain_out_of_a_handler_is_refused(start: Start, connect: Connect) -> None:
    refused = []

    def handler(_: Request) -> Response:
        try:
            running.server.drain(AMPLE)
        except ValidationError as error:
            refused.append(error.field)
        return ok()

    running = start(handler)
    peer = connect(running.address)
    peer.get("/")
    assert peer.read().status == 200
    assert refused == ["drain"]


def test_close_out_of_a_handler_ends_serve(start: Start, connect: Connect) -> None:
    running = start(lambda _: running.server.close() or ok())
    peer = connect(running.address)
    peer.get("/")
    running.join()
    assert running.error is None


def test_a_handler_that_does_not_end_is_left_behind_and_logged(
    start: Start, connect: Connect, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    monkeypatch.setattr("flare.http.server.server._LATE_SECONDS", 0.05)
    gate = Gate()
    running = start(gate)
    peer = connect(running.address)
    peer.get("/")
    assert gate.entered.wait(PATIENCE)
    report = running.server.drain(50)
    assert report == ShutdownReport(timed_out=1, in_flight_at_deadline=1)
    running.join()
    gate.release.set()
    assert "still inside a handler" in caplog.text


def test_several_loops_are_drained_together(connect: Connect) -> None:
    server = bound()
    address = ("127.0.0.1", server.local_addr().port)
    thread = threading.Thread(target=server.serve, args=(hello, 3))
    thread.start()
    peers = [connect(address) for _ in range(12)]
    for peer in peers:
        peer.get("/")
        peer.read()
    assert server.drain(AMPLE) == ShutdownReport(drained=12)
    thread.join(PATIENCE)
    assert all(peer.is_ended() for peer in peers)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a filter on a socket")
def test_a_drain_serves_who_had_begun_to_connect(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To whom the kernel has said yes; that was lost, and is said again after a second, or two
    more."""
    monkeypatch.setattr("flare.http.server.doors._HANDSHAKE_MS", 8000)
    running = start(hello)
    worker = worker_of(running)
    with socket.socket() as client, ThreadPoolExecutor(1) as pool:
        begin_to_connect(client, running.address)
        drain = pool.submit(running.server.drain, AMPLE)
        until(lambda: worker.draining)
        hear_again(client)
        assert select.select([], [client], [], PATIENCE)[1]
        client.settimeout(PATIENCE)
        client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        reply = b""
        while piece := client.recv(1000):
            reply += piece
        assert reply.startswith(b"HTTP/1.1 200")
        assert reply.endswith(b"hello")
        assert drain.result() == ShutdownReport(drained=1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(running.address)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a filter on a socket")
def test_who_does_not_go_on_connecting_does_not_keep_a_drain(start: Start) -> None:
    running = start(hello)
    with socket.socket() as client:
        begin_to_connect(client, running.address)
        assert running.server.drain(AMPLE) == ShutdownReport()
    running.join()
