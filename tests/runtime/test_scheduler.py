"""``Scheduler``: workers at one port, as threads and as processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from echo_frontend import Echo

from flare.errors import AddressInUse, ValidationError
from flare.net import SocketAddr
from flare.runtime import (
    Scheduler,
    ShutdownReport,
    StopFlag,
    WorkerStats,
    bind_reuseport,
    bind_shared,
)

PATIENCE = 10.0
LOCAL = SocketAddr.localhost(0)
KINDS = ["thread", "process"]
# A fork beside pytest's threads: in these tests nothing holds a lock then.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.001)


@contextmanager
def connected(scheduler: Scheduler[Any]) -> Iterator[socket.socket]:
    address = ("127.0.0.1", scheduler.local_addr().port)
    with socket.create_connection(address, timeout=PATIENCE) as sock:
        yield sock


def ask(sock: socket.socket, line: bytes) -> bytes:
    sock.sendall(line)
    return sock.recv(1000)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("shared", ["0", "1"])
def test_workers_serve_at_one_port(
    kind: Any, count: int, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLARE_REUSEPORT_WORKERS", shared)
    with Scheduler.start(LOCAL, Echo(), count, worker_kind=kind) as scheduler:
        assert scheduler.is_running()
        assert scheduler.local_addr().port
        assert len(scheduler._listeners) == (count if shared == "1" else 1)
        for _ in range(10):
            with connected(scheduler) as sock:
                assert ask(sock, b"hello\n") == b"hello\n"
                own = ask(sock, b"who\n") == b"%d\n" % os.getpid()
                assert own == (kind == "thread")
    assert not scheduler.is_running()
    assert scheduler.crashed_worker_count() == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", scheduler.local_addr().port), timeout=PATIENCE)


def test_a_frontend_may_require_a_listener_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLARE_REUSEPORT_WORKERS", "0")
    with Scheduler.start(LOCAL, Echo(separate=True), 3, worker_kind="thread") as scheduler:
        assert len(scheduler._listeners) == 3


def test_thread_workers_have_a_copy_each_where_there_is_one() -> None:
    frontend = Echo()
    with Scheduler.start(LOCAL, frontend, 3, worker_kind="thread"):
        assert frontend.copies == 3
    with Scheduler.start(LOCAL, frontend, 3, worker_kind="process"):
        assert frontend.copies == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_drain_waits_for_what_is_begun(kind: Any) -> None:
    with Scheduler.start(LOCAL, Echo(), 2, worker_kind=kind) as scheduler:
        reports: list[list[ShutdownReport]] = []
        with connected(scheduler) as sock:
            assert ask(sock, b"one\n") == b"one\n"
            draining = threading.Thread(target=lambda: reports.append(scheduler.drain(10_000)))
            draining.start()
            until(lambda: all(worker.flag.draining() for worker in scheduler._workers))
            assert ask(sock, b"two\n") == b"two\n"
        draining.join(PATIENCE)
        [found] = reports
        assert len(found) == 2
        assert sum(report.drained for report in found) == 1
        assert sum(report.timed_out + report.crashed for report in found) == 0
        assert scheduler.drain(1000) == [ShutdownReport(), ShutdownReport()]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_done_in_time_is_cut_off_and_counted(kind: Any) -> None:
    with Scheduler.start(LOCAL, Echo(), 2, worker_kind=kind) as scheduler:
        with connected(scheduler) as sock:
            assert ask(sock, b"one\n") == b"one\n"
            found = scheduler.drain(50)
            assert sock.recv(1) == b""
        assert sum(report.timed_out for report in found) == 1
        assert sum(report.in_flight_at_deadline for report in found) == 1
        assert sum(report.drained for report in found) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_no_budget_is_a_shutdown(kind: Any) -> None:
    with Scheduler.start(LOCAL, Echo(), 2, worker_kind=kind) as scheduler:
        assert scheduler.drain(0) == [ShutdownReport(), ShutdownReport()]
        assert not scheduler.is_running()


@pytest.mark.parametrize("kind", KINDS)
def test_a_crashed_worker_is_counted_and_the_others_serve(kind: Any) -> None:
    with Scheduler.start(LOCAL, Echo(), 2, worker_kind=kind) as scheduler:
        with connected(scheduler) as sock:
            sock.sendall(b"crash\n")
            until(lambda: scheduler.crashed_worker_count() == 1)
        assert scheduler.is_running()
        found = scheduler.drain(1000)
        assert sum(report.crashed for report in found) == 1
    assert scheduler.crashed_worker_count() == 1


def test_a_killed_process_is_a_crash() -> None:
    with Scheduler.start(LOCAL, Echo(), 1, worker_kind="process") as scheduler:
        with connected(scheduler) as sock:
            os.kill(int(ask(sock, b"who\n")), signal.SIGKILL)
        until(lambda: scheduler.crashed_worker_count() == 1)
        assert not scheduler.is_running()


def test_sigterm_drains_a_worker_process() -> None:
    with Scheduler.start(LOCAL, Echo(), 1, worker_kind="process") as scheduler:
        with connected(scheduler) as sock:
            os.kill(int(ask(sock, b"who\n")), signal.SIGTERM)
            assert ask(sock, b"still\n") == b"still\n"
        until(lambda: not scheduler.is_running())
        assert scheduler.crashed_worker_count() == 0


def test_a_busy_port_is_found_and_nothing_is_left() -> None:
    with bind_shared(LOCAL) as taken, pytest.raises(AddressInUse):
        Scheduler.start(taken.local_addr(), Echo(), 2, worker_kind="thread")


def test_a_worker_that_cannot_start_stops_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from flare._ffi import process

    really = process.fork
    forks: list[int] = []

    def fork() -> int:
        if len(forks) == 2:
            raise BlockingIOError(11, "no more")
        forks.append(really())
        return forks[-1]

    monkeypatch.setattr(process, "fork", fork)
    with pytest.raises(OSError, match="fork"):
        Scheduler.start(LOCAL, Echo(), 3, worker_kind="process")
    for pid in forks:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize("count", [0, -1, 257])
def test_a_count_that_makes_no_sense_is_refused(count: int) -> None:
    with pytest.raises(ValidationError, match="num_workers"):
        Scheduler.start(LOCAL, Echo(), count)


def test_kinds_are_checked_and_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="worker_kind"):
        Scheduler.start(LOCAL, Echo(), 1, worker_kind="fiber")  # type: ignore[arg-type]
    monkeypatch.setenv("FLARE_WORKER_KIND", "process")
    with Scheduler.start(LOCAL, Echo(), 1) as scheduler, connected(scheduler) as sock:
        assert int(ask(sock, b"who\n")) != os.getpid()
    with pytest.raises(TypeError):
        Scheduler()


def test_shutdown_may_be_repeated_from_many_threads() -> None:
    scheduler = Scheduler.start(LOCAL, Echo(), 2, worker_kind="thread")
    threads = [threading.Thread(target=scheduler.shutdown) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not scheduler.is_running()
    assert "ended" in repr(scheduler)


def test_a_worker_may_just_wait() -> None:
    class Waiting:
        def run_worker(self, listener_fd: int, stopping: StopFlag, stats: WorkerStats) -> None:
            assert not stopping.wait(0)
            stats.live = 3
            assert stopping.wait()

        def requires_per_worker_listener(self) -> bool:
            return False

    with Scheduler.start(LOCAL, Waiting(), 1, worker_kind="thread") as scheduler:
        until(lambda: scheduler._workers[0].stats.live == 3)
        [report] = scheduler.drain(5000)
        assert (report.drained, report.timed_out) == (3, 0)


def test_workers_are_pinned_within_the_mask() -> None:
    allowed = os.sched_getaffinity(0)

    class Where:
        def run_worker(self, listener_fd: int, stopping: StopFlag, stats: WorkerStats) -> None:
            mask = os.sched_getaffinity(0)
            stats.live = 1 if len(mask) == 1 and mask <= allowed else 2
            stopping.wait()

        def requires_per_worker_listener(self) -> bool:
            return False

    for pinned in (True, False):
        with Scheduler.start(LOCAL, Where(), 2, pinned, worker_kind="process") as scheduler:
            until(lambda scheduler=scheduler: all(w.stats.live for w in scheduler._workers))
            found = {worker.stats.live for worker in scheduler._workers}
            assert found == ({1} if pinned or len(allowed) == 1 else {2})
    assert os.sched_getaffinity(0) == allowed


def test_processes_end_with_their_parent() -> None:
    program = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from echo_frontend import Echo
from flare.net import SocketAddr
from flare.runtime import Scheduler
scheduler = Scheduler.start(SocketAddr.localhost(0), Echo(), 2)
print(*[worker.pid for worker in scheduler._workers], flush=True)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(Path(__file__).parent)], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(pids)
        parent.kill()

    def is_gone(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    until(lambda: all(is_gone(pid) for pid in pids))


def test_listeners_that_share_a_port_and_one_that_does_not() -> None:
    with bind_reuseport(LOCAL) as first, bind_reuseport(first.local_addr()) as second:
        assert first.local_addr() == second.local_addr()
        with pytest.raises(BlockingIOError):
            first.sock.accept()
    with bind_shared(LOCAL) as only, pytest.raises(AddressInUse):
        bind_reuseport(only.local_addr())
