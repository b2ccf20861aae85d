"""The server under clients that do all they can, and over time.

``FLARE_LONG=1`` runs the mixed load for ten minutes instead of seconds.
"""

from __future__ import annotations

import gc
import os
import random
import socket
import statistics
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dispatching import until
from serving import PATIENCE, Connect, Peer, Start

from flare.http import FileBody, Request, Response, Router, StreamingResponse, ok
from flare.http.server import ServerConfig

LONG = os.environ.get("FLARE_LONG") == "1"
SECONDS = 600.0 if LONG else 4.0


def test_two_hundred_hostile_clients_and_four_threads_leave_the_health_check_quick(
    start: Start, connect: Connect
) -> None:
    router = Router()
    router.get("/health", lambda request: ok("well"))
    router.get("/big", lambda request: ok(bytes(20_000_000)))
    router.post("/whole", lambda request: ok(str(len(request.body))))

    @router.post("/stream", stream_body=True)
    def stream(request: Request) -> Response:
        return ok(str(len(request.stream.read())))

    budget = 1500
    config = ServerConfig(
        handler_threads=4,
        idle_timeout_ms=budget,
        header_timeout_ms=budget,
        read_body_timeout_ms=budget,
        write_timeout_ms=budget,
    )
    address = start(router, config).address
    head = b"POST /%s HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n"
    kinds: list[Callable[[Peer], object]] = [
        lambda peer: None,  # silent
        lambda peer: peer.send(b"GET / HTTP/1.1\r\nHost"),
        lambda peer: (peer.send(b"GET / HT"), peer.finish_sending()),  # half-open
        lambda peer: peer.send(head % b"whole" + b"x"),
        lambda peer: peer.send(head % b"stream" + b"x"),
        lambda peer: peer.send(b"GET /big HTTP/1.1\r\nHost: h\r\n\r\n"),  # never reads
    ]
    hostile = []
    for number in range(200):
        hostile.append(connect(address, receive_buffer=4096))
        kinds[number % len(kinds)](hostile[-1])
    dripping = [peer for number, peer in enumerate(hostile) if number % len(kinds) in (1, 3, 4)]
    over = threading.Event()

    def drip() -> None:
        while not over.wait(0.25):
            for peer in dripping:
                try:
                    peer.sock.send(b"x")
                except OSError:
                    pass

    dripper = threading.Thread(target=drip)
    dripper.start()
    try:
        healthy = connect(address)
        took = []
        for _ in range(15):
            began = time.perf_counter()
            healthy.get("/health")
            assert healthy.read().body == b"well"
            took.append(time.perf_counter() - began)
        assert statistics.median(took) < budget / 1000 / 3  # nobody's time was waited for
        for peer in hostile:
            peer.sock.settimeout(PATIENCE)
            try:
                while peer.sock.recv(1 << 20):
                    pass
            except ConnectionError:
                pass
    finally:
        over.set()
        dripper.join(PATIENCE)
    healthy = connect(address)
    healthy.get("/health")
    assert healthy.read().body == b"well"


class Load:
    """Clients that come and go until they are told to stop."""

    def __init__(self, address: Any, data: bytes) -> None:
        self.address = address
        self.data = data
        self.over = threading.Event()
        self.errors: list[BaseException] = []
        self.done = 0
        self._lock = threading.Lock()  # guards done
        tasks = [self.ask, self.pipeline, self.upload, self.download, self.wait, self.leave]
        self._threads = [threading.Thread(target=self._run, args=(task,)) for task in tasks]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def _run(self, task: Callable[[random.Random], None]) -> None:
        chance = random.Random(task.__name__)
        try:
            while not self.over.is_set():
                task(chance)
                with self._lock:
                    self.done += 1
        except BaseException as error:
            self.errors.append(error)

    def _peers(self) -> Iterator[Peer]:
        peer = Peer(self.address)
        try:
            yield peer
        finally:
            peer.close()

    def ask(self, chance: random.Random) -> None:
        for peer in self._peers():
            for _ in range(chance.randrange(1, 50)):
                peer.get("/fast")
                assert peer.read().body == b"fast"

    def pipeline(self, chance: random.Random) -> None:
        for peer in self._peers():
            count = chance.randrange(1, 40)
            peer.send(b"GET /fast HTTP/1.1\r\nHost: h\r\n\r\n" * count)
            for _ in range(count):
                assert peer.read().body == b"fast"

    def upload(self, chance: random.Random) -> None:
        for peer in self._peers():
            for target in ("/stream", "/whole"):
                size = chance.randrange(300_000)
                peer.post(self.data[:size], target=target)
                assert peer.read().body == b"%d" % size

    def download(self, chance: random.Random) -> None:
        for peer in self._peers():
            for target in ("/file", "/chunks"):
                peer.get(target)
                assert peer.read().body == self.data

    def wait(self, chance: random.Random) -> None:
        for peer in self._peers():
            peer.get("/slow")
            assert peer.read().body == b"slow"

    def leave(self, chance: random.Random) -> None:
        for peer in self._peers():
            target = chance.choice(["/file", "/chunks", "/slow", "/stream"])
            if target == "/stream":
                peer.send(b"POST /stream HTTP/1.1\r\nHost: h\r\nContent-Length: 99\r\n\r\nxx")
            else:
                peer.get(target)
            if chance.random() < 0.5:
                linger = struct.pack("ii", 1, 0)
                peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            elif target == "/chunks":
                peer.sock.recv(1000)


def mixed(path: Path, data: bytes) -> Router:
    router = Router()
    router.get("/fast", lambda request: ok("fast"))
    router.get("/file", lambda request: StreamingResponse(200, FileBody(path)))
    router.post("/whole", lambda request: ok(str(len(request.body))))

    @router.get("/slow")
    def slow(request: Request) -> Response:
        time.sleep(0.02)
        return ok("slow")

    @router.get("/chunks")
    def chunks(request: Request) -> StreamingResponse[Any]:
        return StreamingResponse(
            200, (data[start : start + 10_000] for start in range(0, len(data), 10_000))
        )

    @router.post("/stream", stream_body=True)
    def stream(request: Request) -> Response:
        return ok(str(sum(map(len, iter(lambda: request.stream.read(5000), b"")))))

    return router


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.timeout(SECONDS * 2 + 60)
def test_memory_descriptors_and_threads_are_flat_under_mixed_load(
    start: Start, tmp_path: Path
) -> None:
    data = bytes(range(256)) * 1500
    path = tmp_path / "file"
    path.write_bytes(data)
    config = ServerConfig(handler_threads=8)
    others = threading.active_count()  # a fixture of the whole session may have some, too
    running = start(mixed(path, data), config)
    with Load(running.address, data) as load:
        time.sleep(SECONDS / 2)  # until every thread and memo there will be is there
        gc.collect()
        before, done = resident(), load.done
        most_threads = most_files = 0
        ends = time.monotonic() + SECONDS / 2
        while time.monotonic() < ends:
            time.sleep(0.1)
            most_threads = max(most_threads, threading.active_count())
            most_files = max(most_files, len(os.listdir("/proc/self/fd")))
        gc.collect()
        after = resident()
    assert not load.errors
    assert load.done > done
    assert after - before < 24 << 20
    clients = 6
    # Those of serve, the workers, the watchdog; and a few that are only just ending.
    assert most_threads - others <= 1 + (8 + 1) + 1 + clients + 5
    assert most_files < 200
    # With the clients gone nothing is left of them.
    until(lambda: not running.server.stats().connections)
    until(lambda: not running.server.stats().in_flight)
