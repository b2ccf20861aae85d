"""However slow a client reads or a handler takes, the server holds one chunk and one buffer."""

from __future__ import annotations

import select
import threading
import tracemalloc
from typing import Any

import pytest
from dispatching import until, worker_of
from serving import Connect, Peer, Running, Start

from flare.http import Request, Response, Router, StreamingResponse, ok
from flare.http.server import ServerConfig
from flare.http.server.connection import Connection

CHUNK = 100_000
FRAMING = 1000  # the head, and a chunk's size and end
AMPLE = ServerConfig(write_timeout_ms=0, handler_timeout_ms=0, request_timeout_ms=0)


class Endless:
    """A source that counts its pulls."""

    def __init__(self, size: int = CHUNK, most: int = 1 << 30) -> None:
        self.size = size
        self.most = most
        self.pulls = 0
        self.closed = threading.Event()

    def next(self, cancel: Any) -> bytes | None:
        if self.pulls >= self.most:
            return None
        self.pulls += 1
        return bytes(self.size)

    def close(self) -> None:
        self.closed.set()


def connections(running: Running) -> list[Connection]:
    found = list(worker_of(running).connections.values())
    assert all(isinstance(connection, Connection) for connection in found)
    return found  # type: ignore[return-value]


def is_stuck(connection: Connection) -> bool:
    """Whether it waits for its client to read, and will wait on."""
    if not connection._writing or connection._task is not None:
        return False
    return not select.select([], [connection.sock.fileno()], [], 0)[1]


@pytest.mark.parametrize("mode", ["auto", "inline", "pool"])
def test_a_client_that_stops_reading_stops_the_source(
    start: Start, connect: Connect, mode: str
) -> None:
    source = Endless()
    config = ServerConfig(
        write_timeout_ms=0, handler_timeout_ms=0, request_timeout_ms=0, dispatch=mode
    )
    running = start(lambda request: StreamingResponse(200, source), config)
    peer = connect(running.address, receive_buffer=65536)
    peer.get("/")
    seen = 0
    worker = worker_of(running)
    for _ in range(5):
        until(lambda: connections(running) and is_stuck(connections(running)[0]))
        [connection] = connections(running)
        assert connection.wire.out_bytes <= CHUNK + FRAMING
        # What was pulled and has not gone to the kernel is less than one chunk.
        pulled, gone = source.pulls * CHUNK, worker.tally.bytes_out
        assert pulled - gone <= CHUNK
        pulls = source.pulls
        while seen < gone:
            seen += len(peer.sock.recv(1 << 20))
        until(lambda pulls=pulls: source.pulls > pulls)
    peer.close()
    assert source.closed.wait(10)


def test_many_clients_that_do_not_read_cost_a_chunk_each(start: Start, connect: Connect) -> None:
    count = 40
    running = start(lambda request: StreamingResponse(200, Endless(65536)), AMPLE)
    tracemalloc.start()
    try:
        peers = [connect(running.address, receive_buffer=4096) for _ in range(count)]
        for peer in peers:
            peer.get("/")
        until(
            lambda: (
                len(connections(running)) == count
                and all(is_stuck(connection) for connection in connections(running))
            )
        )
        held = sum(connection.wire.out_bytes for connection in connections(running))
        assert held <= count * (65536 + FRAMING)
        assert tracemalloc.get_traced_memory()[0] < count * 2 * 65536 + (2 << 20)
    finally:
        tracemalloc.stop()


def test_a_slow_reader_gets_every_byte(start: Start, connect: Connect) -> None:
    running = start(lambda request: StreamingResponse(200, Endless(7919, 500)), AMPLE)
    peer = connect(running.address, receive_buffer=16384)
    peer.get("/")
    until(lambda: connections(running) and is_stuck(connections(running)[0]))
    assert peer.read().body == bytes(7919 * 500)


def uploading(running: Running, connect: Connect, size: int) -> Peer:
    peer = connect(running.address)
    peer.send(b"POST /up HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size)
    peer.sock.setblocking(False)
    try:
        for _ in range(200):
            peer.sock.send(bytes(65536))
    except BlockingIOError:
        pass
    peer.sock.settimeout(10)
    return peer


def test_many_uploads_that_nobody_reads_cost_a_queue_each(start: Start, connect: Connect) -> None:
    go = threading.Event()
    router = Router()

    @router.post("/up", stream_body=True, max_body_size=1 << 40)
    def up(request: Request) -> Response:
        assert go.wait(30)
        return ok(str(len(request.stream.read(1000))))

    config = ServerConfig(handler_timeout_ms=0, request_timeout_ms=0, handler_threads=4)
    running = start(router, config)
    tracemalloc.start()
    try:
        peers = [uploading(running, connect, 1 << 40) for _ in range(30)]

        def is_full(connection: Connection) -> bool:
            return connection._intake is not None and connection._intake.queue.full

        until(lambda: sum(map(is_full, connections(running))) == len(peers))
        received = sum(
            connection._intake.queue.received
            for connection in connections(running)
            if connection._intake is not None
        )
        assert received <= len(peers) * 2 * 65536
        assert tracemalloc.get_traced_memory()[0] < len(peers) * 5 * 65536 + (6 << 20)
    finally:
        tracemalloc.stop()
        go.set()
    for peer in peers:
        assert peer.read().body == b"1000"


def test_an_echo_holds_a_bounded_amount_both_ways(start: Start, connect: Connect) -> None:
    router = Router()

    @router.post("/up", stream_body=True, max_body_size=1 << 40)
    def echo(request: Request) -> StreamingResponse[Any]:
        return StreamingResponse(200, iter(request.stream.read1, b""))

    running = start(router, AMPLE)
    size = 12 << 20  # more than the kernel holds on the way there and back
    peer = connect(running.address, receive_buffer=65536)
    peer.send(b"POST /up HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size)
    data = bytes(range(256)) * (size // 256)
    failures: list[OSError] = []

    def send() -> None:
        try:
            peer.send(data)
        except OSError as error:
            failures.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    until(lambda: connections(running) and is_stuck(connections(running)[0]))
    [connection] = connections(running)
    intake = connection._intake
    assert intake is not None
    assert intake.queue.received - intake.queue.taken <= 2 * 65536
    assert connection.wire.out_bytes <= 65536 + FRAMING
    assert peer.read().body == data
    sender.join(10)
    assert not failures
