"""Takeovers at will, for the tests of dispatch: a lease that is seized at a chosen step."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from serving import PATIENCE, Peer, Running

from flare.http import Request, Response, ok
from flare.http.server import HttpServer
from flare.http.server.crew import ThreadCrew
from flare.http.server.h2_lane import make_h2_lane
from flare.http.server.lane import make_lane
from flare.http.server.lease import Lease
from flare.http.server.wire import BodyWriter, Exchange
from flare.http.server.worker import Worker

AMPLE = 10_000
STEPS = ("before", "in", "after")


def echo(request: Request) -> Response:
    return ok(request.url)


def ask(peer: Peer, target: str) -> bytes:
    """Get *target*: the body of the answer."""
    peer.get(target)
    return peer.read().body


def reset(peer: Peer) -> None:
    """Close it by a reset."""
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def wanted(task: Any) -> bool:
    """A request with ``take`` in its target."""
    return isinstance(task, Exchange) and "take" in task.request.url


def pieces(task: Any) -> bool:
    """A streamed body's next chunk."""
    return isinstance(task, BodyWriter)


class Source:
    """A streamed body that tells when it is closed."""

    def __init__(self, chunks: int = 3, each: Callable[[], object] = lambda: None) -> None:
        self.left = chunks
        self.each = each
        self.closed = threading.Event()

    def next(self, cancel: Any) -> bytes | None:
        self.each()
        self.left -= 1
        return b"chunk" if self.left >= 0 else None

    def close(self) -> None:
        self.closed.set()


class Asleep:
    """A watchdog that never looks, so that only the test takes a lease away."""

    parked = False

    def watch(self, worker: object) -> None:
        """Nothing is watched."""

    def forget(self, worker: object) -> None:
        """Nothing was."""

    def unpark(self) -> None:
        """It is awake as much as it ever is."""


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.001)


def worker_of(running: Running) -> Worker:
    return only_worker(running.server)


def only_worker(server: HttpServer) -> Worker:
    until(lambda: server._crew)
    crew = server._crew
    assert isinstance(crew, ThreadCrew)
    [worker] = crew.workers
    return worker


def skip(worker: Worker, ms: int) -> None:
    """Have so much time pass for *worker* at once, and wait until it has noticed.

    So a deadline passes when the test says so and at no other time, however long it is.
    """
    clock = worker.clock_ns
    worker.clock_ns = lambda: clock() + ms * 1_000_000
    now_ms = worker.clock_ns() // 1_000_000
    worker.reactor.wakeup()
    until(lambda: worker.now_ms >= now_ms)


def seize(worker: Worker, *, computing: bool = False) -> None:
    """From inside a handler on the loop's thread: have another thread lead."""
    assert worker.overtake(worker.lease.serial, computing)


def is_quiet(worker: Worker) -> bool:
    """Nothing is off the loop, nor counted to be."""
    dispatch = worker.dispatch
    return dispatch.away == dispatch.busy == dispatch._laned == 0


class _ForcedTasks(dict[int, Any]):
    """What is held under a ``ForcedLease``: entering and leaving are its changes."""

    def __init__(self, lease: ForcedLease) -> None:
        self._lease = lease

    def __setitem__(self, serial: int, task: Any) -> None:
        super().__setitem__(serial, task)
        self._lease.on_enter(serial, task)

    def pop(self, serial: int, default: Any = None) -> Any:
        self._lease.on_leave()  # nothing to a thread that has entered nothing: who seizes
        return super().pop(serial, default)


class ForcedLease(Lease):
    """Is seized at one *step* of every call whose task is *chosen*.

    ``"before"`` the handler is called, ``"in"`` it, by ``within``, or ``"after"`` it, right
    before the leader would leave.
    """

    def __init__(self, worker: Worker, step: str, chosen: Callable[[Any], bool]) -> None:
        super().__init__()
        self.worker = worker
        self.step = step
        self.chosen = chosen
        self.taken = 0
        self.entered: list[object] = []
        self._mine = threading.local()
        self.held = _ForcedTasks(self)

    def on_enter(self, serial: int, task: Any) -> None:
        self.entered.append(task)
        self._mine.serial = serial if self.chosen(task) else 0
        if self.step == "before":
            self._take()

    def within(self) -> None:
        if self.step == "in":
            self._take()

    def on_leave(self) -> None:
        if self.step == "after":
            self._take()

    def _take(self) -> None:
        serial, self._mine.serial = getattr(self._mine, "serial", 0), 0
        if serial:
            self.taken += 1
            assert self.worker.overtake(serial)


def force(running: Running, step: str, chosen: Callable[[Any], bool]) -> ForcedLease:
    """Have the server of *running*, which has had no request yet, lose its lease at *step*."""
    worker = worker_of(running)
    lease = worker.lease = ForcedLease(worker, step, chosen)
    worker.lane = make_lane(worker)
    worker.h2_lane = make_h2_lane(worker)
    return lease


class Gate:
    """A handler that waits inside until it is let go."""

    def __init__(self, answer: Callable[[Request], Any]) -> None:
        self.answer = answer
        self.entered = threading.Semaphore(0)
        self.release = threading.Event()

    def __call__(self, request: Request) -> Any:
        release = self.release  # the test may put another there once it has entered
        self.entered.release()
        assert release.wait(PATIENCE)
        return self.answer(request)

    def await_entry(self) -> None:
        assert self.entered.acquire(timeout=PATIENCE)
