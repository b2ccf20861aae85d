"""A server under clients that misbehave, with threads that switch every few microseconds.

Run by ``test_dispatch_stress.py`` in a process of its own: ``stress_dispatch.py SECONDS WORKERS
SEED``. Every answer is checked to belong to its request, and at the end that nothing is left.
"""

from __future__ import annotations

import gc
import os
import random
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from operator import length_hint

from dispatching import until
from serving import Peer

from flare.errors import HttpStatusError
from flare.http import Request, Response, Router, ok
from flare.http.server import HttpServer, ServerConfig, stream_response
from flare.http.server.crew import ThreadCrew
from flare.http.server.threads import compute_lane
from flare.http.server.worker import Worker
from flare.net import SocketAddr

CLIENTS = 12
KINDS = ("fast", "fast", "fast", "fast", "sleep", "compute", "raise", "stream", "pool", "inline")


def number(request: Request) -> str:
    return request.param("id")


def fast(request: Request) -> Response:
    return ok(number(request))


def sleeps(request: Request) -> Response:
    time.sleep(random.uniform(0.001, 0.03))
    return ok(number(request))


def computes(request: Request) -> Response:
    end = time.thread_time_ns() + 10_000_000
    while time.thread_time_ns() < end:
        pass
    return ok(number(request))


def raises(request: Request) -> Response:
    if random.random() < 0.2:
        time.sleep(0.01)
    raise HttpStatusError(409, number(request))


def streams(request: Request) -> Response:
    text = number(request).encode()

    def pieces() -> Iterator[bytes]:
        for place in range(len(text)):
            if random.random() < 0.3:
                time.sleep(random.uniform(0, 0.012))
            yield text[place : place + 1]

    return stream_response(pieces())


def router() -> Router:
    router = Router()
    router.get("/fast/:id", fast)
    router.get("/sleep/:id", sleeps)
    router.get("/compute/:id", computes)
    router.get("/raise/:id", raises)
    router.get("/stream/:id", streams)
    router.get("/pool/:id", sleeps, dispatch="pool")
    router.get("/inline/:id", fast, dispatch="inline")
    return router


class Client:
    """One thread's worth of connections, until ``stop``. What fails once ``ending`` is set, may."""

    def __init__(self, address: tuple[str, int], seed: int) -> None:
        self.address = address
        self.random = random.Random(seed)
        self.seed = seed
        self.sent = 0
        self.answered = 0
        self.refused = 0
        self.wrong: list[str] = []
        self.stop = threading.Event()
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self.stop.is_set():
            try:
                peer = Peer(self.address)
            except OSError:
                if not self.ending.is_set():
                    self.wrong.append(traceback.format_exc())
                return
            try:
                self._talk(peer)
            except (OSError, AssertionError):
                if not self.ending.is_set():
                    self.wrong.append(traceback.format_exc())
            finally:
                peer.close()

    def _talk(self, peer: Peer) -> None:
        for _ in range(self.random.randint(1, 4)):
            asked = [self._question() for _ in range(self.random.choice((1, 1, 2, 5, 20)))]
            data = b"".join(
                f"GET /{kind}/{name} HTTP/1.1\r\nHost: h\r\n\r\n".encode() for kind, name in asked
            )
            manner = self.random.random()
            if manner < 0.1:
                for place in range(0, len(data), 29):
                    peer.send(data[place : place + 29])
                    time.sleep(0.0005)
            else:
                peer.send(data)
            if manner > 0.93:
                if manner > 0.96:  # a reset
                    peer.sock.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                time.sleep(self.random.uniform(0, 0.01))
                return
            if manner > 0.86:
                peer.finish_sending()
            some = self.random.randint(0, len(asked)) if 0.8 < manner < 0.83 else len(asked)
            for kind, name in asked[:some]:
                self._check(peer, kind, name)
            if some < len(asked):
                return
            if manner > 0.86:
                assert peer.rest() == b""
                return

    def _question(self) -> tuple[str, str]:
        self.sent += 1
        return self.random.choice(KINDS), f"{self.seed}-{self.sent}"

    def _check(self, peer: Peer, kind: str, name: str) -> None:
        reply = peer.read()
        if reply.status == 503 and reply.get("retry-after"):
            self.refused += 1
            return
        expected = 409 if kind == "raise" else 200
        if (reply.status, reply.body) != (expected, name.encode()):
            self.wrong.append(f"{kind} {name}: {reply.line} {reply.body!r}")
        self.answered += 1


def descriptors() -> set[str]:
    found = set()
    for entry in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{entry} {os.readlink(f'/proc/self/fd/{entry}')}")
        except OSError:
            continue
    return found


def left_in(worker: Worker) -> int:
    """How much the loop of *worker* has yet to do, though all of its connections are gone."""
    stages = worker.stages
    waiting = stages._group, stages._answers, stages._later, worker._done, worker.ready
    return length_hint(stages._events) + sum(map(len, waiting)) + len(worker.lease)


def round_of(
    seconds: float, workers: int, seed: int, end: Callable[[HttpServer], object], *, quiet: bool
) -> tuple[int, int]:
    """Serve for *seconds*, then *end*; with *quiet* only when the clients have gone."""
    config = ServerConfig(handler_threads=6, handler_queue=40)
    server = HttpServer.bind(SocketAddr.localhost(0), config)
    failed: list[BaseException] = []

    def serve() -> None:
        try:
            server.serve(router(), workers, worker_kind="thread")
        except BaseException as error:
            failed.append(error)

    serving = threading.Thread(target=serve)
    serving.start()
    address = ("127.0.0.1", server.local_addr().port)
    clients = [Client(address, seed * 1000 + number) for number in range(CLIENTS)]
    for client in clients:
        client.thread.start()
    time.sleep(seconds)
    until(lambda: server._crew)
    crew = server._crew
    assert isinstance(crew, ThreadCrew)
    for client in clients:
        (client.stop if quiet else client.ending).set()
    if quiet:
        for client in clients:
            client.thread.join(30)
        for worker in crew.workers:
            until(lambda worker=worker: worker.dispatch.away == 0)
            until(lambda worker=worker: not worker.connections)
            # The last one may close in the middle of a batch.
            until(lambda worker=worker: not left_in(worker))
    end(server)
    serving.join(30)
    for client in clients:
        client.stop.set()
    for client in clients:
        client.thread.join(30)
        assert not client.thread.is_alive(), "a client hangs"
    assert not serving.is_alive(), "serve() hangs"
    assert not failed, failed
    for worker in crew.workers:
        for thread in worker.threads.all:
            thread.join(30)
            assert not thread.is_alive(), "a worker's thread hangs"
        assert worker.dispatch.away == worker.dispatch.busy == worker.dispatch._laned == 0
    lane = compute_lane()
    assert lane._free == lane.width, lane._free
    wrong = [text for client in clients for text in client.wrong]
    assert not wrong, "\n".join(wrong[:5])
    return sum(client.answered for client in clients), sum(client.refused for client in clients)


def _serve_and_check(seconds: float, workers: int, seed: int) -> None:
    sys.setswitchinterval(5e-6)
    random.seed(seed)
    before = descriptors()
    done = time.monotonic() + seconds
    print(round_of(seconds / 2, workers, seed, HttpServer.close, quiet=True), flush=True)
    while time.monotonic() < done:
        seed += 1
        end = random.choice((HttpServer.close, lambda server: server.drain(2000)))
        print(round_of(random.uniform(0.1, 0.4), workers, seed, end, quiet=False), flush=True)
    until(lambda: threading.active_count() == 1)
    gc.collect()
    left = descriptors() - before
    assert not left, left


def main(seconds: float, workers: int, seed: int) -> None:
    try:
        _serve_and_check(seconds, workers, seed)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # its threads would keep it


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
