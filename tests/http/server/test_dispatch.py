"""Which thread calls the handler, and what is learned about it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from dispatching import (
    Gate,
    Source,
    ask,
    echo,
    is_quiet,
    seize,
    skip,
    until,
    worker_of,
)
from serving import PATIENCE, Connect, Start

from flare.http import Request, Response, Router, dispatch, ok
from flare.http.handler import FnHandler, WithRaises
from flare.http.server import HttpServer, ServerConfig, ShutdownReport, stream_response
from flare.http.server.dispatch import Fate
from flare.http.server.threads import Outcome, compute_lane
from flare.http.server.watch import watchdog
from flare.net import SocketAddr

# -- threads and the queue ----------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_the_loop_goes_on_when_every_thread_is_inside_a_handler(
    start: Start, connect: Connect, threads: int
) -> None:
    gate = Gate(echo)
    config = ServerConfig(handler_threads=threads)
    running = start(lambda request: gate(request) if request.url == "/slow" else ok(), config)
    worker = worker_of(running)
    slow = [connect(running.address) for _ in range(threads)]
    for peer in slow:
        peer.get("/slow")
        gate.await_entry()
    until(lambda: worker.dispatch.away == threads)
    waiting = connect(running.address)
    waiting.get("/fast")
    until(lambda: worker.dispatch.away == threads + 1)
    bad = connect(running.address)
    bad.send(b"BAD\r\n\r\n")
    assert bad.read().status == 400
    gate.release.set()
    assert [peer.read().status for peer in (*slow, waiting)] == [200] * (threads + 1)
    assert len(worker.threads.all) == threads + 1
    until(lambda: is_quiet(worker))


@pytest.mark.parametrize("mode", ["auto", "pool"])
@pytest.mark.parametrize("queue", [0, 2])
def test_past_the_queue_the_answer_is_503_and_the_connection_stays(
    start: Start, connect: Connect, mode: str, queue: int
) -> None:
    gate = Gate(echo)
    config = ServerConfig(dispatch=mode, handler_threads=2, handler_queue=queue)
    running = start(gate, config)
    worker = worker_of(running)
    taken = [connect(running.address) for _ in range(2 + queue)]
    for number, peer in enumerate(taken):
        peer.get(f"/{number}")
        until(lambda number=number: worker.dispatch.away == number + 1)
    refused = connect(running.address)
    for _ in range(3):
        refused.get("/")
        reply = refused.read()
        assert (reply.status, reply.get("retry-after")) == (503, "1")
        assert reply.get("connection") == "keep-alive"
    gate.release.set()
    for number, peer in enumerate(taken):
        assert peer.read().body == b"/%d" % number
    until(lambda: is_quiet(worker))
    assert ask(refused, "/again") == b"/again"


def test_what_waits_too_long_for_a_thread_gets_503_and_is_never_called(
    start: Start, connect: Connect
) -> None:
    called: list[str] = []
    gate = Gate(echo)

    def handler(request: Request) -> Response:
        called.append(request.url)
        return gate(request)

    config = ServerConfig(dispatch="pool", handler_threads=1, handler_timeout_ms=10_000)
    running = start(handler, config)
    worker = worker_of(running)
    peers = [connect(running.address) for _ in range(3)]
    for number, peer in enumerate(peers):
        peer.get(f"/{number}")
        until(lambda number=number: worker.dispatch.away == number + 1)
    gate.await_entry()
    skip(worker, 10_000)
    for peer in peers:
        assert peer.read().status == 503
    gate.release.set()
    until(lambda: is_quiet(worker))
    assert called == ["/0"]


def test_without_a_second_thread_the_loop_calls_the_handler_itself(
    start: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread() -> None:
        raise RuntimeError("can't start new thread")

    for mode in ("auto", "pool"):
        running = start(echo, ServerConfig(dispatch=mode))
        worker = worker_of(running)
        until(lambda worker=worker: worker.threads.all)
        monkeypatch.setattr(worker.threads, "add", no_thread)
        assert ask(connect(running.address), "/x") == b"/x"


# -- what is learned ----------------------------------------------------------------------


def fate() -> Fate:
    return Fate(object(), "auto")


def calls(one: Fate, count: int, now_ms: int = 0) -> None:
    for _ in range(count):
        assert not one.watched or one.may_lead(now_ms)


def test_two_takeovers_within_a_hundred_calls_mean_exile() -> None:
    one = fate()
    one.overtaken(0)
    assert not one.exiled
    calls(one, 100)
    one.overtaken(0)
    assert one.exiled


def test_takeovers_further_apart_do_not() -> None:
    one = fate()
    for _ in range(5):
        one.overtaken(0)
        calls(one, 101)
    assert not one.exiled


def exiled() -> Fate:
    one = fate()
    one.overtaken(0)
    one.overtaken(0)
    return one


def test_one_call_probes_after_a_second_and_the_others_stay_away() -> None:
    one = exiled()
    assert not one.may_lead(999)
    assert one.may_lead(1000)
    assert not one.may_lead(1000)
    one.was_short()
    assert not one.exiled
    calls(one, 1)


def test_each_failed_probe_doubles_the_wait_to_a_minute() -> None:
    one, now = exiled(), 0
    for wait in (1, 2, 4, 8, 16, 32, 60, 60):
        assert not one.may_lead(now + wait * 1000 - 1)
        now += wait * 1000
        assert one.may_lead(now)
        one.overtaken(now)
    now += 60_000
    assert one.may_lead(now)
    one.was_short()
    one.overtaken(now)
    one.overtaken(now)
    assert one.may_lead(now + 1000)  # the wait begins anew


class Routes:
    """A router whose slow route is taken over from inside, and notes who leads."""

    def __init__(self) -> None:
        self.router = Router()
        self.worker: Any = None
        self.short = False
        self.on_loop: dict[str, list[bool]] = {"/slow": [], "/fast": []}
        self.router.get("/slow", self.slow)
        self.router.get("/fast", self.fast)

    def note(self, name: str) -> bool:
        led = bool(self.worker.lease.held)
        self.on_loop[name].append(led)
        return led

    def slow(self, request: Request) -> Response:
        if self.note("/slow") and not self.short:
            seize(self.worker)
        return ok("slow")

    def fast(self, request: Request) -> Response:
        self.note("/fast")
        return ok("fast")


@pytest.mark.usefixtures("asleep")
def test_a_route_is_exiled_alone_and_comes_back_when_it_is_short(
    start: Start, connect: Connect
) -> None:
    routes = Routes()
    running = start(routes.router)
    worker = routes.worker = worker_of(running)
    peer = connect(running.address)
    for _ in range(5):
        assert ask(peer, "/slow") == b"slow"
        assert ask(peer, "/fast") == b"fast"
    assert routes.on_loop["/slow"] == [True, True, False, False, False]
    assert routes.on_loop["/fast"] == [True] * 5
    later = 1001 * 1_000_000
    worker.clock_ns = lambda: time.monotonic_ns() + later
    assert ask(peer, "/slow") == b"slow"  # the batch before it began by the old clock
    ask(peer, "/slow")
    assert routes.on_loop["/slow"][5:].count(True) == 1  # a probe, and it failed
    later += 2001 * 1_000_000
    routes.short = True
    del routes.on_loop["/slow"][:]
    for _ in range(6):
        ask(peer, "/slow")
    assert routes.on_loop["/slow"][-4:] == [True] * 4
    until(lambda: is_quiet(worker))


@pytest.mark.usefixtures("asleep")
@pytest.mark.parametrize("wrap", [FnHandler, WithRaises])
def test_a_wrapper_is_known_by_what_it_wraps(
    start: Start, connect: Connect, wrap: Callable[..., Any]
) -> None:
    handler = wrap(echo)
    running = start(handler)
    ask(connect(running.address), "/")
    [one] = worker_of(running).dispatch._fates.values()
    assert one.key is echo


@pytest.mark.usefixtures("asleep")
@pytest.mark.parametrize("default", ["auto", "inline", "pool"])
def test_the_choice_of_a_handler_and_then_of_a_route_stands_above(
    start: Start, connect: Connect, default: str
) -> None:
    def note(request: Request) -> Response:
        return ok(str(worker.dispatch.away))

    @dispatch("pool")
    def away(request: Request) -> Response:
        return note(request)

    @dispatch("inline")
    def inline(request: Request) -> Response:
        return note(request)

    router = Router()
    router.get("/default", lambda request: note(request))
    router.get("/away", away)
    router.get("/inline", inline)
    router.get("/route", away, dispatch="inline")
    router.get("/other", inline, dispatch="pool")
    running = start(router, ServerConfig(dispatch=default))
    worker = worker_of(running)
    peer = connect(running.address)
    expected = {"/default": b"0", "/away": b"1", "/inline": b"0", "/route": b"0", "/other": b"1"}
    if default == "pool":
        expected["/default"] = b"1"
    assert {target: ask(peer, target) for target in expected} == expected


def test_a_route_may_adapt_on_a_server_that_does_not(start: Start, connect: Connect) -> None:
    gate = Gate(echo)
    router = Router()
    router.get("/slow", gate, dispatch="auto")
    router.get("/fast", echo)
    running = start(router, ServerConfig(dispatch="inline"))
    slow = connect(running.address)
    slow.get("/slow")
    gate.await_entry()
    assert ask(connect(running.address), "/fast") == b"/fast"
    gate.release.set()
    assert slow.read().body == b"/slow"


def test_keys_without_end_take_no_memory_without_end(start: Start, connect: Connect) -> None:
    class Fickle:
        def serve(self, request: Request) -> Response:
            return ok()

        def dispatch_key(self, request: Request) -> object:
            return object()

    running = start(Fickle())
    fates = worker_of(running).dispatch._fates
    peer = connect(running.address)
    ask(peer, "/")
    for number in range(4094):
        fates[-1 - number] = next(iter(fates.values()))
    ask(peer, "/")
    assert len(fates) == 4096
    ask(peer, "/")
    assert len(fates) == 1


# -- waiting and computing ----------------------------------------------------------------


def exile(worker: Any, *, computing: bool) -> None:
    """From inside a handler, twice: it is slow."""
    if worker.lease.held:
        seize(worker, computing=computing)


@pytest.mark.usefixtures("asleep", "no_probe")
def test_handlers_that_wait_share_the_threads(start: Start, connect: Connect) -> None:
    together = threading.Barrier(5, timeout=PATIENCE)

    def handler(request: Request) -> Response:
        if request.url == "/":
            exile(worker, computing=False)
            return ok()
        together.wait()
        return ok("together")

    running = start(handler)
    worker = worker_of(running)
    peers = [connect(running.address) for _ in range(5)]
    ask(peers[0], "/")
    ask(peers[0], "/")
    for peer in peers:
        peer.get("/wait")
    assert [peer.read().body for peer in peers] == [b"together"] * 5


@pytest.mark.usefixtures("asleep", "no_probe")
def test_handlers_that_compute_run_one_at_a_time_and_leave_the_threads_to_others(
    start: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = compute_lane()
    monkeypatch.setattr(lane, "width", 1)
    monkeypatch.setattr(lane, "_free", 1)
    lock = threading.Lock()
    inside = most = 0
    gate = Gate(echo)

    def compute(request: Request) -> Response:
        nonlocal inside, most
        if request.url == "/compute":
            exile(worker, computing=True)
            return ok()
        with lock:
            inside += 1
            most = max(most, inside)
        gate(request)
        with lock:
            inside -= 1
        return ok("computed")

    router = Router()
    router.get("/compute", compute)
    router.get("/fast", lambda _: ok(str(bool(worker.lease.held))))
    running = start(router, ServerConfig(handler_threads=2))
    worker = worker_of(running)
    peers = [connect(running.address) for _ in range(6)]
    ask(peers[0], "/compute")
    ask(peers[0], "/compute")
    until(lambda: is_quiet(worker))
    for peer in peers:
        peer.get("/compute?now")
    until(lambda: worker.dispatch.away == 6)
    gate.await_entry()
    # Five wait, and none of them for a thread: one stands by still.
    assert ask(connect(running.address), "/fast") == b"True"
    gate.release.set()
    assert [peer.read().body for peer in peers] == [b"computed"] * 6
    assert most == 1
    until(lambda: is_quiet(worker))
    assert lane._free == 1


@pytest.mark.usefixtures("asleep", "no_probe")
@pytest.mark.parametrize("ending", ["close", "exit"])
def test_the_lane_is_free_again_when_a_server_ends_with_some_waiting(
    start: Start, connect: Connect, ending: str
) -> None:
    """It is one for the process, and the next server's handlers go through it."""
    lane = compute_lane()

    def handler(request: Request) -> Response:
        if request.url == "/":
            exile(worker, computing=True)
            return ok()
        gate(request)
        if ending == "exit":
            raise SystemExit(3)
        return ok()

    gate = Gate(echo)
    running = start(handler)
    worker = worker_of(running)
    peers = [connect(running.address) for _ in range(20)]
    ask(peers[0], "/")
    ask(peers[0], "/")
    for peer in peers:
        peer.get("/compute")
    until(lambda: worker.dispatch.away == 20)
    gate.await_entry()
    if ending == "close":
        running.server.close()
        assert peers[0].is_ended()
    gate.release.set()
    running.join()
    assert isinstance(running.error, SystemExit if ending == "exit" else type(None))
    running.error = None
    until(lambda: is_quiet(worker))
    assert lane._free == lane.width
    assert not lane._waiting


class Called:
    """Stands in for a task of one fate."""

    def __init__(self, one: Fate) -> None:
        self.fate = one
        self.lane = 0
        self.abandoned = False


@pytest.mark.usefixtures("asleep")
def test_a_handler_that_computed_once_is_cleared_when_it_waits(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = start(echo)
    dispatching = worker_of(running).dispatch  # idle, so its counters are the test's
    monkeypatch.setattr(worker_of(running).threads, "submit", lambda task: None)
    one = Fate(object(), "pool")

    def comes_back(share: float | None) -> bool:
        task: Any = Called(one)
        dispatching._send_away(task, one)
        dispatching.came_back(Outcome(task, None, share))
        return one.computes

    assert comes_back(0.1) is False
    assert comes_back(0.9) is True
    assert comes_back(0.2) is True  # beside a busy loop one that computes may have little
    assert comes_back(None) is True
    assert comes_back(0.01) is False


# -- the watchdog -------------------------------------------------------------------------


def test_a_slow_handler_is_found_and_the_others_are_served(start: Start, connect: Connect) -> None:
    gate = Gate(echo)
    running = start(lambda request: gate(request) if request.url == "/slow" else echo(request))
    slow, other = connect(running.address), connect(running.address)
    assert ask(other, "/") == b"/"
    slow.get("/slow")
    gate.await_entry()
    for _ in range(5):
        assert ask(other, "/x") == b"/x"
    gate.release.set()
    assert slow.read().body == b"/slow"


def test_a_parked_watchdog_is_woken_by_a_batch(
    start: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flare.http.server.watch._IDLE_TICKS", 2)
    monkeypatch.setattr("flare.http.server.watch._PARKED_SECONDS", PATIENCE * 2)
    gate = Gate(echo)
    running = start(lambda request: gate(request) if request.url == "/slow" else echo(request))
    slow, other = connect(running.address), connect(running.address)
    until(lambda: watchdog().parked)
    slow.get("/slow")
    gate.await_entry()
    assert ask(other, "/x") == b"/x"
    gate.release.set()
    assert slow.read().body == b"/slow"


def test_one_watchdog_serves_all_and_ends_with_the_last_server(
    start: Start, connect: Connect
) -> None:
    def dogs() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "flare-watchdog"]

    first, second = start(echo), start(echo, ServerConfig(dispatch="inline"))
    for running in (first, second):
        ask(connect(running.address), "/")
    assert len(dogs()) == 1
    first.stop()
    assert len(dogs()) == 1
    second.stop()
    until(lambda: not dogs())


# -- the end ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "pool"])
def test_close_leaves_a_handler_that_takes_no_end_and_tells_of_it(
    start: Start,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
) -> None:
    monkeypatch.setattr("flare.http.server.server._LATE_SECONDS", 0.05)
    source = Source()
    gate = Gate(lambda _: stream_response(source))
    running = start(gate, ServerConfig(dispatch=mode))
    worker = worker_of(running)
    peer = connect(running.address)
    peer.get("/")
    gate.await_entry()
    running.server.close()
    running.join()
    assert peer.is_ended()
    assert "still inside a handler" in caplog.text
    assert "dispatching.py" in caplog.text  # where it is stuck
    assert not source.closed.is_set()
    gate.release.set()
    assert source.closed.wait(PATIENCE)
    for thread in worker.threads.all:
        thread.join(PATIENCE)
    assert is_quiet(worker)


@pytest.mark.parametrize("mode", ["auto", "inline", "pool"])
def test_no_thread_and_no_descriptor_outlives_serve(
    start: Start, connect: Connect, mode: str
) -> None:
    running = start(echo, ServerConfig(dispatch=mode))
    worker = worker_of(running)
    peers = [connect(running.address) for _ in range(5)]
    for peer in peers:
        ask(peer, "/")
    running.stop()
    assert not any(thread.is_alive() for thread in worker.threads.all)
    assert not worker.threads.idents
    assert worker.reactor.registered_count() == 0


def test_a_thread_with_the_number_of_one_that_ended_may_drain(
    start: Start, connect: Connect
) -> None:
    running = start(echo, ServerConfig(dispatch="pool"))
    ask(connect(running.address), "/")
    running.stop()
    with ThreadPoolExecutor(8) as pool:  # numbers of threads are given again at once
        reports = [pool.submit(running.server.drain, 100) for _ in range(8)]
        assert [report.result(PATIENCE) for report in reports] == [ShutdownReport()] * 8


def test_several_workers_each_adapt(connect: Connect) -> None:
    gate = Gate(echo)
    server = HttpServer.bind(SocketAddr.localhost(0))
    address = ("127.0.0.1", server.local_addr().port)
    handler = lambda request: gate(request) if request.url == "/slow" else echo(request)  # noqa: E731
    thread = threading.Thread(target=server.serve, args=(handler, 3))
    thread.start()
    try:
        slow = [connect(address) for _ in range(9)]
        for peer in slow:
            peer.get("/slow")
        for _ in slow:
            gate.await_entry()
        for _ in range(9):
            assert ask(connect(address), "/x") == b"/x"
        gate.release.set()
        assert [peer.read().body for peer in slow] == [b"/slow"] * 9
    finally:
        gate.release.set()
        server.close()
        thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_has_a_watchdog_and_a_lane_of_its_own() -> None:
    dog, lane = watchdog(), compute_lane()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        fresh = watchdog() is not dog and compute_lane() is not lane
        os.write(write, b"\1" if fresh else b"\0")
        os._exit(0)
    os.close(write)
    assert os.read(read, 1) == b"\1"
    os.close(read)
    os.waitpid(child, 0)
