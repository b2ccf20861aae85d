"""Several workers at one port, whatever protocol they speak.

A ``Frontend`` is what runs in each worker: its loop, its connections. ``Scheduler.start`` binds,
and starts them: threads, or forked processes where threads would share one interpreter lock.
Nothing is shared between workers but the listening sockets. ``HttpServer`` has a crew of its own,
which also replaces workers that die.
"""

from __future__ import annotations

import gc
import logging
import mmap
import os
import random
import signal
import sys
import threading
import time
import traceback
from typing import Generic, Literal, NoReturn, Protocol, TypeVar

from flare._ffi import process
from flare._ffi.affinity import pin_to_cpu, usable_cpus
from flare.errors import NetworkError, ValidationError, map_oserror
from flare.net import RawSocket, SocketAddr
from flare.runtime.binding import bind_workers
from flare.runtime.cpus import MAX_WORKERS
from flare.runtime.report import ShutdownReport
from flare.runtime.worker_state import (
    _DRAIN,
    _STOP,
    CELLS,
    CLEAN,
    CRASHED,
    StopFlag,
    WorkerStats,
)

__all__ = ["Frontend", "Scheduler", "StopFlag", "WorkerStats"]

_log = logging.getLogger("flare.runtime")
_LATE_SECONDS = 5.0  # what a worker has to return after it was told to stop
_LOOK_SECONDS = 0.005


class Frontend(Protocol):
    """What a worker runs.

    It may have ``copy()``: then each worker that is a thread gets a copy of its own. Worker
    processes have one by nature.
    """

    def run_worker(self, listener_fd: int, stopping: StopFlag, stats: WorkerStats) -> None:
        """Accept from *listener_fd*, which does not block and stays the scheduler's, and serve
        until *stopping* says so. It watches ``stopping.fileno()``, and keeps ``stats.live``. What
        it raises is a crash."""

    def requires_per_worker_listener(self) -> bool:
        """Whether no two workers may accept from one socket."""


F = TypeVar("F", bound=Frontend)


class _Worker:
    """One worker and where it is: a thread, or a process."""

    def __init__(self, number: int, cells: memoryview) -> None:
        self.number = number
        self.flag = StopFlag(cells)
        self.stats = WorkerStats(cells)
        self.thread: threading.Thread | None = None
        self.pid = 0
        self.live_at_drain = 0
        self._reaping = threading.Lock()  # guards pid: one thread waits for it at a time

    def has_ended(self) -> bool:
        if self.thread is not None:
            return not self.thread.is_alive()
        with self._reaping:
            if self.pid:
                status = process.waitpid(self.pid, block=False)
                if status is None:
                    return False
                self.pid = 0
                self.stats._end(CRASHED)  # unless it has said good-bye
            return True

    def kill(self) -> None:
        """The last resort, for a process that does not end."""
        with self._reaping:
            if self.pid:
                process.kill(self.pid, signal.SIGKILL)
                process.waitpid(self.pid)
                self.pid = 0
                self.stats._end(CRASHED)


class Scheduler(Generic[F]):
    """Workers that run a ``Frontend`` each, at one address. Made by ``start``; a context manager,
    which shuts down. ``shutdown`` and ``drain`` may be called from any thread of the process that
    started it."""

    _addr: SocketAddr
    _cells: memoryview
    _crashed: int
    _ended: bool
    _listeners: list[RawSocket]
    _lock: threading.RLock
    _workers: list[_Worker]

    def __init__(self) -> None:
        raise TypeError("write Scheduler.start(addr, frontend, num_workers)")

    @classmethod
    def start(
        cls,
        addr: SocketAddr,
        frontend: F,
        num_workers: int,
        pin_cores: bool = True,
        *,
        worker_kind: Literal["auto", "thread", "process"] = "auto",
    ) -> Scheduler[F]:
        """Listen at *addr* and start 1 to 256 workers; returns while they serve.

        Each has a listening socket of its own (SO_REUSEPORT, Linux), or all share one where the
        environment variable ``FLARE_REUSEPORT_WORKERS`` is 0, unless the frontend requires one
        each. Worker *i* is kept on the *i*-th CPU that this process may use, where the system
        allows it. ``"auto"`` has threads on a build without the global interpreter lock, where
        other threads are alive and where there is one worker; else processes. ``FLARE_WORKER_KIND``
        overrides it.

        All or nothing: raises ``ValidationError``, ``AddressInUse`` or ``NetworkError`` with
        nothing left behind.
        """
        if not 1 <= num_workers <= MAX_WORKERS:
            raise ValidationError("num_workers", f"must be 1 to {MAX_WORKERS}, got {num_workers}")
        kind = _choose_kind(worker_kind, num_workers)
        separate = (
            frontend.requires_per_worker_listener()
            or os.environ.get("FLARE_REUSEPORT_WORKERS") != "0"
        )
        self = object.__new__(cls)
        self._listeners = bind_workers(addr, num_workers, separate)
        self._addr = self._listeners[0].local_addr()
        self._lock = threading.RLock()  # guards the end against another one
        self._workers = []
        self._crashed = 0
        self._ended = False
        self._cells = memoryview(mmap.mmap(-1, num_workers * CELLS * 8)).cast("q")
        try:
            for number in range(num_workers):
                cells = self._cells[number * CELLS : (number + 1) * CELLS]
                self._workers.append(_Worker(number, cells))
            cpus = usable_cpus() if pin_cores and num_workers > 1 else []
            if kind == "process":
                gc.collect()
                gc.freeze()  # what is there already stays shared
            try:
                for worker in self._workers:
                    cpu = cpus[worker.number % len(cpus)] if cpus else -1
                    if kind == "process":
                        self._fork(worker, frontend, cpu)
                    else:
                        self._spawn(worker, frontend, cpu)
            finally:
                if kind == "process":
                    gc.unfreeze()
        except BaseException:
            self.shutdown()
            raise
        return self

    def _spawn(self, worker: _Worker, frontend: F, cpu: int) -> None:
        copy = getattr(frontend, "copy", None)
        mine = copy() if copy is not None else frontend
        thread = threading.Thread(
            target=self._run,
            args=(worker, mine, cpu),
            name=f"flare-scheduler-{worker.number}",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError as error:
            raise NetworkError(f"cannot start worker {worker.number}: {error}") from error
        worker.thread = thread

    def _run(self, worker: _Worker, frontend: F, cpu: int) -> None:
        try:
            if cpu >= 0:
                pin_to_cpu(cpu)
            frontend.run_worker(self._listener_of(worker).fileno(), worker.flag, worker.stats)
        except BaseException as error:
            _log.error("worker %d crashed: %s: %s", worker.number, type(error).__name__, error)
            _log.debug("traceback of the above", exc_info=error)
            worker.stats._end(CRASHED)
        else:
            worker.stats._end(CLEAN)

    def _fork(self, worker: _Worker, frontend: F, cpu: int) -> None:
        _flush_streams()
        parent = os.getpid()
        on_main = threading.current_thread() is threading.main_thread()
        try:
            pid = process.fork()
        except OSError as error:
            raise map_oserror(error, "fork") from error
        if pid:
            worker.pid = pid
            return
        self._run_child(worker, frontend, cpu, parent, on_main)

    def _run_child(
        self, worker: _Worker, frontend: F, cpu: int, parent: int, on_main: bool
    ) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
            signal.signal(signal.SIGTERM, lambda number, frame: worker.flag._tell(_DRAIN))
            random.seed()
            mine = self._listener_of(worker)
            for listener in self._listeners:
                if listener is not mine:
                    listener.close()
            for other in self._workers:
                if other is not worker:
                    other.flag._close()
            if sys.platform == "linux" and on_main and not _die_with(parent):
                worker.flag._tell(_STOP)
            self._run(worker, frontend, cpu)
            code = 0 if worker.stats.status == CLEAN else 1
        except BaseException:
            traceback.print_exc()
        finally:
            _flush_streams()
            os._exit(code)

    def _listener_of(self, worker: _Worker) -> RawSocket:
        return self._listeners[worker.number if len(self._listeners) > 1 else 0]

    def local_addr(self) -> SocketAddr:
        """Where the workers listen, with the real port; known also after the end."""
        return self._addr

    def is_running(self) -> bool:
        """Whether any worker is."""
        return not self._ended and not all(worker.has_ended() for worker in self._workers)

    def crashed_worker_count(self) -> int:
        """How many workers have ended by an exception, or were killed."""
        if self._ended:
            return self._crashed
        for worker in self._workers:
            worker.has_ended()  # reaps it
        return sum(worker.stats.status == CRASHED for worker in self._workers)

    def shutdown(self) -> None:
        """Have every worker stop now, and wait for that. Idempotent. A worker process that does
        not end within five seconds is killed; a thread is left behind, and logged."""
        with self._lock:
            if self._ended:
                return
            self._tell(_STOP)
            self._await_all(time.monotonic() + _LATE_SECONDS)
            left = False
            for worker in self._workers:
                if worker.thread is None:
                    worker.kill()
                elif worker.thread.is_alive():
                    left = True
                    _log.error("worker %d does not end: its thread is left behind", worker.number)
            self._crashed = sum(worker.stats.status == CRASHED for worker in self._workers)
            self._ended = True
            for listener in self._listeners:
                listener.close()
            if not left:
                for worker in self._workers:
                    worker.flag._close()

    def drain(self, timeout_ms: int) -> list[ShutdownReport]:
        """Have every worker finish what it has begun, for *timeout_ms*; then ``shutdown``. 0 and
        less is that at once. One report for each worker; all zeros after the end."""
        with self._lock:
            if self._ended:
                return [ShutdownReport() for _ in self._workers]
            if timeout_ms > 0:
                for worker in self._workers:
                    worker.live_at_drain = worker.stats.live
                self._tell(_DRAIN)
                self._await_all(time.monotonic() + timeout_ms / 1000)
            reports = [_report(worker, timeout_ms > 0) for worker in self._workers]
            self.shutdown()
            return reports

    def _tell(self, state: int) -> None:
        for worker in self._workers:
            worker.flag._tell(state)

    def _await_all(self, deadline: float) -> None:
        for worker in self._workers:
            if worker.thread is not None:
                if worker.thread is not threading.current_thread():
                    worker.thread.join(max(0.0, deadline - time.monotonic()))
                continue
            while not worker.has_ended() and time.monotonic() < deadline:
                time.sleep(_LOOK_SECONDS)

    def __enter__(self) -> Scheduler[F]:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shutdown()

    def __repr__(self) -> str:
        state = "ended" if self._ended else "running"
        return f"<Scheduler of {len(self._workers)} workers at {self._addr} {state}>"


def _flush_streams() -> None:
    """What is buffered at a fork would be written twice."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # closed, or none
            pass


def _die_with(parent: int) -> bool:
    """Drain when the parent is gone; false where it is already. The kernel goes by the thread that
    forked, so this is for one that lasts as long as its process."""
    try:
        return process.set_parent_death_signal(signal.SIGTERM, parent)
    except OSError:
        return True


def _report(worker: _Worker, waited: bool) -> ShutdownReport:
    if not waited:
        return ShutdownReport()
    ended = worker.has_ended()
    crashed = int(worker.stats.status == CRASHED)
    left = worker.stats.live if not ended or crashed else 0
    drained = max(0, worker.live_at_drain - left)
    return ShutdownReport(drained, left, left, crashed)


def _choose_kind(asked: str, count: int) -> Literal["thread", "process"]:
    kind = asked
    if kind == "auto":
        kind = os.environ.get("FLARE_WORKER_KIND") or "auto"
    if kind not in ("auto", "thread", "process"):
        raise ValidationError("worker_kind", f"must be 'auto', 'thread' or 'process', got {kind!r}")
    if kind == "process" and not hasattr(os, "fork"):
        raise ValidationError("worker_kind", "this system has no fork; it must be 'thread'")
    if kind == "auto":
        gil = getattr(sys, "_is_gil_enabled", lambda: True)()
        alone = threading.active_count() == 1
        on_main = threading.current_thread() is threading.main_thread()
        kind = "process" if count > 1 and gil and alone and on_main else "thread"
        if count > 1 and gil and kind == "thread":
            _log.warning("workers are threads: beside other threads a fork would be unsound")
    return "process" if kind == "process" else "thread"
